"""Candidates: the union of several sources, each with a quota, and where every candidate came from. Ours.

What may be returned is decided first and inside every source: a source is read until its quota of allowed items is met
or it ends. Cutting first and filtering afterwards would lose candidates to items that nobody may see.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from facetrail.models.recommend.interactions import ItemRows, Scorer, Vocabulary
from facetrail.models.recommend.ranking import Mask, Scores, best
from facetrail.models.recommend.records import Source


class CandidateSource(Protocol):
    """A ranking of items for a history, best first, that may end early."""

    @property
    def name(self) -> str:
        """As candidates report it."""

    def best(self, history: ItemRows, *, allowed: Mask, places: ItemRows) -> tuple[ItemRows, Scores]:
        """Its best allowed items up to its quota, fewer only where it has no more, and their scores, (c,) each."""


@dataclass(frozen=True)
class ScorerSource:
    """The best of any scorer: sequences, co-occurrence, popularity, neighbours in text, vectors or a graph."""

    scorer: Scorer
    quota: int = 100
    above: float = -np.inf
    """It ends where scores are no higher: 0 for counts, where 0 says nothing of an item."""

    @property
    def name(self) -> str:
        """That of the scorer."""
        return self.scorer.name

    def best(self, history: ItemRows, *, allowed: Mask, places: ItemRows) -> tuple[ItemRows, Scores]:
        """As the seam says."""
        scores = self.scorer.scores([history])[0]
        rows = best(scores, self.quota, allowed=allowed & (scores > self.above), places=places)
        return rows, scores[rows]


@dataclass(frozen=True)
class Candidates:
    """A union of sources. Its beginning is the union of the sources' beginnings, so it may be cut anywhere."""

    rows: ItemRows
    """(c,) items by their best rank in any source, equal ranks by id."""
    sources: tuple[tuple[Source, ...], ...]
    """Of each candidate, every source that proposed it."""


def allowed_items(
    vocabulary: Vocabulary,
    *,
    allow: Collection[str] | None = None,
    exclude: Collection[str] = (),
    seen: ItemRows | None = None,
    available: Mask | None = None,
) -> Mask:
    """(m,): what may be returned.

    allow: the only ids, None: all · exclude: ids that may not · seen: items of the history that may not, None: they may
    · available: (m,) who is inside its window of availability and passes the request's filter, None: all.
    """
    allowed = np.full(len(vocabulary), allow is None)
    if allow is not None:
        allowed[vocabulary.rows(list(allow))] = True
    allowed[vocabulary.rows(list(exclude))] = False
    if seen is not None:
        allowed[seen] = False
    return allowed if available is None else allowed & available


def propose(
    sources: Sequence[CandidateSource], history: ItemRows, *, allowed: Mask, places: ItemRows, limit: int = 300
) -> Candidates:
    """The union of what the sources propose, at most `limit` of them. places: (m,), as of `id_places`."""
    found: dict[int, list[Source]] = {}
    for source in sources:
        rows, scores = source.best(history, allowed=allowed, places=places)
        for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1):
            found.setdefault(row, []).append(Source(source.name, rank, score))
    order = sorted(found, key=lambda row: (min(source.rank for source in found[row]), places[row]))[:limit]
    return Candidates(np.array(order, np.int64), tuple(tuple(found[row]) for row in order))
