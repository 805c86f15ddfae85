"""`facetrail eval recommend` from end to end on a file of events."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from facetrail.eval.cli import eval_app
from facetrail.eval.recommend_splits import FUTURE_WARNING
from facetrail.models.errors import InvalidInput

CLI = CliRunner()


@pytest.fixture
def cycle(tmp_path: Path) -> Path:
    """40 users who walk a cycle of 30 items from different starts; one row is broken."""
    starts = np.random.default_rng(0).integers(0, 30, 40)
    rows = [f"u{u},i{(s + n) % 30},view,{1_000_000_000 + 100 * n + u}" for u, s in enumerate(starts) for n in range(20)]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user,item,action,time", *rows, "u1,,view,1000000000"]))
    return path


def test_transitions_win_where_everybody_walks_a_cycle(cycle: Path) -> None:
    result = CLI.invoke(eval_app, ["recommend", "--data", str(cycle), "--json"], catch_exceptions=False)
    printed = json.loads(result.stdout)
    by_name = {report["scorer"]: report for report in printed["reports"]}
    assert len(by_name) == 5
    markov = next(report for name, report in by_name.items() if "markov" in name and "+" not in name)
    assert markov["seen_hidden"]["per_prediction"]["R@1"] == 1.0
    assert by_name["popularity"]["seen_hidden"]["per_prediction"]["R@1"] < 0.5
    assert "800 of 801 rows read" in printed["data"]
    assert len({report["split_hash"] for report in printed["reports"]}) == 1
    assert [row["b"] for row in printed["comparisons"]] == ["popularity"] * 4
    assert max(row["p_holm"] for row in printed["comparisons"] if "markov" in row["a"]) < 0.01


def test_the_table_prints_the_warning_of_leave_last(cycle: Path) -> None:
    arguments = ["recommend", "--data", str(cycle), "--split", "leave-last", "--scorers", "popularity,ease+markov"]
    result = CLI.invoke(eval_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert FUTURE_WARNING in result.stdout
    assert "seen items kept" in result.stdout
    assert "NDCG@10 over users: +" in result.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [("--split", "random"), ("--scorers", "oracle"), ("--ties", "id"), ("--part", "train"), ("--keep", "order")],
)
def test_wrong_options_are_refused(cycle: Path, option: str, value: str) -> None:
    result = CLI.invoke(eval_app, ["recommend", "--data", str(cycle), option, value])
    assert isinstance(result.exception, InvalidInput)
    assert "is not known" in str(result.exception) or repr(value) in str(result.exception)
