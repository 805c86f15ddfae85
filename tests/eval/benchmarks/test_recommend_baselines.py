"""The baselines' benchmark in small: every row is measured, its memory is its own, and a missed figure is told."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.benchmarks import recommend_baselines
from facetrail.eval.benchmarks.recommend_baselines import BIASED, ROWS, judged, measured, write
from facetrail.eval.benchmarks.recommend_known import ML1M, ML100K, RANKED, REPRODUCED, trained
from facetrail.eval.evidence import read_result
from facetrail.eval.recommend import evaluate
from facetrail.eval.recommend_cleaning import Ties, interactions_of
from facetrail.eval.recommend_splits import Split, cut_times, time_split
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.popularity import Popularity

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is told by Linux")


@pytest.fixture(scope="module")
def split() -> Split:
    """Forty users who give every third item five stars and the others one."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(40, size=900), rng.integers(30, size=900)
    stars = np.where(items % 3 == 0, 5.0, 1.0)
    events = interactions_of(
        [f"u{user}" for user in users], [f"i{item}" for item in items], (np.arange(900) * 3_600_000).tolist(),
        stars.tolist(),
    )  # fmt: skip
    return time_split(events, cut_times(events, train=0.8, validation=0.0), ties=Ties("shuffle"))


@linux
@pytest.mark.parametrize("row", ROWS[ML100K])
def test_every_row_is_measured(split: Split, row: str) -> None:
    found = measured(split, row, np.random.default_rng(0))
    if row == BIASED:
        assert found["RMSE"] < 1.0  # the items' means alone leave nothing, the mean of all about 1.9
    else:
        assert set(RANKED) <= set(found)
    if row == "popularity":
        assert found["MRR"] == evaluate(Popularity.fit(split.train), split).mean("MRR")


@linux
def test_memory_is_that_of_the_fit_whatever_was_held_before() -> None:
    code = (
        "import numpy as np\n"
        "from facetrail.eval.benchmarks.recommend_baselines import costed\n"
        "np.ones(2**25)\n"  # 256 MiB, given back
        "print(costed(lambda: np.ones(2**23))[1].mib)"
    )
    # In a process of its own, as every row is measured: one that has run other tests may hold memory to give again.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 60 < float(done.stdout) < 80


def test_a_figure_that_is_not_reproduced_is_told_and_published_rows_stand_beside_ours(tmp_path: Path) -> None:
    costs = {"fit CPU s": 8.0, "scoring CPU s": 1.0, "fit MiB": 5.0, "MRR": 0.1}
    found = {
        name: {row: dict(zip(RANKED, REPRODUCED[name].get(row, (0.0, 0.0, 0.0)), strict=False)) | costs for row in rows}
        for name, rows in ROWS.items()
    }
    assert all(row.met for row in judged(found))
    found[ML1M]["ease"]["R@10"] += 0.004
    found[ML1M]["markov"]["fit CPU s"] = 60.0
    missed = [(row.a, row.measure) for row in judged(found) if not row.met]
    assert missed == [(f"{ML1M}: ease", "R@10"), (f"{ML1M}: ease+markov", "scoring CPU s")]
    for file in recommend_baselines.FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"events")
    kept = read_result(write(found, judged(found), data=tmp_path, seed=0, folder=tmp_path))
    assert kept.arms[f"{ML1M}, published: gSASRec"].measures == {"R@10": [0.3], "NDCG@10": [0.173]}
    assert json.loads((tmp_path / "recommend-baselines.json").read_text())["name"] == "recommend-baselines"


def _run(folder: Path, **report: object) -> Path:
    folder.mkdir()
    figures = {"R@1": 0.07, "R@10": 0.33, "NDCG@10": 0.18, "MRR": 0.15, "novelty@10": 3.0}
    told = {"scorer": "sasrec", "split": "leave_last", "seen_hidden": {"per_prediction": figures}} | report
    (folder / "report.json").write_text(json.dumps(told))
    (folder / "run.json").write_text(json.dumps({"data": {"train_input.txt.gz": "abc"}}))
    (folder / "curves.jsonl").write_text('{"step": 1, "seconds": 2.5}\n{"step": 2, "seconds": 641.5}\n')
    return folder


def test_a_trained_model_has_a_row_where_it_was_trained_on_these_sequences(tmp_path: Path):
    found = trained(_run(tmp_path / "run"), sha256="abc")
    assert found == {"R@1": 0.07, "R@10": 0.33, "NDCG@10": 0.18, "MRR": 0.15, "fit wall s": 641.5}
    with pytest.raises(InvalidInput, match="no SASRec of these sequences"):
        trained(tmp_path / "run", sha256="another")
    with pytest.raises(InvalidInput, match="split=leave_last"):
        trained(_run(tmp_path / "by time", split="time"), sha256="abc")
    with pytest.raises(NotFound, match=r"holds no report\.json"):
        trained(tmp_path, sha256="abc")
