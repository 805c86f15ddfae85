"""The dense index: cosine similarity of unit vectors, exact scores on exact or approximate candidates.

A saved part, memory-mapped and perhaps behind a FAISS structure or on a GPU, and a part in memory that is scanned
exactly, together hold the rows. Every search goes the same way: candidates from each part, one exact score for each
candidate (`dense_kernels`), the best with their ties. So a pair has one score, bit for bit, in every kind of index.

What is promised about k: an exact kind returns prefixes of one ranking. An approximate kind looks at the same
candidates for every k up to 100, and again for every k from 101 to 1,000; inside each range a smaller k gives the head
of a larger one, across them a deeper search may find a document that the shallower one missed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetrail.indexing import dense_files
from facetrail.indexing.dense_base import Base
from facetrail.indexing.dense_config import DenseConfig, Kind
from facetrail.indexing.dense_exact import exact_candidates
from facetrail.indexing.dense_rows import VectorRows
from facetrail.indexing.dense_table import RowTable
from facetrail.indexing.index import (
    EMPTY_HITS,
    BoolArray,
    Float32Array,
    Float64Array,
    Hits,
    Int64Array,
    best_with_ties,
)
from facetrail.models.errors import InvalidInput

__all__ = ["DenseConfig", "DenseIndex"]

UNIT_TOLERANCE = 0.01
"""How far a row's length may be from 1: float16 rounding passes, a forgotten normalisation does not."""
PLURAL = {"vector": "vectors", "query": "queries"}


class DenseIndex:
    """Vectors by ordinal. Many threads may search at once; writing needs the caller's lock."""

    def __init__(self, dim: int, config: DenseConfig | None = None) -> None:
        if dim < 1:
            raise InvalidInput(f"a dense index needs at least one dimension, not {dim}")
        self.dim = dim
        self.config = config or DenseConfig()
        self._table = RowTable()
        self._base = Base.empty(dim, self.config)
        self._delta = VectorRows.empty(dim, self.config.storage)

    # -- content -----------------------------------------------------------------------------------------------------

    def add(self, ordinals: Sequence[int] | Int64Array, vectors: Float32Array | Sequence[ArrayLike]) -> None:
        """Adds unit vectors under ordinals that are not in the index. vectors: (n, dim), one row an ordinal.

        A zero vector is stored and never found. Raises InvalidInput for a wrong shape and for a row that is not finite
        or not of length 1; nothing is added then.
        """
        keys = _as_ordinals(ordinals)
        if len(keys) == 0 and len(vectors) == 0:
            return
        rows = checked_vectors(vectors, self.dim, what="vector")
        if len(keys) != len(rows):
            raise InvalidInput(f"{len(keys)} ordinals came with {len(rows)} vectors; give one vector each")
        self._table.add(keys, np.asarray(~rows.any(axis=1)))
        self._delta.append(rows)

    def remove(self, ordinals: Sequence[int] | Int64Array) -> None:
        """Removes documents; KeyError, and no change, if one is not in the index or is given twice."""
        self._table.remove(_as_ordinals(ordinals))

    def __len__(self) -> int:
        return len(self._table)

    @property
    def n_dead(self) -> int:
        """Rows that removals left behind. Above a fifth of all rows it is time to save and reopen."""
        return self._table.n_rows - len(self._table)

    @property
    def n_unsaved(self) -> int:
        """Rows that are scanned in memory because they were added after the last build."""
        return len(self._delta)

    @property
    def kind(self) -> Kind:
        """How the saved part is searched; `exact` while nothing is saved."""
        return self._base.kind

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(self, query: Float32Array, k: int, *, allowed: BoolArray | None = None) -> Hits:
        """The k nearest and everything tied with the k-th; FAISS uses one thread. query: (dim,) unit vector.

        `allowed[ordinal]` False hides a document. A zero query finds nothing. Raises InvalidInput for another shape,
        for values that are not finite and for a length other than 1.
        """
        return self._search(checked_query(query, self.dim), k, allowed, n_threads=1)[0]

    def search_many(
        self, queries: Float32Array | Sequence[ArrayLike], k: int, *, allowed: BoolArray | None = None
    ) -> list[Hits]:
        """`search` for each row, FAISS on all threads. queries: (q, dim)."""
        if len(queries) == 0:
            return []
        return self._search(checked_vectors(queries, self.dim, what="query"), k, allowed, n_threads=0)

    def score(self, query: Float32Array, ordinals: Sequence[int] | Int64Array) -> Float64Array:
        """Exact scores, the same bits as in hits. query: (dim,) → (n,) float64; KeyError for an unknown ordinal.

        A zero vector scores 0.
        """
        vector = checked_query(query, self.dim)[0]
        return self._score(self._table.rows(_as_ordinals(ordinals)), vector.astype(np.float64))

    def vectors(self, ordinals: Sequence[int] | Int64Array) -> Float32Array:
        """Stored vectors, (n, dim) float32; KeyError for an unknown ordinal."""
        rows = self._table.rows(_as_ordinals(ordinals))
        out = np.empty((len(rows), self.dim), np.float32)
        old = rows < len(self._base)
        out[old] = self._base.rows.decode(rows[old])
        out[~old] = self._delta.decode(rows[~old] - len(self._base))
        return out

    def _search(self, queries: Float32Array, k: int, allowed: BoolArray | None, *, n_threads: int) -> list[Hits]:
        if k <= 0:
            return [EMPTY_HITS] * len(queries)
        n_base = len(self._base)
        base_mask = self._table.mask(0, n_base, allowed)
        delta_mask = self._table.mask(n_base, self._table.n_rows, allowed)
        old = self._base.candidates(queries, k, base_mask, n_threads)
        if not len(self._delta):
            return [self._best(query, rows, k) for query, rows in zip(queries, old, strict=True)]
        new = exact_candidates(self._delta, queries, k, delta_mask)
        return [
            self._best(query, np.concatenate([a, b + n_base]), k) for query, a, b in zip(queries, old, new, strict=True)
        ]

    def _best(self, query: Float32Array, rows: Int64Array, k: int) -> Hits:
        if not query.any():
            return EMPTY_HITS
        return best_with_ties(self._table.ordinals(rows), self._score(rows, query.astype(np.float64)), k)

    def _score(self, rows: Int64Array, query: Float64Array) -> Float64Array:
        n_base = len(self._base)
        if not len(self._delta):
            return self._base.rows.score(rows, query)
        old = rows < n_base
        out = np.empty(len(rows), np.float64)
        out[old] = self._base.rows.score(rows[old], query)
        out[~old] = self._delta.score(rows[~old] - n_base, query)
        return out

    # -- disk --------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Writes the live documents, by ordinal ascending, and builds their search structure; the same content gives
        the same files. The index itself stays as it is: `open` gives one without dead rows and with that structure."""
        live = self._table.live_rows()
        content = dense_files.Content(self.dim, self.config, self._table.ordinals(live), self._table.is_zero(live))
        dense_files.write(folder, content, lambda part: self._stored(live[part]))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens what `save` wrote, vectors memory-mapped. Raises Damaged naming the file that is not as written."""
        content, base = dense_files.read(folder)
        index = cls(content.dim, content.config)
        index._table.add(content.ordinals, content.is_zero)
        index._base = base
        return index

    def _stored(self, rows: Int64Array) -> tuple[NDArray[Any], Float32Array]:
        """Rows as they are stored: (m, dim) in the storage type, and for int8 (m,) scales."""
        old = rows < len(self._base)
        data = np.empty((len(rows), self.dim), self._delta.data.dtype)
        scales = np.ones(len(rows), np.float32)
        for part, chosen, within in (
            (self._base.rows, old, rows[old]),
            (self._delta, ~old, rows[~old] - len(self._base)),
        ):
            data[chosen] = part.data[within]
            if self.config.storage == "int8":
                scales[chosen] = part.scales[within]
        return data, scales


def checked_vectors(vectors: ArrayLike | Sequence[ArrayLike], dim: int, *, what: str) -> Float32Array:
    """(n, dim) float32, C-contiguous, every row finite and of length 1 or 0; else InvalidInput naming the row."""
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is refused below
            rows = np.ascontiguousarray(vectors, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{PLURAL[what]} must be rows of {dim} numbers each: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != dim:
        shape = " × ".join(str(n) for n in rows.shape)
        raise InvalidInput(f"{PLURAL[what]} of shape {shape} do not fit an index of {dim} dimensions; use its encoder")
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    if len(bad := np.flatnonzero(~np.isfinite(squares))):
        raise InvalidInput(f"{what} {bad[0]} holds NaN or an infinite value; encode that text again or leave it out")
    # A subnormal row must not count as zero by its squares underflowing, hence float64.
    if len(bad := np.flatnonzero((squares > 0) & (np.abs(squares - 1) > 2 * UNIT_TOLERANCE))):
        raise InvalidInput(
            f"{what} {bad[0]} has length {np.sqrt(squares[bad[0]]):.4g}, not 1; divide it by its length, "
            "because scores are cosines"
        )
    return rows


def checked_query(query: ArrayLike, dim: int) -> Float32Array:
    """`checked_vectors` of one query, (1, dim); the common case in a tenth of the time, which single searches feel."""
    if isinstance(query, np.ndarray) and query.shape == (dim,) and query.dtype == np.float32:
        row = np.ascontiguousarray(query)
        if abs(float(row @ row) - 1) <= UNIT_TOLERANCE:
            return row[None]
    return checked_vectors([query], dim, what="query")


def _as_ordinals(ordinals: Sequence[int] | Int64Array) -> Int64Array:
    return np.asarray(ordinals, dtype=np.int64).reshape(-1)
