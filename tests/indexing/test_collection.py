"""The collection's promises to one writer: what it stores, refuses, counts and remembers."""

import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest

from facetrail.indexing.collection import Change, Collection, CollectionSettings
from facetrail.models.errors import Conflict, Damaged, InvalidInput, NotFound, Unavailable
from facetrail.models.records import Document, Section


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "c", CollectionSettings(name="words", lexical={})) as made:
        yield made


def everything(collection: Collection) -> list[Document]:
    return [d for batch in collection.documents() for d in batch]


RICH = Document(
    "10.1145/1:é",
    "Text with a NUL \x00, a tab\t and 漢字.",
    "Title",
    (Section("method", "s1"), Section("result", "s2")),
    {"year": 2001, "tags": ["b", "a"], "nested": {"z": None, "a": 1.5}, "open": True, "big": 2**63 - 1},
)


# -- what is stored ------------------------------------------------------------------------------------------------


def test_a_document_comes_back_equal_in_every_field_after_reopening(collection: Collection) -> None:
    collection.put([RICH])
    assert collection.get(RICH.id) == RICH
    collection.close()
    with Collection.open(collection.folder) as reader:
        assert reader.get(RICH.id) == RICH
        assert reader.settings == collection.settings


def test_put_counts_created_updated_and_unchanged(collection: Collection) -> None:
    first = collection.put([Document("a", "1"), Document("b", "1")])
    second = collection.put([Document("a", "1"), Document("b", "2"), Document("c", "1")])
    assert (first.created, first.updated, first.unchanged, first.change) == (2, 0, 0, 2)
    assert (second.created, second.updated, second.unchanged, second.change) == (1, 1, 1, 4)


@pytest.mark.parametrize(
    "other",
    [
        Document("a", "t", "title", (Section("n", "s"),), {"k": 2}),
        Document("a", "t", "title", (Section("n", "S"),), {"k": 1}),
        Document("a", "t", "Title", (Section("n", "s"),), {"k": 1}),
        Document("a", "T", "title", (Section("n", "s"),), {"k": 1}),
        Document("a", "", "titlet", (Section("n", "s"),), {"k": 1}),
        Document("a", "t", "title", (Section("n", "s"),), {"k": True}),
        Document("a", "t", "title", (Section("n", "s"),), {"k": 1.0}),
    ],
)
def test_a_difference_in_any_field_is_an_update(collection: Collection, other: Document) -> None:
    collection.put([Document("a", "t", "title", (Section("n", "s"),), {"k": 1})])
    assert collection.put([other]).updated == 1
    assert collection.get("a") == other


def test_an_equal_document_spends_no_change_number_even_with_its_keys_in_another_order(collection: Collection) -> None:
    collection.put([Document("a", "t", metadata={"x": 1, "y": {"p": 1, "q": 2}})])
    result = collection.put([Document("a", "t", metadata={"y": {"q": 2, "p": 1}, "x": 1})])
    assert (result.unchanged, collection.last_change) == (1, 1)


def test_the_last_of_several_documents_with_one_id_counts(collection: Collection) -> None:
    result = collection.put([Document("a", "first"), Document("b", "b"), Document("a", "last")])
    assert (result.created, collection.get("a").text) == (2, "last")


def test_delete_names_what_did_not_live_and_takes_repeated_ids_once(collection: Collection) -> None:
    collection.put([Document("a", "1"), Document("b", "1")])
    result = collection.delete(["b", "x", "b", "x"])
    assert (result.deleted, result.missing, result.change) == (("b",), ("x",), 3)
    assert collection.ids_in_order() == ["a"]


def test_delete_refuses_one_string_instead_of_a_list(collection: Collection) -> None:
    with pytest.raises(InvalidInput, match="list of ids"):
        collection.delete("abc")


def test_the_change_log_holds_the_last_change_of_every_id(collection: Collection) -> None:
    collection.put([Document("a", "1"), Document("b", "1"), Document("c", "1")])
    collection.delete(["a", "b"])
    collection.put([Document("b", "2")])
    assert collection.changes_since(0) == [Change(3, "put", "c"), Change(4, "delete", "a"), Change(6, "put", "b")]
    assert collection.changes_since(4) == [Change(6, "put", "b")]
    assert collection.changes_since(6) == []


def test_change_numbers_never_fall_even_when_everything_was_deleted(collection: Collection) -> None:
    collection.put([Document("a", "1")])
    collection.delete(["a"])
    collection.close()
    with Collection.open(collection.folder, writable=True) as again:
        assert again.put([Document("a", "1")]).change == 3


def test_changes_since_a_number_that_never_was_is_damage(collection: Collection) -> None:
    with pytest.raises(Damaged, match="ends at change 0"):
        collection.changes_since(7)


def test_ids_come_in_utf8_byte_order(collection: Collection) -> None:
    ids = ["b", "a", "é", "Z", "10", "9", "\U0001f600", "\uffee", "aa", "a b", "z"]
    collection.put([Document(i, "t") for i in ids])
    in_order = sorted(ids, key=str.encode)
    assert in_order != sorted(ids, key=lambda i: i.encode("utf-16-le"))
    assert collection.ids_in_order() == in_order
    assert [d.id for d in everything(collection)] == in_order
    assert [d.id for batch in collection.documents(after="a", batch=2) for d in batch] == in_order[
        in_order.index("a") + 1 :
    ]


def test_get_many_answers_in_the_order_asked_with_none_for_the_unknown(collection: Collection) -> None:
    documents = [Document(f"{i}", f"text {i}") for i in range(1_203)]
    collection.put(documents)
    asked = [*(d.id for d in reversed(documents)), "unknown", "7", "7"]
    assert collection.get_many(asked) == [*reversed(documents), None, documents[7], documents[7]]
    assert collection.get_many([]) == []


def test_get_of_an_unknown_id_is_not_found(collection: Collection) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        collection.get("nobody")


def test_a_snapshot_does_not_move_while_writes_go_on(collection: Collection) -> None:
    collection.put([Document(f"{i}", "old") for i in range(10)])
    with collection.snapshot() as view:
        collection.put([Document("5", "new"), Document("x", "new")])
        collection.delete(["3"])
        assert [d.text for batch in view.documents(batch=3) for d in batch] == ["old"] * 10
        assert (view.change, view.count(), "x" in view.ids_in_order()) == (10, 10, False)
    assert (collection.count(), collection.last_change) == (10, 13)


def test_iteration_keeps_the_state_it_began_with(collection: Collection) -> None:
    collection.put([Document(f"{i}", "old") for i in range(6)])
    batches = collection.documents(batch=2)
    first = next(batches)
    collection.delete([f"{i}" for i in range(6)])
    assert [d.id for d in first] + [d.id for batch in batches for d in batch] == [f"{i}" for i in range(6)]


# -- what is refused -----------------------------------------------------------------------------------------------

DEEP: list[object] = []
for _ in range(60):
    DEEP = [DEEP]

BAD = {
    "empty id": (Document("", "t"), "empty"),
    "long id": (Document("é" * 257, "t"), "514 bytes"),
    "newline in id": (Document("a\nb", "t"), "control character"),
    "NUL in id": (Document("a\x00", "t"), "control character"),
    "C1 control in id": (Document("a\x85", "t"), "control character"),
    "surrogate in id": (Document("a\ud800", "t"), "surrogate"),
    "surrogate in text": (Document("a", "t\udfff"), "surrogate"),
    "surrogate in title": (Document("a", "t", "\ud800"), "surrogate"),
    "surrogate in section": (Document("a", "t", sections=(Section("n", "\ud800"),)), "surrogate"),
    "surrogate in metadata": (Document("a", "t", metadata={"k": "\ud800"}), "surrogate"),
    "NaN": (Document("a", "t", metadata={"k": [1, math.nan]}), "nan"),
    "infinity": (Document("a", "t", metadata={"k": {"l": -math.inf}}), "inf"),
    "key that is no string": (Document("a", "t", metadata={"k": {1: 2}}), "key 1"),
    "object that is not JSON": (Document("a", "t", metadata={"k": {1, 2}}), "set"),
    "bytes": (Document("a", "t", metadata={"k": b"x"}), "bytes"),
    "integer beyond 64 bits": (Document("a", "t", metadata={"k": 2**63}), "64 bits"),
    "huge integer": (Document("a", "t", metadata={"k": 10**400}), "64 bits"),
    "nesting": (Document("a", "t", metadata={"k": DEEP}), "nested"),
    "size": (Document("a", "t" * 2_000_001), "split it"),
    "size of metadata": (Document("a", "t", metadata={"k": "t" * 2_000_001}), "split it"),
    "text that is no text": (Document("a", 5), "text"),  # type: ignore[arg-type]
    "id that is no text": (Document(5, "t"), "text"),  # type: ignore[arg-type]
    "metadata that is no object": (Document("a", "t", metadata=[1]), "object"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_document_is_named_and_nothing_of_its_batch_is_written(case: str, tmp_path: Path) -> None:
    bad, words = BAD[case]
    settings = CollectionSettings(name="words", lexical={}, max_document_bytes=2_000_000)
    with Collection.create(tmp_path / "c", settings) as collection:
        with pytest.raises(InvalidInput, match=words) as caught:
            collection.put([Document("good", "t"), bad, Document("better", "t")])
        assert "document 1" in str(caught.value)
        assert caught.value.pointer.startswith("/documents/1")
        assert (collection.count(), collection.last_change) == (0, 0)


@pytest.mark.parametrize("document_id", ["x" * 512, "é" * 256, " ", "a b", "/", "'; --", '"', "\u2028", "\U0010ffff"])
def test_unusual_ids_are_allowed(collection: Collection, document_id: str) -> None:
    collection.put([Document(document_id, "t")])
    assert collection.get(document_id).id == document_id
    assert collection.delete([document_id]).deleted == (document_id,)


# -- creating and opening ------------------------------------------------------------------------------------------


def test_creating_over_a_collection_is_refused_and_leaves_it(collection: Collection) -> None:
    collection.put([RICH])
    collection.close()
    with pytest.raises(Conflict, match="already holds a collection"):
        Collection.create(collection.folder, CollectionSettings(name="other"))
    with Collection.open(collection.folder) as reader:
        assert reader.get(RICH.id) == RICH


def test_creating_among_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(Conflict, match=r"thesis\.tex"):
        Collection.create(tmp_path, CollectionSettings(name="c"))
    for below in ("thesis.tex", "thesis.tex/deeper"):
        with pytest.raises(Conflict, match="cannot be made a folder"):
            Collection.create(tmp_path / below, CollectionSettings(name="c"))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_creation_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / ".creating.sqlite").write_bytes(b"half")
    (tmp_path / ".creating.sqlite-wal").write_bytes(b"half")
    with Collection.create(tmp_path, CollectionSettings(name="c")) as made:
        assert made.count() == 0
        assert not list(tmp_path.glob(".creating*"))


@pytest.mark.parametrize("writable", [False, True])
def test_opening_what_is_not_there_is_not_found(tmp_path: Path, writable: bool) -> None:
    with pytest.raises(NotFound, match="no folder"):
        Collection.open(tmp_path / "none", writable=writable)
    with pytest.raises(NotFound, match="holds no collection"):
        Collection.open(tmp_path, writable=writable)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_refused(collection: Collection) -> None:
    from facetrail.indexing.collection_schema import checksum

    collection.close()
    database = sqlite3.connect(collection.folder / "collection.sqlite")
    database.execute(
        "UPDATE properties SET value = '5', checksum = ? WHERE name = 'schema'", (checksum("schema", "5"),)
    )
    database.execute("PRAGMA user_version = 5")
    database.commit()
    database.close()
    with pytest.raises(Conflict, match=r"schema version 5.*upgrade"):
        Collection.open(collection.folder)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "collection.sqlite").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(Damaged, match=r"collection\.sqlite"):
        Collection.open(tmp_path)
    (tmp_path / "collection.sqlite").unlink()
    other = sqlite3.connect(tmp_path / "collection.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(Damaged, match="header"):
        Collection.open(tmp_path, writable=True)


def test_writing_through_a_reader_is_refused(collection: Collection) -> None:
    collection.close()
    with Collection.open(collection.folder) as reader, pytest.raises(Conflict, match="writable=True"):
        reader.put([RICH])


def test_a_closed_collection_says_so(collection: Collection) -> None:
    collection.close()
    collection.close()
    with pytest.raises(Conflict, match="closed"):
        collection.count()
    with pytest.raises(Conflict, match="was closed"):
        collection.put([RICH])


def test_settings_with_half_an_encoder_are_refused() -> None:
    with pytest.raises(ValueError, match="come together"):
        CollectionSettings(name="c", encoder="base")


# -- one writer ----------------------------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_holds_the_collection(collection: Collection) -> None:
    import os

    with pytest.raises(Conflict, match=rf"process {os.getpid()} .*wait until it ends"):
        Collection.open(collection.folder, writable=True)
    with Collection.open(collection.folder) as reader:  # readers need no lock
        assert reader.count() == 0
    collection.put([RICH])  # and the first writer goes on


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    Collection.create(tmp_path / "c", CollectionSettings(name="c")).close()
    script = (
        "import sys, time; from pathlib import Path; from facetrail.indexing.collection import Collection;"
        "c = Collection.open(Path(sys.argv[1]), writable=True); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "c")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match=f"process {holder.pid} "):
            Collection.open(tmp_path / "c", writable=True)
        holder.kill()
    with Collection.open(tmp_path / "c", writable=True) as writer:
        assert writer.put([RICH]).created == 1


def test_closing_frees_the_lock(collection: Collection) -> None:
    collection.close()
    Collection.open(collection.folder, writable=True).close()
    Collection.open(collection.folder, writable=True).close()


def test_an_id_that_no_collection_can_hold_is_merely_missing(collection: Collection) -> None:
    collection.put([Document("a", "t")])
    assert collection.get_many(["\ud800", "a"]) == [None, Document("a", "t")]
    assert collection.delete(["\ud800"]).missing == ("\ud800",)


def test_a_collection_on_a_read_only_medium_can_be_read(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facetrail.indexing import collection_schema

    collection.put([RICH])
    collection.close()
    before = sorted(p.name for p in collection.folder.iterdir())
    monkeypatch.setattr(collection_schema.os, "access", lambda path, mode: False)  # root may write anywhere
    with Collection.open(collection.folder) as reader:
        assert reader.get(RICH.id) == RICH
        assert reader.check() == []
    assert sorted(p.name for p in collection.folder.iterdir()) == before  # nothing was created beside the database


def test_a_folder_that_cannot_be_written_says_so(collection: Collection) -> None:
    collection.close()
    (collection.folder / "writer.lock").unlink()
    (collection.folder / "writer.lock").mkdir()  # root may write anywhere, but not this
    with pytest.raises(Unavailable, match=r"writer\.lock cannot be written.*permissions"):
        Collection.open(collection.folder, writable=True)
    with Collection.open(collection.folder) as reader:
        assert reader.count() == 0


def test_metadata_of_any_mapping_is_stored_as_an_object(collection: Collection) -> None:
    collection.put([Document("a", "t", metadata=MappingProxyType({"k": MappingProxyType({"l": (1, 2)})}))])
    assert collection.get("a").metadata == {"k": {"l": [1, 2]}}
