"""`facetrail eval retrieval` from end to end: on the built-in sample with the real encoder, and on SciFact by words."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from facetrail.eval import arms
from facetrail.eval.cli import data_app, eval_app
from facetrail.eval.runs import read_run
from facetrail.models.errors import FacetrailError, InvalidInput, NotFound

CLI = CliRunner()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sample as a BEIR folder; collections are cached in a folder of this module's own, encoders where they are."""
    root = tmp_path_factory.mktemp("sample")
    CLI.invoke(data_app, ["get", "sample", "--out", str(root / "sample")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms, "cached_collection", lambda corpus, encoder: root / f"{corpus[:8]}-{encoder[:8]}")
        yield root / "sample"


def evaluate(*arguments: object) -> dict[str, Any]:
    result = CLI.invoke(eval_app, ["retrieval", *map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1, "exactly one object"
    printed = json.loads(result.stdout)
    assert isinstance(printed, dict)
    return printed


def refusal(*arguments: object) -> FacetrailError:
    error = CLI.invoke(eval_app, ["retrieval", *map(str, arguments)]).exception
    assert isinstance(error, FacetrailError), error
    return error


def test_the_printed_object(sample: Path) -> None:
    printed = evaluate("--data", sample, "--mode", "lexical")
    assert list(printed) == ["dataset", "split", "mode", "n_queries", "measures"]
    assert (printed["dataset"], printed["split"], printed["mode"]) == ("sample", "test", "lexical")
    assert list(printed["measures"]) == ["nDCG@10", "R@100", "AP", "RR"]
    assert printed["n_queries"] >= 20
    assert 0.5 < printed["measures"]["nDCG@10"] < 1


def test_hybrid_compared_tuned_reported_and_written(sample: Path, tmp_path: Path) -> None:
    run, report = tmp_path / "run.trec", tmp_path / "report.html"
    printed = evaluate(
        *("--data", sample, "--compare", "lexical,dense,hybrid:rrf"),
        *("--tune-on", "dev", "--run-out", run, "--report", report),
    )
    assert printed["mode"] == "hybrid"
    assert list(printed["modes"]) == ["hybrid", "lexical", "dense", "hybrid:rrf"]
    assert [(c["a"], c["b"]) for c in printed["comparisons"]] == [
        ("hybrid", "lexical"), ("hybrid", "dense"), ("hybrid", "hybrid:rrf")
    ]  # fmt: skip
    first = printed["comparisons"][0]
    modes = printed["modes"]
    assert first["difference"] == pytest.approx(modes["hybrid"]["nDCG@10"] - modes["lexical"]["nDCG@10"])
    assert first["wins"] + first["ties"] + first["losses"] == printed["n_queries"]
    assert first["p"] <= first["p_holm"]
    assert printed["tuned"]["on"] == "sample/dev"
    assert printed["tuned"]["weight"] in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    assert len(read_run(run)) == printed["n_queries"]
    assert "hybrid − lexical" in report.read_text(encoding="utf-8")


def test_the_same_question_gives_the_same_answer(sample: Path) -> None:
    arguments = ("--data", sample, "--mode", "lexical", "--compare", "hybrid", "--seed", "3")
    assert evaluate(*arguments) == evaluate(*arguments)


def test_an_index_that_exists_is_used(sample: Path, tmp_path: Path) -> None:
    from facetrail.indexing.build import BuildConfig, build_collection

    build_collection(sample, tmp_path / "index", config=BuildConfig(modes=("lexical",)))
    built = evaluate("--data", sample, "--mode", "lexical", "--index", tmp_path / "index")
    assert built == evaluate("--data", sample, "--mode", "lexical")
    assert "dense index" in str(refusal("--data", sample, "--mode", "dense", "--index", tmp_path / "index"))


def test_other_queries_and_judgements(sample: Path, tmp_path: Path) -> None:
    first = json.loads((sample / "corpus.jsonl").read_text().splitlines()[0])
    (tmp_path / "q.jsonl").write_text(json.dumps({"_id": first["_id"], "text": first["title"]}) + "\n")
    (tmp_path / "mine.tsv").write_text(f"query-id\tcorpus-id\tscore\n{first['_id']}\t{first['_id']}\t1\n")
    options = (
        "--data",
        sample,
        "--queries",
        tmp_path / "q.jsonl",
        "--qrels",
        tmp_path / "mine.tsv",
        "--mode",
        "lexical",
    )
    found = evaluate(*options)
    assert (found["split"], found["n_queries"], found["measures"]["RR"]) == ("mine", 1, 1.0)
    assert evaluate(*options, "--exclude-self")["measures"]["RR"] == 0.0


def test_people_get_a_table_with_intervals(sample: Path) -> None:
    result = CLI.invoke(eval_app, ["retrieval", "--data", str(sample), "--mode", "lexical", "--compare", "hybrid"])
    assert result.exit_code == 0
    for expected in ("sample/test", "nDCG@10", "lexical - hybrid", "win/tie/loss", "["):
        assert expected in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "fuzzy"], "no mode 'fuzzy'"),
        (["--mode", "lexical:rrf"], "only hybrid takes a method"),
        (["--mode", "hybrid:"], "is no mode"),
        (["--mode", "hybrid:sum"], "is no mode"),
        (["--compare", "lexical,fuzzy"], "no mode 'fuzzy'"),
        (["--measures", "sharpness"], "'sharpness' is not a measure"),
        (["--measures", ","], "no measure was named"),
        (["--weights", "1.5"], "not between 0 and 1"),
        (["--weights", "lexical=1"], "must weigh lexical and dense"),
        (["--weights", "lexical=a,dense=1"], "cannot be read"),
        (["--weights", "lexical=-1,dense=1"], "from 0 up"),
        (["--weights", "0.5", "--tune-on", "dev"], "one of the two"),
        (["--tune-on", "test"], "tune on another split"),
    ],
)
def test_what_cannot_be_asked(sample: Path, arguments: list[str], said: str) -> None:
    error = refusal("--data", sample, *arguments)
    assert isinstance(error, InvalidInput)
    assert said in str(error)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split", "validation"], "it has dev, test"),
        (["--tune-on", "train"], "no judgements for split 'train'"),
        (["--queries", "none.jsonl"], "none.jsonl does not exist"),
        (["--qrels", "none.tsv"], "none.tsv does not exist"),
        (["--index", "none", "--mode", "lexical"], "none"),
    ],
)
def test_what_is_not_there(sample: Path, arguments: list[str], said: str) -> None:
    error = refusal("--data", sample, *arguments)
    assert isinstance(error, NotFound)
    assert said in str(error)


def test_a_folder_without_a_collection(tmp_path: Path) -> None:
    assert "no corpus" in str(refusal("--data", tmp_path))


def test_tuning_on_the_reported_split_is_printed_when_allowed(sample: Path) -> None:
    printed = evaluate("--data", sample, "--tune-on", "test", "--allow-same")
    assert any("allow_same" in warning for warning in printed["warnings"])


def test_scifact_by_words_reaches_the_published_figures(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "cached_collection", lambda corpus, encoder: tmp_path / "collection")
    printed = evaluate("--data", data_folder / "scifact", "--mode", "lexical")
    assert printed["n_queries"] == 300
    expected = {"nDCG@10": 0.677, "AP": 0.638, "R@100": 0.929}
    assert {name: printed["measures"][name] for name in expected} == pytest.approx(expected, abs=0.003)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from facetrail.eval.cli import eval_app, data_app\n"
        "assert CliRunner().invoke(eval_app, ['retrieval', '--help']).exit_code == 0\n"
        "assert CliRunner().invoke(data_app, ['check', '--help']).exit_code == 0\n"
        "heavy = {'torch', 'numba', 'faiss', 'pandas', 'numpy', 'scipy', 'matplotlib', 'fastapi', 'ir_measures'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
