"""A recommender over scorers: from raw events of anybody to items, where they came from, and why. Ours.

Several scorers are summed as in `blend`. Where no item of a history is known, `popular` answers and every item carries
the flag `fallback`. An item that no scorer knows but that has known neighbours gets their mean score and the flag
`cold`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.blend import Blend, summed
from facetrail.models.recommend.events import gathered, item_rows
from facetrail.models.recommend.interactions import Interactions, ItemRows, Scorer, Vocabulary
from facetrail.models.recommend.ranking import Mask, Scores, best, id_places, ranks
from facetrail.models.recommend.records import Event, Reason, Recommendation, Source

NEIGHBOURS = "neighbours"
"""Name of the source of an item that was never seen in training."""


@runtime_checkable
class Explains(Protocol):
    """A scorer that can say which items of the history carry a score."""

    def because(self, history: ItemRows, item: int) -> list[tuple[int, float]]:
        """Items of the history and what each adds to the item's score, heaviest first; none where none adds."""


@runtime_checkable
class Updatable(Protocol):
    """A scorer that takes users in and out without a fit."""

    def updated(self, *, added: Interactions, removed: Interactions) -> Self:
        """As a fit without the removed users and with the added ones; their vocabulary may be longer than before."""


@dataclass(frozen=True)
class _Scored:
    """One request: the scorers that answered, their rows and the sum, (m,) each, and what may be returned."""

    history: ItemRows
    scorers: tuple[Scorer, ...]
    parts: tuple[Scores, ...]
    total: Scores
    allowed: Mask
    flags: tuple[str, ...]


class ScoredRecommender:
    """The `Recommender` of any scorers.

    scorers: over the same items, numbered as in the vocabulary; blends are taken apart, so that an answer names every
    part. popular: for a history of which nothing is known. cold: id of a new item → ids of its known neighbours.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        scorers: Sequence[Scorer],
        *,
        popular: Scorer,
        cold: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        flat = [part for scorer in scorers for part in (scorer.parts if isinstance(scorer, Blend) else (scorer,))]
        blend = Blend(flat)
        for scorer in (blend, popular):
            if scorer.n_items != len(vocabulary):
                raise InvalidInput(
                    f"{scorer.name} scores {scorer.n_items:,} items and the vocabulary has {len(vocabulary):,}; "
                    "give the vocabulary of its fit"
                )
        self.vocabulary, self.scorers, self.popular = vocabulary, blend.parts, popular
        self.cold = {item: near for item, near in (cold or {}).items() if item not in vocabulary.numbers}
        self.name = blend.name
        self._places = id_places(vocabulary.ids)

    def recommend(
        self,
        history: Sequence[Event],
        *,
        k: int,
        candidates: Collection[str] | None = None,
        exclude: Collection[str] = (),
        explain: bool = False,
    ) -> list[Recommendation]:
        """As the seam says. An id that is neither known nor has known neighbours cannot be scored nor returned."""
        if k < 1:
            raise InvalidInput(f"k is {k}; ask for at least 1 item", pointer="/k")
        scored = self._score(item_rows(history, self.vocabulary), candidates, exclude)
        rows = best(scored.total, k, allowed=scored.allowed, places=self._places)
        places = [ranks(part, rows, allowed=scored.allowed) for part in scored.parts]
        found = [
            Recommendation(
                id=self.vocabulary.ids[row],
                score=float(scored.total[row]),
                rank=0,
                sources=tuple(
                    Source(scorer.name, int(place[i]), float(part[row]))
                    for scorer, part, place in zip(scored.scorers, scored.parts, places, strict=True)
                ),
                reasons=self._reasons(scored, int(row)) if explain else (),
                flags=scored.flags,
            )
            for i, row in enumerate(rows)
        ]
        found += self._cold(scored, candidates, frozenset(exclude), explain=explain)
        found.sort(key=lambda item: (-item.score, item.id))
        return [replace(item, rank=rank) for rank, item in enumerate(found[:k], start=1)]

    def explain(self, history: Sequence[Event], item: str) -> tuple[Reason, ...]:
        """Why the item would be proposed after this history; no reasons where no part of the history speaks for it.

        Raises InvalidInput for an item that cannot be scored.
        """
        found = self.recommend(history, k=1, candidates=[item], explain=True)
        if not found:
            raise InvalidInput(f"item {item!r} is unknown to {self.name} and has no known neighbours; fit it in first")
        return found[0].reasons

    def fit_partial(
        self, added: Sequence[Sequence[Event]], *, removed: Sequence[Sequence[Event]] = ()
    ) -> "ScoredRecommender":
        """A recommender that has taken in whole histories, one a user, and given up others.

        A user who did more is removed with the history of the fit and added with the present one. Items that were
        unknown join the vocabulary. Raises InvalidInput where a scorer cannot be updated or `removed` was never fitted.
        """
        new = {event.item: None for history in added for event in history if event.item not in self.vocabulary.numbers}
        vocabulary = Vocabulary((*self.vocabulary.ids, *new)) if new else self.vocabulary
        plus, minus = gathered(added, vocabulary), gathered(removed, vocabulary)
        scorers = [_update(scorer, plus, minus) for scorer in self.scorers]
        return ScoredRecommender(vocabulary, scorers, popular=_update(self.popular, plus, minus), cold=self.cold)

    def _score(self, history: ItemRows, candidates: Collection[str] | None, exclude: Collection[str]) -> _Scored:
        allowed = np.full(len(self.vocabulary), candidates is None)
        if candidates is not None:
            allowed[self.vocabulary.rows(list(candidates))] = True
        allowed[self.vocabulary.rows(list(exclude))] = False
        scorers, flags = (self.scorers, ()) if len(history) else ((self.popular,), ("fallback",))
        rows = [scorer.scores([history]) for scorer in scorers]
        return _Scored(history, scorers, tuple(row[0] for row in rows), summed(rows)[0], allowed, flags)

    def _reasons(self, scored: _Scored, row: int) -> tuple[Reason, ...]:
        if scored.flags:
            score = float(scored.total[row])
            return (
                Reason("popular", (), score, f"{self.popular.name} of {score:.6g}, as no item of the history is known"),
            )
        reasons = []
        for scorer in scored.scorers:
            carrying = scorer.because(scored.history, row) if isinstance(scorer, Explains) else []
            if carrying:
                ids = tuple(self.vocabulary.ids[item] for item, _ in carrying)
                text = f"because of {', '.join(ids)} in the history ({scorer.name})"
                reasons.append(Reason("because_you", ids, sum(share for _, share in carrying), text))
        return tuple(reasons)

    def _cold(
        self, scored: _Scored, candidates: Collection[str] | None, exclude: frozenset[str], *, explain: bool
    ) -> list[Recommendation]:
        wanted = self.cold if candidates is None else [item for item in dict.fromkeys(candidates) if item in self.cold]
        means = []
        for item in wanted:
            near = self.vocabulary.rows(self.cold[item])
            if len(near) and item not in exclude:
                means.append((float(scored.total[near].mean(dtype=np.float64)), item))
        return [
            Recommendation(
                id=item,
                score=score,
                rank=0,
                sources=(Source(NEIGHBOURS, rank, score),),
                reasons=(self._cold_reason(item, score),) if explain else (),
                flags=("cold", *scored.flags),
            )
            for rank, (score, item) in enumerate(sorted(means, key=lambda pair: (-pair[0], pair[1])), start=1)
        ]

    def _cold_reason(self, item: str, score: float) -> Reason:
        near = tuple(name for name in self.cold[item] if name in self.vocabulary.numbers)
        return Reason("cold", near, score, f"new here, scored as the mean of its neighbours {', '.join(near)}")


def _update(scorer: Scorer, added: Interactions, removed: Interactions) -> Scorer:
    if not isinstance(scorer, Updatable):
        raise InvalidInput(f"{scorer.name} takes no events without a fit; fit it again on all events")
    updated: Scorer = scorer.updated(added=added, removed=removed)
    return updated
