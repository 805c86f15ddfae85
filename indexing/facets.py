"""The facet index: what a document says about each facet, for scoring a few hundred candidates again.

It finds nothing by itself. Candidates come from the dense index with their score s_1; a query with facet vectors and
weights w gives each of them

    s_k = Σ_k w_k · max(z_k(q)·z_k(d), max_j z_k(q)·z_j(d) − margin)
    s   = (1 − mixing) · s_1 + mixing · s_k

so that a document which says the wanted thing under another facet still counts, at a price. Weights that a person gave
compare each facet with the same facet alone, s_k = Σ_k w_k · z_k(q)·z_k(d): otherwise the facet asked for could win by
the margin at most. Document vectors are int8. A saved part, memory-mapped, and a part in memory together hold the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from facetrail.indexing import facet_files
from facetrail.indexing.dense_table import RowTable
from facetrail.indexing.facet_codec import checked
from facetrail.indexing.facet_files import FacetConfig
from facetrail.indexing.facet_rows import FacetRows
from facetrail.indexing.index import Float32Array, Float64Array, Int64Array
from facetrail.models.text.facets import FacetBatch, FacetQuery

__all__ = ["FacetConfig", "FacetIndex", "Matches"]


@dataclass(frozen=True, slots=True)
class Matches:
    """For n documents and each query facet the best cosine, margin paid, and whose it is.

    scores: (n, k) float64 · matched: (n, k) the document's facet.
    """

    scores: Float64Array
    matched: Int64Array


BLOCK = 4_096
"""Documents copied at a time when saving: 6 MB."""


class FacetIndex:
    """Facet data by ordinal. Many threads may score at once; writing needs the caller's lock."""

    def __init__(self, dim: int, config: FacetConfig) -> None:
        self.dim, self.config = dim, config
        self._table = RowTable()
        self._base = FacetRows.empty(len(config.names), dim)
        self._delta = FacetRows.empty(len(config.names), dim)

    # -- content -----------------------------------------------------------------------------------------------------

    def add(self, ordinals: Sequence[int] | Int64Array, batch: FacetBatch) -> None:
        """Adds documents under ordinals that are not in the index; InvalidInput for data of another shape."""
        keys = _as_ordinals(ordinals)
        checked(batch, len(keys), len(self.config.names), self.dim)
        self._table.add(keys, np.zeros(len(keys), np.bool_))
        self._delta.append(batch)

    def remove(self, ordinals: Sequence[int] | Int64Array) -> None:
        """Removes documents; KeyError, and no change, if one is not in the index or is given twice."""
        self._table.remove(_as_ordinals(ordinals))

    def __len__(self) -> int:
        return len(self._table)

    def details(self, ordinals: Sequence[int] | Int64Array) -> FacetBatch:
        """Everything stored of these documents, in this order; KeyError for an unknown ordinal."""
        return self._take(self._table.rows(_as_ordinals(ordinals)))

    def query(self, ordinal: int, single: Float32Array) -> FacetQuery:
        """A document as a query, from what is stored of it. single: (d,) its vector in the dense index."""
        found = self.details([ordinal])
        vectors = found.vectors[0].astype(np.float32) * found.scales[0][:, None]
        return FacetQuery(single, vectors, found.prior[0], found.gate[0], "document")

    # -- scoring -----------------------------------------------------------------------------------------------------

    def rescore(
        self,
        query: FacetQuery,
        weights: Float64Array,
        ordinals: Sequence[int] | Int64Array,
        s_1: Float64Array,
        *,
        same_only: bool,
    ) -> tuple[Float64Array, Float64Array]:
        """(s, s_k), each (n,), in the order of ordinals. weights: (k,), summing to 1 · s_1: (n,), single-vector scores.

        A document's scores do not depend on the others. same_only: see `match`. KeyError for an unknown ordinal.
        """
        s_k = self.facet_score(self.match(query, ordinals, same_only=same_only), weights)
        return (1 - self.config.mixing) * s_1 + self.config.mixing * s_k, s_k

    def match(self, query: FacetQuery, ordinals: Sequence[int] | Int64Array, *, same_only: bool) -> Matches:
        """What answers each query facet best; of equals the facet itself, then the first.

        same_only: only the same facet of the document may answer, as weights given by a person mean it.
        """
        cosines = self._cosines(self._table.rows(_as_ordinals(ordinals)), query.facets)
        facets = np.arange(len(self.config.names))
        own = cosines[:, facets, facets]
        if same_only:
            return Matches(own, np.broadcast_to(facets, own.shape))
        elsewhere = cosines.argmax(axis=2)
        paid = np.take_along_axis(cosines, elsewhere[:, :, None], axis=2)[:, :, 0] - self.config.margin
        is_own = own >= paid
        return Matches(np.where(is_own, own, paid), np.where(is_own, facets, elsewhere))

    @staticmethod
    def facet_score(matches: Matches, weights: Float64Array) -> Float64Array:
        """s_k of each document, summed facet by facet: its bits do not depend on the number of documents."""
        total = np.zeros(len(matches.scores))
        for facet, weight in enumerate(weights.tolist()):
            total += weight * matches.scores[:, facet]
        return total

    def _cosines(self, rows: Int64Array, query: Float32Array) -> Float64Array:
        n_base = len(self._base)
        old = rows < n_base
        out = np.empty((len(rows), len(query), len(query)))
        out[old] = self._base.cosines(rows[old], query)
        out[~old] = self._delta.cosines(rows[~old] - n_base, query)
        return out

    # -- disk --------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Writes the live documents, by ordinal ascending; the same content gives the same files."""
        live = self._table.live_rows()
        blocks = (self._take(live[start : start + BLOCK]) for start in range(0, len(live), BLOCK))
        content = facet_files.Content(self.dim, self.config, self._table.ordinals(live))
        facet_files.write(folder, content, blocks)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens what `save` wrote, memory-mapped. Raises Damaged naming the file that is not as written."""
        content, batch = facet_files.read(folder)
        index = cls(content.dim, content.config)
        index._table.add(content.ordinals, np.zeros(len(content.ordinals), np.bool_))
        index._base = FacetRows(batch)
        return index

    def _take(self, rows: Int64Array) -> FacetBatch:
        n_base = len(self._base)
        old = rows < n_base
        if old.all():
            return self._base.take(rows)
        if not old.any():
            return self._delta.take(rows - n_base)
        both = FacetBatch.concatenate([self._base.take(rows[old]), self._delta.take(rows[~old] - n_base)])
        back = np.empty(len(rows), np.int64)
        back[np.concatenate([np.flatnonzero(old), np.flatnonzero(~old)])] = np.arange(len(rows))
        return both.take(back)


def _as_ordinals(ordinals: Sequence[int] | Int64Array) -> Int64Array:
    return np.asarray(ordinals, dtype=np.int64).reshape(-1)
