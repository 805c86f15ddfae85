"""The one loop of post-training, for one agent or several.

Every step: all agents answer the same prompts, rewards are given, then each agent learns in turn while the rollouts
stay as they are. What a system does differently is in its hooks (`hooks.py`); the loop knows no algorithm.

A resumed run equals the uninterrupted one bit for bit on the same machine, thread count and precision: every random
draw is a function of seed, stream, step, agent, prompt and sample, and all else is in the checkpoint.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from facetrail.models.errors import Conflict, InvalidInput, Unavailable
from facetrail.training.interrupt import finish_step_first
from facetrail.training.language.diagnostics import Diagnostics, Signals
from facetrail.training.language.distributed import ALONE, Processes
from facetrail.training.language.drawing import drawn, verified
from facetrail.training.language.hooks import (
    Advantage,
    Agent,
    Hook,
    PolicyLoss,
    Reward,
    Sampler,
    Scheduler,
    Step,
    distinct,
)
from facetrail.training.language.identity import RunIdentity
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.parts import AllSamples, PlainSampler
from facetrail.training.language.rollouts import PromptStream, figures_of
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
        processes: Processes = ALONE,
    ) -> None:
        """hooks: further ones, without a role. folder: where checkpoints go; None keeps none.

        processes: among which the work of a step is shared out; only the first tracks and saves.
        """
        self.agents, self.config, self.meters = tuple(agents), config, Meters()
        self._stream, self._evaluate, self._processes = stream, evaluate, processes
        self._tracker = tracker if processes.is_first else None
        self._sampler, self._scheduler = sampler or PlainSampler(), scheduler or AllSamples()
        self._reward, self._advantage, self._policy_loss = reward, advantage, policy_loss
        self._hooks = distinct([self._sampler, reward, advantage, self._scheduler, policy_loss, *hooks])
        self._folder = folder / "checkpoints" if folder is not None else None
        self._diagnostics = {agent.name: Diagnostics() for agent in agents}
        self._identity = RunIdentity(self.agents, config, self._hooks)
        self._state = self._new_state()
        self._saved_step: int | None = None
        self._sat_down = time.monotonic()

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.progress.step

    def run(self, *, resume: bool = False, until: int | None = None) -> Mapping[str, float]:
        """Trains the agents in place up to the last step, or up to `until`; → the last evaluation's measures.

        resume: goes on from the newest whole checkpoint; begins if there is none. Raises Conflict for a checkpoint of
        another configuration, InvalidInput for a reward that is not finite, and Diverged. Where a sampler raises
        Unavailable, the steps done so far are saved first.
        """
        last = min(self.config.steps, until if until is not None else self.config.steps)
        with finish_step_first() as asked_to_stop:
            self._begin(resume=resume)
            while self.step < last:
                self._one_step()
                if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                    self._measure()
                # All processes must stop at the same step, whichever of them was asked.
                stops = any(self._processes.gathered(asked_to_stop()))
                if self.step % self.config.checkpoint_every == 0 or self.step == last or stops:
                    self._save()
                if stops and self.step < last:
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
        step = self._drawn_step()
        for hook in self._hooks:
            hook.after_rollouts(step)
        figures: dict[str, float] = {}
        notes: list[str] = []
        for agent in self.agents:
            found = self._learn(agent, step)
            mine = figures_of(step.rollouts[agent.name]) | found.figures()
            prefix = "train/" if len(self.agents) == 1 else f"train/{agent.name}/"
            figures |= {prefix + name: value for name, value in mine.items()}
            notes += self._diagnose(agent, mine, found)
        for hook in self._hooks:
            figures |= {f"train/{hook.name}/{name}": value for name, value in hook.figures().items()}
        self._state.progress.step += 1
        self.meters.wall_seconds = time.monotonic() - self._sat_down
        self._log(figures | {f"meter/{name}": value for name, value in self.meters.figures().items()}, notes)

    def _drawn_step(self) -> Step:
        """The next step, with all agents' rollouts and verdicts."""
        before = self._stream.state()
        step = Step(self.step, self.config, self._stream.take(self.config.prompts), self.agents, self.meters)
        found = {}
        try:
            for agent in self.agents:
                version = self._identity.n_updates[agent.name]
                found[agent.name] = drawn(agent, step, self._sampler, policy_version=version, processes=self._processes)
        except Unavailable:
            self._stream.load(before)  # nothing has been counted or learnt: the run stands where the last step left it
            if self._saved_step != self.step:
                self._save()
            raise
        for agent in self.agents:
            rollouts, used = found[agent.name]
            self.meters.add(used)
            step.rollouts[agent.name] = verified(agent, rollouts, step, self._reward)
        return step

    def _learn(self, agent: Agent, step: Step) -> PassFigures:
        """An agent's turn: credit, choice, updates."""
        credited = self._advantage.credit(agent, step)
        chosen = self._scheduler.choose(agent, credited, step)
        keeps_hidden = any(hook.needs_fresh_hidden for hook in self._hooks)
        work = AgentPass(
            agent,
            step,
            self._state.optimiser,
            self._policy_loss,
            self._state.progress,
            keeps_hidden=keeps_hidden,
            processes=self._processes,
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
        measures = dict(self._processes.by_first(self._evaluate))
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
        self._saved_step = self.step
        if self._folder is not None and self._processes.is_first:
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
