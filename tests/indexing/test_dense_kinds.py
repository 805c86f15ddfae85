"""Approximate kinds on 30,000 clustered vectors: recall, stable heads, filters, deletes; which kind `auto` takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.indexing import dense_exact
from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.index import Float32Array, Hits

SIZE, DIM = 30_000, 64


def clustered(n: int, seed: int) -> Float32Array:
    """Unit vectors around 300 centres in 16 of 64 directions, as texts around subjects, and a little of the rest."""
    first = np.random.default_rng(0)
    centres, spread = first.standard_normal((300, 16)), first.standard_normal((16, DIM)) / 4
    rng = np.random.default_rng(seed)
    rows = (centres[rng.integers(0, 300, n)] + 0.8 * rng.standard_normal((n, 16))) @ spread
    rows += 0.1 * rng.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


VECTORS, QUERIES = clustered(SIZE, 1), clustered(60, 2)


@pytest.fixture(scope="module")
def exact() -> DenseIndex:
    """Everything scanned."""
    index = DenseIndex(DIM, DenseConfig(kind="exact"))
    index.add(range(SIZE), VECTORS)
    return index


@pytest.fixture(scope="module", params=["pq", "ivf", "hnsw"])
def approximate(
    request: pytest.FixtureRequest, exact: DenseIndex, tmp_path_factory: pytest.TempPathFactory
) -> DenseIndex:
    """The same vectors behind a structure."""
    return build(request.param, tmp_path_factory.mktemp(request.param))


def build(kind: Any, folder: Path) -> DenseIndex:
    """Adds, saves and opens."""
    index = DenseIndex(DIM, DenseConfig(kind=kind, hnsw_ef_construction=40))
    index.add(range(SIZE), VECTORS)
    index.save(folder)
    return DenseIndex.open(folder)


def recall(found: list[Hits], truth: list[Hits], k: int) -> float:
    """Share of the k best scores that were reached; a tie is as good."""
    return float(np.mean([np.mean(f.scores[:k] >= t.scores[k - 1]) for f, t in zip(found, truth, strict=True)]))


@pytest.mark.parametrize(("k", "floor"), [(10, 0.95), (100, 0.8), (1_000, 0.9)])
def test_recall_has_a_floor(approximate: DenseIndex, exact: DenseIndex, k: int, floor: float) -> None:
    """Below 95 % at depth, because 64 dimensions have codes of 64 bits only; 384 dimensions have 384."""
    found = approximate.search_many(QUERIES, k)
    assert all(len(hits) == k for hits in found)
    assert recall(found, exact.search_many(QUERIES, k), k) >= floor


def test_a_smaller_k_gives_the_head_of_a_larger_one(approximate: DenseIndex) -> None:
    for query in QUERIES[:20]:
        for small, large in ((10, 100), (1, 37), (101, 1_000), (200, 999)):
            head, whole = approximate.search(query, small), approximate.search(query, large)
            np.testing.assert_array_equal(head.ordinals, whole.ordinals[:small])
            np.testing.assert_array_equal(head.scores, whole.scores[:small])


@pytest.mark.parametrize("share", [0.9, 0.4, 0.15])
def test_a_filter_leaves_enough_hits(
    approximate: DenseIndex, exact: DenseIndex, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_exact, "SUBSET_ROWS", 0)
    monkeypatch.setattr(dense_exact, "SUBSET_SHARE", 0)
    allowed = np.random.default_rng(3).random(SIZE) < share
    found = approximate.search_many(QUERIES, 10, allowed=allowed)
    assert all(len(hits) == 10 and allowed[hits.ordinals].all() for hits in found)
    assert recall(found, exact.search_many(QUERIES, 10, allowed=allowed), 10) >= 0.95


def test_a_filter_against_the_query_is_answered_exactly(approximate: DenseIndex, exact: DenseIndex) -> None:
    """The filter keeps the half that is farthest away: no structure looks there, so the scan has to."""
    query = QUERIES[0]
    scores = exact.score(query, range(SIZE))
    allowed = scores <= np.median(scores)
    hits = approximate.search(query, 10, allowed=allowed)
    assert allowed[hits.ordinals].all()
    assert len(hits) == 10
    truth = exact.search(query, 10, allowed=allowed)
    assert np.mean(hits.scores >= truth.scores[9]) >= 0.9


def test_deleted_rows_stay_away_and_new_ones_are_found_at_once(
    exact: DenseIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_exact, "SUBSET_ROWS", 0)
    index = build("pq", tmp_path)
    gone = np.unique([hits.ordinals[:5] for hits in exact.search_many(QUERIES, 5)])
    index.remove(gone)
    assert index.n_dead == len(gone)
    fresh = clustered(20, 9)
    index.add(range(SIZE, SIZE + 20), fresh)
    assert index.n_unsaved == 20
    for query in QUERIES:
        assert not np.isin(index.search(query, 50).ordinals, gone).any()
    for number, query in enumerate(fresh):
        assert index.search(query, 1).ordinals[0] == SIZE + number


def test_the_same_content_gives_the_same_files(tmp_path: Path) -> None:
    rows = VECTORS[:4_000]
    for kind in ("exact", "pq", "ivf", "hnsw"):
        folders = [tmp_path / kind / name for name in ("one", "two")]
        for folder, order in zip(folders, (np.arange(4_000), np.random.default_rng(1).permutation(4_000)), strict=True):
            index = DenseIndex(DIM, DenseConfig(kind=kind, hnsw_ef_construction=20))
            index.add(order, rows[order])
            folder.mkdir(parents=True)
            index.save(folder)
        names = sorted(file.name for file in folders[0].iterdir())
        assert names == sorted(file.name for file in folders[1].iterdir())
        for name in names:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), f"{kind}: {name} differs"


def test_a_search_leaves_the_number_of_threads_as_it_was(tmp_path: Path) -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    index = build("pq", tmp_path)
    index.search(QUERIES[0], 5)
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize(
    ("n", "kind"), [(0, "exact"), (19_999, "exact"), (20_000, "pq"), (499_999, "pq"), (500_000, "ivf")]
)
def test_auto_takes_the_kind_for_the_size(n: int, kind: str) -> None:
    assert DenseConfig().resolve(n) == kind


def test_a_kind_by_request_needs_as_many_vectors_as_centroids() -> None:
    assert DenseConfig(kind="pq").resolve(15) == "exact"
    assert DenseConfig(kind="pq").resolve(16) == "pq"


@pytest.mark.parametrize("dim", [1, 3, 7, 10, 11, 50])
@pytest.mark.parametrize("kind", ["pq", "ivf", "hnsw"])
def test_odd_dimensions_work(dim: int, kind: Any, tmp_path: Path) -> None:
    rows = np.random.default_rng(dim).standard_normal((100, dim))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    index = DenseIndex(dim, DenseConfig(kind=kind))
    index.add(range(100), rows)
    index.save(tmp_path)
    opened = DenseIndex.open(tmp_path)
    assert opened.kind == kind
    assert opened.search(rows[5], 1).scores[0] == pytest.approx(1, abs=1e-6)


def test_identical_vectors_can_be_quantised(tmp_path: Path) -> None:
    index = DenseIndex(DIM, DenseConfig(kind="ivf"))
    index.add(range(200), np.repeat(VECTORS[:1], 200, axis=0))
    index.save(tmp_path)
    hits = DenseIndex.open(tmp_path).search(VECTORS[0], 3)
    assert len(set(hits.scores.tolist())) == 1
