"""Metadata as an index: a filter in, a mask over ordinals out.

What was saved is memory-mapped; what was added since grows in columns of its own; the newest documents are judged one
by one, as `Filter.matches` says, until there are enough of them to be worth a column. All three give the same answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.fields_builder import ColumnBuilder
from facetrail.indexing.fields_columns import Column
from facetrail.indexing.fields_storage import StoredColumns, write_columns
from facetrail.indexing.filters_tree import (
    Filter,
    Group,
    HasId,
    IsEmpty,
    IsNull,
    Match,
    Range,
    Scalar,
    flattened,
)
from facetrail.indexing.index import BoolArray, Int64Array

UNKNOWN, LIVE, DEAD = 0, 1, 2
MAX_TAIL = 256
"""Documents judged one by one at most."""
IDS = None
"""The column of the documents' own ids; no metadata key is None."""

FieldKind = Literal["number", "string", "boolean", "date", "null", "object"]


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A metadata key and what is found at it."""

    key: str
    kinds: tuple[FieldKind, ...]
    """`number` and `date` also where strings spell them, since ranges find those."""
    n_values: int
    """Distinct scalars, those of removed documents included until the next build."""
    n_documents: int
    """Living documents that have one."""


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value of a key and how many documents have it. Strings above 256 bytes are shown shortened."""

    value: Scalar
    n_documents: int


class FieldIndex:
    """Evaluates filters over ordinals. Reading is safe from several threads; writing needs the index alone."""

    def __init__(self) -> None:
        """An empty index."""
        self._stored: StoredColumns | None = None
        self._recent: dict[str | None, ColumnBuilder] = {}
        self._tail: dict[int, tuple[str, Mapping[str, Any]]] = {}
        self._state: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def __len__(self) -> int:
        """Living documents."""
        return int(np.count_nonzero(self._state == LIVE))

    def add(self, ordinals: Sequence[int], ids: Sequence[str], metadatas: Sequence[Mapping[str, Any]]) -> None:
        """Adds documents under ordinals never used before. Raises ValueError for one that was (a bug of the caller)."""
        if not len(ordinals):
            return
        self._reserve(max(ordinals) + 1)
        for ordinal, document_id, metadata in zip(ordinals, ids, metadatas, strict=True):
            if self._state[ordinal] != UNKNOWN:
                raise ValueError(f"ordinal {ordinal} was used before")
            self._state[ordinal] = LIVE
            self._tail[ordinal] = (document_id, metadata)
        if len(self._tail) > MAX_TAIL:
            self._fold_tail()

    def remove(self, ordinals: Sequence[int]) -> None:
        """Removes documents; an ordinal that is not in the index raises KeyError (a bug of the caller)."""
        for ordinal in ordinals:
            if not 0 <= ordinal < len(self._state) or self._state[ordinal] != LIVE:
                raise KeyError(ordinal)
            self._state[ordinal] = DEAD
            self._tail.pop(ordinal, None)

    def evaluate(self, condition: Filter, size: int) -> BoolArray:
        """(size,) True for the living documents that pass. size: ordinals given out so far."""
        mask = self._mask(condition)
        mask &= self._alive()
        for ordinal, (document_id, metadata) in self._tail.items():
            mask[ordinal] = condition.matches(document_id, metadata)
        if len(mask) >= size:
            return mask[:size]
        return np.concatenate((mask, np.zeros(size - len(mask), bool)))

    def keys(self) -> list[FieldInfo]:
        """Every key of the living documents' metadata, in order."""
        alive, tail = self._alive(), self._tail_columns()
        names = {*(self._stored.keys() if self._stored else ()), *self._recent, *tail} - {IDS}
        found = (self._info(name, alive, tail) for name in sorted(n for n in names if n is not None))
        return [info for info in found if info is not None]

    def counts(self, key: str, allowed: BoolArray | None = None, limit: int = 10) -> list[ValueCount]:
        """The values most documents have, by count descending, then numbers, strings, booleans in order.

        allowed: (n,) mask over ordinals, None for all; documents beyond its end do not count.
        """
        alive = self._alive()
        if allowed is not None:
            alive[: len(allowed)] &= allowed[: len(alive)]
            alive[len(allowed) :] = False
        totals: list[tuple[Column, Int64Array]] = []
        for column in self._columns(key, self._tail_columns()):
            totals.append((column, _fold_into(totals, column, column.counts(alive))))
        best: list[ValueCount] = []
        for column, counts in totals:
            positions = np.flatnonzero(counts)
            top = positions[np.lexsort((positions, -counts[positions]))][:limit]
            best += [ValueCount(column.value(p), int(counts[p])) for p in top.tolist()]
        best.sort(key=lambda found: (-found.n_documents, _rank(found.value)))
        return best[:limit]

    def save(self, folder: Path) -> None:
        """Writes the living documents' columns into an existing empty folder."""
        self._fold_tail()
        is_fresh = self._stored is None and DEAD not in self._state
        columns = self._recent if is_fresh else self._merged(self._alive())
        write_columns(folder, {key: column.seal() for key, column in columns.items()}, self._state)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens what `save` wrote, memory-mapped. Raises Damaged, naming the file."""
        index = cls()
        index._stored = StoredColumns.open(folder)
        index._state = np.array(index._stored.state)
        return index

    # -- inside ------------------------------------------------------------------------------------------------------

    def _reserve(self, size: int) -> None:
        if size > len(self._state):
            grown = np.zeros(max(size, len(self._state) * 5 // 4), np.uint8)
            grown[: len(self._state)] = self._state
            self._state = grown

    def _fold_tail(self) -> None:
        _grow(self._recent, self._tail)
        self._tail = {}

    def _alive(self) -> BoolArray:
        return np.asarray(self._state == LIVE)

    def _mask(self, node: Filter) -> BoolArray:
        """What the columns say; right for living documents outside the tail."""
        if isinstance(node, Group):
            return self._group(node)
        mask = np.zeros(len(self._state), bool)
        if isinstance(node, HasId):
            wanted = Match("", frozenset(("string", i) for i in node.ids))
            for column in self._columns(IDS):
                column.mark_match(wanted, mask)
            return mask
        if isinstance(node, Match | Range | IsEmpty | IsNull):
            for column in self._columns(node.key):
                if isinstance(node, Match):
                    column.mark_match(node, mask)
                elif isinstance(node, Range):
                    column.mark_range(node, mask)
                elif isinstance(node, IsEmpty):
                    column.mark_present(mask)
                else:
                    mask[column.nulls] = True
            return ~mask if isinstance(node, IsEmpty) else mask
        raise TypeError(f"no evaluation for {type(node).__name__}")

    def _group(self, group: Group) -> BoolArray:
        mask = np.ones(len(self._state), bool)
        for part in group.must:
            mask &= self._mask(part)
        for part in group.must_not:
            mask &= ~self._mask(part)
        if group.min_should:
            n_held = np.zeros(len(self._state), np.int32)
            for part in group.should:
                n_held += self._mask(part)
            mask &= n_held >= group.min_should
        return mask

    def _columns(self, key: str | None, tail: Mapping[str | None, ColumnBuilder] | None = None) -> Iterator[Column]:
        stored = self._stored.column(key) if self._stored else None
        if stored is not None:
            yield stored
        for columns in (self._recent, tail or {}):
            if key in columns:
                yield columns[key].seal()

    def _tail_columns(self) -> dict[str | None, ColumnBuilder]:
        columns: dict[str | None, ColumnBuilder] = {}
        _grow(columns, self._tail)
        return columns

    def _merged(self, alive: BoolArray) -> dict[str | None, ColumnBuilder]:
        """The living documents of the stored and the recent columns."""
        merged: dict[str | None, ColumnBuilder] = {}
        for key in {*(self._stored.keys() if self._stored else ()), *self._recent}:
            for column in self._columns(key):
                merged.setdefault(key, ColumnBuilder()).absorb(column, alive)
        return merged

    def _info(self, key: str, alive: BoolArray, tail: Mapping[str | None, ColumnBuilder]) -> FieldInfo | None:
        present, nulls = np.zeros(len(alive), bool), np.zeros(len(alive), bool)
        kinds: set[FieldKind] = set()
        totals: list[tuple[Column, Int64Array]] = []
        for column in self._columns(key, tail):
            column.mark_present(present)
            nulls[column.nulls] = True
            kinds |= _kinds(column)
            totals.append((column, _fold_into(totals, column, np.ones(column.n_values, np.int64))))
        n_documents = int(np.count_nonzero(present & alive))
        if not n_documents and not (nulls & alive).any():
            return None
        n_values = sum(int(np.count_nonzero(counts)) for _, counts in totals)
        return FieldInfo(key, tuple(sorted(kinds)), n_values, n_documents)


def _grow(columns: dict[str | None, ColumnBuilder], documents: Mapping[int, tuple[str, Mapping[str, Any]]]) -> None:
    for ordinal, (document_id, metadata) in documents.items():
        columns.setdefault(IDS, ColumnBuilder()).add(ordinal, document_id)
        for key, leaf in flattened(metadata):
            columns.setdefault(key, ColumnBuilder()).add(ordinal, leaf)


def _fold_into(totals: list[tuple[Column, Int64Array]], column: Column, counts: Int64Array) -> Int64Array:
    """Adds counts of values that an earlier column has too to that column's; returns what is left."""
    left = counts.copy()
    for earlier, sums in totals:
        for position in np.flatnonzero(left).tolist():
            at = earlier.find(column.identity(position))
            if at is not None:
                sums[at] += left[position]
                left[position] = 0
    return left


def _kinds(column: Column) -> set[FieldKind]:
    found: dict[FieldKind, bool] = {
        "number": bool(len(column.numbers) or len(column.spelled_numbers.values)),
        "string": bool(column.n_strings),
        "boolean": column.has_booleans,
        "date": bool(len(column.spelled_dates.values)),
        "null": bool(len(column.nulls)),
        "object": bool(len(column.objects)),
    }
    return {kind for kind, is_there in found.items() if is_there}


def _rank(value: Scalar) -> tuple[int, Any]:
    if isinstance(value, bool):
        return (2, value)
    return (1, value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else (0, value)
