"""Which row holds which document, and which rows a search may see."""

import numpy as np

from facetrail.indexing.dense_rows import grown
from facetrail.indexing.index import BoolArray, Int64Array


class RowTable:
    """Rows are numbered in the order of adding and never move; a removed document leaves a dead row behind."""

    def __init__(self) -> None:
        self._n = 0
        self._n_live = 0
        self._ordinals = np.zeros(0, np.int64)
        self._searchable = np.zeros(0, np.bool_)
        self._row_plus_one = np.zeros(0, np.int64)  # by ordinal; 0 where the ordinal has no row

    def __len__(self) -> int:
        """Live documents."""
        return self._n_live

    @property
    def n_rows(self) -> int:
        """Live and dead rows."""
        return self._n

    def add(self, ordinals: Int64Array, is_zero: BoolArray) -> None:
        """Gives each ordinal the next row. Raises ValueError for an ordinal below 0, given twice or in the index."""
        if not len(ordinals):
            return
        if ordinals.min() < 0:
            raise ValueError(f"ordinal {ordinals.min()} is negative")
        if len(np.unique(ordinals)) < len(ordinals):
            raise ValueError("an ordinal is given twice")
        if (known := self._rows_or_minus_one(ordinals) >= 0).any():
            raise ValueError(f"ordinal {ordinals[known][0]} is in the index; remove it first")
        n = self._n + len(ordinals)
        self._ordinals, self._searchable = grown(self._ordinals, n), grown(self._searchable, n)
        self._row_plus_one = grown(self._row_plus_one, int(ordinals.max()) + 1)
        self._ordinals[self._n : n] = ordinals
        self._searchable[self._n : n] = ~is_zero
        self._row_plus_one[ordinals] = np.arange(self._n, n) + 1
        self._n = n
        self._n_live += len(ordinals)

    def remove(self, ordinals: Int64Array) -> None:
        """Kills rows; KeyError, and no change, if one is not there or is given twice."""
        rows = self.rows(ordinals)
        if len(np.unique(ordinals)) < len(ordinals):
            raise KeyError("an ordinal is given twice")
        self._searchable[rows] = False
        self._row_plus_one[ordinals] = 0
        self._n_live -= len(rows)

    def rows(self, ordinals: Int64Array) -> Int64Array:
        """The rows of ordinals; KeyError naming the first that is not in the index."""
        rows = self._rows_or_minus_one(ordinals)
        if (rows < 0).any():
            raise KeyError(f"ordinal {ordinals[rows < 0][0]} is not in the index")
        return rows

    def ordinals(self, rows: Int64Array) -> Int64Array:
        """The ordinals of rows."""
        return self._ordinals[rows]

    def live_rows(self) -> Int64Array:
        """Rows of the live documents, by ordinal ascending."""
        rows: Int64Array = self._row_plus_one[self._row_plus_one > 0] - 1
        return rows

    def is_zero(self, rows: Int64Array) -> BoolArray:
        """Which of these live rows hold a zero vector."""
        return ~self._searchable[rows]

    def mask(self, first: int, last: int, allowed: BoolArray | None) -> BoolArray | None:
        """What a search may see among rows [first, last): live, not zero, allowed. None: all of them."""
        searchable = self._searchable[first:last]
        if allowed is None:
            return None if searchable.all() else searchable
        ordinals = self._ordinals[first:last]
        if len(ordinals) and ordinals.max() >= len(allowed):
            # Dead rows may reach beyond; a live one means that the caller's mask is of another state.
            inside = ordinals < len(allowed)
            if (searchable & ~inside).any():
                raise ValueError(f"allowed covers {len(allowed)} ordinals, the index goes up to {ordinals.max()}")
            return searchable & inside & allowed[np.where(inside, ordinals, 0)] if len(allowed) else searchable & False
        kept: BoolArray = searchable & allowed[ordinals]
        return kept

    def _rows_or_minus_one(self, ordinals: Int64Array) -> Int64Array:
        inside = (ordinals >= 0) & (ordinals < len(self._row_plus_one))
        rows = np.full(len(ordinals), -1, np.int64)
        rows[inside] = self._row_plus_one[ordinals[inside]] - 1
        return rows
