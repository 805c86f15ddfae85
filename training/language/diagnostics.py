"""Sentences that a person reads when a run behaves oddly.

They describe what has happened; none is proven to warn early. A condition speaks after five consecutive steps and then
at most once in fifty.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 5
SILENCE = 50
N_EVALUATIONS = 10
ROUNDING = 1e-4
"""Of a ratio that should be 1. Tiny models stay below 1e-5; thirty layers in float32 (SmolLM2) reach 4e-5."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What the diagnostics look at in one step of one agent."""

    zero_variance_rate: float
    """Share of groups whose rewards are all equal."""
    loss: float
    gradient_norm: float
    ratio_error: float | None
    """max |ratio - 1| at the first minibatch; None where it need not be 0: rollouts that are old, searched or not
    float32."""
    clipped_rate: float
    clips_rows: bool
    """Whether the clip counts rows (GSPO) and not tokens."""
    entropy: float
    """Nats per token."""
    cut_rate: float
    """Share of completions that hit the limit."""


@dataclass
class Diagnostics:
    """Counts in a row and silences of one agent's run; part of the checkpoint."""

    n_steps: int = 0
    first_entropy: float | None = None
    in_a_row: dict[str, int] = field(default_factory=dict)
    last_said: dict[str, int] = field(default_factory=dict)
    evaluations: list[list[float]] = field(default_factory=list)
    """(proxy, gold) of the last evaluations, oldest first."""

    def observe(self, signals: Signals) -> list[str]:
        """The sentences that one more step gives rise to, mostly none."""
        if self.first_entropy is None and math.isfinite(signals.entropy):
            self.first_entropy = signals.entropy
        said = []
        for name, sentence in self._conditions(signals).items():
            self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if sentence else 0
            silent = name in self.last_said and self.n_steps - self.last_said[name] < SILENCE
            if sentence and self.in_a_row[name] >= PATIENCE and not silent:
                self.last_said[name] = self.n_steps
                said.append(sentence)
        self.n_steps += 1
        return said

    def observe_evaluation(self, proxy: float, gold: float) -> list[str]:
        """Compares a learned reward with the verified one over the last ten evaluations."""
        self.evaluations = [*self.evaluations, [proxy, gold]][-N_EVALUATIONS:]
        if len(self.evaluations) < N_EVALUATIONS:
            return []
        (first_proxy, first_gold), (last_proxy, last_gold) = self.evaluations[0], self.evaluations[-1]
        if not (last_proxy > first_proxy and last_gold < first_gold):
            return []
        self.evaluations = self.evaluations[-1:]
        return [
            f"The reward model is being exploited: proxy {last_proxy - first_proxy:+.2g}, verified "
            f"{last_gold - first_gold:+.2g} over {N_EVALUATIONS} evaluations."
        ]

    def state(self) -> Mapping[str, Any]:
        """Plain values, as JSON holds them."""
        return {
            "n_steps": self.n_steps,
            "first_entropy": self.first_entropy,
            "in_a_row": dict(self.in_a_row),
            "last_said": dict(self.last_said),
            "evaluations": [list(pair) for pair in self.evaluations],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state."""
        self.n_steps, self.first_entropy = state["n_steps"], state["first_entropy"]
        self.in_a_row, self.last_said = dict(state["in_a_row"]), dict(state["last_said"])
        self.evaluations = [list(pair) for pair in state["evaluations"]]

    def _conditions(self, s: Signals) -> dict[str, str]:
        """Every condition's sentence; empty where it does not hold."""
        what = "rows" if s.clips_rows else "tokens"
        sentences = {
            "zero_variance": (
                s.zero_variance_rate > 0.5,
                f"{s.zero_variance_rate:.0%} of groups have equal rewards and teach nothing: the task is too easy or "
                "too hard; change difficulty, group size or temperature.",
            ),
            "zero_loss": (
                self.n_steps < 20 and abs(s.loss) < 1e-4 and s.gradient_norm > 1e-3,
                "A loss of 0 is normal at ratio 1 with centred advantages; watch reward and gradient norm.",
            ),
            "ratio": (
                s.ratio_error is not None and s.ratio_error > ROUNDING,
                "Sampler and trainer disagree on log-probs; check temperature, truncation, padding.",
            ),
            "clipped": (
                s.clipped_rate > 0.3,
                f"{s.clipped_rate:.0%} of {what} are clipped: lower the learning rate or widen the clip.",
            ),
            "entropy": (
                self.first_entropy is not None and s.entropy < 0.2 * self.first_entropy,
                "The policy has almost stopped exploring.",
            ),
            "cut": (
                s.cut_rate > 0.1,
                f"{s.cut_rate:.0%} of completions hit the limit; their reward is about the limit, not the reasoning.",
            ),
        }
        return {name: sentence if holds else "" for name, (holds, sentence) in sentences.items()}
