"""One column a key: which documents have which value there.

A sealed column is a table of its distinct values (numbers ascending, then strings in byte order, then false, true) and,
value by value, the ordinals of the documents that have it. A match is a binary search and a scatter, a range a
contiguous slice.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.filters_tree import Match, Number, Range, Scalar, ScalarKey
from facetrail.indexing.index import BoolArray, Float64Array, Int64Array

Ordinals = NDArray[np.uint32]
MAX_STORED_BYTES = 256
_PREFIX_BYTES = 200
LONG_MARK = b"\xff"  # never part of UTF-8, so a shortened string equals no other
FEW = 64


def stored_form(text: str) -> bytes:
    """The bytes a column keeps of a string: all of it, or of a long one its beginning and a digest of the whole."""
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) <= MAX_STORED_BYTES:
        return encoded
    return encoded[:_PREFIX_BYTES] + LONG_MARK + blake2b(encoded, digest_size=16).digest()


def shown_form(stored: bytes) -> str:
    """A stored string for people; long ones end in an ellipsis."""
    beginning, mark, _ = stored.partition(LONG_MARK)
    return beginning.decode("utf-8", "ignore") + ("…" if mark else "")


@dataclass(frozen=True, slots=True)
class Spelled:
    """Strings that spell something with an order. values: (n,) ascending; positions: (n,) of the strings."""

    values: Float64Array | Int64Array
    positions: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Column:
    """A sealed column. Arrays may be memory-mapped."""

    numbers: Float64Array
    exact: dict[int, int]
    """Position → integer, where float64 does not hold it."""
    strings: NDArray[np.uint8]
    """All strings' stored forms, one after the other."""
    starts: Int64Array
    """(n_strings + 1,) where each begins."""
    offsets: Int64Array
    """(n_values + 1,) where each value's ordinals begin."""
    postings: Ordinals
    nulls: Ordinals
    objects: Ordinals
    spelled_numbers: Spelled
    spelled_dates: Spelled
    has_booleans: bool

    @property
    def n_strings(self) -> int:
        """Distinct strings."""
        return len(self.starts) - 1

    @property
    def n_values(self) -> int:
        """Distinct scalars."""
        return len(self.offsets) - 1

    def number(self, position: int) -> Number:
        """The number at a position of the numbers."""
        return self.exact[position] if position in self.exact else float(self.numbers[position])

    def stored(self, position: int) -> bytes:
        """The string at a position of the strings."""
        return self.strings[self.starts[position] : self.starts[position + 1]].tobytes()

    def identity(self, position: int) -> bytes | Number | bool:
        """What equal values of two columns share: stored bytes, a number or a boolean."""
        n_numbers = len(self.numbers)
        if position < n_numbers:
            return self.number(position)
        if position < n_numbers + self.n_strings:
            return self.stored(position - n_numbers)
        return position == n_numbers + self.n_strings + 1

    def value(self, position: int) -> Scalar:
        """The value at a position, for people."""
        found = self.identity(position)
        if isinstance(found, bytes):
            return shown_form(found)
        return int(found) if isinstance(found, float) and found.is_integer() else found

    def find(self, identity: bytes | Number | bool) -> int | None:
        """The position of a value, None where no document has it."""
        n_numbers = len(self.numbers)
        if isinstance(identity, bool):
            return n_numbers + self.n_strings + int(identity) if self.has_booleans else None
        if isinstance(identity, bytes):
            at = bisect_left(range(self.n_strings), identity, key=self.stored)
            return n_numbers + at if at < self.n_strings and self.stored(at) == identity else None
        at = bisect_left(range(n_numbers), identity, key=self.number)
        return at if at < n_numbers and self.number(at) == identity else None

    def mark_match(self, leaf: Match, out: BoolArray) -> None:
        """Sets True where the leaf holds."""
        found = sorted(p for p in (self.find(identity_of(key)) for key in leaf.values) if p is not None)
        if not leaf.is_except:
            for position in found:
                self._mark_values(position, position + 1, out)
            return
        start = 0
        for position in found:
            self._mark_values(start, position, out)
            start = position + 1
        self._mark_values(start, self.n_values, out)

    def mark_range(self, leaf: Range, out: BoolArray) -> None:
        """Sets True where the leaf holds."""
        if not leaf.is_date:
            self._mark_values(*_within(leaf, len(self.numbers), self.number), out)
        spelled = self.spelled_dates if leaf.is_date else self.spelled_numbers
        low, high = _within(leaf, len(spelled.values), lambda p: spelled.values[p].item())
        positions = spelled.positions[low:high].astype(np.int64) + len(self.numbers)
        if len(positions) <= FEW:
            for position in positions.tolist():
                self._mark_values(position, position + 1, out)
            return
        chosen = np.zeros(self.n_values, bool)
        chosen[positions] = True
        out[self.postings[np.repeat(chosen, np.diff(self.offsets))]] = True

    def mark_present(self, out: BoolArray) -> None:
        """Sets True where the key holds more than nulls and empty arrays."""
        out[self.postings] = True
        out[self.objects] = True

    def counts(self, alive: BoolArray) -> Int64Array:
        """(n_values,) how many of the living documents have each value."""
        if not self.n_values:
            return np.empty(0, np.int64)
        running = np.concatenate(([0], np.cumsum(alive[self.postings], dtype=np.int64)))
        return np.asarray(running[self.offsets[1:]] - running[self.offsets[:-1]], np.int64)

    def _mark_values(self, start: int, end: int, out: BoolArray) -> None:
        if start < end:
            out[self.postings[self.offsets[start] : self.offsets[end]]] = True


def identity_of(key: ScalarKey) -> bytes | Number | bool:
    """`Column.identity` of a value of a filter."""
    value = key[1]
    return stored_form(value) if isinstance(value, str) else value


def _within(leaf: Range, n: int, value_at: Callable[[int], Number]) -> tuple[int, int]:
    """[low, high) of n ascending values that lie within the bounds; Python compares integers and floats exactly."""
    low, high, places = 0, n, range(n)
    if leaf.gte is not None:
        low = max(low, bisect_left(places, leaf.gte, key=value_at))
    if leaf.gt is not None:
        low = max(low, bisect_right(places, leaf.gt, key=value_at))
    if leaf.lte is not None:
        high = min(high, bisect_right(places, leaf.lte, key=value_at))
    if leaf.lt is not None:
        high = min(high, bisect_left(places, leaf.lt, key=value_at))
    return low, high
