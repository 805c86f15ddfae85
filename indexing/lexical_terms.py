"""The dictionary of an index: terms to numbers and back.

A saved dictionary is one blob of UTF-8 in byte order with offsets, memory-mapped and searched by bisection; look-ups
are remembered. Terms that come later get the next numbers.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
_REMEMBERED = 1_000_000


class Vocabulary:
    """Terms and their ids. blob: (bytes,) uint8 · offsets: (n + 1,) int64; the n saved terms ascend, so ids do too."""

    def __init__(self, blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self._blob = memoryview(blob.data)
        self._offsets = offsets
        self.n_saved = len(offsets) - 1
        self._remembered: dict[str, int] = {}
        self._new: dict[str, int] = {}
        self._new_terms: list[str] = []

    @classmethod
    def of(cls, terms: Sequence[str]) -> "Vocabulary":
        """A dictionary of the given ascending terms."""
        encoded = [term.encode() for term in terms]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(term) for term in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return self.n_saved + len(self._new_terms)

    @property
    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """What is saved: blob and offsets, without the new terms."""
        return np.frombuffer(self._blob, np.uint8), self._offsets

    def id_of(self, term: str) -> int:
        """The term's id, or UNKNOWN."""
        known = self._new.get(term)
        if known is None:
            known = self._remembered.get(term)
        if known is not None or not self.n_saved:
            return UNKNOWN if known is None else known
        found = self._bisect(term.encode())
        if found != UNKNOWN:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered = {}
            self._remembered[term] = found
        return found

    def add(self, term: str) -> int:
        """The term's id; a term that is not known gets the next one."""
        known = self.id_of(term)
        if known == UNKNOWN:
            known = len(self)
            self._new[term] = known
            self._new_terms.append(term)
        return known

    def terms(self) -> list[str]:
        """All terms, by id."""
        blob, offsets = bytes(self._blob), self._offsets.tolist()
        return [blob[a:b].decode() for a, b in pairwise(offsets)] + self._new_terms

    def _bisect(self, term: bytes) -> int:
        blob, offsets = self._blob, self._offsets
        at = bisect_left(range(self.n_saved), term, key=lambda i: bytes(blob[offsets[i] : offsets[i + 1]]))
        if at < self.n_saved and blob[offsets[at] : offsets[at + 1]] == term:
            return at
        return UNKNOWN
