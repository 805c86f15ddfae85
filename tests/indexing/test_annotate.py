"""Labels that become filters: read, written, replaced whole, and what is refused."""

import json
from pathlib import Path

import pytest

from facetrail.app.cli import main
from facetrail.indexing.annotate import Annotated, Label, annotate, read_labels
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.collection import Collection
from facetrail.indexing.corpus_report import RowReport
from facetrail.indexing.request import SearchRequest
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import InvalidInput, NotFound


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    rows = [{"_id": f"d{i}", "text": f"graphs and words {i}", "metadata": {"year": 2000 + i}} for i in range(4)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_collection(corpus, tmp_path / "papers", config=BuildConfig(modes=("lexical",)))
    return tmp_path / "papers"


def labelled(folder: Path, tree: dict[str, object]) -> list[str]:
    with Searcher.open(folder) as searcher:
        hits = searcher.search(SearchRequest(query="graphs", mode="lexical", filter=tree)).hits
    return sorted(hit.id for hit in hits)


def test_labels_are_filters_and_a_second_annotation_replaces_the_first(papers: Path) -> None:
    first = {
        "d0": Label("topic-1", 0.9, "run-a"),
        "d1": Label("topic-2", 0.8, "run-a"),
        "d2": Label("topic-1", 0.3, "run-a"),
        "gone": Label("topic-1", 0.9, "run-a"),
    }
    with Collection.open(papers, writable=True) as collection:
        assert annotate(collection, first, field="topic", min_confidence=0.5) == Annotated(2, 0, 1, ("gone",))
    assert labelled(papers, {"topic": "topic-1"}) == ["d0"]
    assert labelled(papers, {"topic_confidence": {"gte": 0.7}}) == ["d0", "d1"]
    assert labelled(papers, {"topic_run": "run-a", "year": {"gte": 2001}}) == ["d1"]
    with Collection.open(papers, writable=True) as collection:
        assert annotate(collection, {"d1": Label("topic-3", None, "")}, field="topic") == Annotated(1, 1, 0, ())
        kept = collection.get_many(["d0", "d1"])
    assert [dict(one.metadata) for one in kept if one] == [{"year": 2000}, {"year": 2001, "topic": "topic-3"}]


def test_annotating_again_changes_nothing(papers: Path) -> None:
    labels = {"d0": Label("a", 0.5, "r")}
    with Collection.open(papers, writable=True) as collection:
        annotate(collection, labels, field="topic")
        before = collection.changes_since(0)
        annotate(collection, labels, field="topic")
        assert collection.changes_since(0) == before


def test_rows_that_are_no_labels_are_named_and_the_others_kept(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("id,label,confidence\na,x,0.5\nb,,0.5\nc,y,2\na,z,0.1\nd,y,much\ne,w,\n")
    report = RowReport()
    assert read_labels(file, report=report) == {"a": Label("x", 0.5, ""), "e": Label("w", None, "")}
    assert [problem.line for problem in report.problems] == [3, 4, 5, 6]
    with pytest.raises(InvalidInput, match=r"labels.csv:3: "):
        read_labels(file, strict=True)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("labels.csv", "id,topic\na,x\n", "no column with the label"),
        ("labels.jsonl", "{}\n", "holds no label"),
        ("labels.txt", "a x\n", "no kind that can be read"),
    ],
)
def test_files_without_labels_are_refused(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=says):
        read_labels(tmp_path / name)


def test_wrong_settings_are_refused_before_anything_is_written(papers: Path) -> None:
    with Collection.open(papers, writable=True) as collection:
        before = collection.changes_since(0)
        with pytest.raises(InvalidInput, match="is no name"):
            annotate(collection, {"d0": Label("a", None, "")}, field="my topic")
        with pytest.raises(InvalidInput, match="between 0 and 1"):
            annotate(collection, {"d0": Label("a", None, "")}, field="topic", min_confidence=1.5)
        assert collection.changes_since(0) == before
    with pytest.raises(NotFound):
        read_labels(papers / "none.csv")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_the_command(papers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"id": "d3", "label": "topic-4", "confidence": 0.75}\n')
    assert run("index", "annotate", str(papers), "--labels", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_labelled"] == 1
    assert labelled(papers, {"topic": "topic-4"}) == ["d3"]
    assert run("index", "annotate", str(papers), "--labels", str(tmp_path / "none.csv")) == 4
