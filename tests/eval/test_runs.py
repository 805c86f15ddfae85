"""Runs and judgements through files: the order survives, and a bad line is named."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.eval.metrics import evaluate_run, ordered
from facetrail.eval.runs import read_run, write_qrels, write_run
from facetrail.indexing.corpus import read_qrels
from facetrail.models.errors import Damaged, InvalidInput, NotFound

IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=8).filter(
    lambda text: len(text.split()) == 1 and text.split()[0] == text
)
SCORES = st.sampled_from([0.0, 1.0, 1.0 + 1e-12, -3.5, 1e300, 2.0, 1e-300])
RUNS = st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=12), max_size=4)


@settings(max_examples=150, deadline=None)
@given(run=RUNS, name=st.sampled_from(["run.trec", "run.trec.gz", "run.csv", "run.csv.gz"]))
def test_a_run_comes_back_in_exactly_its_order(
    tmp_path_factory: pytest.TempPathFactory, run: dict[str, dict[str, float]], name: str
) -> None:
    path = tmp_path_factory.mktemp("runs") / name
    write_run(path, run)
    back = read_run(path)
    assert {q: [d for d, _ in pairs] for q, pairs in back.items()} == {
        q: [d for d, _ in ordered(ranking)] for q, ranking in run.items()
    }
    if "csv" in name:
        assert {q: dict(pairs) for q, pairs in back.items()} == run


def test_trec_eval_sees_our_order_in_a_written_run(tmp_path: Path) -> None:
    # trec_eval alone would put "c" first: it breaks ties by id descending.
    import pytrec_eval

    run = {"q": {"a": 1.0, "b": 1.0, "c": 1.0}}
    write_run(tmp_path / "run.trec", run)
    with (tmp_path / "run.trec").open() as file:
        read_by_trec_eval = pytrec_eval.parse_run(file)
    judge = pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"})
    assert judge.evaluate(run)["q"]["recip_rank"] == pytest.approx(1 / 3)
    assert judge.evaluate(read_by_trec_eval)["q"]["recip_rank"] == 1.0
    assert evaluate_run(run, {"q": {"a": 1}}, ["RR"]).mean("RR") == 1.0


def test_a_written_run_has_six_columns_and_ranks_from_one(tmp_path: Path) -> None:
    write_run(tmp_path / "r", {"q1": {"b": 1.0, "a": 2.0}}, tag="bm25")
    assert (tmp_path / "r").read_text() == "q1 Q0 a 1 2.0 bm25\nq1 Q0 b 2 1.0 bm25\n"


@pytest.mark.parametrize("name", ["qrels.txt", "qrels.txt.gz", "test.tsv", "test.tsv.gz"])
def test_judgements_come_back(tmp_path: Path, name: str) -> None:
    qrels = {"q1": {"a": 2, "b": 0}, "q2": {"a": 1}}
    write_qrels(tmp_path / name, qrels)
    assert read_qrels(tmp_path / name) == qrels


def test_judgements_in_beir_form(tmp_path: Path) -> None:
    write_qrels(tmp_path / "test.tsv", {"q1": {"a": 2}})
    assert (tmp_path / "test.tsv").read_text() == "query-id\tcorpus-id\tscore\nq1\ta\t2\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r", "q1 Q0 a 1 2.0 t\nq1 Q0 b 2 1.0\n", r"r:2: 5 columns"),
        ("r", "q1 Q0 a 1 high t\n", r"r:1: the score 'high' is not a number"),
        ("r", "q1 Q0 a 1 nan t\n", r"r:1: .*not finite"),
        ("r", "q1 Q0 a 1 2 t\n\nq1 Q0 a 2 1 t\n", r"r:3: document 'a' stands twice for query 'q1'"),
        ("r.csv", "query,doc,score\nq,a,1\n", r"r\.csv:1: .*columns"),
        ("r.csv", "", r"r\.csv:1: .*columns"),
        ("r.csv", "query_id,document_id,score\nq,a\n", r"r\.csv:2: .*missing"),
        ("r.csv", "query_id,document_id,score\nq,a,1\nq,a,2\n", r"r\.csv:3: .*twice"),
    ],
)
def test_a_bad_line_of_a_run_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_run(tmp_path / name)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        read_run(tmp_path / "none")
    (tmp_path / "r").write_bytes(b"q1 Q0 \xff\xfe 1 1 t\n")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_run(tmp_path / "r")
    (tmp_path / "r.gz").write_bytes(gzip.compress(b"".join(b"q1 Q0 d%d 1 1 t\n" % i for i in range(99)))[:-9])
    with pytest.raises(Damaged, match="gzip"):
        read_run(tmp_path / "r.gz")
    (tmp_path / "plain.gz").write_text("q1 Q0 a 1 1 t\n")
    with pytest.raises(Damaged, match="gzip"):
        read_run(tmp_path / "plain.gz")


def test_an_id_with_a_blank_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("old")
    with pytest.raises(InvalidInput, match=r"'a b' holds a blank.*\.csv"):
        write_run(path, {"q1": {"ok": 2.0, "a b": 1.0}})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.trec"]
    write_run(tmp_path / "run.csv", {"q1": {"a b": 1.0}})
    assert read_run(tmp_path / "run.csv") == {"q1": [("a b", 1.0)]}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_run(tmp_path / "file" / "run.trec", {"q": {"a": 1.0}})
