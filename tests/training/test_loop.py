"""The optimiser loop: its mathematics by hand, bad steps as data, what it refuses."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facetrail.models.errors import Conflict, InvalidInput
from facetrail.training.loop import Diverged, FitConfig, FitResult, ParameterGroup, StepResult, fit, lr_factor, step_rng
from facetrail.training.state import Average


class Notebook:
    """Keeps what the loop says of itself."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.notes: list[tuple[int, str]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.setdefault(step, {}).update(values)

    def note(self, step: int, text: str) -> None:
        self.notes.append((step, text))

    def rewind(self, step: int) -> None:
        self.rows = {kept: row for kept, row in self.rows.items() if kept <= step}


def number(value: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([value], dtype=torch.float64))


def group(*parameters: torch.nn.Parameter, lr: float = 0.1, decay: float | None = None) -> ParameterGroup:
    return ParameterGroup("all", parameters, lr, decay)


def test_the_schedule_at_known_steps() -> None:
    config = FitConfig(steps=100, warmup=0.1)
    assert lr_factor(0, config) == pytest.approx(0.1)
    assert lr_factor(9, config) == 1.0
    assert lr_factor(10, config) == 1.0
    assert lr_factor(55, config) == pytest.approx(0.5)
    assert lr_factor(99, config) == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert lr_factor(99, FitConfig(steps=100, schedule="constant")) == 1.0
    assert lr_factor(0, FitConfig(steps=1, warmup=0)) == 1.0


def test_every_group_follows_the_schedule_at_its_own_rate() -> None:
    slow, fast, seen = number(1.0), number(1.0), Notebook()
    groups = [ParameterGroup("slow", [slow], 0.01), ParameterGroup("fast", [fast], 0.1)]
    fit(groups, float, lambda _: StepResult((slow * fast).sum()), config=FitConfig(steps=4, warmup=0.5), tracker=seen)
    assert [seen.rows[i]["train/lr/fast"] for i in range(1, 5)] == pytest.approx([0.05, 0.1, 0.1, 0.05])
    assert [seen.rows[i]["train/lr/slow"] for i in range(1, 5)] == pytest.approx([0.005, 0.01, 0.01, 0.005])


def test_the_first_step_of_adamw_by_hand() -> None:
    # Adam's first step is lr * sign(gradient); the decoupled decay shrinks the weight by lr * decay before it.
    decayed, plain = number(2.0), number(2.0)
    config = FitConfig(steps=1, warmup=0, schedule="constant", ema=None, weight_decay=0.5)
    groups = [ParameterGroup("decayed", [decayed], 0.1), ParameterGroup("plain", [plain], 0.1, weight_decay=0.0)]
    fit(groups, float, lambda _: StepResult((decayed + plain).sum()), config=config)
    assert decayed.item() == pytest.approx(2.0 * (1 - 0.05) - 0.1, abs=1e-7)
    assert plain.item() == pytest.approx(1.9, abs=1e-7)


def test_the_moving_average_by_hand() -> None:
    p = number(0.0)
    average = Average({"p": p}, decay=0.15)
    for value in (1.0, 2.0, 3.0):
        with torch.no_grad():
            p.fill_(value)
        average.update()
    first = 0.9 * 1.0  # decay 1/10
    second = 0.15 * first + 0.85 * 2.0  # 2/11 would be above the decay asked for
    assert average.tensors["p"].item() == pytest.approx(0.15 * second + 0.85 * 3.0)


def test_the_evaluation_sees_the_average_and_training_goes_on_from_the_weights() -> None:
    p, seen, trained = number(1.0), list[float](), list[float]()

    def step(_: float) -> StepResult:
        trained.append(p.item())
        return StepResult(p.sum())

    def evaluate(averaged: bool) -> dict[str, float]:
        assert averaged
        seen.append(p.item())
        return {"value": p.item()}

    config = FitConfig(steps=3, warmup=0, schedule="constant", weight_decay=0, eval_every=1)
    fit([group(p)], float, step, config=config, evaluate=evaluate)
    assert trained == pytest.approx([1.0, 0.9, 0.8], abs=1e-6)
    average = [1.0]
    for n, value in enumerate([0.9, 0.8, 0.7]):
        d = (1 + n) / (10 + n)
        average.append(d * average[-1] + (1 - d) * value)
    assert seen == pytest.approx(average, abs=1e-6)
    assert p.item() == pytest.approx(average[-1], abs=1e-6)


@pytest.mark.parametrize(("direction", "at"), [("max", 2), ("min", 4)])
def test_the_best_weights_are_kept(direction: str, at: int) -> None:
    p = number(1.0)
    measured = iter([0.0, 1.0, 5.0, 3.0, -2.0, 1.0])
    config = FitConfig.model_validate(
        {"steps": 5, "ema": None, "eval_every": 1, "best": "m", "best_is": direction, "warmup": 0}
    )
    held = list[float]()

    def evaluate(_: bool) -> dict[str, float]:
        held.append(p.item())
        return {"m": next(measured)}

    result = fit([group(p)], float, lambda _: StepResult(p.sum()), config=config, evaluate=evaluate)
    assert (result.best_step, result.measures) == (at, {"m": 5.0 if direction == "max" else -2.0})
    assert p.item() == held[at] != held[-1]


def test_patience_ends_a_fit_and_a_resumed_one_stays_ended(tmp_path: Path) -> None:
    weight, said = number(1.0), iter([0.1, 0.5, 0.2, 0.3, 0.9])
    config = FitConfig(steps=100, eval_every=2, checkpoint_every=50, best="m", patience=2)

    def run() -> FitResult:
        return fit(
            [group(weight)], float, lambda _: StepResult((weight**2).sum()), config=config,
            evaluate=lambda _: {"m": next(said)}, folder=tmp_path, resume=True,
        )  # fmt: skip

    result = run()
    assert (result.steps, result.best_step, result.measures) == (6, 2, {"m": 0.5})
    again = run()
    assert (again.steps, again.best_step, next(said)) == (6, 2, 0.9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_batch_is_recorded_and_skipped(bad: float) -> None:
    def run(values: list[float], seen: Notebook | None = None) -> float:
        p = number(1.0)
        config = FitConfig(steps=len(values), warmup=0, schedule="constant", ema=None)
        result = fit([group(p)], lambda i: values[i], lambda x: StepResult((p * x).sum()), config=config, tracker=seen)
        assert result.n_skipped == sum(not math.isfinite(x) for x in values)
        return p.item()

    seen = Notebook()
    assert run([1.0, bad, 2.0], seen) == run([1.0, 2.0])
    assert [(step, "not finite" in text) for step, text in seen.notes] == [(2, True)]
    assert sorted(seen.rows) == [1, 2, 3]


def test_a_finite_loss_with_a_non_finite_gradient_is_skipped() -> None:
    p, seen = number(0.0), Notebook()
    result = fit([group(p)], float, lambda _: StepResult(p.sqrt().sum()), config=FitConfig(steps=2), tracker=seen)
    assert (result.n_skipped, p.item()) == (2, 0.0)
    assert "gradient_norm=inf" in seen.notes[0][1]


def test_too_many_bad_steps_in_a_row_name_the_step_and_its_figures() -> None:
    p = number(1.0)

    def step(i: float) -> StepResult:
        return StepResult((p * (math.nan if i in (1, 4, 5, 6) else 1.0)).sum(), {"temperature": 0.25})

    with pytest.raises(Diverged, match=r"step 7 .*temperature=0\.25"):
        fit([group(p)], float, step, config=FitConfig(steps=20, max_bad_steps=3))


def test_a_step_may_take_its_gradient_itself() -> None:
    def run(chunked: bool) -> float:
        p = number(3.0)

        def step(_: float) -> StepResult:
            halves: list[Tensor] = [(p**2).sum() / 2, (p**2).sum() / 2]
            if not chunked:
                return StepResult(torch.stack(halves).sum())
            for half in halves:
                half.backward()  # type: ignore[no-untyped-call]
            return StepResult(torch.stack(halves).sum().detach())

        fit([group(p)], float, step, config=FitConfig(steps=5))
        return p.item()

    assert run(chunked=True) == run(chunked=False) != 3.0


def test_long_gradients_are_shortened_and_reported_at_full_length() -> None:
    p, other, seen = number(1.0), number(1.0), Notebook()

    def step(_: float) -> StepResult:
        return StepResult((p * 30 + other * 40).sum())

    fit([group(p, other)], float, step, config=FitConfig(steps=1, max_norm=5.0), tracker=seen)
    assert seen.rows[1]["train/gradient_norm"] == pytest.approx(50.0)
    assert p.grad is not None
    assert p.grad.item() == pytest.approx(3.0, rel=1e-5)


def test_a_loss_that_reaches_nothing_is_refused() -> None:
    p = number(1.0)
    with pytest.raises(InvalidInput, match="no trained parameter"):
        fit([group(p)], float, lambda _: StepResult(p.detach().sum()), config=FitConfig(steps=1))


def test_a_parameter_of_two_groups_is_refused() -> None:
    p = number(1.0)
    with pytest.raises(InvalidInput, match="exactly one group"):
        fit(
            [ParameterGroup("a", [p], 1.0), ParameterGroup("b", [p], 1.0)], float, StepResult, config=FitConfig(steps=1)
        )


def test_an_unknown_best_measure_is_refused_before_the_first_step() -> None:
    p = number(1.0)
    config = FitConfig(steps=1, best="nDGC")
    with pytest.raises(InvalidInput, match=r"'nDGC'.*nDCG"):
        fit([group(p)], float, lambda _: StepResult(p.sum()), config=config, evaluate=lambda _: {"nDCG": 1.0})
    assert p.item() == 1.0


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    p = number(1.0)

    def run(*, resume: bool) -> int:
        config = FitConfig(steps=2)
        return fit(
            [group(p)], float, lambda _: StepResult(p.sum()), config=config, folder=tmp_path, resume=resume
        ).steps

    assert run(resume=True) == 2  # nothing to resume from: it begins
    with pytest.raises(Conflict, match="resume"):
        run(resume=False)


def test_step_rng_depends_on_seed_and_step_alone() -> None:
    assert step_rng(1, 2).random() == step_rng(1, 2).random()
    assert len({step_rng(seed, step).random() for seed in range(3) for step in range(3)}) == 9
