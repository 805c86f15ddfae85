"""The one loop of post-training, for one agent or several.

Every step: all agents answer the same prompts, rewards are given, then each agent learns in turn while the rollouts
stay as they are. What a system does differently is in its hooks (`hooks.py`); the loop knows no algorithm.

A resumed run equals the uninterrupted one bit for bit on the same machine, thread count and precision: every random
draw is a function of seed, stream, step, agent, prompt and sample, and all else is in the checkpoint.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.language.advantages import reward_tensor, zero_variance_rate
from facetrail.models.language.records import Rollout
from facetrail.training.interrupt import finish_step_first
from facetrail.training.language.diagnostics import Diagnostics, Signals
from facetrail.training.language.hooks import (
    Advantage,
    Agent,
    AllSamples,
    Hook,
    PlainSampler,
    PolicyLoss,
    Reward,
    Sampler,
    Scheduler,
    Step,
)
from facetrail.training.language.identity import RunIdentity
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.rollouts import (
    PromptStream,
    group_ids,
    hidden_of,
    judged,
    log_probs_of,
    own_sample,
)
from facetrail.training.language.update import AgentPass, PassFigures
from facetrail.training.loop import Recorder
from facetrail.training.state import Resumable, TrainingState, checkpoint_folders, load_newest, save_state

Evaluate = Callable[[], Mapping[str, float]]
"""Measures of the agents as they are; `proxy` and `gold` among them are watched for an exploited reward."""


class Trainer:
    """A run: agents, the hooks that make the algorithm, and everything that must survive an interruption."""

    def __init__(
        self,
        agents: Sequence[Agent],
        stream: PromptStream,
        *,
        config: LoopConfig,
        reward: Reward,
        advantage: Advantage,
        policy_loss: PolicyLoss,
        sampler: Sampler | None = None,
        scheduler: Scheduler | None = None,
        hooks: Sequence[Hook] = (),
        evaluate: Evaluate | None = None,
        tracker: Recorder | None = None,
        folder: Path | None = None,
    ) -> None:
        """hooks: further ones, without a role. folder: where checkpoints go; None keeps none."""
        self.agents, self.config, self.meters = tuple(agents), config, Meters()
        self._stream, self._evaluate, self._tracker = stream, evaluate, tracker
        self._sampler, self._scheduler = sampler or PlainSampler(), scheduler or AllSamples()
        self._reward, self._advantage, self._policy_loss = reward, advantage, policy_loss
        self._hooks = _distinct([self._sampler, reward, advantage, self._scheduler, policy_loss, *hooks])
        self._folder = folder / "checkpoints" if folder is not None else None
        self._diagnostics = {agent.name: Diagnostics() for agent in agents}
        self._identity = RunIdentity(self.agents, config, self._hooks)
        self._state = self._new_state()
        self._sat_down = time.monotonic()

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.progress.step

    def run(self, *, resume: bool = False, until: int | None = None) -> Mapping[str, float]:
        """Trains the agents in place up to the last step, or up to `until`; → the last evaluation's measures.

        resume: goes on from the newest whole checkpoint; begins if there is none. Raises Conflict for a checkpoint of
        another configuration, InvalidInput for a reward that is not finite, and Diverged.
        """
        last = min(self.config.steps, until if until is not None else self.config.steps)
        with finish_step_first() as asked_to_stop:
            self._begin(resume=resume)
            while self.step < last:
                self._one_step()
                if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                    self._measure()
                if self.step % self.config.checkpoint_every == 0 or self.step == last or asked_to_stop():
                    self._save()
                if asked_to_stop() and self.step < last:
                    raise KeyboardInterrupt
        return self._state.progress.measures

    def _begin(self, *, resume: bool) -> None:
        self._sat_down = time.monotonic() - self._state.progress.seconds
        if self.step:  # the same trainer, asked to go on
            return
        if self._folder is not None:
            if resume and load_newest(self._folder, self._state) is not None:
                self._sat_down -= self._state.progress.seconds
                if self._tracker is not None:
                    self._tracker.rewind(self.step)
                return
            if checkpoint_folders(self._folder):
                raise Conflict(f"{self._folder.parent} holds a run already; resume it, or choose another folder")
        if self._tracker is not None:
            self._tracker.rewind(-1)
        torch.manual_seed(self.config.seed)
        self._measure()

    def _one_step(self) -> None:
        step = Step(self.step, self.config, self._stream.take(self.config.prompts), self.agents, self.meters)
        for agent in self.agents:
            step.rollouts[agent.name] = self._rollouts(agent, step)
        for hook in self._hooks:
            hook.after_rollouts(step)
        figures: dict[str, float] = {}
        notes: list[str] = []
        for agent in self.agents:
            found = self._learn(agent, step)
            mine = _figures_of(step.rollouts[agent.name]) | found.figures()
            prefix = "train/" if len(self.agents) == 1 else f"train/{agent.name}/"
            figures |= {prefix + name: value for name, value in mine.items()}
            notes += self._diagnose(agent, mine, found)
        for hook in self._hooks:
            figures |= {f"train/{hook.name}/{name}": value for name, value in hook.figures().items()}
        self._state.progress.step += 1
        self.meters.wall_seconds = time.monotonic() - self._sat_down
        self._log(figures | {f"meter/{name}": value for name, value in self.meters.figures().items()}, notes)

    def _rollouts(self, agent: Agent, step: Step) -> list[Rollout]:
        """What an agent writes, with behaviour log-probs and verdicts."""
        version = self._identity.n_updates[agent.name]
        drawn = [
            replace(one, source_id=agent.name, policy_version=version, born_step=step.number)
            for one in self._sampler.sample(agent, step)
        ]
        self.meters.add_rollouts(drawn)
        tokenizer = agent.policy.tokenizer
        samples = [own_sample(step.prompt(one), one, tokenizer, 0.0) for one in drawn]
        unknown = [i for i, one in enumerate(drawn) if not one.log_probs and one.completion_ids]
        rows, temperature = self.config.micro_rows, self.config.temperature
        if unknown:
            missing = [samples[i] for i in unknown]
            found = log_probs_of(agent.policy, missing, temperature=temperature, rows=rows, meters=self.meters)
            for i, log_probs in zip(unknown, found, strict=True):
                drawn[i] = replace(drawn[i], log_probs=log_probs, temperature=temperature)
        hidden = None
        if self._reward.needs_hidden:
            hidden = hidden_of(agent.policy, samples, rows=rows, meters=self.meters)
        return judged(drawn, self._reward.score(agent, drawn, step, hidden))

    def _learn(self, agent: Agent, step: Step) -> PassFigures:
        """An agent's turn: credit, choice, updates."""
        credited = self._advantage.credit(agent, step)
        chosen = self._scheduler.choose(agent, credited, step)
        keeps_hidden = any(hook.needs_fresh_hidden for hook in self._hooks)
        work = AgentPass(
            agent, step, self._state.optimiser, self._policy_loss, self._state.progress, keeps_hidden=keeps_hidden
        )
        update = work.run(chosen)
        self._identity.n_updates[agent.name] += work.n_updates
        for hook in self._hooks:
            hook.after_update(agent, update, step)
        return work.figures

    def _diagnose(self, agent: Agent, figures: Mapping[str, float], found: PassFigures) -> list[str]:
        is_exact = found.first_is_fresh and all(p.dtype == torch.float32 for p in agent.policy.module.parameters())
        signals = Signals(
            zero_variance_rate=figures["zero_variance"],
            loss=figures["loss"],
            gradient_norm=figures["gradient_norm"],
            ratio_error=found.first_ratio_error if is_exact else None,
            clipped_rate=found.clipped_rate,
            clips_rows=self._policy_loss.clips_rows,
            entropy=figures["entropy"],
            cut_rate=figures["cut"],
        )
        said = self._diagnostics[agent.name].observe(signals)
        return said if len(self.agents) == 1 else [f"{agent.name}: {sentence}" for sentence in said]

    def _measure(self) -> None:
        if self._evaluate is None:
            return
        measures = dict(self._evaluate())
        self._state.progress.measures = measures
        notes = []
        if "proxy" in measures and "gold" in measures:
            first = self._diagnostics[self.agents[0].name]
            notes = first.observe_evaluation(measures["proxy"], measures["gold"])
        self._log({f"eval/{name}": value for name, value in measures.items()}, notes)

    def _log(self, figures: Mapping[str, float], notes: Sequence[str]) -> None:
        if self._tracker is not None:
            self._tracker.log(self.step, figures)
            for note in notes:
                self._tracker.note(self.step, note)

    def _save(self) -> None:
        self._state.progress.seconds = time.monotonic() - self._sat_down
        if self._folder is not None:
            save_state(self._folder, self._state)

    def _new_state(self) -> TrainingState:
        """All weights and one optimiser with a group for each agent: a step of one leaves the others' groups alone."""
        named = {f"{a.name}/{name}": p for a in self.agents for name, p in a.policy.trainable()}
        if not named or len({id(p) for p in named.values()}) != len(named):
            raise InvalidInput("agents need trainable parameters of their own; two of them share some, or one has none")
        groups = [
            {"params": [p for _, p in a.policy.trainable()], "lr": self.config.lr if a.lr is None else a.lr}
            for a in self.agents
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=self.config.weight_decay)
        parts: dict[str, Resumable] = {
            "run": self._identity,
            "stream": self._stream,
            "meters": self.meters,
            **{f"diagnostics-{name}": held for name, held in self._diagnostics.items()},
            **{f"hook-{hook.name}": hook for hook in self._hooks},
        }
        return TrainingState(named, optimiser, None, rng=None, parts=parts)


def _figures_of(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What an agent's rollouts look like. Entropy is estimated from the log-probs of plainly drawn tokens."""
    rewards, valid = reward_tensor([one.reward for one in rollouts], dtype=torch.float64)
    log_probs = [value for one in rollouts if one.sampler == "plain" for value in one.log_probs]
    n = max(1, len(rollouts))
    return {
        "reward": float(rewards[valid].mean()) if valid.any() else math.nan,
        "reward_std": float(rewards[valid].std(correction=0)) if valid.any() else math.nan,
        "no_verdict": sum(one.reward is None for one in rollouts) / n,
        "zero_variance": zero_variance_rate(rewards, group_ids(rollouts), valid),
        "entropy": -sum(log_probs) / len(log_probs) if log_probs else math.nan,
        "cut": sum(one.finish == "length" for one in rollouts) / n,
        "tokens": sum(len(one.completion_ids) for one in rollouts) / n,
    }


def _distinct(hooks: Sequence[Hook]) -> list[Hook]:
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
