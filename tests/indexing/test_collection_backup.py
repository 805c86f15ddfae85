"""Snapshots: consistent while writes go on, checked before they are restored, whole or absent."""

import threading
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing import generation
from facetrail.indexing.collection import Collection, CollectionSettings, restore
from facetrail.models.errors import Conflict, Damaged, NotFound
from facetrail.models.records import Document

FINGERPRINT = "c" * 64


@pytest.fixture
def source(tmp_path: Path) -> Path:
    settings = CollectionSettings(name="c", encoder="e", encoder_fingerprint=FINGERPRINT, dim=3, lexical={}, dense={})
    with Collection.create(tmp_path / "source", settings) as collection:
        collection.put([Document(f"{i:03d}", f"text {i}") for i in range(50)], np.arange(150).reshape(50, 3))
        collection.delete(["007"])
        build(collection)
    return tmp_path / "source"


def build(collection: Collection) -> None:
    with collection.snapshot() as view, generation.new_generation(collection.folder) as building:
        (building.folder / "ids.txt").write_text("\n".join(view.ids_in_order()))
        building.finish(built_from_change=view.change, n_documents=view.count())


def content(folder: Path) -> tuple[object, ...]:
    with Collection.open(folder) as collection:
        ids = collection.ids_in_order()
        vectors = collection.vectors_for(ids, FINGERPRINT).tolist()
        opened = generation.open_generation(folder)
        assert opened is not None
        changes = collection.changes_since(0)
        return collection.get_many(ids), vectors, changes, collection.settings, opened[1]


def test_a_restored_snapshot_is_the_collection(source: Path, tmp_path: Path) -> None:
    with Collection.open(source) as collection:
        collection.backup(tmp_path / "snapshot")
    restore(tmp_path / "snapshot", tmp_path / "restored")
    assert content(tmp_path / "restored") == content(tmp_path / "snapshot") == content(source)
    assert generation.verify(tmp_path / "restored") == []
    with Collection.open(tmp_path / "restored", writable=True) as collection:
        assert collection.put([Document("new", "t")]).change == collection.last_change == 52


def test_a_snapshot_of_a_collection_under_writes_is_one_of_its_states(source: Path, tmp_path: Path) -> None:
    with Collection.open(source, writable=True) as collection:
        stop = threading.Event()

        def write() -> None:
            version = 0
            while not stop.is_set():
                version += 1
                collection.put([Document("left", f"{version}"), Document("right", f"{version}")])
                if version % 5 == 0:
                    build(collection)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for i in range(5):
                collection.backup(tmp_path / f"snapshot-{i}")
        finally:
            stop.set()
            writer.join()
    for i in range(5):
        folder = tmp_path / f"snapshot-{i}"
        assert generation.verify(folder) == []
        with Collection.open(folder) as copy:
            left, right = copy.get_many(["left", "right"])
            assert (left is None) == (right is None)
            assert left is None or right is None or left.text == right.text
            assert generation.built_from(folder) <= copy.last_change


def test_neither_snapshot_nor_restore_touches_an_existing_target(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "thesis.tex").write_text("precious")
    with Collection.open(source) as collection, pytest.raises(Conflict, match="exists already"):
        collection.backup(target)
    with pytest.raises(Conflict, match="exists already"):
        restore(source, target)
    assert [p.name for p in target.iterdir()] == ["thesis.tex"]


def test_a_damaged_snapshot_is_not_restored(source: Path, tmp_path: Path) -> None:
    with Collection.open(source) as collection:
        collection.backup(tmp_path / "snapshot")
    database = tmp_path / "snapshot" / "collection.sqlite"
    raw = bytearray(database.read_bytes())
    raw[len(raw) // 2] ^= 4
    database.write_bytes(raw)
    with pytest.raises(Damaged, match=r"snapshot/collection\.sqlite.*nothing was restored"):
        restore(tmp_path / "snapshot", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    assert not list(tmp_path.glob(".restored*"))


def test_restoring_nothing_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        restore(tmp_path / "none", tmp_path / "restored")
    assert list(tmp_path.iterdir()) == []


def test_restoring_from_a_collection_in_use_is_refused(source: Path, tmp_path: Path) -> None:
    with Collection.open(source, writable=True) as collection:
        collection.put([Document("x", "t")])
        with pytest.raises(Conflict, match="not a snapshot, or was written to"):
            restore(source, tmp_path / "restored")


def test_a_damaged_generation_stops_the_snapshot(source: Path, tmp_path: Path) -> None:
    path = generation.current(source)
    assert path is not None
    (path / "ids.txt").write_text((path / "ids.txt").read_text().replace("0", "1", 1))
    with Collection.open(source) as collection, pytest.raises(Damaged, match=r"ids\.txt"):
        collection.backup(tmp_path / "snapshot")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
