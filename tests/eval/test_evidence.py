"""Every result in the checkout has the one shape, and a result that has it not is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from facetrail.eval.evidence import Evidence, describe_machine, read_result, results_folder, write_result
from facetrail.models.errors import Damaged, InvalidInput, NotFound


def sound(**changed: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "claim": "fusion beats both rankers",
        "data": [{"name": "scifact/test", "sha256": "0" * 64}],
        "arms": {
            "bm25": {"description": "k1 .9, b .4", "measures": {"nDCG@10": [0.677]}},
            "z": {"measures": {"nDCG@10": 0.738}, "meters": {"queries": 300}},
        },
        "comparisons": [
            {
                "a": "z",
                "b": "bm25",
                "measure": "nDCG@10",
                "difference": 0.061,
                "interval": [0.042, 0.081],
                "p": 1e-5,
                "p_holm": 3e-5,
                "demand": "> 0",
                "met": True,
            },
            {"a": "z", "measure": "nDCG@10", "demand": ">= 0.733", "met": True},
        ],
        "seeds": [0],
        "meter": {"name": "queries", "equal_within": 0},
        "command": "python -m facetrail.eval.benchmarks.search_quality",
    }
    return {**parts, **changed}


def test_every_committed_result_has_the_shape() -> None:
    for path in sorted(results_folder().glob("*.json")):
        assert read_result(path).name == path.stem


def test_a_result_written_is_the_result_read(tmp_path: Path) -> None:
    path = write_result("search-quality", folder=tmp_path, **sound())
    assert path == tmp_path / "search-quality.json"
    evidence = read_result(path)
    assert evidence.arms["z"].measures == {"nDCG@10": [0.738]}
    assert evidence.comparisons[0].interval == (0.042, 0.081)
    assert list(json.loads(path.read_text())) == [
        "name", "claim", "data", "command", "commit", "machine", "seeds", "meter", "arms", "comparisons", "notes",
        "shown",
    ]  # fmt: skip
    assert evidence.machine == describe_machine()
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arms": {}}, "arms"),
        ({"arms": {"a": {"measures": {"AP": [float("nan")]}}}, "comparisons": []}, "finite"),
        ({"arms": {"a": {"measures": {"AP": [0.1, 0.2]}}}, "comparisons": []}, "2 values for 1 seeds"),
        ({"comparisons": [{"a": "z", "b": "bm52", "measure": "AP"}]}, "bm52"),
        ({"comparisons": [{"a": "z", "b": "bm25", "measure": "AP", "demand": "> 0"}]}, "verdict"),
        ({"data": [{"name": "scifact", "sha256": "abc"}]}, "sha256"),
        ({"comparisons": [{"a": "z", "b": "bm25", "measure": "AP", "p": 1.5}]}, "p"),
        ({"meter": {"name": "queries", "equal_within": 0, "unit": "s"}}, "unit"),
    ],
)
def test_a_misshapen_result_is_refused_and_nothing_is_written(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        write_result("broken", folder=tmp_path, **sound(**changed))
    assert not list(tmp_path.iterdir())


def test_a_name_is_a_file_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name"):
        write_result("../outside", folder=tmp_path, **sound())


def test_machine_paths_are_cut_from_the_command(tmp_path: Path) -> None:
    command = "python -m x --scifact /home/ada/collections/scifact --cacm=/tmp/cacm/ --rate 3/4"
    evidence = read_result(write_result("paths", folder=tmp_path, **sound(command=command)))
    assert evidence.command == "python -m x --scifact scifact --cacm=cacm --rate 3/4"


def test_a_result_with_a_machine_path_is_damaged(tmp_path: Path) -> None:
    path = write_result("paths", folder=tmp_path, **sound())
    path.write_text(path.read_text().replace('"notes": ""', '"notes": "see /home/ada/run.log"'))
    with pytest.raises(Damaged, match=r"run\.log"):
        read_result(path)


def test_a_result_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="experiment"):
        read_result(tmp_path / "none.json")


def test_evidence_is_closed() -> None:
    assert Evidence.model_config["extra"] == "forbid"
