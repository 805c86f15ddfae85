"""Runs of documents inside a lexical index: immutable segments with postings, and the tail that takes single adds.

Both hold a *forward list* per document (its distinct terms with tf), which makes deletes exact; a segment has postings
besides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.index import BoolArray, Int64Array
from facetrail.indexing.lexical_inversion import invert

Uint32Array = NDArray[np.uint32]
Uint16Array = NDArray[np.uint16]


class Forward(NamedTuple):
    """Forward lists of n documents: terms, tfs: (m,) · offsets: (n + 1,) int64 · lengths: (n,) tokens per document."""

    offsets: Int64Array
    terms: Uint32Array
    tfs: Uint16Array
    lengths: Uint32Array


class Postings(NamedTuple):
    """offsets: (terms + 1,) int64 · docs: (m,) uint32, rows ascending per term · codes: (m,) uint16 of (tf, length)."""

    offsets: Int64Array
    docs: Uint32Array
    codes: Uint16Array


@dataclass(eq=False)
class Segment:
    """Documents whose rows ascend by ordinal. Only `live` ever changes."""

    ordinals: Int64Array
    forward: Forward
    """Each document's terms ascend."""
    postings: Postings
    live: BoolArray
    n_dead: int = field(default=0)

    @classmethod
    def build(cls, ordinals: Int64Array, forward: Forward, n_terms: int) -> "Segment":
        """Inverts forward lists whose rows ascend by ordinal."""
        offsets, docs, codes, terms, tfs = invert(*forward, n_terms)
        for array in (offsets, docs, codes, terms, tfs, forward.offsets, forward.lengths):
            array.flags.writeable = False  # one kind of array, hence one compiled version, for memory and for maps
        sorted_forward = Forward(forward.offsets, terms, tfs, forward.lengths)
        return cls(ordinals, sorted_forward, Postings(offsets, docs, codes), np.ones(len(ordinals), np.bool_))

    def __len__(self) -> int:
        return len(self.ordinals)

    @cached_property
    def is_range(self) -> bool:
        """Whether ordinals are consecutive, so that masks can be sliced instead of gathered."""
        return len(self) > 0 and int(self.ordinals[-1]) - int(self.ordinals[0]) + 1 == len(self)

    def row_of(self, ordinal: int) -> int | None:
        """The row of a live document."""
        row = int(self.ordinals.searchsorted(ordinal))
        if row < len(self) and self.ordinals[row] == ordinal and self.live[row]:
            return row
        return None

    def mask(self, allowed: BoolArray | None) -> BoolArray:
        """(rows,) bool: live and allowed. Ordinals past the end of `allowed` are hidden."""
        return self.live if allowed is None else self.live & visible(self.ordinals, allowed, is_range=self.is_range)

    def terms_of(self, row: int) -> tuple[Uint32Array, Uint16Array]:
        """A document's distinct terms and their tf."""
        at = slice(self.forward.offsets[row], self.forward.offsets[row + 1])
        return self.forward.terms[at], self.forward.tfs[at]

    def survivors(self) -> tuple[Int64Array, Forward]:
        """Live documents only."""
        if not self.n_dead:
            return self.ordinals, self.forward
        rows = np.flatnonzero(self.live)
        return self.ordinals[rows], take_rows(self.forward, rows)


class Tail:
    """The newest documents, unsorted, in arrays that grow; searched by scanning their forward lists."""

    def __init__(self) -> None:
        self.n = 0
        self.n_dead = 0
        self.rows: dict[int, int] = {}
        self._ordinals = np.empty(64, np.int64)
        self._offsets = np.zeros(65, np.int64)
        self._lengths = np.empty(64, np.uint32)
        self._live = np.zeros(64, np.bool_)
        self._terms = np.empty(8192, np.uint32)
        self._tfs = np.empty(8192, np.uint16)

    def __len__(self) -> int:
        return self.n

    def append(self, ordinal: int, terms: Sequence[int], tfs: Sequence[int], length: int) -> None:
        """Adds one document."""
        first, row = int(self._offsets[self.n]), self.n
        last = first + len(terms)
        if last > len(self._terms):
            self._terms = np.resize(self._terms, max(last, 2 * len(self._terms)))
            self._tfs = np.resize(self._tfs, len(self._terms))
        if row == len(self._lengths):
            self._ordinals = np.resize(self._ordinals, 2 * row)
            self._lengths = np.resize(self._lengths, 2 * row)
            self._live = np.resize(self._live, 2 * row)
            self._offsets = np.resize(self._offsets, 2 * row + 1)
        self._terms[first:last], self._tfs[first:last] = terms, tfs
        self._ordinals[row], self._lengths[row], self._live[row] = ordinal, length, True
        self._offsets[row + 1] = last
        self.rows[ordinal] = row
        self.n += 1

    def kill(self, ordinal: int) -> int:
        """Marks a document dead; returns its row."""
        row = self.rows.pop(ordinal)
        self._live[row] = False
        self.n_dead += 1
        return row

    @property
    def forward(self) -> Forward:
        """All rows, dead ones too."""
        size = int(self._offsets[self.n])
        arrays = (self._offsets[: self.n + 1], self._terms[:size], self._tfs[:size], self._lengths[: self.n])
        for array in arrays:
            array.flags.writeable = False  # as a segment's are
        return Forward(*arrays)

    @property
    def ordinals(self) -> Int64Array:
        """(rows,)"""
        return self._ordinals[: self.n]

    def visible_rows(self, allowed: BoolArray | None) -> Int64Array:
        """Rows that are live and allowed."""
        live = self._live[: self.n]
        if allowed is not None:
            live = live & visible(self.ordinals, allowed, is_range=False)
        return np.flatnonzero(live)

    def survivors(self) -> tuple[Int64Array, Forward]:
        """Live documents only."""
        rows = self.visible_rows(None)
        return self.ordinals[rows], take_rows(self.forward, rows)


def visible(ordinals: Int64Array, allowed: BoolArray, *, is_range: bool) -> BoolArray:
    """allowed[ordinals], False past its end."""
    if len(ordinals) == 0:
        return np.zeros(0, np.bool_)
    highest = int(ordinals.max())
    if highest >= len(allowed):
        allowed = np.concatenate([allowed, np.zeros(highest + 1 - len(allowed), np.bool_)])
    if is_range:
        return allowed[int(ordinals[0]) : highest + 1]
    return allowed[ordinals]


def take_rows(forward: Forward, rows: Int64Array, new_ids: Uint32Array | None = None) -> Forward:
    """The forward lists of some rows, in the order given, with new term ids where given."""
    sizes = np.diff(forward.offsets)[rows]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    if len(forward.terms) == 0:
        return Forward(offsets, forward.terms, forward.tfs, forward.lengths[rows])
    # position of every entry: its row's first entry, plus how far it stands inside the row
    at = np.repeat(forward.offsets[:-1][rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
    terms = forward.terms[at]
    return Forward(offsets, terms if new_ids is None else new_ids[terms], forward.tfs[at], forward.lengths[rows])


def join(parts: Sequence[tuple[Int64Array, Forward]]) -> tuple[Int64Array, Forward]:
    """Several runs of documents as one whose rows ascend by ordinal."""
    if not parts:
        nothing = Forward(np.zeros(1, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint16), np.empty(0, np.uint32))
        return np.empty(0, np.int64), nothing
    ordinals = np.concatenate([ordinals for ordinals, _ in parts])
    sizes = np.concatenate([np.diff(forward.offsets) for _, forward in parts])
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    terms, tfs, lengths = (
        np.concatenate([getattr(forward, name) for _, forward in parts]) for name in ("terms", "tfs", "lengths")
    )
    whole = Forward(offsets, terms, tfs, lengths)
    if len(ordinals) > 1 and not bool((ordinals[1:] > ordinals[:-1]).all()):
        order = np.argsort(ordinals, kind="stable")
        return ordinals[order], take_rows(whole, order)
    return ordinals, whole
