"""One column a key: which documents have which value there.

A sealed column is a table of its distinct values (numbers ascending, then strings in byte order, then false, true) and,
value by value, the ordinals of the documents that have it. A match is a binary search and a scatter, a range a
contiguous slice.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.filters_tree import Match, Number, Range, Scalar, ScalarKey, date_stamp, number_in
from facetrail.indexing.index import BoolArray, Float64Array, Int64Array

Ordinals = NDArray[np.uint32]
MAX_STORED_BYTES = 256
_PREFIX_BYTES = 200
_MARK = b"\xff"  # never part of UTF-8, so a shortened string equals no other
FEW = 64


def stored_form(text: str) -> bytes:
    """The bytes a column keeps of a string: all of it, or of a long one its beginning and a digest of the whole."""
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) <= MAX_STORED_BYTES:
        return encoded
    return encoded[:_PREFIX_BYTES] + _MARK + blake2b(encoded, digest_size=16).digest()


def shown_form(stored: bytes) -> str:
    """A stored string for people; long ones end in an ellipsis."""
    beginning, mark, _ = stored.partition(_MARK)
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


@dataclass(slots=True)
class ColumnBuilder:
    """A column that grows: (value, ordinal) pairs in the order they came."""

    numbers: dict[Number, int] = field(default_factory=dict)
    number_pairs: tuple["array[int]", "array[int]"] = field(default_factory=lambda: (array("I"), array("I")))
    strings: dict[bytes, int] = field(default_factory=dict)
    string_pairs: tuple["array[int]", "array[int]"] = field(default_factory=lambda: (array("I"), array("I")))
    booleans: tuple["array[int]", "array[int]"] = field(default_factory=lambda: (array("I"), array("I")))
    nulls: "array[int]" = field(default_factory=lambda: array("I"))
    objects: "array[int]" = field(default_factory=lambda: array("I"))
    sealed: Column | None = None

    def add(self, ordinal: int, leaf: object) -> None:
        """Adds one leaf of a document."""
        self.sealed = None
        if isinstance(leaf, str):
            codes, ordinals = self.string_pairs
            codes.append(self.strings.setdefault(stored_form(leaf), len(self.strings)))
            ordinals.append(ordinal)
        elif leaf is None:
            self.nulls.append(ordinal)
        elif isinstance(leaf, bool):
            self.booleans[leaf].append(ordinal)
        elif isinstance(leaf, int | float):
            codes, ordinals = self.number_pairs
            codes.append(self.numbers.setdefault(leaf, len(self.numbers)))
            ordinals.append(ordinal)
        else:
            self.objects.append(ordinal)

    def absorb(self, column: Column, alive: BoolArray) -> None:
        """Adds the living documents of a sealed column."""
        self.sealed = None
        for position in range(column.n_values):
            ordinals = column.postings[column.offsets[position] : column.offsets[position + 1]]
            ordinals = ordinals[alive[ordinals]]
            if not len(ordinals):
                continue
            identity = column.identity(position)
            if isinstance(identity, bool):
                self.booleans[identity].frombytes(ordinals.tobytes())
                continue
            if isinstance(identity, bytes):
                code, pairs = self.strings.setdefault(identity, len(self.strings)), self.string_pairs
            else:
                code, pairs = self.numbers.setdefault(identity, len(self.numbers)), self.number_pairs
            pairs[0].extend([code] * len(ordinals))
            pairs[1].frombytes(ordinals.tobytes())
        for mine, other in ((self.nulls, column.nulls), (self.objects, column.objects)):
            mine.frombytes(other[alive[other]].tobytes())

    def seal(self) -> Column:
        """The column as it stands. Two threads may do this at once: both make the same."""
        if self.sealed is None:
            self.sealed = self._sealed()
        return self.sealed

    def _sealed(self) -> Column:
        numbers, strings = sorted(self.numbers), sorted(self.strings)
        counts, postings = zip(
            _grouped([self.numbers[v] for v in numbers], self.number_pairs),
            _grouped([self.strings[v] for v in strings], self.string_pairs),
            *([self._booleans()] if any(self.booleans) else []),
            strict=True,
        )
        floats = np.array([_as_float(v) for v in numbers], np.float64)
        lengths = np.fromiter((len(s) for s in strings), np.int64, len(strings))
        texts = [s.decode("utf-8", "surrogatepass") if _MARK not in s else "" for s in strings]
        return Column(
            numbers=floats,
            exact={p: v for p, v in enumerate(numbers) if isinstance(v, int) and v != floats[p].item()},
            strings=np.frombuffer(b"".join(strings), np.uint8),
            starts=np.concatenate(([0], np.cumsum(lengths))),
            offsets=np.concatenate(([0], np.cumsum(np.concatenate(counts)))),
            postings=np.concatenate(postings),
            nulls=np.unique(_as_ordinals(self.nulls)),
            objects=np.unique(_as_ordinals(self.objects)),
            spelled_numbers=_spelled(texts, number_in, np.float64),
            spelled_dates=_spelled(texts, date_stamp, np.int64),
            has_booleans=any(self.booleans),
        )

    def _booleans(self) -> tuple[Int64Array, Ordinals]:
        no, yes = (np.unique(_as_ordinals(part)) for part in self.booleans)
        return np.array([len(no), len(yes)], np.int64), np.concatenate((no, yes))


def _grouped(order: list[int], pairs: tuple["array[int]", "array[int]"]) -> tuple[Int64Array, Ordinals]:
    """Ordinals grouped by value. order: codes in the values' order. Returns (documents of each value, ordinals)."""
    codes, ordinals = (_as_ordinals(part) for part in pairs)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    ranks = rank[codes]
    by_value = np.lexsort((ordinals, ranks))
    ranks, ordinals = ranks[by_value], ordinals[by_value]
    # A document whose array holds a value twice has it once.
    is_new = np.ones(len(ranks), bool)
    is_new[1:] = (np.diff(ranks) != 0) | (np.diff(ordinals) != 0)
    return np.bincount(ranks[is_new], minlength=len(order)).astype(np.int64), ordinals[is_new]


def _spelled(
    texts: list[str], read: Callable[[str], Number | None], kind: type[np.float64] | type[np.int64]
) -> Spelled:
    found = sorted((value, position) for position, value in _read_all(texts, read))
    return Spelled(np.array([v for v, _ in found], kind), np.array([p for _, p in found], np.uint32))


def _read_all(texts: list[str], read: Callable[[str], Number | None]) -> Iterator[tuple[int, Number]]:
    for position, text in enumerate(texts):
        value = read(text)
        if value is not None:
            yield position, value


def _as_ordinals(values: "array[int]") -> Ordinals:
    # A copy: a view would lock the array against growing.
    return np.array(values, np.uint32)


def _as_float(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
