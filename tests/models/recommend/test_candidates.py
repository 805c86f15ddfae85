"""Candidates: quotas are met inside the filters, and the union keeps who proposed what."""

import numpy as np
from contracts.toy_interactions import drawn, interactions

from facetrail.models.recommend.candidates import Candidates, ScorerSource, allowed_items, propose
from facetrail.models.recommend.ease import Ease, EaseConfig
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import Popularity
from facetrail.models.recommend.ranking import id_places

EVENTS = drawn(200, 40)
PLACES = id_places(EVENTS.vocabulary.ids)
HISTORY = np.array([3, 9, 1])
EASE, MARKOV = Ease.fit(EVENTS, EaseConfig(ridge=10)), Markov.fit(EVENTS)


def proposed(quota: int, *, limit: int = 300, **filters: object) -> Candidates:
    allowed = allowed_items(EVENTS.vocabulary, **filters)  # type: ignore[arg-type]
    sources = [ScorerSource(EASE, quota), ScorerSource(MARKOV, quota)]
    return propose(sources, HISTORY, allowed=allowed, places=PLACES, limit=limit)


def test_every_source_meets_its_quota_behind_the_filters() -> None:
    available = np.arange(40) % 2 == 1
    found = proposed(6, seen=HISTORY, exclude=["i5", "i7"], available=available)
    assert not set(found.rows) & {1, 3, 9, 5, 7}
    assert (found.rows % 2 == 1).all()
    for name in ("ease", "markov"):
        ranks = sorted(source.rank for of_item in found.sources for source in of_item if source.name == name)
        assert ranks == [1, 2, 3, 4, 5, 6]


def test_ranks_and_scores_are_those_of_the_source_among_the_allowed() -> None:
    found = proposed(8, allow=[f"i{i}" for i in range(20)], seen=HISTORY)
    for row, of_item in zip(found.rows, found.sources, strict=True):
        for source in of_item:
            scores = (EASE if source.name == "ease" else MARKOV).scores([HISTORY])[0]
            assert source.score == scores[row]
            assert source.rank >= 1 + (np.delete(scores[:20], HISTORY) > scores[row]).sum()


def test_the_beginning_of_a_union_is_the_union_of_the_beginnings() -> None:
    small, large = proposed(5), proposed(20)
    assert small.rows.tolist() == large.rows[: len(small.rows)].tolist()
    assert proposed(20, limit=4).rows.tolist() == large.rows[:4].tolist()
    assert len(set(large.rows)) == len(large.rows)


def test_an_item_of_two_sources_names_both() -> None:
    everything = proposed(40)
    assert len(everything.rows) == 40
    assert all([source.name for source in of_item] == ["ease", "markov"] for of_item in everything.sources)


def test_a_source_of_counts_ends_where_nothing_was_counted() -> None:
    events = interactions([[0, 1], [0]], 5)
    source = ScorerSource(Popularity.fit(events), quota=4, above=0)
    rows, scores = source.best(HISTORY, allowed=np.ones(5, np.bool_), places=np.arange(5))
    assert (rows.tolist(), scores.tolist()) == ([0, 1], [2, 1])


def test_what_is_allowed() -> None:
    vocabulary = interactions([], 4).vocabulary
    assert allowed_items(vocabulary).tolist() == [True] * 4
    assert allowed_items(vocabulary, allow=["i1", "i2", "unknown"], exclude=["i2"]).tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert allowed_items(vocabulary, seen=np.array([0]), available=np.array([True, False, True, True])).tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert not allowed_items(vocabulary, allow=[]).any()
