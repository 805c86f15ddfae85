"""The seam of every index family: ordinals in, hits out.

A document has an *ordinal*, a non-negative integer that is never reused while an index is open; the collection's id map
turns ordinals into ids. Indexes know ordinals only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hits:
    """The best documents for one query.

    ordinals: (n,) int64 · scores: (n,) float64, higher is better. Ordered by score descending, then ordinal ascending.
    All documents tied with the k-th are kept, so n may exceed k: whoever knows the ids breaks the tie by id and cuts.
    """

    ordinals: Int64Array
    scores: Float64Array

    def __len__(self) -> int:
        return len(self.ordinals)


EMPTY_HITS = Hits(np.empty(0, np.int64), np.empty(0, np.float64))


def best_with_ties(ordinals: Int64Array, scores: Float64Array, k: int) -> Hits:
    """The k best of (ordinals, scores) and everything tied with the k-th, in total order."""
    if k <= 0 or len(scores) == 0:
        return EMPTY_HITS
    if len(scores) > k:
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = scores >= kth
        ordinals, scores = ordinals[keep], scores[keep]
    order = np.lexsort((ordinals, -scores))
    return Hits(ordinals[order].astype(np.int64, copy=False), scores[order].astype(np.float64, copy=False))


Content = TypeVar("Content", contravariant=True)
Question = TypeVar("Question", contravariant=True)


class Index(Protocol[Content, Question]):
    """What lexical and dense indexes have in common. `Content` is what a document brings: a text, a vector."""

    def add(self, ordinals: Sequence[int], contents: Sequence[Content]) -> None:
        """Adds documents under ordinals that are not in the index."""

    def remove(self, ordinals: Sequence[int]) -> None:
        """Removes documents; an ordinal that is not in the index raises KeyError (a bug of the caller)."""

    def search(self, query: Question, k: int, *, allowed: BoolArray | None = None) -> Hits:
        """The k best, ties at the k-th kept. `allowed[ordinal]` False hides a document; None allows all."""

    def save(self, folder: Path) -> None:
        """Writes plain files (NumPy, JSON, FAISS) into an existing empty folder. No pickle."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens what `save` wrote, memory-mapped where that pays."""

    def __len__(self) -> int: ...
