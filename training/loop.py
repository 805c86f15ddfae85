"""The one optimiser loop. A recipe brings parameters, batches and a step; the loop owns everything around them.

What it promises: a resumed run equals the uninterrupted one bit for bit, on the same machine and thread count. Batches
are therefore a function of the step's number, every random state is part of the checkpoint, and an interruption waits
for the end of the step.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from facetrail.models.errors import Conflict, FacetrailError, InvalidInput
from facetrail.training.interrupt import finish_step_first
from facetrail.training.schedule import FitConfig, lr_factor, step_rng
from facetrail.training.state import (
    Average,
    Progress,
    Resumable,
    TrainingState,
    checkpoint_folders,
    load_newest,
    put,
    save_state,
    weights_replaced,
)

__all__ = [
    "Diverged",
    "FitConfig",
    "FitResult",
    "ParameterGroup",
    "Recorder",
    "StepResult",
    "fit",
    "lr_factor",
    "step_rng",
]

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class StepResult:
    """What a step computed."""

    loss: Tensor
    """Scalar. Without a graph, the step has called `backward` itself, in chunks (gradient caching)."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Further figures of the step, already detached."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate. Their order is part of the checkpoint's form."""

    name: str
    parameters: Sequence[torch.nn.Parameter]
    lr: float
    """Full learning rate, before warm-up and schedule."""
    weight_decay: float | None = None
    """None: the config's."""


@dataclass(frozen=True)
class FitResult:
    """What a fit came to. The model is left holding the weights to use: the best, the averaged or the last."""

    steps: int
    n_skipped: int
    """Steps whose loss or gradient was not finite."""
    best_step: int | None
    measures: dict[str, float]
    """Of the weights the model is left with; empty without an evaluation."""
    seconds: float
    """Wall time of all sittings together."""


class Recorder(Protocol):
    """What the loop asks of whoever keeps the curves."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def note(self, step: int, text: str) -> None: ...

    def rewind(self, step: int) -> None:
        """Forgets what came after a step: the run goes on from there. -1 forgets all: the fit begins."""


class Diverged(FacetrailError):
    """Loss or gradient stayed non-finite for too many steps in a row."""


def fit(
    groups: Sequence[ParameterGroup],
    batches: Callable[[int], Batch],
    step: Callable[[Batch], StepResult],
    *,
    config: FitConfig,
    tracker: Recorder | None = None,
    evaluate: Callable[[bool], Mapping[str, float]] | None = None,
    folder: Path | None = None,
    resume: bool = False,
    rng: np.random.Generator | None = None,
    state: Mapping[str, Resumable] | None = None,
) -> FitResult:
    """Fits the groups' parameters in place.

    batches: step number (from 0) → batch. step: batch → loss, gradients not yet taken.
    evaluate: measures of the weights in the model; told whether they are the moving average.
    folder: where checkpoints go; None keeps none. resume: goes on from the newest whole one; begins if there is none.
    rng: the generator that `step` or `evaluate` draw from, if they do. state: further parts with a state of their own.
    Raises Diverged, and InvalidInput if a step reaches no trained parameter or the evaluation lacks the best measure.
    """
    run = _Run(groups, config, tracker, evaluate, folder, rng=rng, parts=state or {})
    with finish_step_first() as asked_to_stop:
        run.begin(resume=resume)
        while not run.is_over:
            run.update(step, batches(run.progress.step))
            done = run.progress.step
            if done % config.eval_every == 0 or done == config.steps:
                run.evaluate()
            if done % config.checkpoint_every == 0 or run.is_over or asked_to_stop():
                run.save()
            if asked_to_stop() and not run.is_over:
                raise KeyboardInterrupt
    return run.finish()


class _Run:
    """One sitting of a fit: what happens at its beginning, in a step, at an evaluation and at its end."""

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        config: FitConfig,
        tracker: Recorder | None,
        evaluate: Callable[[bool], Mapping[str, float]] | None,
        folder: Path | None,
        *,
        rng: np.random.Generator | None,
        parts: Mapping[str, Resumable],
    ) -> None:
        self._groups, self._config, self._tracker, self._evaluate = groups, config, tracker, evaluate
        self._folder = folder / "checkpoints" if folder is not None else None
        parameters = _by_name(groups)
        average = Average(parameters, config.ema) if config.ema is not None else None
        self._state = TrainingState(parameters, _optimiser(groups, config), average, rng=rng, parts=parts)
        self._sat_down = time.monotonic()

    @property
    def progress(self) -> Progress:
        return self._state.progress

    @property
    def is_over(self) -> bool:
        """Whether the last step is done, or `best` has not become better for as long as the config waits."""
        config, progress = self._config, self.progress
        if config.patience is not None and progress.best_step is not None:
            waited = progress.step - progress.best_step
            return waited >= config.patience * config.eval_every or progress.step >= config.steps
        return progress.step >= config.steps

    def begin(self, *, resume: bool) -> None:
        """Seeds and evaluates the start, or takes up the newest checkpoint."""
        if self._folder is not None:
            if resume and load_newest(self._folder, self._state) is not None:
                self._sat_down -= self.progress.seconds
                if self._tracker is not None:
                    self._tracker.rewind(self.progress.step)
                return
            if checkpoint_folders(self._folder):
                raise Conflict(f"{self._folder.parent} holds a run already; resume it, or choose another folder")
        if self._tracker is not None:
            self._tracker.rewind(-1)
        torch.manual_seed(self._config.seed)
        self.evaluate()

    def update(self, step: Callable[[Batch], StepResult], batch: Batch) -> None:
        """Gradients, clipping, the optimiser, the average. A non-finite step is recorded and changes nothing."""
        config, progress, optimiser = self._config, self.progress, self._state.optimiser
        factor = lr_factor(progress.step, config)
        for group, ours in zip(optimiser.param_groups, self._groups, strict=True):
            group["lr"] = ours.lr * factor
        optimiser.zero_grad(set_to_none=True)
        result = step(batch)
        if result.loss.requires_grad:
            result.loss.backward()  # type: ignore[no-untyped-call]
        reached = [p for p in self._state.parameters.values() if p.grad is not None]
        if not reached:
            raise InvalidInput("the step's loss depends on no trained parameter; look for a detach or a missing group")
        loss = float(result.loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(reached, config.max_norm))
        figures = {"loss": loss, "gradient_norm": norm, **result.metrics}
        progress.step += 1
        if math.isfinite(loss) and math.isfinite(norm):
            progress.n_bad_in_a_row = 0
            optimiser.step()
            if self._state.average is not None:
                self._state.average.update()
        else:
            self._skip(figures)
        self._log({**figures, **{f"lr/{g.name}": g.lr * factor for g in self._groups}}, "train/")

    def _skip(self, figures: Mapping[str, float]) -> None:
        progress = self.progress
        progress.n_skipped += 1
        progress.n_bad_in_a_row += 1
        said = ", ".join(f"{name}={value:.4g}" for name, value in figures.items())
        if self._tracker is not None:
            self._tracker.note(progress.step, f"skipped: loss or gradient is not finite ({said})")
        if progress.n_bad_in_a_row >= self._config.max_bad_steps:
            raise Diverged(
                f"step {progress.step} ends {progress.n_bad_in_a_row} steps in a row without a finite loss and "
                f"gradient ({said}); lower the learning rate, or look at the batches of these steps"
            )

    def evaluate(self) -> None:
        """Measures the averaged weights (without an average: the weights), and keeps a copy of the best."""
        if self._evaluate is None:
            return
        state, best = self._state, self._config.best
        averaged = state.average is not None
        with weights_replaced(state.parameters, state.average.tensors) if state.average else nullcontext():
            measures = dict(self._evaluate(averaged))
            self._log(measures, "eval/")
            if best is None:
                self.progress.measures = measures
                return
            if best not in measures:
                raise InvalidInput(f"the evaluation has no measure {best!r} to choose by; it has {sorted(measures)}")
            sign = 1 if self._config.best_is == "max" else -1
            before = self.progress.measures
            if math.isfinite(measures[best]) and (not before or sign * measures[best] > sign * before[best]):
                self.progress.measures, self.progress.best_step = measures, self.progress.step
                state.best = {name: p.detach().clone() for name, p in state.parameters.items()}

    def save(self) -> None:
        """Writes a checkpoint, if there is a folder for it."""
        self.progress.seconds = time.monotonic() - self._sat_down
        if self._folder is not None:
            save_state(self._folder, self._state)

    def finish(self) -> FitResult:
        """Leaves the model holding the weights to use."""
        state, progress = self._state, self.progress
        if state.best is not None:
            put(state.parameters, state.best)
        elif state.average is not None:
            put(state.parameters, state.average.tensors)
        return FitResult(
            steps=progress.step,
            n_skipped=progress.n_skipped,
            best_step=progress.best_step,
            measures=progress.measures,
            seconds=progress.seconds,
        )

    def _log(self, figures: Mapping[str, float], prefix: str) -> None:
        if self._tracker is not None:
            self._tracker.log(self.progress.step, {prefix + name: value for name, value in figures.items()})


def _by_name(groups: Sequence[ParameterGroup]) -> dict[str, torch.nn.Parameter]:
    named = {f"{g.name}.{i}": p for g in groups for i, p in enumerate(g.parameters)}
    if not named or len({id(p) for p in named.values()}) != sum(len(g.parameters) for g in groups):
        raise InvalidInput("parameter groups need different names, and every parameter belongs to exactly one group")
    return named


def _optimiser(groups: Sequence[ParameterGroup], config: FitConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        [
            {
                "params": list(g.parameters),
                "lr": g.lr,
                "weight_decay": config.weight_decay if g.weight_decay is None else g.weight_decay,
            }
            for g in groups
        ]
    )
