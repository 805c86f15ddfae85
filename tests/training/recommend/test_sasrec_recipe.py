"""The fit of a SASRec: windows, what it can learn, early stop, the same bits after an interruption."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetrail.eval.recommend_cleaning import interactions_of
from facetrail.eval.recommend_splits import Split, leave_last
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions
from facetrail.models.recommend.sasrec import SasrecScorer
from facetrail.training.recommend import sasrec as sasrec_module
from facetrail.training.recommend.sasrec import SasrecRecipe, Windows, fit_sasrec, sampled, validation_measures

N_CYCLE = 20


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def listed(histories: list[list[int]]) -> Interactions:
    rows = [
        (f"u{user:03}", f"i{item:02}", time) for user, items in enumerate(histories) for time, item in enumerate(items)
    ]
    return interactions_of(*([row[column] for row in rows] for column in range(3)))  # type: ignore[arg-type]


def cycle(n_users: int = 150) -> Split:
    """Everybody walks round the same 20 items from a place of their own, nobody round the whole."""
    rng = np.random.default_rng(0)
    places = zip(rng.integers(0, N_CYCLE, n_users).tolist(), rng.integers(5, 18, n_users).tolist(), strict=True)
    return leave_last(listed([[(start + i) % N_CYCLE for i in range(n)] for start, n in places]))


SMALL = SasrecRecipe(
    dim=32, n_layers=1, length=8, dropout=0.0, batch=16, lr=1e-2, ema=None, warmup_steps=0, epochs=10, patience=10
)


def transitions(windows: Windows, steps: range) -> list[tuple[int, int]]:
    """(item, next item) of all real places of some batches."""
    found: list[tuple[int, int]] = []
    for step in steps:
        batch = windows(step)
        found += zip((batch.ids[batch.ids != 0] - 1).tolist(), batch.targets.tolist(), strict=True)
    return found


def test_every_epoch_has_every_transition_once() -> None:
    histories = [list(range(n)) for n in (2, 8, 9, 10, 17, 33, 1)]
    windows = Windows(listed(histories), SMALL.model_copy(update={"batch": 3}))
    assert windows.steps_per_epoch == 4  # 1 + 1 + 1 + 2 + 2 + 4 windows of at most 8 transitions
    wanted = sorted(pair for history in histories for pair in pairwise(history))
    for epoch in range(5):
        steps = range(4 * epoch, 4 * epoch + 4)
        assert sorted(transitions(windows, steps)) == wanted
        assert all(windows(step).ids.shape[1] <= 8 for step in steps)


def test_batches_are_a_function_of_the_step() -> None:
    train = cycle().train
    one, other = Windows(train, SMALL), Windows(train, SMALL)
    later = one(one.steps_per_epoch + 1)
    for step in (3, 0, one.steps_per_epoch + 1):
        again = other(step)
    assert torch.equal(later.ids, again.ids)
    assert torch.equal(later.targets, again.targets)
    reseeded = Windows(train, SMALL.model_copy(update={"seed": 1}))(one.steps_per_epoch + 1)
    assert later.ids.shape != reseeded.ids.shape or not torch.equal(later.ids, reseeded.ids)


def test_the_one_negative_is_never_the_target() -> None:
    windows = Windows(cycle().train, SMALL.model_copy(update={"loss": "one_negative"}))
    batches = [windows(step) for step in range(windows.steps_per_epoch)]
    assert all((batch.negatives != batch.targets).all() for batch in batches)
    drawn = torch.cat([batch.negatives for batch in batches])
    assert sorted(set(drawn.tolist())) == list(range(N_CYCLE))


@pytest.mark.parametrize("loss", ["softmax", "sampled", "one_negative"])
def test_one_layer_learns_a_cycle(loss: str, tmp_path: Path) -> None:
    split = cycle()
    recipe = SasrecRecipe.model_validate(SMALL.model_dump() | {"loss": loss, "n_negatives": 10})
    model, result = fit_sasrec(split.train, split.validation, recipe, folder=tmp_path)
    assert result.measures["R@1"] == 1.0
    assert validation_measures(SasrecScorer(model), split.test)["R@1"] == 1.0


def test_an_interrupted_fit_ends_on_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Stands for a process that was killed."""

    split = cycle()
    recipe = SMALL.model_copy(update={"dropout": 0.3, "ema": 0.9, "epochs": 4})
    whole, told = fit_sasrec(split.train, split.validation, recipe, folder=tmp_path / "whole")
    real, calls = sasrec_module.validation_measures, []

    def measures(*given: Any) -> dict[str, float]:
        calls.append(given)
        if len(calls) == 4:
            raise Killed
        return real(*given)

    monkeypatch.setattr(sasrec_module, "validation_measures", measures)
    with pytest.raises(Killed):
        fit_sasrec(split.train, split.validation, recipe, folder=tmp_path / "cut")
    monkeypatch.undo()
    resumed, told_again = fit_sasrec(split.train, split.validation, recipe, folder=tmp_path / "cut", resume=True)
    assert (told_again.steps, told_again.measures) == (told.steps, told.measures)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_patience_ends_a_fit_and_the_best_weights_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([0.1, 0.2, 0.5, 0.3, 0.4, 0.4, 0.9])
    weights = []

    def measures(scorer: SasrecScorer, _: Any) -> dict[str, float]:
        weights.append(scorer.model.items.weight.detach().clone())
        return {"NDCG@10": next(said)}

    monkeypatch.setattr(sasrec_module, "validation_measures", measures)
    split = cycle()
    model, result = fit_sasrec(split.train, split.validation, SMALL.model_copy(update={"patience": 3}), folder=tmp_path)
    every = Windows(split.train, SMALL).steps_per_epoch
    assert (result.steps, result.best_step, result.measures) == (5 * every, 2 * every, {"NDCG@10": 0.5})
    assert torch.equal(model.items.weight, weights[2])


def test_measures_by_hand() -> None:
    class Ascending:
        """Scores an item by its number."""

        name, n_items = "ascending", 4

        def scores(self, histories: list[Any]) -> Any:
            return np.tile(np.arange(4, dtype=np.float32), (len(histories), 1))

    asked = leave_last(listed([[3, 0, 1, 2], [2, 1, 3, 0]])).validation  # 1 after {3, 0}: second; 3 after {2, 1}: first
    measures = validation_measures(Ascending(), asked)
    assert measures["R@1"] == 0.5
    assert measures["R@10"] == 1.0
    assert measures["NDCG@10"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    one = sampled(asked, 1, rng=np.random.default_rng(0))
    assert len(one) == 1
    assert one.targets[0] in (1, 3)


def test_histories_of_one_event_teach_nothing() -> None:
    with pytest.raises(InvalidInput, match="two events"):
        Windows(listed([[1], [2]]), SMALL)
