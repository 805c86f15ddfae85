"""`facetrail train recommender`: every recipe writes a model folder that opens again, measured once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetrail.app.cli import main
from facetrail.models.errors import Conflict, InvalidInput, NotFound
from facetrail.models.recommend.records import Event
from facetrail.models.recommend.saved import open_recommender
from facetrail.training.recommend import recommender as recommender_module
from facetrail.training.recommend.recommender import train

RECIPES = ("ease", "markov", "blend", "popularity", "knn", "ials", "lightgcn", "sasrec")
SMALL = [
    "sasrec.dim=16",
    "sasrec.n_layers=1",
    "sasrec.length=10",
    "sasrec.epochs=2",
    "sasrec.batch=16",
    "ials.sweeps=2",
    "lightgcn.epochs=1",
]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users who walk round 12 items, one step an hour, with an order now and then."""
    rng = np.random.default_rng(0)
    rows = [
        {"user": f"u{user}", "item": f"item {(start + i) % 12:02}", "action": "order" if i % 4 == 3 else "view",
         "time": 1_700_000_000_000 + 3_600_000 * (10 * i + user % 10)}
        for user, start in enumerate(rng.integers(0, 12, 40).tolist())
        for i in range(10)
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe(recipe: str, events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [part for value in SMALL for part in ("--set", value)]
    with pytest.raises(SystemExit) as left:
        main(
            ["train", "recommender", "--data", str(events), "--out", str(tmp_path / "run"), "--recipe", recipe,
             "--device", "cpu", "--json", *sets]
        )  # fmt: skip
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    said = json.loads(output.out)
    report = json.loads(Path(said["report"]).read_bytes())
    assert report["part"] == "test"
    assert said["R@10"] == report["seen_hidden"]["per_prediction"]["R@10"]
    recommender = open_recommender(Path(said["model"]))
    history = [Event("anybody", f"item {i:02}", "view", i) for i in (2, 3, 4)]
    found = recommender.recommend(history, k=3, exclude=["item 02"])
    assert len({item.id for item in found} - {"item 02"}) == 3
    if recipe in ("markov", "blend"):
        assert found[0].id == "item 05"
    assert recommender.recommend([], k=1)[0].flags == ("fallback",)
    tuning = json.loads((tmp_path / "run" / "tuning.json").read_bytes())
    assert ("ridge" in tuning) == (recipe in ("ease", "blend"))


def test_the_chosen_ridge_is_written_before_the_test_is_looked_at(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "run", recommender_module.evaluate
    seen: list[dict[str, Any]] = []

    def evaluate(*given: Any) -> Any:
        seen.append(json.loads((out / "tuning.json").read_bytes()))
        return real(*given)

    monkeypatch.setattr(recommender_module, "evaluate", evaluate)
    first = train(events, out, overrides=["algorithm=ease", "ridges=[1, 1000]"])
    assert len(seen) == 1
    assert seen[0]["trials"].keys() == {"1", "1000"}
    assert seen[0]["trials"][f"{seen[0]['ridge']:g}"] == max(seen[0]["trials"].values())
    assert train(events, out, overrides=["algorithm=ease", "ridges=[1, 1000]"], resume=True) == first
    assert len(seen) == 1  # a finished run is not measured again
    with pytest.raises(Conflict, match="go on with --resume"):
        train(events, out, overrides=["algorithm=ease"])
    with pytest.raises(Conflict, match="algorithm"):
        train(events, out, overrides=["algorithm=markov", "ridges=[1, 1000]"], resume=True)


def test_actions_that_count(events: Path, tmp_path: Path) -> None:
    overrides = ["algorithm=popularity", 'keep=["order"]', 'ignore=["view"]', "split=leave_last"]
    said = train(events, tmp_path / "run", overrides=overrides)
    assert said["n_predictions"] == 40  # two orders each
    assert "other users' future" in said["warnings"][0]


def test_what_cannot_be_fitted_says_why(events: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="give an event file"):
        train(tmp_path / "nowhere", tmp_path / "a")
    with pytest.raises(InvalidInput, match="no collection that is known"):
        train(tmp_path, tmp_path / "b")
    with pytest.raises(InvalidInput, match="algorithm"):
        train(events, tmp_path / "c", overrides=["algorithm=eaes"])


def test_data_without_times_is_not_split_by_time(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="leave_last"):
        train(data_folder / "amazon-beauty", tmp_path / "run")


@pytest.mark.slow
def test_the_blend_on_movielens_by_time(data_folder: Path, tmp_path: Path) -> None:
    said = train(data_folder / "ml-100k", tmp_path / "run", overrides=["ties=shuffle"])
    assert said["n_predictions"] == pytest.approx(9_770, abs=400)
    assert said["R@10"] > 0.12
