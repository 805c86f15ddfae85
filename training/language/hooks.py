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
and a configuration, which are part of the run, and a state, which is part of every checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.advantages import EPS, AdvantageName, advantages, reward_tensor
from facetrail.models.language.policy import Policy
from facetrail.models.language.policy_losses import POLICY_LOSSES, ClipConfig, PolicyLossName, PolicyTerms
from facetrail.models.language.records import DrawKey, Prompt, Rollout, Task, Verdict
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.rollouts import Batch, Sample, group_ids, own_sample


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


class PlainSampler(Sampler):
    """G completions of each prompt, token by token."""

    name = "plain_sampler"

    def sample(self, agent: Agent, step: Step) -> list[Rollout]:
        """Draws from the step's own stream."""
        config = step.config
        return agent.policy.generate(step.prompts, config.group, sampling=config.sampling, key=step.key(agent.name))


class VerifierReward(Reward):
    """The task's own verdict."""

    def __init__(self, task: Task) -> None:
        self.name, self._task = "verifier", task

    def config(self) -> Mapping[str, Any]:
        """The task's name."""
        return {"task": self._task.name}

    def score(
        self, agent: Agent, rollouts: Sequence[Rollout], step: Step, hidden: Sequence[Tensor] | None
    ) -> list[Verdict]:
        """Verifies the text."""
        prompts = {prompt.prompt_id: prompt for prompt in step.prompts}
        return [self._task.verify(prompts[one.prompt_id], one.text, one.finish) for one in rollouts]


class WeightedReward(Reward):
    """A sum of rewards with named weights; without a verdict of one of them there is none."""

    name = "weighted_reward"

    def __init__(self, rewards: Sequence[tuple[Reward, float]]) -> None:
        if len({reward.name for reward, _ in rewards}) != len(rewards):
            raise InvalidInput("two rewards of a sum share a name; name them apart")
        self._rewards = tuple(rewards)
        self.needs_hidden = any(reward.needs_hidden for reward, _ in rewards)

    def inner(self) -> Sequence[Hook]:
        """The summands."""
        return tuple(reward for reward, _ in self._rewards)

    def config(self) -> Mapping[str, Any]:
        """The weights by name."""
        return {reward.name: weight for reward, weight in self._rewards}

    def score(
        self, agent: Agent, rollouts: Sequence[Rollout], step: Step, hidden: Sequence[Tensor] | None
    ) -> list[Verdict]:
        """The weighted sum; each summand's value is a part under its name."""
        columns = [
            (reward.name, weight, reward.score(agent, rollouts, step, hidden if reward.needs_hidden else None))
            for reward, weight in self._rewards
        ]
        return [_weighted([(name, w, column[row]) for name, w, column in columns]) for row in range(len(rollouts))]


class GroupAdvantage(Advantage):
    """Own rollouts against those of their prompt, by one of the named estimators."""

    name = "advantage"

    def __init__(self, estimator: AdvantageName, *, eps: float = EPS, ragged: bool = False) -> None:
        self._estimator, self._eps, self._ragged = estimator, eps, ragged

    def config(self) -> Mapping[str, Any]:
        """Estimator and its options."""
        return {"estimator": self._estimator, "eps": self._eps, "ragged": self._ragged}

    def credit(self, learner: Agent, step: Step) -> list[Sample]:
        """One sample for each own rollout with a verdict."""
        rollouts = step.rollouts[learner.name]
        rewards, valid = reward_tensor([rollout.reward for rollout in rollouts], dtype=torch.float64)
        credited = advantages(
            rewards, group_ids(rollouts), name=self._estimator, valid=valid, eps=self._eps, ragged=self._ragged
        ).tolist()
        prompts = {prompt.prompt_id: prompt for prompt in step.prompts}
        return [
            own_sample(prompts[one.prompt_id], one, learner.policy.tokenizer, credit)
            for one, credit in zip(rollouts, credited, strict=True)
            if one.reward is not None
        ]


class AllSamples(Scheduler):
    """Every sample of the step, once."""

    name = "all_samples"

    def choose(self, learner: Agent, samples: Sequence[Sample], step: Step) -> list[Sample]:
        """The samples as they are."""
        return list(samples)


class NamedLoss(PolicyLoss):
    """One of the losses of `POLICY_LOSSES`."""

    name = "policy_loss"

    def __init__(self, loss: PolicyLossName, clip: ClipConfig) -> None:
        self._loss, self._clip = loss, clip
        self.clips_rows = loss == "gspo"

    def config(self) -> Mapping[str, Any]:
        """Its name and clip."""
        return {"loss": self._loss, "clip": self._clip.model_dump(mode="json")}

    def terms(self, log_probs: Tensor, batch: Batch, *, n_updates: int, step: Step) -> LossTerms:
        """The named loss of the batch."""
        loss = POLICY_LOSSES[self._loss]
        return LossTerms(loss(log_probs, batch.behaviour_log_probs, batch.advantages, batch.mask, self._clip))


def _weighted(parts: Sequence[tuple[str, float, Verdict]]) -> Verdict:
    found = {f"{name}/{key}": value for name, _, verdict in parts for key, value in verdict.parts.items()}
    found |= {name: verdict.reward for name, _, verdict in parts if verdict.reward is not None}
    failure = "; ".join(verdict.failure for _, _, verdict in parts if verdict.failure)
    total = 0.0
    for _, weight, verdict in parts:
        if verdict.reward is None:
            return Verdict(None, failure, found)
        total += weight * verdict.reward
    return Verdict(total, failure, found)
