"""A column that grows, and how it becomes a sealed one."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from facetrail.indexing.fields_columns import LONG_MARK, Column, Ordinals, Spelled, stored_form
from facetrail.indexing.filters_tree import Number, date_stamp, number_in
from facetrail.indexing.index import BoolArray, Int64Array


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
        texts = [s.decode("utf-8", "surrogatepass") if LONG_MARK not in s else "" for s in strings]
        number_values, number_positions = _spelled(texts, number_in)
        date_values, date_positions = _spelled(texts, date_stamp)
        return Column(
            numbers=floats,
            exact={p: v for p, v in enumerate(numbers) if isinstance(v, int) and v != floats[p].item()},
            strings=np.frombuffer(b"".join(strings), np.uint8),
            starts=np.concatenate(([0], np.cumsum(lengths))),
            offsets=np.concatenate(([0], np.cumsum(np.concatenate(counts)))),
            postings=np.concatenate(postings),
            nulls=np.unique(_as_ordinals(self.nulls)),
            objects=np.unique(_as_ordinals(self.objects)),
            spelled_numbers=Spelled(np.array(number_values, np.float64), number_positions),
            spelled_dates=Spelled(np.array(date_values, np.int64), date_positions),
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


def _spelled(texts: list[str], read: Callable[[str], Number | None]) -> tuple[list[Number], Ordinals]:
    found = sorted((value, position) for position, value in _read_all(texts, read))
    return [value for value, _ in found], np.array([position for _, position in found], np.uint32)


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
