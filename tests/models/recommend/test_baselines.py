"""Popularity, neighbours, factors, LightGCN and sums: small cases by hand, and what each must learn."""

import numpy as np
import pytest
from contracts.toy_interactions import drawn, interactions, taken
from scipy import sparse

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.blend import Blend, standardised
from facetrail.models.recommend.ease import Ease, EaseConfig
from facetrail.models.recommend.factorisation import BiasedFactors, FactorConfig, ImplicitFactors
from facetrail.models.recommend.interactions import Interactions, Scorer
from facetrail.models.recommend.knn import ItemKnn, ItemVectors
from facetrail.models.recommend.lightgcn import LightGcn, LightGcnConfig
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import (
    DAY_MS,
    CategoryPopularity,
    Popularity,
    RecencyConfig,
    RecentPopularity,
)

EMPTY = np.array([], np.int64)
EVENTS = drawn(120, 20)


def two_tastes() -> Interactions:
    """Items 0 to 9 are liked by one half of the users, 10 to 19 by the other."""
    rng = np.random.default_rng(0)
    return interactions([(rng.permutation(10)[:6] + 10 * (user % 2)).tolist() for user in range(60)], 20)


def dated(days: list[int]) -> Interactions:
    """One event of each of the first items, at these days."""
    events = interactions([list(range(len(days)))], len(days) + 1)
    return Interactions(
        events.users, events.vocabulary, events.starts, events.items, np.array(days) * DAY_MS, events.values
    )


def test_popularity_counts_events_whatever_the_history() -> None:
    popularity = Popularity.fit(interactions([[0, 1, 1], [1]], 3))
    assert popularity.scores([EMPTY, np.array([1])]).tolist() == [[1, 3, 0]] * 2


def test_popularity_takes_users_in_and_out() -> None:
    before, none = Popularity.fit(taken(EVENTS, range(100))), taken(EVENTS, [])
    after = before.updated(added=taken(EVENTS, range(100, 120)), removed=none)
    assert (after.counts == Popularity.fit(EVENTS).counts).all()
    assert (after.updated(added=none, removed=taken(EVENTS, range(100, 120))).counts == before.counts).all()
    with pytest.raises(InvalidInput, match="never fitted"):
        Popularity(np.zeros(20, np.int64)).updated(added=none, removed=EVENTS)


def test_an_event_loses_half_its_weight_in_seven_days() -> None:
    recent = RecentPopularity.fit(dated([0, 7, 14]))
    np.testing.assert_allclose(recent.scores([EMPTY])[0], [0.25, 0.5, 1, 0])
    slow = RecentPopularity.fit(dated([0, 14]), RecencyConfig(half_life_days=14))
    np.testing.assert_allclose(slow.scores([EMPTY])[0], [0.5, 1, 0])


def test_recent_popularity_ages_when_newer_events_come() -> None:
    none = interactions([], 4)
    aged = RecentPopularity.fit(dated([0, 7, 7])).updated(added=dated([14, 14, 14]), removed=none)
    np.testing.assert_allclose(aged.weights, [1.25, 1.5, 1.5, 0])
    np.testing.assert_allclose(aged.updated(added=none, removed=dated([14, 14, 14])).weights, [0.25, 0.5, 0.5, 0])


def test_category_popularity_weighs_events_by_the_share_of_the_history() -> None:
    membership = sparse.csr_array(np.array([[1, 0], [1, 0], [0, 1]], np.float32))
    scorer = CategoryPopularity(membership, np.array([5, 8, 100], np.float32))
    assert scorer.scores([np.array([0, 2]), np.array([0]), EMPTY]).tolist() == [[2.5, 4, 50], [5, 8, 0], [5, 8, 100]]


def test_item_knn_sums_cosines() -> None:
    knn = ItemKnn.fit(interactions([[0, 1], [0, 1, 2], [1]], 4))
    np.testing.assert_allclose(knn.scores([np.array([0])])[0], [0, 2 / 6**0.5, 1 / 2**0.5, 0], rtol=1e-6)
    both = knn.scores([np.array([0, 2])])[0]
    np.testing.assert_allclose(both[1], 2 / 6**0.5 + 1 / 3**0.5, rtol=1e-6)
    assert [item for item, _ in knn.because(np.array([2, 0]), 1)] == [0, 2]
    assert knn.scores([EMPTY]).tolist() == [[2, 3, 1, 0]]


def test_item_vectors_score_by_the_cosine_to_the_mean() -> None:
    vectors = ItemVectors.of(np.array([[2, 0], [0, 3], [1, 1], [0, 0]], np.float32))
    half = 0.5**0.5
    np.testing.assert_allclose(vectors.scores([np.array([0])])[0], [1, 0, half, 0], atol=1e-6)
    np.testing.assert_allclose(vectors.scores([np.array([0, 1])])[0], [half, half, 1, 0], atol=1e-6)
    assert np.isfinite(vectors.scores([EMPTY])).all()


def test_a_blend_adds_standard_scores() -> None:
    ease, markov = Ease.fit(EVENTS, EaseConfig(ridge=5)), Markov.fit(EVENTS)
    histories = [np.array([1, 2, 3]), np.array([4])]
    expected = np.zeros((2, 20))
    for scorer in (ease, markov):
        rows = scorer.scores(histories).astype(np.float64)
        expected += (rows - rows.mean(axis=1)[:, None]) / (rows.std(axis=1)[:, None] + 1e-9)
    blend = Blend([ease, markov])
    assert blend.name == "ease+markov"
    np.testing.assert_allclose(blend.scores(histories), expected, atol=1e-5)
    assert (standardised(np.full((1, 5), 7, np.float32)) == 0).all()


def test_only_scorers_of_the_same_items_are_summed() -> None:
    with pytest.raises(InvalidInput, match="same items"):
        Blend([Popularity(np.zeros(3, np.int64)), Popularity(np.zeros(4, np.int64))])
    with pytest.raises(InvalidInput, match="none"):
        Blend([])


def factors(events: Interactions) -> Scorer:
    return ImplicitFactors.fit(events, FactorConfig(dim=2, sweeps=5, ridge=0.05), rng=np.random.default_rng(0))


def light_gcn(events: Interactions) -> Scorer:
    return LightGcn.fit(events, LightGcnConfig(dim=8, layers=2, epochs=40, batch=128, lr=0.02), seed=0)


@pytest.mark.parametrize("fit", [factors, light_gcn])
def test_an_unknown_user_of_one_taste_gets_items_of_that_taste(fit: object) -> None:
    assert callable(fit)
    scorer = fit(two_tastes())
    rows = scorer.scores([np.array([0, 1, 2]), np.array([12, 15])])
    assert rows[0, 3:10].min() > rows[0, 10:].max()
    assert np.delete(rows[1, 10:], [2, 5]).min() > rows[1, :10].max()
    np.testing.assert_array_equal(rows, fit(two_tastes()).scores([np.array([0, 1, 2]), np.array([12, 15])]))
    assert scorer.scores([EMPTY])[0].tolist() == Popularity.fit(two_tastes()).scores([EMPTY])[0].tolist()


def test_ials_solves_its_normal_equations() -> None:
    config = FactorConfig(dim=3, sweeps=2, unobserved=0.5, ridge=0.1)
    scorer = ImplicitFactors.fit(EVENTS, config, rng=np.random.default_rng(1))
    y = scorer.items.astype(np.float64)
    held = np.zeros(20)
    held[[2, 5]] = 1
    system = (y.T * (held + 0.5)) @ y + 0.1 * (2 + 0.5 * 20) * np.eye(3)
    expected = y @ np.linalg.solve(system, y.T @ held)
    np.testing.assert_allclose(scorer.scores([np.array([5, 2])])[0], expected, atol=1e-6)


def test_a_propagated_history_is_the_user_of_the_fit_without_an_embedding_of_its_own() -> None:
    scorer = LightGcn.fit(EVENTS, LightGcnConfig(dim=4, layers=1, epochs=1), seed=0)
    history = np.array([3, 8])
    first = (scorer.layers[0][history] / np.sqrt(2 * scorer.users[history])[:, None]).sum(axis=0)
    expected = scorer.layers.mean(axis=0) @ (first / 2)
    np.testing.assert_allclose(scorer.scores([history])[0], expected, atol=1e-6)


def test_biased_factors_predict_held_out_values_better_than_the_mean() -> None:
    rng = np.random.default_rng(0)
    truth = (
        3 + rng.normal(0, 0.5, (40, 1)) + rng.normal(0, 0.5, 30) + np.outer(rng.normal(size=40), rng.normal(size=30))
    )
    held = rng.random((40, 30)) < 0.6
    events = interactions(
        [np.flatnonzero(row).tolist() for row in held], 30, values=[truth[u][held[u]].tolist() for u in range(40)]
    )
    fitted = BiasedFactors.fit(events, dim=2, ridge=0.01, rng=rng)
    users, items = np.nonzero(~held)
    rmse = np.sqrt(np.mean((fitted.predict(users, items) - truth[users, items]) ** 2))
    assert rmse < 0.25 * np.std(truth)
    unknown = fitted.predict(np.array([-1, -1]), np.array([-1, 4]))
    assert unknown[0] == pytest.approx(float(np.nanmean(events.values)), abs=1e-5)
    assert unknown[1] == pytest.approx(unknown[0] + fitted.items[4, -1])
    with pytest.raises(InvalidInput, match="value of every event"):
        BiasedFactors.fit(EVENTS, rng=rng)
