"""Every changed byte of a collection is found and named, and finding it changes nothing."""

import random
import re
import sqlite3
from pathlib import Path

import pytest

from facetrail.eval.benchmarks.durability_damage import damage, make_collection, named, run_damage, stored_files
from facetrail.indexing import generation
from facetrail.indexing.collection import Collection
from facetrail.indexing.collection_check import Seal
from facetrail.models.errors import Damaged

FINGERPRINT = "da" * 32


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests put back what they damage."""
    folder = tmp_path_factory.mktemp("damage") / "c"
    make_collection(folder, n_documents=120, rng=random.Random(4))
    return folder


def content(folder: Path) -> tuple[object, ...]:
    """All that a collection can be asked for."""
    with Collection.open(folder) as opened, opened.snapshot() as view:
        ids, vectors = view.all_vectors(FINGERPRINT)
        documents = [d for batch in view.documents() for d in batch]
        return opened.settings, documents, view.ids_in_order(), ids, vectors.tobytes(), view.changes_since(0)


def test_five_hundred_damaged_files_are_all_named(collection: Path) -> None:
    report = run_damage(collection, times=500, rng=random.Random(5))
    assert report.problems == []
    assert report.n_damaged.total() == 500
    assert min(report.n_damaged.values()) > 150
    names = {p.name for p in stored_files(collection)}
    assert {"collection.sqlite", "collection.seal", "CURRENT", "MANIFEST.json", "ids.json"} <= names
    assert {p.parent.name for p in stored_files(collection)} >= {"lexical", "dense", "fields"}


def test_opening_names_a_damaged_index_file_and_wipes_nothing(collection: Path) -> None:
    rng = random.Random(6)
    for file in [p for p in stored_files(collection) if "generations" in p.parts or p.name == "CURRENT"]:
        before = file.read_bytes()
        after = damage(before, "flip", rng)
        file.write_bytes(after)
        with pytest.raises(Damaged, match=re.escape(str(file))) as caught:
            generation.open_generation(collection)
        assert "index build" in str(caught.value)
        assert file.read_bytes() == after
        file.write_bytes(before)


def test_without_a_seal_damage_to_the_database_is_found_or_changes_no_answer(collection: Path) -> None:
    """After a kill there is no seal: bytes that hold nothing are not covered then, and only those."""
    database, seal = collection / "collection.sqlite", collection / "collection.seal"
    clean, expected, sealed = database.read_bytes(), content(collection), seal.read_bytes()
    seal.unlink()
    rng, n_found, n_harmless = random.Random(7), 0, 0
    try:
        assert generation.verify(collection) == []
        for i in range(250):
            database.write_bytes(damage(clean, "zero" if i % 5 == 0 else "flip", rng))
            if generation.verify(collection):
                n_found += 1
            else:
                assert content(collection) == expected
                n_harmless += 1
    finally:
        database.write_bytes(clean)
        seal.write_bytes(sealed)
    assert n_found > 150
    assert generation.verify(collection) == []


def test_reading_a_damaged_database_answers_rightly_or_says_damaged(collection: Path) -> None:
    database = collection / "collection.sqlite"
    clean, expected = database.read_bytes(), content(collection)
    rng, n_refused, n_unnamed = random.Random(8), 0, 0
    try:
        for _ in range(150):
            database.write_bytes(damage(clean, "flip", rng))
            try:
                assert content(collection) == expected
            except Damaged as error:
                n_refused += str(database) in str(error)
                n_unnamed += str(database) not in str(error)
    finally:
        database.write_bytes(clean)
    assert n_refused > 75
    assert n_unnamed == 0


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE documents SET text = text || ' ' WHERE id = 'paper-0007'", "'paper-0007'.*table documents"),
        ("UPDATE documents SET metadata = '{}' WHERE id = 'paper-0007'", "'paper-0007'.*table documents"),
        ("UPDATE documents SET sections = '[]' WHERE id = 'paper-0007'", "'paper-0007'.*table documents"),
        ("UPDATE documents SET change = change + 5000 WHERE id = 'paper-0007'", "'paper-0007'.*table documents"),
        (
            "UPDATE vectors SET vector = zeroblob(128) "
            "WHERE document = (SELECT number FROM documents WHERE id = 'paper-0007')",
            "'paper-0007'.*table vectors",
        ),
        ("UPDATE vectors SET document = 100000 WHERE document = 8", "table vectors"),
        ("UPDATE encoders SET fingerprint = 'x'", "table encoders"),
        ("UPDATE deletions SET id = 'paper-0007' WHERE id = 'paper-0020'", "table deletions"),
        ("UPDATE properties SET value = replace(value, '32', '33') WHERE name = 'settings'", "table properties"),
        ("DELETE FROM properties", "properties"),
        ("CREATE TABLE more (x)", "table definitions"),
        ("DROP TABLE deletions", "table definitions"),
    ],
)
def test_a_row_changed_behind_our_back_is_named(collection: Path, statement: str, words: str) -> None:
    database = collection / "collection.sqlite"
    clean, seal = database.read_bytes(), (collection / "collection.seal").read_bytes()
    try:
        connection = sqlite3.connect(database)
        assert connection.execute(statement).rowcount != 0
        connection.commit()
        connection.close()
        Seal(collection).write()  # even under a seal that fits
        problems = generation.verify(collection)
        assert any(re.search(words, p.what) and p.path == str(database) for p in problems), problems
        assert all("restore" in p.cure for p in problems)
    finally:
        for leftover in collection.glob("collection.sqlite-*"):
            leftover.unlink()
        database.write_bytes(clean)
        (collection / "collection.seal").write_bytes(seal)


def test_reading_a_damaged_row_names_it(collection: Path) -> None:
    database = collection / "collection.sqlite"
    clean = database.read_bytes()
    try:
        connection = sqlite3.connect(database)
        connection.execute("UPDATE documents SET title = 'forged' WHERE id = 'paper-0007'")
        connection.commit()
        connection.close()
        with Collection.open(collection) as opened:
            with pytest.raises(Damaged, match=r"'paper-0007'.*table documents"):
                opened.get("paper-0007")
            assert opened.get("paper-0008").id == "paper-0008"
    finally:
        for leftover in collection.glob("collection.sqlite-*"):
            leftover.unlink()
        database.write_bytes(clean)


def test_a_truncated_database_is_named(collection: Path) -> None:
    database = collection / "collection.sqlite"
    clean = database.read_bytes()
    try:
        for size in (0, 50, 8192, len(clean) - 4096):
            database.write_bytes(clean[:size])
            assert str(database) in named(collection)
            assert database.read_bytes() == clean[:size]
    finally:
        database.write_bytes(clean)


def test_writing_breaks_the_seal_and_closing_renews_it(collection: Path) -> None:
    seal = collection / "collection.seal"
    before = seal.read_bytes()
    with Collection.open(collection, writable=True) as writer:
        assert seal.read_bytes() == before  # opening alone changes nothing
        document = writer.get("paper-0007")
        writer.delete(["paper-0007"])
        assert not seal.exists()
        writer.put([document])
    assert seal.read_bytes() != before
    assert generation.verify(collection) == []
