"""The dense index: exact hits against a float64 sort, ties, filters, any sequence of changes, input errors."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.indexing import dense_exact
from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.index import Float32Array, Hits
from facetrail.models.errors import InvalidInput

DIM = 24


def unit(n: int, dim: int = DIM, seed: int = 0) -> Float32Array:
    """n random unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def filled(vectors: Float32Array, first: int = 0, **config: Any) -> DenseIndex:
    """An index in memory of these vectors under ordinals first, first + 1, …"""
    index = DenseIndex(vectors.shape[1], DenseConfig(**config))
    index.add(range(first, first + len(vectors)), vectors)
    return index


def same(left: Hits, right: Hits) -> None:
    """Fails unless both hold the same ordinals with the same bits of score."""
    np.testing.assert_array_equal(left.ordinals, right.ordinals)
    np.testing.assert_array_equal(left.scores, right.scores)


def reopened(index: DenseIndex, folder: Path) -> DenseIndex:
    """What the next process sees."""
    folder.mkdir(parents=True, exist_ok=True)
    index.save(folder)
    return DenseIndex.open(folder)


def duplicated(seed: int) -> tuple[Float32Array, Float32Array]:
    """400 vectors of which most are copies of 60, with zero vectors among them, and 12 queries."""
    rng = np.random.default_rng(seed)
    rows = unit(60, seed=seed)[rng.integers(0, 60, 400)]
    rows[rng.integers(0, 400, 5)] = 0
    return rows, unit(12, seed=seed + 1)


@pytest.mark.parametrize("seed", range(5))
def test_hits_are_those_of_a_float64_sort_with_all_ties(seed: int) -> None:
    rows, queries = duplicated(seed)
    index = filled(rows, kind="exact")
    visible = np.flatnonzero(rows.any(axis=1))
    for query in queries:
        exact = rows[visible].astype(np.float64) @ query.astype(np.float64)
        for k in (1, 7, 50, 399, 1_000):
            # Copies differ in nothing, so rounding to 12 digits only hides the order of summation.
            truth = np.round(exact, 12)
            kth = np.sort(truth)[-min(k, len(truth))]
            expected = visible[truth >= kth]
            order = np.lexsort((expected, -truth[truth >= kth]))
            hits = index.search(query, k)
            assert hits.ordinals.tolist() == expected[order].tolist()
            np.testing.assert_allclose(hits.scores, np.sort(exact[truth >= kth])[::-1], atol=1e-12)


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_a_pair_has_one_score_however_it_is_found(storage: str, tmp_path: Path) -> None:
    rows, queries = unit(3_000, 48, seed=3), unit(9, 48, seed=4)
    whole = filled(rows, kind="exact", storage=storage)
    many = whole.search_many(queries, 40)
    allowed = np.zeros(3_000, np.bool_)
    allowed[::2] = True
    for kind in ("exact", "pq", "ivf", "hnsw"):
        (tmp_path / kind).mkdir()
        index = reopened(filled(rows, kind=kind, storage=storage), tmp_path / kind)
        assert index.kind == kind
        for number, (query, expected) in enumerate(zip(queries, many, strict=True)):
            np.testing.assert_array_equal(index.score(query, expected.ordinals), expected.scores)
            same(whole.search(query, 40), expected)
            for hits in (index.search(query, 40), index.search(query, 5), index.search_many(queries, 9)[number]):
                np.testing.assert_array_equal(whole.score(query, hits.ordinals), hits.scores)
            some = index.search(query, 10, allowed=allowed)
            assert allowed[some.ordinals].all()
            np.testing.assert_array_equal(whole.score(query, some.ordinals), some.scores)


def test_a_batch_equals_its_queries_one_by_one() -> None:
    index, queries = filled(unit(500), kind="exact"), unit(40, seed=9)
    allowed = np.random.default_rng(0).random(500) < 0.5
    for mask in (None, allowed):
        for query, hits in zip(queries, index.search_many(queries, 7, allowed=mask), strict=True):
            same(index.search(query, 7, allowed=mask), hits)
    assert index.search_many(np.empty((0, DIM), np.float32), 5) == []


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("subset_rows", [0, 20_000])
def test_filters_agree_with_brute_force(share: float, subset_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_exact, "SUBSET_ROWS", subset_rows)
    rows, queries = unit(1_500, seed=1), unit(10, seed=2)
    index = filled(rows, kind="exact")
    index.remove(range(0, 1_500, 7))
    allowed = np.random.default_rng(5).random(1_500) < share
    alive = allowed & (np.arange(1_500) % 7 != 0)
    for query, hits in zip(queries, index.search_many(queries, 25, allowed=allowed), strict=True):
        truth = np.where(alive, rows.astype(np.float64) @ query.astype(np.float64), -np.inf)
        expected = np.argsort(-truth, kind="stable")[: min(25, alive.sum())]
        assert hits.ordinals.tolist() == expected.tolist()
        same(index.search(query, 25, allowed=allowed), hits)


def test_a_mask_that_does_not_cover_the_index_is_refused() -> None:
    index = filled(unit(10))
    with pytest.raises(ValueError, match="allowed covers 4 ordinals"):
        index.search(unit(1)[0], 3, allowed=np.ones(4, np.bool_))
    index.remove(range(4, 10))
    assert len(index.search(unit(1)[0], 9, allowed=np.ones(4, np.bool_))) == 4


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sequence_of_changes_equals_a_fresh_index(data: st.DataObject) -> None:
    storage = data.draw(st.sampled_from(["float32", "float16", "int8"]))
    pool, queries = unit(200, 8, seed=7), unit(3, 8, seed=8)
    index, alive = DenseIndex(8, DenseConfig(storage=storage)), dict[int, int]()
    next_ordinal = 0
    with tempfile.TemporaryDirectory() as folder:
        for step in range(data.draw(st.integers(1, 12))):
            action = data.draw(st.sampled_from(["add", "remove", "reopen"]))
            if action == "add":
                chosen = data.draw(st.lists(st.integers(0, 199), max_size=20))
                ordinals = list(range(next_ordinal, next_ordinal + len(chosen)))
                index.add(ordinals, pool[chosen])
                alive.update(zip(ordinals, chosen, strict=True))
                next_ordinal += len(chosen)
            elif action == "remove" and alive:
                gone = data.draw(st.lists(st.sampled_from(sorted(alive)), unique=True, max_size=15))
                index.remove(gone)
                for ordinal in gone:
                    del alive[ordinal]
            elif action == "reopen":
                index = reopened(index, Path(folder) / str(step))
                assert index.n_dead == 0
        fresh = DenseIndex(8, DenseConfig(storage=storage))
        fresh.add(list(alive), pool[list(alive.values())])
        assert len(index) == len(alive)
        for query in queries:
            for k in (1, 10, 300):
                same(index.search(query, k), fresh.search(query, k))
        if alive:
            np.testing.assert_array_equal(index.vectors(list(alive)), fresh.vectors(list(alive)))


def test_zero_vectors_are_stored_and_never_found(tmp_path: Path) -> None:
    rows = unit(30)
    rows[[3, 4]] = 0
    for index in (filled(rows), reopened(filled(rows, kind="pq"), tmp_path)):
        assert len(index) == 30
        assert index.n_dead == 0
        assert len(index.search(rows[0], 100)) == 28
        assert index.score(rows[0], [3, 0])[0] == 0
        np.testing.assert_array_equal(index.vectors([3]), np.zeros((1, DIM)))
        assert len(index.search(rows[3], 5)) == 0
        index.remove([3])
        assert len(index) == 29


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (np.full((1, DIM), np.nan, np.float32), "vector 0 holds NaN"),
        (np.vstack([unit(1), np.full((1, DIM), np.inf, np.float32)]), "vector 1 holds NaN or an infinite"),
        (np.full((1, DIM), 1e300), "vector 0 holds NaN or an infinite"),
        (unit(2, DIM + 1), "shape 2 × 25 do not fit an index of 24"),
        (unit(1)[0], "shape 24 do not fit"),
        (3 * unit(2), r"vector 0 has length 3\b"),
        ([[0.0] * DIM, [0.0]], "rows of 24 numbers"),
        (np.full((1, DIM), "x"), "rows of 24 numbers"),
    ],
)
def test_vectors_that_do_not_fit_are_named_and_nothing_is_added(rows: Any, cause: str) -> None:
    index = filled(unit(3))
    with pytest.raises(InvalidInput, match=cause):
        index.add(range(10, 10 + len(rows)), rows)
    assert len(index) == 3


@pytest.mark.parametrize(
    "query", [unit(1, DIM + 1)[0], unit(2), np.full(DIM, np.nan), 2 * unit(1)[0], [[0.0], [0.0, 1.0]]]
)
def test_a_query_that_does_not_fit_is_refused(query: Any) -> None:
    index = filled(unit(3))
    for ask in (lambda: index.search(query, 3), lambda: index.score(query, [0]), lambda: index.search_many([query], 3)):
        with pytest.raises(InvalidInput, match="quer"):
            ask()


def test_ordinals_are_added_once_and_known_when_asked_for() -> None:
    index = filled(unit(3))
    for ordinals in ([2, 9], [9, 9], [-1, 9]):
        with pytest.raises(ValueError):
            index.add(ordinals, unit(2))
    with pytest.raises(InvalidInput, match="1 ordinals came with 2 vectors"):
        index.add([9], unit(2))
    for ask in (index.vectors, lambda o: index.score(unit(1)[0], o)):
        with pytest.raises(KeyError, match="ordinal 7"):
            ask([1, 7])
    assert len(index) == 3
    index.remove([1])
    assert index.n_dead == 1
    index.add([1], unit(1, seed=5))
    np.testing.assert_array_equal(index.vectors([1]), unit(1, seed=5))


def test_threads_search_beside_each_other(tmp_path: Path) -> None:
    index = reopened(filled(unit(2_000), kind="pq"), tmp_path)
    queries = unit(50, seed=3)
    expected, got = [index.search(q, 10) for q in queries], dict[int, list[Any]]()

    def work(number: int) -> None:
        got[number] = [index.search(q, 10) for q in queries]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == 4
    for hits in got.values():
        for left, right in zip(hits, expected, strict=True):
            same(left, right)
