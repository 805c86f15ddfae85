"""The ready-made parts of the loop: plain sampling, a task's verdicts, credit inside groups, losses by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.advantages import EPS, AdvantageName, advantages, reward_tensor
from facetrail.models.language.policy_losses import POLICY_LOSSES, ClipConfig, PolicyLossName
from facetrail.models.language.records import Rollout, Task, Verdict
from facetrail.training.language.hooks import (
    Advantage,
    Agent,
    Hook,
    LossTerms,
    PolicyLoss,
    Reward,
    Sampler,
    Scheduler,
    Step,
)
from facetrail.training.language.rollouts import Batch, Sample, group_ids, own_sample


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
