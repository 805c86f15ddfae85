"""The recommender of scorers: filters, order, reasons, unknown users and items, users in and out."""

from collections.abc import Sequence

import numpy as np
import pytest
from contracts.toy_interactions import drawn, interactions, posted, taken

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.blend import Blend
from facetrail.models.recommend.ease import Ease, EaseConfig
from facetrail.models.recommend.events import in_order
from facetrail.models.recommend.interactions import Interactions, Scorer
from facetrail.models.recommend.knn import ItemVectors
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import Popularity
from facetrail.models.recommend.records import Event, Recommendation
from facetrail.models.recommend.scored import ScoredRecommender

EVENTS = drawn(200, 40)
CONFIG = EaseConfig(ridge=10)


def fitted(events: Interactions = EVENTS) -> ScoredRecommender:
    scorers: list[Scorer] = [Ease.fit(events, CONFIG), Markov.fit(events)]
    return ScoredRecommender(events.vocabulary, scorers, popular=Popularity.fit(events))


def ids(found: Sequence[Recommendation]) -> list[str]:
    return [item.id for item in found]


def test_random_requests_never_return_what_is_forbidden_and_are_filled_whenever_they_can_be() -> None:
    recommender = fitted()
    cold = {f"new{i}": [f"i{i}", f"i{i + 1}"] for i in range(5)}
    with_cold = ScoredRecommender(EVENTS.vocabulary, recommender.scorers, popular=recommender.popular, cold=cold)
    rng, names = np.random.default_rng(0), [*EVENTS.vocabulary.ids, *cold, "unknown"]
    for _ in range(2_000):
        history = posted(rng.choice(names, rng.integers(8)).tolist())
        allow = None if rng.random() < 0.3 else set(rng.choice(names, rng.integers(30)).tolist())
        exclude = set(rng.choice(names, rng.integers(30)).tolist())
        k = int(rng.integers(1, 50))
        allowed = (set(names) if allow is None else allow) - exclude - {"unknown"}
        found = with_cold.recommend(history, k=k, candidates=allow, exclude=exclude)
        assert set(ids(found)) <= allowed
        assert len(found) == len(set(ids(found))) == min(k, len(allowed))
        assert [item.rank for item in found] == list(range(1, len(found) + 1))
        assert found == sorted(found, key=lambda item: (-item.score, item.id))


def test_fewer_items_are_the_beginning_of_more() -> None:
    history = posted(["i3", "i9"])
    assert ids(fitted().recommend(history, k=40))[:7] == ids(fitted().recommend(history, k=7))


def test_equal_scores_are_ordered_by_id_as_text() -> None:
    flat = Popularity(np.ones(12, np.int64))
    recommender = ScoredRecommender(interactions([], 12).vocabulary, [flat], popular=flat)
    assert ids(recommender.recommend(posted(["i5"]), k=5)) == ["i0", "i1", "i10", "i11", "i2"]


def test_scores_and_sources_are_those_of_the_parts() -> None:
    recommender, history = fitted(), ["i3", "i9", "i1"]
    rows = EVENTS.vocabulary.rows(history)
    parts = [scorer.scores([rows])[0] for scorer in recommender.scorers]
    total = Blend(recommender.scorers).scores([rows])[0]
    for item in recommender.recommend(posted(history), k=5, exclude=history):
        row = EVENTS.vocabulary.numbers[item.id]
        assert item.score == total[row]
        assert [source.name for source in item.sources] == ["ease", "markov"]
        for source, part in zip(item.sources, parts, strict=True):
            assert source.score == part[row]
            assert source.rank == 1 + (np.delete(part, rows) > part[row]).sum()
        assert item.flags == ()


def test_a_blend_is_taken_apart_and_a_single_scorer_keeps_its_scores() -> None:
    parts = fitted().scorers
    one = ScoredRecommender(EVENTS.vocabulary, [Blend(parts)], popular=Popularity.fit(EVENTS))
    assert one.recommend(posted(["i4"]), k=9) == fitted().recommend(posted(["i4"]), k=9)
    alone = ScoredRecommender(EVENTS.vocabulary, parts[:1], popular=Popularity.fit(EVENTS))
    assert (one.name, alone.name) == ("ease+markov", "ease")
    assert alone.recommend(posted(["i4"]), k=1)[0].score == parts[0].scores([np.array([4])]).max()


def test_a_history_counts_in_the_order_of_time_and_each_event_once() -> None:
    shown = [Event("u", "i1", "view", 30), Event("u", "i2", "view", 10), Event("u", "i1", "view", 30)]
    assert [event.item for event in in_order(shown)] == ["i2", "i1"]
    assert fitted().recommend(shown, k=5) == fitted().recommend(posted(["i2", "unknown", "i1"]), k=5)


def test_reasons_name_the_items_that_carry_each_part() -> None:
    recommender, history = fitted(), ["i3", "i9", "i1", "i22"]
    rows, ease, markov = EVENTS.vocabulary.rows(history), *recommender.scorers
    [best, *_] = recommender.recommend(posted(history), k=3, exclude=history, explain=True)
    row = EVENTS.vocabulary.numbers[best.id]
    by_ease, by_markov = best.reasons
    expected = ease.because(rows, row)  # type: ignore[attr-defined]
    assert by_ease.evidence == tuple(EVENTS.vocabulary.ids[item] for item, _ in expected)
    assert by_ease.weight == pytest.approx(sum(share for _, share in expected))
    assert by_markov.evidence == (EVENTS.vocabulary.ids[markov.because(rows, row)[0][0]],)  # type: ignore[attr-defined]
    assert all(reason.type == "because_you" and set(reason.evidence) <= set(history) for reason in best.reasons)
    assert all(name in reason.text for reason in best.reasons for name in reason.evidence)
    assert recommender.explain(posted(history), best.id) == best.reasons
    assert all(item.reasons == () for item in recommender.recommend(posted(history), k=3))


def test_where_nothing_is_known_popularity_answers_and_says_so() -> None:
    recommender, counts = fitted(), Popularity.fit(EVENTS).counts
    for history in ([], posted(["unknown"])):
        found = recommender.recommend(history, k=40, explain=True)
        assert [item.score for item in found] == sorted(counts, reverse=True)
        assert {item.flags for item in found} == {("fallback",)}
        assert [reason.type for reason in found[0].reasons] == ["popular"]
        assert [source.name for source in found[0].sources] == ["popularity"]
    assert ids(recommender.recommend([], k=2, candidates=["i7", "i8"], exclude=["i7"])) == ["i8"]


def test_a_new_item_gets_the_mean_score_of_its_neighbours() -> None:
    base, history = fitted(), posted(["i3", "i9"])
    cold = {"new": ["i5", "i6", "unknown"], "lonely": ["unknown"], "i8": ["i5"]}
    recommender = ScoredRecommender(EVENTS.vocabulary, base.scorers, popular=base.popular, cold=cold)
    scores = {item.id: item.score for item in base.recommend(history, k=40)}
    found = {item.id: item for item in recommender.recommend(history, k=60, explain=True)}
    assert set(found) == {*EVENTS.vocabulary.ids, "new"}
    assert found["new"].score == pytest.approx((scores["i5"] + scores["i6"]) / 2, rel=1e-6)
    assert found["new"].flags == ("cold",)
    assert [(reason.type, reason.evidence) for reason in found["new"].reasons] == [("cold", ("i5", "i6"))]
    assert found["i8"].flags == ()
    assert recommender.recommend([], k=1, candidates=["new"])[0].flags == ("cold", "fallback")
    assert recommender.recommend(history, k=1, candidates=["lonely"]) == []
    with pytest.raises(InvalidInput, match="'lonely' is unknown"):
        recommender.explain(history, "lonely")


def test_fitting_in_a_user_equals_a_fit_on_all_and_giving_him_up_restores_the_state() -> None:
    old, history = taken(EVENTS, range(150)), posted(["i3", "i9"])
    after = [posted([EVENTS.vocabulary.ids[item] for item in EVENTS.history(user)]) for user in range(150, 200)]
    before = fitted(old)
    grown = before.fit_partial(after)
    assert grown.recommend(history, k=40) == fitted().recommend(history, k=40)
    assert grown.fit_partial([], removed=after).recommend(history, k=40) == before.recommend(history, k=40)
    assert grown.recommend(history, k=40) != before.recommend(history, k=40)


def test_a_new_item_joins_with_its_first_events() -> None:
    base = fitted()
    cold = ScoredRecommender(EVENTS.vocabulary, base.scorers, popular=base.popular, cold={"new": ["i1"]})
    grown = cold.fit_partial([posted(["i1", "new"])] * 5)
    found = grown.recommend(posted(["i1"]), k=1, exclude=["i1"])[0]
    assert (found.id, found.flags) == ("new", ())


def test_what_cannot_be_done_is_refused() -> None:
    base = fitted()
    with pytest.raises(InvalidInput, match="at least 1"):
        base.recommend([], k=0)
    with pytest.raises(InvalidInput, match="vocabulary has 3"):
        ScoredRecommender(interactions([], 3).vocabulary, base.scorers, popular=base.popular)
    fixed = ScoredRecommender(EVENTS.vocabulary, [ItemVectors(np.eye(40, dtype=np.float32))], popular=base.popular)
    with pytest.raises(InvalidInput, match="item-vectors takes no events"):
        fixed.fit_partial([posted(["i1"])])
