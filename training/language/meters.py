"""What a run has used, counted from its start: the axes on which systems are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from facetrail.models.language.records import Rollout


@dataclass
class Meters:
    """Counters that only grow. Padding is never counted; end tokens are."""

    rollout_tokens: int = 0
    """Tokens of the completions that samplers handed on."""
    search_tokens: int = 0
    """Tokens drawn inside a search, discarded ones included; the kept ones stand in `rollout_tokens` too."""
    n_rollouts: int = 0
    forward_tokens: int = 0
    """Prompt and completion tokens of passes without a gradient: behaviour, reference, features."""
    grad_tokens: int = 0
    """Prompt and completion tokens of passes with one."""
    optimiser_steps: int = 0
    reward_tokens: int = 0
    """Tokens that a learned reward has read."""
    wall_seconds: float = 0.0
    """Of all sittings together. The one counter that two equal runs do not share."""

    def add_rollouts(self, rollouts: Sequence[Rollout]) -> None:
        """Counts what a sampler handed on."""
        self.n_rollouts += len(rollouts)
        self.rollout_tokens += sum(len(rollout.completion_ids) for rollout in rollouts)

    def add(self, other: "Meters") -> None:
        """Takes in what has been counted apart."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def flops(self, n_parameters: int) -> float:
        """About 2 operations per parameter and token forwards, 6 with the gradient."""
        forward = self.rollout_tokens + self.search_tokens + self.forward_tokens
        return float(n_parameters) * (2 * forward + 6 * self.grad_tokens)

    def figures(self) -> dict[str, float]:
        """Every counter by name."""
        return {name: float(value) for name, value in asdict(self).items()}

    def state(self) -> Mapping[str, Any]:
        """The counters, as JSON holds them."""
        return asdict(self)

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from saved counters."""
        for field in fields(self):
            setattr(self, field.name, state[field.name])
