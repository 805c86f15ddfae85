"""The judged queries of a collection: read from a test collection's files, replaced whole, checked bit by bit."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.first_schema import as_first_schema, as_second_schema, as_third_schema
from typer.testing import CliRunner

from facetrail.app.cli import main
from facetrail.indexing import generation
from facetrail.indexing.cli import index_app
from facetrail.indexing.collection import Collection, CollectionSettings, restore
from facetrail.indexing.collection_schema import SCHEMA_VERSION
from facetrail.indexing.events import Events
from facetrail.indexing.judgements import MAX_JUDGED, JudgedQuery, Judgements, read_judgements
from facetrail.models.errors import Damaged, InvalidInput
from facetrail.models.recommend.records import Event
from facetrail.models.records import Document

SETTINGS = CollectionSettings(name="teas", lexical={})
JUDGED = [JudgedQuery("q2", "what is drunk?", {"tea": 2, "gone": 1}), JudgedQuery("q1", "und was täglich?", {"cup": 1})]
EVENT = Event("ann", "tea", "view", 1)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "c", SETTINGS) as made:
        made.put([Document("tea", "green tea"), Document("cup", "a cup")])
        yield made


def altered(collection: Collection, statement: str) -> None:
    with sqlite3.connect(collection.folder / "collection.sqlite") as database:
        assert database.execute(statement).rowcount == 1
    database.close()


def test_judged_queries_come_back_as_given_and_replace_those_before(collection: Collection) -> None:
    assert Judgements(collection).all() == []
    result = Judgements(collection).replace(JUDGED)
    assert (result.n_queries, result.n_judgements, result.n_replaced) == (2, 3, 0)
    assert result.unknown_documents == ("gone",)
    collection.close()
    with Collection.open(collection.folder, writable=True) as again:
        assert Judgements(again).all() == JUDGED
        assert Judgements(again).replace(JUDGED[:1]).n_replaced == 2
        assert Judgements(again).all() == JUDGED[:1]
        assert Judgements(again).replace([]).n_replaced == 1
        assert (Judgements(again).all(), again.check()) == ([], [])


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (JudgedQuery("", "text", {"tea": 1}), "every query an id"),
        (JudgedQuery("q", " ", {"tea": 1}), "has no words"),
        (JudgedQuery("q", "text", {}), "no relevant document"),
        (JudgedQuery("q", "text", {"tea": 0}), "grade 0 is not relevant"),
        (JudgedQuery("q", "text", {"\ud800": 1}), "surrogate"),
        (JUDGED[0], "twice"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_replaced(
    collection: Collection, bad: JudgedQuery, says: str
) -> None:
    Judgements(collection).replace(JUDGED)
    with pytest.raises(InvalidInput, match=says):
        Judgements(collection).replace([JUDGED[0], bad])
    with pytest.raises(InvalidInput, match="at most"):
        Judgements(collection).replace([JUDGED[0]] * (MAX_JUDGED + 1))
    assert Judgements(collection).all() == JUDGED


@pytest.mark.parametrize("change", ["text = 'x'", "relevant = '{}'", "query = 'q9'", "number = 9"])
def test_a_changed_row_is_found_and_never_read(collection: Collection, change: str) -> None:
    Judgements(collection).replace(JUDGED)
    assert collection.check() == []
    altered(collection, f"UPDATE judgements SET {change} WHERE query = 'q1'")
    assert any("of table judgements is not as it was written" in problem for problem in collection.check())
    with pytest.raises(Damaged, match="table judgements"):
        Judgements(collection).all()


def test_a_lost_row_is_found(collection: Collection) -> None:
    Judgements(collection).replace(JUDGED)
    altered(collection, "DELETE FROM judgements WHERE query = 'q1'")
    assert any("table judgements has 1 rows, 2 were written" in problem for problem in collection.check())


def test_a_snapshot_holds_the_judgements(collection: Collection, tmp_path: Path) -> None:
    Judgements(collection).replace(JUDGED)
    collection.backup(tmp_path / "snapshot")
    restore(tmp_path / "snapshot", tmp_path / "restored")
    with Collection.open(tmp_path / "restored") as again:
        assert (Judgements(again).all(), again.check()) == (JUDGED, [])


@pytest.mark.parametrize("age", [as_first_schema, as_second_schema, as_third_schema])
def test_an_older_collection_has_none_until_the_first_are_written(collection: Collection, age) -> None:  # type: ignore[no-untyped-def]
    Events(collection).put([EVENT])
    collection.close()
    age(collection.folder)
    with Collection.open(collection.folder, writable=True) as old:
        assert (Judgements(old).all(), old.check()) == ([], [])
        assert Judgements(old).replace(JUDGED).n_replaced == 0
        assert (Judgements(old).all(), old.check()) == (JUDGED, [])
        assert Events(old).count() == (1 if age is as_third_schema else 0)  # an upgrade forgets no events
    assert generation.verify(collection.folder) == []
    database = sqlite3.connect(collection.folder / "collection.sqlite")
    assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    database.close()


# -- from files ----------------------------------------------------------------------------------------------------

QUERIES = [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}, {"_id": "unjudged", "text": "three"}]
QRELS = ["query-id\tcorpus-id\tscore", "q2\ttea\t2", "q2\tcup\t0", "q1\tgone\t1", "lost\ttea\t1", "bad\ttea\t0"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUERIES))
    (folder / "qrels" / "dev.tsv").write_text("\n".join(QRELS) + "\n")
    return folder


def test_only_what_is_judged_relevant_and_has_a_text_is_read(data: Path) -> None:
    read = read_judgements(data / "queries.jsonl", data / "qrels" / "dev.tsv")
    assert read.queries == (JudgedQuery("q2", "two", {"tea": 2}), JudgedQuery("q1", "one", {"gone": 1}))
    assert (read.n_without_text, read.n_without_relevant) == (1, 1)
    (data / "queries.jsonl").write_text('{"_id": "other", "text": "four"}\n')
    with pytest.raises(InvalidInput, match="none of the 3 queries"):
        read_judgements(data / "queries.jsonl", data / "qrels" / "dev.tsv")


def test_the_command_keeps_them_and_says_what_is_missing(collection: Collection, data: Path) -> None:
    collection.close()
    files = ["--queries", str(data / "queries.jsonl"), "--qrels", str(data / "qrels" / "dev.tsv")]
    told = CliRunner().invoke(index_app, ["judge", str(collection.folder), *files])
    assert told.exit_code == 0, told.output
    assert "2 judged queries with 2 relevant documents kept" in told.output
    assert "not in the collection: 1 (gone)" in told.output
    again = CliRunner().invoke(
        index_app, ["judge", str(collection.folder), "--data", str(data), "--split", "dev", "--json"]
    )
    assert json.loads(again.output) == {
        "n_queries": 2,
        "n_judgements": 2,
        "n_replaced": 2,
        "unknown_documents": ["gone"],
        "n_without_text": 1,
        "n_without_relevant": 1,
    }
    with Collection.open(collection.folder) as reader:
        assert [query.id for query in Judgements(reader).all()] == ["q2", "q1"]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [([], 2, "--data FOLDER"), (["--data", "nowhere"], 4, "no file of queries at nowhere")],
)
def test_a_wrong_command_is_one_sentence(
    collection: Collection, capsys: pytest.CaptureFixture[str], options: list[str], code: int, says: str
) -> None:
    collection.close()
    with pytest.raises(SystemExit) as left:
        main(["index", "judge", str(collection.folder), *options])
    assert left.value.code == code
    assert says in capsys.readouterr().err
