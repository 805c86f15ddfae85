"""Vectors beside their documents: never of another text, another document or another encoder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Document

FINGERPRINT, DIM = "f" * 64, 6


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    settings = CollectionSettings(name="v", encoder="e", encoder_fingerprint=FINGERPRINT, dim=DIM, dense={})
    with Collection.create(tmp_path / "c", settings) as made:
        yield made


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def documents(n: int, text: str = "text") -> list[Document]:
    return [Document(f"{i:04d}", f"{text} {i}") for i in range(n)]


def test_vectors_put_with_their_documents_come_back_bit_for_bit(
    collection: Collection, rng: np.random.Generator
) -> None:
    vectors = rng.standard_normal((1_203, DIM)).astype(np.float32)
    collection.put(documents(1_203), vectors)
    order = rng.permutation(1_203)
    found = collection.vectors_for([f"{i:04d}" for i in order], FINGERPRINT)
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors[order])
    assert np.array_equal(collection.vectors_for(["0007", "0003", "0007"], FINGERPRINT), vectors[[7, 3, 7]])
    assert collection.vectors_for([], FINGERPRINT).shape == (0, DIM)
    with collection.snapshot() as view:
        ids, every = view.all_vectors(FINGERPRINT)
    assert ids == [f"{i:04d}" for i in range(1_203)]
    assert np.array_equal(every, vectors)


def test_of_repeated_ids_in_a_batch_the_last_document_and_its_vector_count(collection: Collection) -> None:
    batch = [Document("a", "1"), Document("b", "1"), Document("a", "2")]
    collection.put(batch, np.arange(3 * DIM, dtype=np.float32).reshape(3, DIM))
    assert collection.vectors_for(["a", "b"], FINGERPRINT)[:, 0].tolist() == [2 * DIM, DIM]


def test_a_changed_text_loses_its_vector_and_changed_metadata_keeps_it(collection: Collection) -> None:
    collection.put(documents(2), np.ones((2, DIM)))
    collection.put([Document("0000", "text 0", metadata={"year": 1}), Document("0001", "another")])
    assert [d.id for d, _ in collection.documents_without_vectors(FINGERPRINT)] == ["0001"]
    assert collection.count_without_vectors(FINGERPRINT) == 1
    assert collection.vectors_for(["0000"], FINGERPRINT).sum() == DIM
    with pytest.raises(NotFound, match=r"1 of 2 documents have no vector.*'0001'"):
        collection.vectors_for(["0000", "0001"], FINGERPRINT)


def test_title_and_text_are_told_apart(collection: Collection) -> None:
    collection.put([Document("a", "b", "a")], np.ones((1, DIM)))
    collection.put([Document("a", "", "a b")])
    assert collection.count_without_vectors(FINGERPRINT) == 1


def test_missing_vectors_are_stored_block_by_block(collection: Collection) -> None:
    collection.put(documents(25))
    assert collection.count_without_vectors(FINGERPRINT) == 25
    n_blocks = 0
    while block := collection.documents_without_vectors(FINGERPRINT, 10):
        vectors = np.array([[int(d.id)] * DIM for d, _ in block], np.float32)
        collection.store_vectors([d.id for d, _ in block], [h for _, h in block], FINGERPRINT, vectors)
        n_blocks += 1
    assert n_blocks == 3
    assert collection.vectors_for(["0024", "0003"], FINGERPRINT)[:, 0].tolist() == [24, 3]


def test_a_vector_of_an_outdated_text_is_dropped_and_counted(collection: Collection) -> None:
    collection.put(documents(3))
    block = collection.documents_without_vectors(FINGERPRINT)
    collection.put([Document("0000", "changed meanwhile")])
    collection.delete(["0001"])
    result = collection.store_vectors(
        [d.id for d, _ in block], [h for _, h in block], FINGERPRINT, np.arange(3 * DIM).reshape(3, DIM)
    )
    assert (result.stored, result.outdated) == (1, 2)
    assert collection.vectors_for(["0002"], FINGERPRINT)[0, 0] == 2 * DIM
    assert [d.id for d, _ in collection.documents_without_vectors(FINGERPRINT)] == ["0000"]


def test_a_deleted_document_takes_its_vector_along_and_its_successor_starts_without(collection: Collection) -> None:
    collection.put(documents(1), np.ones((1, DIM)))
    collection.delete(["0000"])
    with collection.snapshot() as view:
        assert view.connection.execute("SELECT count(*) FROM vectors").fetchone() == (0,)
    collection.put(documents(1))
    assert collection.count_without_vectors(FINGERPRINT) == 1


def test_a_vector_does_not_move_the_change_number(collection: Collection) -> None:
    collection.put(documents(1))
    collection.put(documents(1), np.ones((1, DIM)))
    assert (collection.last_change, collection.count_without_vectors(FINGERPRINT)) == (1, 0)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones((2, DIM + 1)), r"\(2, 6\), not \(2, 7\)"),
        (np.ones((1, DIM)), "not"),
        (np.ones(DIM), "not"),
        (np.full((2, DIM), np.nan), "vector 0 holds a NaN"),
        (np.array([[1.0] * DIM, [np.inf] * DIM]), "vector 1"),
        (np.full((2, DIM), 1e39), "vector 0"),
    ],
)
def test_bad_vectors_are_refused_before_anything_is_written(
    collection: Collection, vectors: np.ndarray, words: str
) -> None:
    with np.errstate(over="ignore"), pytest.raises(InvalidInput, match=words):
        collection.put(documents(2), vectors)
    assert collection.count() == 0


def test_another_encoders_vectors_are_refused(collection: Collection) -> None:
    collection.put(documents(1))
    ((_, content_hash),) = collection.documents_without_vectors(FINGERPRINT)
    with pytest.raises(InvalidInput, match="encode with that one"):
        collection.store_vectors(["0000"], [content_hash], "0" * 64, np.ones((1, DIM)))


def test_a_lexical_collection_stores_no_vectors(tmp_path: Path) -> None:
    with (
        Collection.create(tmp_path / "c", CollectionSettings(name="c", lexical={})) as collection,
        pytest.raises(InvalidInput, match="without an encoder"),
    ):
        collection.put(documents(1), np.ones((1, DIM)))
