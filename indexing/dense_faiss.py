"""Approximate candidates through FAISS: product-quantised codes (pq), inverted lists of them (ivf), a graph (hnsw).

FAISS only proposes rows; its own scores are thrown away. Training is on one thread from a seeded sample, so the same
vectors give the same file.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.indexing.dense_config import SHALLOW_K, DenseConfig, Kind
from facetrail.indexing.dense_rows import VectorRows
from facetrail.indexing.index import BoolArray, Float32Array, Int64Array
from facetrail.models.errors import Damaged

TRAINING_ROWS = 65_536
ADD_ROWS = 16_384
HNSW_EF_CAP = 1_024
"""Widest walk for a filtered search; what it does not find is scanned for."""


def _faiss() -> Any:
    """Imported at the first use, and untyped: its type hints do not know half of its classes."""
    return importlib.import_module("faiss")


def build(rows: VectorRows, kind: Kind, config: DenseConfig, path: Path) -> None:
    """Trains on a sample of the rows, adds all of them in order and writes the file. One thread."""
    faiss = _faiss()
    n, dim = rows.data.shape
    with _threads(1):
        index = _untrained(kind, n, dim, config)
        rng = np.random.default_rng(config.seed)
        sample = np.sort(rng.choice(n, min(n, TRAINING_ROWS), replace=False))
        if not index.is_trained:
            index.train(rows.decode(sample))
        for first in range(0, n, ADD_ROWS):
            index.add(rows.decode(slice(first, first + ADD_ROWS)))
        faiss.write_index(index, str(path))


def _untrained(kind: Kind, n: int, dim: int, config: DenseConfig) -> Any:
    faiss = _faiss()
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, config.hnsw_m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = config.hnsw_ef_construction
        return index
    # For unit vectors both metrics give one order; with L2 the 8-bit lookup tables of the scan lose less of it
    # (recall@10 at depth 40 on 109k titles: .952 against .915).
    codes = f"PQ{dim // _sub_dim(dim)}x4fs"
    if kind == "pq":
        index = faiss.index_factory(dim, codes, faiss.METRIC_L2)
    else:
        # FAISS advises four times the root and more; with half of that, training takes a quarter of the time and the
        # scan of a list costs little. Below 39 rows a list k-means has too little to go by.
        n_lists = max(1, min(int(2 * n**0.5), n // 39))
        index = faiss.index_factory(dim, f"IVF{n_lists},{codes}", faiss.METRIC_L2)
        index.cp.seed = config.seed + 1
        index.cp.niter = 10
        index.cp.min_points_per_centroid = 1
    index.pq.cp.seed = config.seed + 1
    index.pq.cp.min_points_per_centroid = 1
    return index


def _sub_dim(dim: int) -> int:
    """Dimensions that share one 4-bit code; 4 where the dimension divides by it."""
    return next(d for d in (4, 3, 5, 2, 6, 7, 8, 1) if dim % d == 0)


def open_scanner(path: Path, rows: VectorRows, kind: Kind, config: DenseConfig) -> "FaissScanner":
    """Reads what `build` wrote. Raises Damaged if it does not hold these rows."""
    faiss = _faiss()
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise Damaged(f"{path} cannot be read as a FAISS index; rebuild the index from the collection") from error
    if index.d != rows.data.shape[1] or index.ntotal != len(rows):
        raise Damaged(
            f"{path} holds {index.ntotal} vectors of {index.d} dimensions, not {len(rows)} of {rows.data.shape[1]}; "
            "rebuild the index from the collection"
        )
    return SCANNERS[kind](index, config)


class FaissScanner:
    """What the kinds have in common: threads, and doubling the effort until k of the rows found are allowed."""

    def __init__(self, index: Any, config: DenseConfig) -> None:
        self._index = index
        self._config = config

    def candidates(
        self, queries: Float32Array, k: int, mask: BoolArray | None, n_threads: int
    ) -> list[Int64Array | None]:
        """See `dense_base.Scanner`. None where the largest effort did not find k rows."""
        n = self._index.ntotal
        n_allowed = n if mask is None else int(np.count_nonzero(mask))
        depth = min(self._config.candidates(k), n_allowed)
        found: list[Int64Array | None] = [None] * len(queries)
        waiting = list(range(len(queries)))
        with _threads(n_threads), _selector(mask) as selector:
            for effort in self._efforts(k, depth, n_allowed / n):
                asked = queries if len(waiting) == len(queries) else queries[waiting]
                ids = self._find(asked, depth, effort, selector)
                for position, rows in zip(waiting, ids, strict=True):
                    rows = rows[rows >= 0] if rows[-1] < 0 else rows
                    rows = rows if mask is None else rows[mask[rows]]
                    found[position] = rows[:depth] if len(rows) >= k else None
                waiting = [position for position in waiting if found[position] is None]
                if not waiting:
                    break
        return found

    def _efforts(self, k: int, depth: int, share_allowed: float) -> Iterator[int]:
        """What to try, one after the other."""
        raise NotImplementedError

    def _find(self, queries: Float32Array, depth: int, effort: int, selector: Any) -> Int64Array:
        """(q, m) row numbers, best first, -1 where nothing was found."""
        raise NotImplementedError


class PqScanner(FaissScanner):
    """All codes are scanned. FAISS takes no filter here, so the effort is the number of rows asked for."""

    def _efforts(self, k: int, depth: int, share_allowed: float) -> Iterator[int]:
        n = self._index.ntotal
        return _doubling(min(n, int(depth / share_allowed)), max(n // 4, depth))

    def _find(self, queries: Float32Array, depth: int, effort: int, selector: Any) -> Int64Array:
        return _second(self._index.search(queries, effort))


class IvfScanner(FaissScanner):
    """The nearest lists are scanned; the effort is their number."""

    def _efforts(self, k: int, depth: int, share_allowed: float) -> Iterator[int]:
        n_probe = int(self._config.nprobe * (1 if k <= SHALLOW_K else 4) * _widening(share_allowed))
        return _doubling(min(n_probe, self._index.nlist), self._index.nlist)

    def _find(self, queries: Float32Array, depth: int, effort: int, selector: Any) -> Int64Array:
        faiss = _faiss()
        parameters = faiss.SearchParametersIVF(nprobe=min(effort, self._index.nlist), sel=selector)
        return _second(self._index.search(queries, depth, params=parameters))


class HnswScanner(FaissScanner):
    """The graph is walked through dead and hidden rows, which are not reported; the effort is the walk's breadth."""

    def _efforts(self, k: int, depth: int, share_allowed: float) -> Iterator[int]:
        breadth = int((self._config.hnsw_ef if k <= SHALLOW_K else depth) * _widening(share_allowed))
        return _doubling(breadth, max(breadth, HNSW_EF_CAP))

    def _find(self, queries: Float32Array, depth: int, effort: int, selector: Any) -> Int64Array:
        faiss = _faiss()
        parameters = faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
        return _second(self._index.search(queries, min(depth, effort), params=parameters))


SCANNERS: dict[Kind, type[FaissScanner]] = {"pq": PqScanner, "ivf": IvfScanner, "hnsw": HnswScanner}


def _widening(share_allowed: float) -> float:
    """A filter thins out what is near, so a walk through lists or links starts wider."""
    return min(4.0, 1 / max(share_allowed, 1e-9))


def _doubling(first: int, last: int) -> Iterator[int]:
    effort = max(1, first)
    yield effort
    while effort < last:
        effort *= 2
        yield min(effort, last)


def _second(found: tuple[Float32Array, Int64Array]) -> Int64Array:
    return found[1]


@contextmanager
def _selector(mask: BoolArray | None) -> Iterator[Any]:
    """FAISS's view of a mask; it points into an array that has to live as long."""
    faiss = _faiss()
    if mask is None:
        yield None
        return
    bits = np.packbits(mask, bitorder="little")
    yield faiss.IDSelectorBitmap(bits)
    del bits


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Limits FAISS to n threads, 0 leaves it as it is. OpenMP counts for each calling thread by itself, so searches
    beside each other do not disturb one another."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    if n in (0, before):
        yield
        return
    faiss.omp_set_num_threads(n)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
