"""Vectors by row number, as float32, float16 or int8 codes: a saved part (memory-mapped) or one that grows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.dense_config import Storage
from facetrail.indexing.dense_kernels import score_rows
from facetrail.indexing.index import Float32Array, Float64Array, Int64Array
from facetrail.indexing.quantise import decode_int8, encode_int8

BLOCK = 2_048
"""Rows decoded at a time: 3 MB of float32 at 384 dimensions, which stays in the second-level cache."""


def grown(array: NDArray[Any], n: int) -> NDArray[Any]:
    """The array with room for n rows along its first axis; doubles, so that adding one by one costs constant time."""
    if n <= len(array):
        return array
    larger = np.zeros((max(n, 2 * len(array), 64), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


class VectorRows:
    """data: (n, dim) in the storage type · scales: (n,) float32, read for int8 only."""

    def __init__(self, data: NDArray[Any], scales: Float32Array, storage: Storage) -> None:
        self.storage: Storage = storage
        self._data = data
        self._scales = scales
        self._n = len(data)

    @classmethod
    def empty(cls, dim: int, storage: Storage) -> "VectorRows":
        """No rows yet."""
        return cls(np.zeros((0, dim), np.dtype(storage)), np.zeros(0, np.float32), storage)

    def __len__(self) -> int:
        return self._n

    @property
    def data(self) -> NDArray[Any]:
        """(n, dim) as stored."""
        return self._data[: self._n]

    @property
    def scales(self) -> Float32Array:
        """(n,) float32."""
        return self._scales[: self._n]

    def append(self, vectors: Float32Array) -> None:
        """Adds rows behind the last. vectors: (m, dim) float32."""
        n = self._n + len(vectors)
        self._data = grown(self._data, n)
        if self.storage == "int8":
            self._scales = grown(self._scales, n)
            self._data[self._n : n], self._scales[self._n : n] = encode_int8(vectors)
        else:
            self._data[self._n : n] = vectors
        self._n = n

    def decode(self, rows: Int64Array | slice) -> Float32Array:
        """The vectors as they are scored. → (m, dim) float32, a view where that is possible."""
        data: NDArray[Any] = self.data[rows]
        if self.storage == "int8":
            return decode_int8(data, self.scales[rows])
        return data.astype(np.float32, copy=False)

    def blocks(self) -> Iterator[tuple[slice, Float32Array]]:
        """All rows in order; float32 in one block, because nothing has to be decoded."""
        step = max(1, self._n if self.storage == "float32" else BLOCK)
        for first in range(0, self._n, step):
            rows = slice(first, min(first + step, self._n))
            yield rows, self.decode(rows)

    def score(self, rows: Int64Array, query: Float64Array) -> Float64Array:
        """Exact scores. rows: (m,), query: (dim,) float64 → (m,) float64, each independent of the other rows."""
        out = np.empty(len(rows), np.float64)
        if self.storage != "float16":
            score_rows(_read_only(self.data), rows, query, out)
            return out * self.scales[rows] if self.storage == "int8" else out
        for first in range(0, len(rows), BLOCK):
            part = rows[first : first + BLOCK]
            score_rows(_read_only(self.decode(part)), np.arange(len(part)), query, out[first : first + BLOCK])
        return out


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that numba takes for the same type as a memory-mapped file, so that the kernel is compiled once."""
    if not array.flags.writeable:
        return array
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view
