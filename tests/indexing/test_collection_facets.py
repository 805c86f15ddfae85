"""Facet data beside its vector: never of another text, never without it; collections of the first schema."""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from contracts.facet_batches import assert_same, make_batch
from contracts.first_schema import as_first_schema

from facetrail.indexing import generation
from facetrail.indexing.build import build_generation
from facetrail.indexing.collection import Collection, CollectionSettings, restore
from facetrail.indexing.collection_schema import checksum
from facetrail.models.errors import Damaged, InvalidInput
from facetrail.models.records import Document
from facetrail.models.text.facets import FACETS, FacetBatch

FINGERPRINT, DIM = "f" * 64, 16
SINGLE = CollectionSettings(
    name="c", encoder="e", encoder_fingerprint=FINGERPRINT, dim=DIM, dense={"kind": "exact"}, lexical={}
)
FACETED = SINGLE.model_copy(update={"facets": FACETS, "facet_margin": 0.05, "facet_mixing": 0.3})
VECTORS = np.eye(DIM, dtype=np.float32)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "c", FACETED) as made:
        yield made


def documents(n: int, text: str = "text") -> list[Document]:
    return [Document(f"{i:04d}", f"{text} {i}") for i in range(n)]


def filled(collection: Collection, n: int = 8) -> FacetBatch:
    batch = make_batch(n)
    collection.put(documents(n), VECTORS[:n], batch)
    return batch


def test_facet_data_comes_back_bit_for_bit(collection: Collection) -> None:
    batch = filled(collection)
    found = collection.facets_for([f"{i:04d}" for i in (7, 0, 3)], FINGERPRINT)
    assert_same(found, batch.take([7, 0, 3]))
    assert len(collection.facets_for([], FINGERPRINT)) == 0


def test_of_repeated_ids_in_a_batch_the_last_document_brings_its_facets(collection: Collection) -> None:
    batch = make_batch(3)
    collection.put([Document("a", "1"), Document("b", "1"), Document("a", "2")], VECTORS[:3], batch)
    assert_same(collection.facets_for(["a", "b"], FINGERPRINT), batch.take([2, 1]))


def test_a_changed_text_loses_its_facets_and_changed_metadata_keeps_them(collection: Collection) -> None:
    batch = filled(collection, 3)
    collection.put([Document("0000", "text 0", metadata={"year": 1}), Document("0001", "another")])
    collection.delete(["0002"])
    assert_same(collection.facets_for(["0000"], FINGERPRINT), batch.take([0]))
    assert [d.id for d, _ in collection.documents_without_vectors(FINGERPRINT)] == ["0001"]
    with collection.snapshot() as view:
        assert view.connection.execute("SELECT document FROM facets").fetchall() == [(1,)]
    collection.close()
    assert collection.check() == []


def test_facets_of_an_outdated_text_are_dropped(collection: Collection) -> None:
    collection.put(documents(3))
    block = collection.documents_without_vectors(FINGERPRINT)
    collection.put([Document("0000", "changed meanwhile")])
    batch = make_batch(3)
    ids, hashes = [d.id for d, _ in block], [h for _, h in block]
    assert collection.store_vectors(ids, hashes, FINGERPRINT, VECTORS[:3], batch).outdated == 1
    assert_same(collection.facets_for(["0002", "0001"], FINGERPRINT), batch.take([2, 1]))


def test_facet_data_that_is_stored_again_replaces_what_was_there(collection: Collection) -> None:
    collection.put(documents(3))
    block = collection.documents_without_vectors(FINGERPRINT)
    ids, hashes = [d.id for d, _ in block], [h for _, h in block]
    for seed in (1, 2):
        collection.store_vectors(ids, hashes, FINGERPRINT, VECTORS[:3], make_batch(3, seed=seed))
    assert_same(collection.facets_for(ids, FINGERPRINT), make_batch(3, seed=2))


def test_whole_facet_data_of_another_text_is_not_served(collection: Collection) -> None:
    filled(collection, 3)
    with collection.snapshot() as view:
        old = view.connection.execute("SELECT * FROM facets WHERE document = 1").fetchone()
    collection.put([Document("0000", "changed")], VECTORS[3:4], make_batch(1, seed=9))
    collection.close()
    (collection.folder / "collection.seal").unlink()
    database = sqlite3.connect(collection.folder / "collection.sqlite")
    with database:
        database.execute("REPLACE INTO facets VALUES (?, ?, ?, ?, ?)", old)
    database.close()
    with Collection.open(collection.folder) as opened, pytest.raises(Damaged, match="no facet data"):
        opened.facets_for(["0000"], FINGERPRINT)


def test_vectors_and_facets_come_together_or_not_at_all(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="encode_facets"):
        collection.put(documents(1), VECTORS[:1])
    with pytest.raises(InvalidInput, match="facet data of 2 documents"):
        collection.put(documents(2), VECTORS[:2], make_batch(3))
    with (
        Collection.create(tmp_path / "single", SINGLE) as single,
        pytest.raises(InvalidInput, match="single vectors only"),
    ):
        single.put(documents(1), VECTORS[:1], make_batch(1))
    assert collection.count() == 0


def test_half_a_facet_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="come together"):
        CollectionSettings(name="c", facets=FACETS)
    with pytest.raises(ValueError, match="dense index"):
        CollectionSettings(name="c", facets=FACETS, facet_margin=0.05, facet_mixing=0.3)


def test_a_snapshot_carries_the_facets(collection: Collection, tmp_path: Path) -> None:
    batch = filled(collection)
    build_generation(collection)
    collection.backup(tmp_path / "snapshot")
    restore(tmp_path / "snapshot", tmp_path / "restored")
    assert generation.verify(tmp_path / "restored") == []
    with Collection.open(tmp_path / "restored") as restored:
        assert_same(restored.facets_for([f"{i:04d}" for i in range(8)], FINGERPRINT), batch)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE facets SET data = zeroblob(length(data)) WHERE document = 3", r"row 3 .*table facets"),
        ("UPDATE facets SET content_hash = x'00' WHERE document = 3", r"row 3 .*table facets"),
        ("DELETE FROM facets WHERE document = 3", "document 3 has a vector or facet data, but not both"),
        ("DELETE FROM vectors WHERE document = 3", "document 3 has a vector or facet data, but not both"),
        ("DROP TABLE facets", "table definitions"),
    ],
)
def test_damage_to_the_facets_of_the_truth_is_named(collection: Collection, statement: str, words: str) -> None:
    filled(collection)
    collection.close()
    (collection.folder / "collection.seal").unlink()  # the seal would name the file and no more
    database = sqlite3.connect(collection.folder / "collection.sqlite")
    with database:
        database.execute(statement)
    database.close()
    assert any(re.search(words, p.what) for p in generation.verify(collection.folder))
    if statement.startswith(("UPDATE", "DELETE FROM facets")):
        with Collection.open(collection.folder) as opened, pytest.raises(Damaged, match="facet"):
            opened.facets_for(["0002"], FINGERPRINT)


def test_a_damaged_facet_file_of_a_generation_is_named(collection: Collection) -> None:
    filled(collection)
    build_generation(collection)
    files = sorted((collection.folder / "generations" / "000001" / "facets").iterdir())
    assert len(files) == 9
    for file in files:
        before = file.read_bytes()
        file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert [p.path for p in generation.verify(collection.folder)] == [str(file)]
        file.write_bytes(before)
    shutil.rmtree(files[0].parent)
    assert len(generation.verify(collection.folder)) == 9


# -- the first schema ----------------------------------------------------------------------------------------------


def test_a_collection_of_the_first_schema_stays_one_and_works(tmp_path: Path) -> None:
    with Collection.create(tmp_path / "old", SINGLE) as made:
        made.put(documents(4), VECTORS[:4])
    as_first_schema(tmp_path / "old")
    with Collection.open(tmp_path / "old", writable=True) as old:
        assert old.check() == []
        assert old.settings.facets is None
        old.put([Document("0001", "changed")], VECTORS[5:6])
        old.put([Document("0002", "changed, not encoded yet")])
        old.delete(["0003"])
        assert np.array_equal(old.vectors_for(["0001"], FINGERPRINT), VECTORS[5:6])
        assert old.count_without_vectors(FINGERPRINT) == 1
    assert generation.verify(tmp_path / "old") == []
    with sqlite3.connect(tmp_path / "old" / "collection.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    database.close()
    with Collection.open(tmp_path / "old") as again:
        again.backup(tmp_path / "copy")
    assert generation.verify(tmp_path / "copy") == []


def test_facets_in_the_settings_of_the_first_schema_are_damage(tmp_path: Path) -> None:
    Collection.create(tmp_path / "c", FACETED).close()
    with sqlite3.connect(tmp_path / "c" / "collection.sqlite") as database:
        database.execute(
            "UPDATE properties SET value = '1', checksum = ? WHERE name = 'schema'", (checksum("schema", "1"),)
        )
        database.execute("PRAGMA user_version = 1")
    database.close()
    with pytest.raises(Damaged, match="facets"):
        Collection.open(tmp_path / "c")
