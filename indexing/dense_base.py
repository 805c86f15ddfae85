"""The saved part of a dense index: rows that do not change, and what finds candidates among them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from facetrail.indexing.dense_config import DenseConfig, Kind
from facetrail.indexing.dense_exact import exact_candidates, is_small
from facetrail.indexing.dense_rows import VectorRows
from facetrail.indexing.index import BoolArray, Float32Array, Int64Array


class Scanner(Protocol):
    """Finds candidates faster than a scan on the CPU."""

    def candidates(
        self, queries: Float32Array, k: int, mask: BoolArray | None, n_threads: int
    ) -> Sequence[Int64Array | None]:
        """For each query rows that the mask allows, in any order; None where it cannot serve k, mask or query.

        queries: (q, dim) unit vectors · mask: (n,) bool, False hides · n_threads: 0 means all.
        """


class Base:
    """Rows, the kind they were built as, and the scanner that this kind and this machine give."""

    def __init__(self, rows: VectorRows, kind: Kind, scanner: Scanner | None) -> None:
        self.rows = rows
        self.kind: Kind = kind
        self._scanner = scanner

    @classmethod
    def empty(cls, dim: int, config: DenseConfig) -> "Base":
        """Nothing saved yet."""
        return cls(VectorRows.empty(dim, config.storage), "exact", None)

    def __len__(self) -> int:
        return len(self.rows)

    def candidates(self, queries: Float32Array, k: int, mask: BoolArray | None, n_threads: int) -> Iterator[Int64Array]:
        """For each query the rows to score exactly."""
        n_kept = len(self.rows) if mask is None else int(np.count_nonzero(mask))
        few = mask is not None and is_small(n_kept, len(self.rows))
        if self._scanner is None or few or n_kept <= k:
            yield from exact_candidates(self.rows, queries, k, mask)
            return
        for query, found in zip(queries, self._scanner.candidates(queries, k, mask, n_threads), strict=True):
            yield found if found is not None else next(exact_candidates(self.rows, query[None], k, mask))
