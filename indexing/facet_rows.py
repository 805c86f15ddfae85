"""Facet data by row number: a saved part (memory-mapped) or one that grows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.dense_rows import grown
from facetrail.indexing.facet_files import BY_SENTENCE
from facetrail.indexing.facet_kernels import facet_products
from facetrail.indexing.index import Float32Array, Float64Array, Int64Array
from facetrail.models.text.facets import GRANULARITIES, FacetBatch

BY_DOCUMENT = ("vectors", "scales", "prior", "gate")


class FacetRows:
    """The columns of a `FacetBatch`, each an array with room to grow."""

    def __init__(self, batch: FacetBatch) -> None:
        """batch: the first rows; it is never written to."""
        self._n = len(batch)
        self._n_sentences = int(batch.first[-1])
        self._columns: dict[str, NDArray[Any]] = {name: getattr(batch, name) for name in (*BY_DOCUMENT, *BY_SENTENCE)}
        self._first = batch.first

    @classmethod
    def empty(cls, n_facets: int, dim: int) -> "FacetRows":
        """No rows yet."""
        return cls(
            FacetBatch(
                np.zeros((0, n_facets, dim), np.int8),
                np.zeros((0, n_facets), np.float32),
                np.zeros((0, n_facets), np.float32),
                np.zeros((0, len(GRANULARITIES)), np.float32),
                np.zeros(1, np.int64),
                np.zeros((0, n_facets), np.uint8),
                np.zeros((0, n_facets), np.uint8),
            )
        )

    def __len__(self) -> int:
        return self._n

    def append(self, batch: FacetBatch) -> None:
        """Adds rows behind the last."""
        n, n_sentences = self._n + len(batch), self._n_sentences + int(batch.first[-1])
        for names, start, end in ((BY_DOCUMENT, self._n, n), (BY_SENTENCE, self._n_sentences, n_sentences)):
            for name in names:
                self._columns[name] = column = grown(self._columns[name], end)
                column[start:end] = getattr(batch, name)
        self._first = grown(self._first, n + 1)
        self._first[self._n + 1 : n + 1] = self._n_sentences + batch.first[1:]
        self._n, self._n_sentences = n, n_sentences

    def take(self, rows: Int64Array) -> FacetBatch:
        """The data of these rows, in this order; costs what they cost, however many others there are."""
        starts = self._first[rows]
        lengths = self._first[rows + 1] - starts
        first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        sentences = np.arange(first[-1]) - np.repeat(first[:-1] - starts, lengths)
        columns = {name: self._columns[name][rows] for name in BY_DOCUMENT}
        columns |= {name: self._columns[name][sentences] for name in BY_SENTENCE}
        return FacetBatch(first=first, **columns)

    def cosines(self, rows: Int64Array, query: Float32Array) -> Float64Array:
        """Every query facet with every facet of the rows. query: (k, d) → (n, query facets, row facets)."""
        vectors = self._columns["vectors"].view()
        vectors.flags.writeable = False  # so that a growing array and a memory-mapped one are one type to the kernel
        products = np.empty((len(rows), len(query), len(query)), np.float32)
        facet_products(vectors, rows, np.ascontiguousarray(query, np.float32), products)
        cosines: Float64Array = products.astype(np.float64) * self._columns["scales"][rows][:, None, :]
        return cosines
