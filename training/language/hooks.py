"""Where a system plugs into the one loop of post-training: five roles and two moments.

A step of the loop:

1. `Sampler.sample`            every agent answers the same prompts
2. `Reward.score`              a verdict for each rollout; may ask for the policy's hidden states
   `after_rollouts`            all rewards are known, nothing has been updated
3. for each agent in turn, while rollouts and verdicts stay as they are:
   `Advantage.credit`          from all agents' rollouts to this agent's samples, on whole groups
   `Scheduler.choose`          which of them to train on; may bring back old ones
   `PolicyLoss.terms`          of each minibatch
   `after_update`              the agent has learnt; fresh hidden states for whoever asked

One object may play several roles: a learned reward scores and trains its head after the update. Each hook has a name
and a configuration, which are part of the run, and a state, which is part of every checkpoint. Those that need nothing
but what the models layer computes are in `parts.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.policy import Policy
from facetrail.models.language.policy_losses import PolicyTerms
from facetrail.models.language.records import DrawKey, Prompt, Rollout, Verdict
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.rollouts import Batch, Sample


@dataclass(frozen=True, slots=True)
class Agent:
    """A policy that learns, under the name that its rollouts carry."""

    name: str
    policy: Policy
    reference: Policy | None = None
    """What the KL is measured to; frozen, and sharing no weight with the policy."""
    lr: float | None = None
    """None: the loop's."""


@dataclass(slots=True)
class Step:
    """One step of the loop as hooks see it."""

    number: int
    config: LoopConfig
    prompts: Sequence[Prompt]
    agents: Sequence[Agent]
    meters: Meters
    rollouts: dict[str, list[Rollout]] = field(default_factory=dict)
    """Of each agent, by its name, those of the first prompt first; complete from `after_rollouts` on."""

    def key(self, agent: str, stream: str = "rollouts") -> DrawKey:
        """Names the random numbers of this step and agent. A hook with a stream of its own disturbs no other."""
        return DrawKey(self.config.seed, stream, self.number, agent)

    def prompt(self, rollout: Rollout) -> Prompt:
        """The prompt that a rollout of this step answers."""
        return next(prompt for prompt in self.prompts if prompt.prompt_id == rollout.prompt_id)


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The token losses of a micro-batch, and what to watch."""

    policy: PolicyTerms
    sums: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Further figures as (numerator, denominator), which add up over the micro-batches of a step."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one agent's pass has trained on."""

    samples: Sequence[Sample]
    """In the order of the last epoch."""
    hidden: Sequence[Tensor]
    """Last states (t_i, d) of each sample's completion, taken in the last epoch before its minibatch's update; empty
    unless a hook has `needs_fresh_hidden`."""


class Hook(Protocol):
    """What every part has. All methods but those of its role have a default: no settings, no state, no say."""

    name: str
    needs_fresh_hidden: bool = False

    def config(self) -> Mapping[str, Any]:
        """Plain values. A checkpoint made with others is refused."""
        return {}

    def state(self) -> Mapping[str, Any]:
        """Tensors and plain values by name."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state."""
        return

    def inner(self) -> "Sequence[Hook]":
        """Hooks that it is made of: the loop keeps their states and calls them too."""
        return ()

    def figures(self) -> Mapping[str, float]:
        """What the log says of it after each step."""
        return {}

    def after_rollouts(self, step: Step) -> None:
        """All agents' rollouts have their verdicts."""
        return

    def after_update(self, learner: Agent, update: Update, step: Step) -> None:
        """The agent's pass is over."""
        return


class Sampler(Hook, Protocol):
    """Where rollouts come from."""

    def sample(self, agent: Agent, step: Step) -> list[Rollout]:
        """The same number of completions for each prompt, those of the first prompt first.

        A completion that was not drawn plainly comes without log-probs: the loop computes them. Tokens drawn in a
        search are added to `step.meters.search_tokens` here.
        """


class Reward(Hook, Protocol):
    """What a completion is worth."""

    needs_hidden: bool = False
    """Whether `score` wants the policy's last states."""

    def score(
        self, agent: Agent, rollouts: Sequence[Rollout], step: Step, hidden: Sequence[Tensor] | None
    ) -> list[Verdict]:
        """A verdict for each rollout. hidden: (t_i, d) each, at the completion's tokens; None if not asked for."""


class Advantage(Hook, Protocol):
    """What each agent learns from, and with what credit."""

    def credit(self, learner: Agent, step: Step) -> list[Sample]:
        """Samples of the step's rollouts. A rollout without a verdict enters no statistic and is left out."""


class Scheduler(Hook, Protocol):
    """Which samples an agent trains on."""

    def choose(self, learner: Agent, samples: Sequence[Sample], step: Step) -> list[Sample]:
        """Of the step's samples, or of older ones."""


class PolicyLoss(Hook, Protocol):
    """The loss of each token."""

    clips_rows: bool = False
    """Whether `n_clipped` counts rows and not tokens."""

    def terms(self, log_probs: Tensor, batch: Batch, *, n_updates: int, step: Step) -> LossTerms:
        """log_probs: (n, t) with the graph · n_updates: optimiser steps already done in this agent's pass."""


def distinct(hooks: Sequence[Hook]) -> list[Hook]:
    """Every hook once, those inside others too. Raises InvalidInput where two share a name."""
    found: list[Hook] = []
    waiting = list(hooks)
    while waiting:
        hook = waiting.pop(0)
        if all(hook is not other for other in found):
            found.append(hook)
            waiting += hook.inner()
    names = [hook.name for hook in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"two hooks share the name {twice[0]!r}, under which their state is kept; rename one")
    return found
