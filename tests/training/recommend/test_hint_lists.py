"""The experiment on lists: a fit that finds a planted taste, a small run of every arm, and going on after a stop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facetrail.app.cli import main
from facetrail.eval.evidence import read_result
from facetrail.eval.experiments.hint_lists_plan import PLAN_FILE, HintListsExperiment
from facetrail.eval.recommend_metrics import recall
from facetrail.eval.recommend_options import KINDS, list_places, of_kind
from facetrail.models.errors import Conflict
from facetrail.models.recommend.hints import HintConfig
from facetrail.training.config import read_recipe
from facetrail.training.loop import FitConfig
from facetrail.training.recommend.hint_list_fit import (
    HintListsRecipe,
    ListBatches,
    build_network,
    fit_lists,
    log_popularity,
    option_scores,
)
from facetrail.training.recommend.hint_lists import choice_weights, run, smaller
from facetrail.training.recommend.hint_lists_material import ListMaterial, list_miniature


@pytest.fixture(scope="module")
def plan() -> HintListsExperiment:
    """As declared."""
    return read_recipe(PLAN_FILE, HintListsExperiment)


@pytest.fixture(scope="module")
def material(plan: HintListsExperiment) -> ListMaterial:
    """Users who like one of four genres."""
    return list_miniature(smaller(plan), n_users=60, n_items=200)


def _recipe(steps: int, **network: object) -> HintListsRecipe:
    return HintListsRecipe(
        batch=32,
        n_negatives=10,
        lr=1e-2,
        fit=FitConfig(steps=steps, ema=None, eval_every=steps, checkpoint_every=max(1, steps // 3), best="NDCG@5"),
        network=HintConfig.model_validate({"dim": 16, "n_similar": 5, **network}),
    )


def _hits(material: ListMaterial, recipe: HintListsRecipe) -> float:
    network = fit_lists(
        material.rows, material.attributes, material.validation, recipe, seed=0, device=torch.device("cpu")
    )
    scores = option_scores(network, material.rows, material.attributes, material.test)
    return float(np.mean([recall(list_places(of_kind(scores, kind, 10)), 1).mean() for kind in KINDS]))


def test_hints_find_the_genre_that_users_take_up(material: ListMaterial):
    with_hints = _hits(material, _recipe(60))
    assert with_hints > _hits(material, _recipe(60, item_side=False, user_side=False)) + 0.05
    assert with_hints > 0.25  # 1/10 by chance


def test_a_batch_never_sees_its_target_nor_what_comes_after(material: ListMaterial):
    recipe = _recipe(3)
    network = build_network(material.rows, material.attributes, recipe, seed=0, device=torch.device("cpu"))
    batches = ListBatches(material.rows, material.attributes, network, recipe, seed=0)
    batch, prior = batches(0), log_popularity(material.rows)
    n = 1 + recipe.n_negatives
    items, users = (x.reshape(-1, n).numpy() for x in (batch.rows.items, batch.rows.users))
    offset, train = batch.offset.numpy(), material.rows.train
    liked = [set(part.tolist()) for part in np.split(batch.rows.liked[0].numpy(), batch.rows.liked[1][1:].numpy())]
    for row in range(len(items)):
        assert (users[row] == users[row, 0]).all()
        own = train.items[train.users == users[row, 0]]
        at = np.flatnonzero((train.users == users[row, 0]) & (train.items == items[row, 0]))[0]
        before = set(train.items[:at][train.users[:at] == users[row, 0]].tolist())
        context = int(batch.rows.context[row * n])
        assert items[row, 0] not in liked[context]
        assert liked[context] <= before
        assert offset[row, 0] == pytest.approx(prior[items[row, 0]])
        for place in range(1, n):
            is_option = items[row, place] != items[row, 0] and items[row, place] not in before
            wanted = -np.log(recipe.n_negatives) if is_option else -np.inf
            assert offset[row, place] == pytest.approx(wanted)
        assert items[row, 0] in own


def test_a_stopped_fit_goes_on_as_if_it_had_not(material: ListMaterial, tmp_path: Path):
    recipe, given = _recipe(6), (material.rows, material.attributes, material.validation)
    cpu = torch.device("cpu")
    whole = fit_lists(*given, recipe, seed=0, device=cpu, folder=tmp_path / "whole")
    fit_lists(*given, recipe, seed=0, device=cpu, folder=tmp_path / "cut")
    newest = sorted((tmp_path / "cut" / "checkpoints").iterdir())
    assert len(newest) >= 2
    for file in newest[-1].iterdir():
        file.unlink()
    newest[-1].rmdir()
    resumed = fit_lists(*given, recipe, seed=0, device=cpu, folder=tmp_path / "cut", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_weights_of_a_blend_follow_what_was_chosen():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4_000, 6, 2))
    likely = features @ np.array([2.0, -1.0]) + rng.gumbel(size=(4_000, 6))
    chosen = likely.argmax(axis=1)
    rows = np.arange(len(features))
    features[rows, 0], features[rows, chosen] = features[rows, chosen], features[rows, 0].copy()
    assert choice_weights(features) == pytest.approx([2.0, -1.0], abs=0.15)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a smoke run of both parts."""
    out = tmp_path_factory.mktemp("lists") / "run"
    run(out.parent, out, smoke=True)
    return out


def test_a_small_run_writes_evidence_of_every_arm(done: Path, plan: HintListsExperiment):
    for part in plan.parts:
        found = read_result(done / f"hints-lists-{part}.json")
        assert set(found.arms) == set(plan.parts[part].every_arm)
        assert found.arms["constant"].measures["Hit@1 of 10, at random"] == [0.1]
        tested = [row for row in found.comparisons if row.p_holm is not None]
        assert len(tested) == 2 * len(plan.parts[part].comparisons)
    language = found.arms["text only"].meters, found.arms["PIDLR"].meters
    assert language[0]["tokens_per_prompt"] < language[1]["tokens_per_prompt"]
    assert language[0]["optimiser_steps"] == language[1]["optimiser_steps"] == 2
    assert "not pretrained" in found.notes
    units = [json.loads(path.read_bytes()) for path in (done / "scores").glob("*-1.json")]
    scores = [json.dumps(unit.get("test", unit.get("matched"))) for unit in units]
    assert len(set(scores)) == len(scores)  # no two arms are the same


def test_a_run_goes_on_with_the_unit_that_is_missing(done: Path):
    with pytest.raises(Conflict):
        run(done.parent, done, smoke=True)
    first = (done / "hints-lists-language.json").read_bytes()
    (done / "scores" / "pidlr-1.json").unlink()
    run(done.parent, done, part="language", smoke=True, resume=True)
    again = (done / "hints-lists-language.json").read_bytes()
    assert json.loads(again)["comparisons"] == json.loads(first)["comparisons"]


def test_the_command_takes_a_part_and_a_changed_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for wrong, says in (
        (("--part", "magic"), "choose scorers or language"),
        (("--set", "n_options=1"), "n_options: "),
        (("--set", "parts.language.n_options=40"), "lists of 40 options, where 20 are drawn"),
    ):
        with pytest.raises(SystemExit) as end:
            main(
                ["experiment", "hints-lists", "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--smoke", *wrong]
            )
        assert (end.value.code, says in capsys.readouterr().err) == (2, True)
