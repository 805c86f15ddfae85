"""Candidates by scanning everything with BLAS: fast, and wide enough that exact scoring cannot lose a hit."""

from collections.abc import Iterator

import numpy as np

from facetrail.indexing.dense_rows import VectorRows
from facetrail.indexing.index import BoolArray, Float32Array, Int64Array

SCORES_AT_ONCE = 1 << 24
"""Approximate scores held at a time: 64 MB."""
SUBSET_ROWS = 20_000
SUBSET_SHARE = 0.1
"""A filter that keeps fewer rows than this, or a smaller share, is answered by scoring those rows alone."""
WORTH_GATHERING = 0.3
"""Share of the rows up to which fetching them one by one beats streaming through all of them."""
WORTH_A_COPY = 4
"""Queries from which a batch copies the kept rows together once and multiplies matrices."""


def rounding_window(dim: int) -> float:
    """How far below the k-th approximate score a true hit can stand.

    A float32 dot product of two unit vectors is off by at most dim · 2⁻²⁴, in whatever order it is summed; two scores
    are compared, and an eighth is added for rows that are unit vectors only up to the tolerance of `add`.
    """
    return 2.25 * (dim + 8) * 2.0**-24


def is_small(n_kept: int, n: int) -> bool:
    """Whether scoring the rows that a filter keeps is cheaper than searching among all."""
    return n_kept < SUBSET_ROWS or n_kept < SUBSET_SHARE * n


def exact_candidates(rows: VectorRows, queries: Float32Array, k: int, mask: BoolArray | None) -> Iterator[Int64Array]:
    """For each query the rows that can be among the k best or tied with the k-th.

    queries: (q, dim) float32 unit vectors · mask: (n,) bool, False hides; None hides nothing.
    """
    if mask is None:
        return _among_all(rows, queries, k, None)
    kept = np.flatnonzero(mask)
    if len(kept) > k and not (is_small(len(kept), len(rows)) and len(kept) < WORTH_GATHERING * len(rows)):
        return _among_all(rows, queries, k, mask)
    if len(kept) <= k or len(queries) < WORTH_A_COPY:
        return (kept for _ in queries)
    subset = VectorRows(rows.decode(kept), rows.scales[:0], "float32")
    return (kept[found] for found in _among_all(subset, queries, k, None))


def _among_all(rows: VectorRows, queries: Float32Array, k: int, mask: BoolArray | None) -> Iterator[Int64Array]:
    if len(rows) <= k:
        everything = np.arange(len(rows)) if mask is None else np.flatnonzero(mask)
        yield from (everything for _ in queries)
        return
    window = rounding_window(queries.shape[1])
    step = max(1, SCORES_AT_ONCE // len(rows))
    for first in range(0, len(queries), step):
        for scores in _scan(rows, queries[first : first + step]):
            if mask is not None:
                scores[~mask] = -np.inf
            kth = np.partition(scores, len(scores) - k)[len(scores) - k]
            yield np.flatnonzero(scores >= kth - window)


def _scan(rows: VectorRows, queries: Float32Array) -> Float32Array:
    """Approximate scores of every row. → (q, n) float32."""
    scores = np.empty((len(queries), len(rows)), np.float32)
    for part, vectors in rows.blocks():
        if len(queries) == 1:
            np.dot(vectors, queries[0], out=scores[0, part])
        else:
            scores[:, part] = queries @ vectors.T
    return scores
