"""A run that was stopped and resumed equals the one that was not, bit for bit; damage is found."""

import json
import signal
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from facetrail.models.errors import Conflict, Damaged
from facetrail.training.loop import FitConfig, FitResult, ParameterGroup, StepResult, fit, step_rng
from facetrail.training.state import FACTS_FILE, TENSORS_FILE, checkpoint_folders
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

CONFIG = FitConfig(steps=20, eval_every=4, checkpoint_every=5, best="error", best_is="min", seed=3)


class Memory:
    """A part with a tensor and a counter, both of which the loss depends on."""

    def __init__(self) -> None:
        self.sum, self.n = torch.zeros(1), 0

    def add(self, value: Tensor) -> None:
        self.sum, self.n = self.sum + value.detach(), self.n + 1

    def state(self) -> Mapping[str, Any]:
        return {"sum": self.sum, "n": self.n}

    def load(self, state: Mapping[str, Any]) -> None:
        self.sum, self.n = state["sum"], state["n"]


class Stopped(Exception):
    """Stands for a process that was killed."""


def run(folder: Path, *, stop_at: int | None = None, by_signal: bool = False, init: int = 0) -> tuple[FitResult, Any]:
    """Fits a network with dropout, noise from a numpy generator and a memory; `stop_at`: in the middle of that step."""
    torch.manual_seed(init)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Dropout(0.5), torch.nn.Linear(6, 1))
    rng, memory = np.random.default_rng(init), Memory()
    torch.manual_seed(100 + init)
    n_seen = 0

    def batch(step: int) -> Tensor:
        return torch.from_numpy(step_rng(0, step).standard_normal((8, 4)).astype(np.float32))

    def step(x: Tensor) -> StepResult:
        nonlocal n_seen
        n_seen += 1
        if stop_at == n_seen:
            if not by_signal:
                raise Stopped
            signal.raise_signal(signal.SIGINT)
        noise = float(rng.normal())
        loss = ((model(x) - x.sum(1, keepdim=True) - 0.1 * noise - 0.01 * memory.sum) ** 2).mean()
        memory.add(loss.reshape(1) / (memory.n + 1))
        return StepResult(loss, {"noise": noise})

    def evaluate(_: bool) -> dict[str, float]:
        with torch.no_grad():
            x = torch.randn(32, 4)  # draws from torch's own generator
            return {"error": float(((model(x) - x.sum(1, keepdim=True)) ** 2).mean())}

    groups = [
        ParameterGroup("first", list(model[0].parameters()), 1e-2),
        ParameterGroup("last", list(model[2].parameters()), 1e-1),
    ]
    with closing(Tracker(folder, total=CONFIG.steps, quiet=True)) as tracker:
        result = fit(
            groups,
            batch,
            step,
            config=CONFIG,
            tracker=tracker,
            evaluate=evaluate,
            folder=folder,
            resume=True,
            rng=rng,
            state={"memory": memory},
        )
    return result, {name: p.detach().clone() for name, p in model.named_parameters()}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_curves(folder / CURVES_FILE)]


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, FitResult, dict[str, Tensor]]:
    """The uninterrupted run."""
    return tmp_path / "whole", *run(tmp_path / "whole")


def assert_same(
    whole: tuple[Path, FitResult, dict[str, Tensor]], folder: Path, result: FitResult, weights: Any
) -> None:
    reference, expected, tensors = whole
    assert (result.best_step, result.measures, result.n_skipped) == (
        expected.best_step,
        expected.measures,
        expected.n_skipped,
    )
    assert all(torch.equal(tensors[name], weights[name]) for name in tensors)
    assert rows(folder) == rows(reference)
    ours, theirs = (checkpoint_folders(f / "checkpoints")[0] for f in (folder, reference))
    ours_tensors, theirs_tensors = load_file(ours / TENSORS_FILE), load_file(theirs / TENSORS_FILE)
    assert ours_tensors.keys() == theirs_tensors.keys()
    assert {name.split("/")[0] for name in ours_tensors} == {"weights", "optimiser", "average", "best", "parts"}
    assert all(torch.equal(value, theirs_tensors[name]) for name, value in ours_tensors.items())
    facts = [json.loads((path / FACTS_FILE).read_text()) for path in (ours, theirs)]
    for one in facts:
        one["progress"].pop("seconds")
    assert facts[0] == facts[1]


def test_killed_in_the_middle(whole: tuple[Path, FitResult, dict[str, Tensor]], tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    with pytest.raises(Stopped):
        run(folder, stop_at=13)
    assert [row["step"] for row in rows(folder)][-1] > 10  # beyond the checkpoint: these rows are taken back
    assert_same(whole, folder, *run(folder, init=7))


def test_interrupted_by_hand(whole: tuple[Path, FitResult, dict[str, Tensor]], tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(folder, stop_at=8, by_signal=True)
    assert checkpoint_folders(folder / "checkpoints")[0].name == "step-00000008"
    assert signal.getsignal(signal.SIGINT) is before
    assert_same(whole, folder, *run(folder, init=9))


def test_killed_before_the_first_checkpoint_begins_again(
    whole: tuple[Path, FitResult, dict[str, Tensor]], tmp_path: Path
) -> None:
    folder = tmp_path / "early"
    with pytest.raises(Stopped):
        run(folder, stop_at=3)
    assert_same(whole, folder, *run(folder))


def test_a_finished_run_resumes_to_its_result(whole: tuple[Path, FitResult, dict[str, Tensor]]) -> None:
    result, weights = run(whole[0], init=5)
    assert result == whole[1]
    assert all(torch.equal(whole[2][name], weights[name]) for name in weights)


@pytest.mark.parametrize("name", [TENSORS_FILE, FACTS_FILE])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    name: str, whole: tuple[Path, FitResult, dict[str, Tensor]], tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    with pytest.raises(Stopped):
        run(folder, stop_at=18)
    newest, older = checkpoint_folders(folder / "checkpoints")
    assert (newest.name, older.name) == ("step-00000015", "step-00000010")
    (newest / name).write_bytes((newest / name).read_bytes()[:-9])
    assert_same(whole, folder, *run(folder, init=4))


def test_no_whole_checkpoint_is_an_error(whole: tuple[Path, FitResult, dict[str, Tensor]]) -> None:
    for path in checkpoint_folders(whole[0] / "checkpoints"):
        content = bytearray((path / TENSORS_FILE).read_bytes())
        content[-5] ^= 1
        (path / TENSORS_FILE).write_bytes(content)
    with pytest.raises(Damaged, match="checkpoints"):
        run(whole[0])


def test_an_unfinished_checkpoint_is_not_seen(whole: tuple[Path, FitResult, dict[str, Tensor]]) -> None:
    draft = whole[0] / "checkpoints" / ".step-00000099.1.tmp"
    draft.mkdir()
    (draft / TENSORS_FILE).write_bytes(b"half")
    assert run(whole[0])[0] == whole[1]


def test_another_model_is_refused(tmp_path: Path) -> None:
    def once(width: int) -> None:
        p = torch.nn.Parameter(torch.ones(width))
        fit(
            [ParameterGroup("all", [p], 0.1)],
            int,
            lambda _: StepResult(p.sum()),
            config=FitConfig(steps=2),
            folder=tmp_path,
            resume=True,
        )

    once(3)
    with pytest.raises(Conflict, match="other parameters"):
        once(4)
