"""HACPO on the one loop: agents share verified rollouts (mathematics and sources in `models/language/hacpo.py`).

One hook plays two roles. As `Advantage` it gives each learner every agent's completions in the learner's own tokens,
own ones first; as `PolicyLoss` it weighs and clips them. Capability is updated once a step, before anybody learns.

Ours: `delta_quantile` sets the lower bound from the first step's ratios, since small models disagree so strongly that
the paper's bound of 0.8 would discard almost every foreign row and leave GSPO with smaller steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.advantages import reward_tensor
from facetrail.models.language.capability import CapabilityTracker
from facetrail.models.language.hacpo import (
    HacpoConfig,
    delta_for,
    hacpo,
    joint_advantages,
    source_order,
    source_weights,
)
from facetrail.models.language.policy import Policy
from facetrail.models.language.policy_losses import ClipConfig, PolicyTerms, gspo
from facetrail.models.language.records import Rollout
from facetrail.models.language.retokenise import learner_view
from facetrail.training.language.hooks import Advantage, Agent, LossTerms, PolicyLoss, Step
from facetrail.training.language.parts import GroupAdvantage
from facetrail.training.language.rollouts import Batch, Sample, group_ids, log_probs_of


class SharedRollouts(Advantage, PolicyLoss):
    """The four mechanisms, or an arm of them; alone with one agent it is GSPO."""

    name, clips_rows = "hacpo", True

    def __init__(self, agents: Sequence[str], config: HacpoConfig, *, delta_quantile: float | None = None) -> None:
        """delta_quantile: share of the first step's foreign rows that the lower bound discards; None: `config.delta`.

        Raises InvalidInput for two agents of one name.
        """
        self.capability = CapabilityTracker(agents, config)
        self._config, self._delta_quantile = config, delta_quantile
        self._delta: float | None = None if delta_quantile is not None else config.delta
        self._n_cut, self._n_views = 0, 0

    def config(self) -> Mapping[str, Any]:
        """Mechanisms, bounds and agents."""
        return {
            **self._config.model_dump(mode="json"),
            "agents": list(self.capability.agents),
            "delta_quantile": self._delta_quantile,
        }

    def state(self) -> Mapping[str, Any]:
        """Capability windows, and the bound that the first step gave."""
        return {**self.capability.state(), "delta": self._delta, "n_cut": self._n_cut, "n_views": self._n_views}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state. Raises Conflict for other agents."""
        self.capability.load(state)
        self._delta, self._n_cut, self._n_views = state["delta"], state["n_cut"], state["n_views"]

    def figures(self) -> Mapping[str, float]:
        """Capabilities, the share of ratios at their clamp, and what retokenising cut."""
        found = {f"capability/{agent}": self.capability.capability(agent) for agent in self.capability.agents}
        found["ratio_at_clamp"] = self.capability.ratio_at_clamp_rate
        return found | {"retokenised_cut": self._n_cut / self._n_views if self._n_views else 0.0}

    def after_rollouts(self, step: Step) -> None:
        """Takes in all rewards; in the first step, sets the lower bound from all learners' foreign ratios."""
        self.capability.update({name: [one.reward for one in found] for name, found in step.rollouts.items()})
        if self._delta is None:
            assert self._delta_quantile is not None
            ratios = torch.cat([self._foreign_ratios(agent, step) for agent in step.agents])
            self._delta = delta_for(ratios, discarded=self._delta_quantile) if len(ratios) else self._config.delta

    def credit(self, learner: Agent, step: Step) -> list[Sample]:
        """Every agent's rollouts with a verdict: own ones in block 0, then a block for each source in turn."""
        names = [agent.name for agent in step.agents]
        own = names.index(learner.name)
        rollouts = [one for name in names for one in step.rollouts[name]]
        rewards, valid = reward_tensor([one.reward for one in rollouts], dtype=torch.float64)
        agent_ids = torch.tensor([place for place, name in enumerate(names) for _ in step.rollouts[name]])
        ratios = self.capability.ratios()
        credits = joint_advantages(
            rewards, group_ids(rollouts), agent_ids, ratios, learner=own, config=self._config, valid=valid
        ).tolist()
        weights = source_weights(ratios, agent_ids, learner=own, config=self._config).tolist()
        blocks = {names[place]: block for block, place in enumerate(source_order(own, len(names), step=step.number))}
        samples = [
            replace(self._sample(learner, one, step), advantage=credit, weight=weight, block=blocks[one.source_id])
            for one, credit, weight in zip(rollouts, credits, weights, strict=True)
            if one.reward is not None
        ]
        return sorted(samples, key=lambda sample: sample.block)

    def terms(self, log_probs: Tensor, batch: Batch, *, n_updates: int, step: Step) -> LossTerms:
        """Mechanisms 2 to 4."""
        if self._delta is None:
            raise InvalidInput("the lower bound is set by a step's rollouts; let the loop call after_rollouts first")
        found = hacpo(
            log_probs,
            batch.behaviour_log_probs,
            batch.source_mean_log_probs,
            batch.advantages,
            batch.weights,
            batch.is_own,
            batch.mask,
            n_updates=n_updates,
            config=self._config.model_copy(update={"delta": self._delta}),
        )
        n_foreign = float(len(found.foreign_ratios))
        positive = float((batch.advantages[~batch.is_own] > 0).sum())
        return LossTerms(
            replace(found.own, values=found.values),
            {
                "foreign_kept": (float(found.n_kept), n_foreign),
                "foreign_ratio": (float(found.foreign_ratios.sum()), n_foreign),
                "foreign_positive": (positive, n_foreign),
            },
        )

    def _sample(self, learner: Agent, rollout: Rollout, step: Step) -> Sample:
        """A rollout in the learner's tokens, without credit yet."""
        sample = foreign_or_own(learner, rollout, step)
        if rollout.source_id != learner.name:
            self._n_views += 1
            self._n_cut += len(sample.completion_ids) >= step.config.max_new_tokens and rollout.finish == "eos"
        if not self._config.drop_end_token:
            return sample
        return _without_end(sample, learner.policy.tokenizer.eos_id, rollout)

    def _foreign_ratios(self, learner: Agent, step: Step) -> Tensor:
        """s of every foreign completion under the learner as it is. (n,)."""
        samples = [
            self._sample(learner, one, step)
            for name, found in step.rollouts.items()
            for one in found
            if name != learner.name and one.reward is not None
        ]
        found = log_probs_of(
            learner.policy,
            samples,
            temperature=step.config.temperature,
            rows=step.config.micro_rows,
            meters=step.meters,
        )
        logs = [_mean(row) - sample.source_mean_log_prob for row, sample in zip(found, samples, strict=True)]
        return torch.tensor(logs, dtype=torch.float64).exp()


class Imitation(Advantage, PolicyLoss):
    """Control: own rows as in GSPO, and others' correct completions as supervised rows. Is imitation enough?"""

    name, clips_rows = "imitation", True

    def __init__(self, clip: ClipConfig) -> None:
        self._clip, self._own = clip, GroupAdvantage("grpo")

    def config(self) -> Mapping[str, Any]:
        """The clip of own rows."""
        return {"clip": self._clip.model_dump(mode="json")}

    def credit(self, learner: Agent, step: Step) -> list[Sample]:
        """Own samples, then others' with full reward."""
        found = self._own.credit(learner, step)
        names = [agent.name for agent in step.agents]
        for block, place in enumerate(source_order(names.index(learner.name), len(names), step=step.number)):
            if names[place] != learner.name:
                found += [
                    replace(foreign_or_own(learner, one, step), block=block)
                    for one in step.rollouts[names[place]]
                    if one.reward is not None and one.reward >= 1
                ]
        return found

    def terms(self, log_probs: Tensor, batch: Batch, *, n_updates: int, step: Step) -> LossTerms:
        """GSPO at own rows, the negative log-prob at others'."""
        own, others = batch.is_own, ~batch.is_own
        found = gspo(log_probs[own], batch.behaviour_log_probs[own], batch.advantages[own], batch.mask[own], self._clip)
        values = torch.zeros_like(log_probs).index_put((own,), found.values)
        values = values.index_put((others,), -log_probs[others].masked_fill(~batch.mask[others], 0))
        return LossTerms(PolicyTerms(values, found.n_clipped, found.n_counted, found.max_ratio_error))


def foreign_or_own(learner: Agent, rollout: Rollout, step: Step) -> Sample:
    """A rollout as the learner reads it, advantage 0. Own ids stay as sampled; others' text is encoded anew."""
    policy, prompt = learner.policy, step.prompt(rollout)
    is_own = rollout.source_id == learner.name
    view = learner_view(
        prompt,
        rollout,
        learner_id=learner.name,
        learner=policy.tokenizer,
        source=_source(rollout, step).tokenizer,
        source_mean_log_prob=_mean(rollout.log_probs),
        max_prompt_tokens=policy.context - step.config.max_new_tokens,
        max_completion_tokens=step.config.max_new_tokens,
    )
    return Sample(
        rollout=rollout,
        prompt_ids=view.prompt_ids,
        completion_ids=view.completion_ids,
        advantage=0.0,
        behaviour_log_probs=rollout.log_probs if is_own else (),
        is_own=is_own,
        source_mean_log_prob=view.source_mean_log_prob,
    )


def _source(rollout: Rollout, step: Step) -> Policy:
    return next(agent.policy for agent in step.agents if agent.name == rollout.source_id)


def _without_end(sample: Sample, eos_id: int, rollout: Rollout) -> Sample:
    """The release's habit: no probability of the closing end token; an end-only completion keeps it."""
    if rollout.finish != "eos" or len(rollout.log_probs) < 2 or len(sample.completion_ids) < 2:
        return sample
    ids = sample.completion_ids[:-1] if sample.completion_ids[-1] == eos_id else sample.completion_ids
    return replace(
        sample,
        completion_ids=ids,
        behaviour_log_probs=sample.behaviour_log_probs[: len(ids)],
        source_mean_log_prob=_mean(rollout.log_probs[:-1]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
