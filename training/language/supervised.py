"""Supervised fine-tuning on right completions: the warm start of post-training, and a baseline of its own.

The loss is the mean negative log-prob of completion tokens, the end token included; prompts are read, not learnt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.policy import Policy
from facetrail.models.language.records import Prompt, Task
from facetrail.training.language.meters import Meters
from facetrail.training.language.rollouts import padded
from facetrail.training.loop import FitConfig, ParameterGroup, Recorder, StepResult, fit, step_rng


@dataclass(frozen=True, slots=True)
class Example:
    """What should follow a prompt, in the policy's tokens."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """The end token included."""


@dataclass(frozen=True, slots=True)
class Window:
    """Stop at the first evaluation whose measure is at least `low`; beyond `high` the start is refused."""

    measure: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SupervisedResult:
    """What a fit came to. The policy holds its last weights."""

    steps: int
    measures: Mapping[str, float]
    """Of the last evaluation."""


def examples_of(policy: Policy, task: Task, prompts: Sequence[Prompt]) -> list[Example]:
    """The canonical completion of each item."""
    tokens = policy.tokenizer
    return [
        Example(tuple(tokens.encode_prompt(one.text)), (*tokens.encode(task.canonical(one)), tokens.eos_id))
        for one in prompts
    ]


def fit_supervised(
    policy: Policy,
    examples: Sequence[Example],
    *,
    config: FitConfig,
    lr: float,
    batch: int,
    micro_rows: int = 0,
    meters: Meters,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    window: Window | None = None,
    tracker: Recorder | None = None,
    folder: Path | None = None,
    resume: bool = False,
) -> SupervisedResult:
    """Fits the policy in place, for `config.steps` steps or until a measure of `evaluate` is in the window.

    batch: examples in a step, drawn without replacement by seed and step; all of them where there are fewer.
    micro_rows: how many of them are in memory at a time, those of about one length together; 0: all. The gradient is
    the same but for rounding. meters: counts tokens and steps. Raises InvalidInput for no examples, for a window
    without its measure, and where the window is missed: overshot between two evaluations, or not reached.
    """
    if not examples:
        raise InvalidInput("there is no example to learn from; give at least one")
    parameters = [p for _, p in policy.trainable()]
    device = parameters[0].device
    last: dict[str, float] = {}
    n_steps = 0

    def draw(step: int) -> list[Example]:
        rng = step_rng(config.seed, step)
        return [examples[i] for i in rng.choice(len(examples), size=min(batch, len(examples)), replace=False)]

    def step(chosen: Sequence[Example]) -> StepResult:
        nonlocal n_steps
        n_learnt = sum(len(one.completion_ids) for one in chosen)
        rows, at_once = sorted(chosen, key=_length), micro_rows or len(chosen)
        loss = torch.zeros((), device=device)
        for first in range(0, len(rows), at_once):
            share = _summed_loss(policy, rows[first : first + at_once], device) / n_learnt
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        meters.grad_tokens += sum(map(_length, rows))
        meters.optimiser_steps += 1
        n_steps += 1
        return StepResult(loss)

    def measure(_: bool) -> Mapping[str, float]:
        last.update(evaluate() if evaluate is not None else {})
        if window is not None and _is_reached(last, window):
            raise _InWindow
        return last

    try:
        result = fit(
            [ParameterGroup("policy", parameters, lr)], draw, step,
            config=config.model_copy(update={"ema": None, "best": None}),
            tracker=tracker, evaluate=measure, folder=folder, resume=resume, state={"meters": meters},
        )  # fmt: skip
    except _InWindow:
        return SupervisedResult(n_steps, last)
    if window is not None:
        raise InvalidInput(
            f"{config.steps} steps of supervised training end at {window.measure} {last[window.measure]:.3f}, below "
            f"{window.low}; train longer or with a higher learning rate"
        )
    return SupervisedResult(result.steps, last)


def _summed_loss(policy: Policy, rows: Sequence[Example], device: torch.device) -> Tensor:
    """Over the completion tokens of all rows."""
    prompts, prompt_mask = padded([one.prompt_ids for one in rows], policy.tokenizer.pad_id, left=True)
    completions, mask = padded([one.completion_ids for one in rows], policy.tokenizer.pad_id, left=False)
    log_probs = policy.log_probs(
        prompts.to(device), prompt_mask.to(device), completions.to(device), mask.to(device), temperature=1.0
    )
    return -log_probs.sum()  # 0 at padding


def _length(example: Example) -> int:
    return len(example.prompt_ids) + len(example.completion_ids)


class _InWindow(Exception):
    """Ends a fit whose measure has arrived where it should."""


def _is_reached(measures: Mapping[str, float], window: Window) -> bool:
    if window.measure not in measures:
        raise InvalidInput(f"the evaluation has no measure {window.measure!r}; it has {sorted(measures)}")
    value = measures[window.measure]
    if value > window.high:
        raise InvalidInput(
            f"supervised training went past the window: {window.measure} {value:.3f} is above {window.high}; evaluate "
            "more often (eval_every), or lower the learning rate"
        )
    return value >= window.low
