"""EASE: the closed form against column-wise ridge regression, its limits, and users in and out."""

import numpy as np
import pytest
from contracts.toy_interactions import drawn, interactions, taken

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.ease import MAX_ITEMS, Ease, EaseConfig, ease_weights
from facetrail.models.recommend.matrices import co_occurrence, incidence

EVENTS = drawn(200, 30)
CONFIG = EaseConfig(ridge=20)


def same(a: Ease, b: Ease) -> bool:
    stored = [scorer.stored()[1] for scorer in (a, b)]
    return all(np.array_equal(stored[0][name], stored[1][name]) for name in stored[0] | stored[1])


def test_weights_are_the_ridge_solution_of_every_column_without_the_item_itself() -> None:
    x = incidence(EVENTS.histories(), 30).toarray().astype(np.float64)
    weights = ease_weights(x.T @ x, 20)
    assert (np.diag(weights) == 0).all()
    for item in range(30):
        others = np.delete(x, item, axis=1)
        solution = np.linalg.solve(others.T @ others + 20 * np.eye(29), others.T @ x[:, item])
        np.testing.assert_allclose(np.delete(weights[:, item], item), solution, atol=1e-8)


def test_an_endless_ridge_ranks_by_co_occurrence() -> None:
    counts = co_occurrence(EVENTS.histories(), 30).toarray()
    np.fill_diagonal(counts, 0)
    ease = Ease.fit(EVENTS, EaseConfig(ridge=1e9))
    np.testing.assert_allclose(ease.scores([np.array([3])])[0] * 1e9, counts[3], rtol=1e-4, atol=1e-4)


def test_a_fit_keeps_the_weights_in_the_order_that_scoring_reads() -> None:
    fitted = Ease.fit(EVENTS, CONFIG)
    assert fitted.weights.flags.c_contiguous  # or each request would copy all of them
    assert fitted.updated(added=EVENTS, removed=EVENTS).weights.flags.c_contiguous


def test_a_repeated_item_and_the_order_of_a_history_do_not_count() -> None:
    ease = Ease.fit(EVENTS, CONFIG)
    one, two = ease.scores([np.array([4, 1, 7]), np.array([7, 7, 4, 1])])
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, ease.weights[[1, 4, 7]].sum(axis=0), atol=1e-6)


def test_an_empty_history_is_answered_with_the_number_of_users() -> None:
    ease = Ease.fit(interactions([[0, 1, 1], [1, 2], [1]], 4), CONFIG)
    assert ease.scores([np.array([], np.int64)]).tolist() == [[1, 3, 1, 0]]


def test_adding_users_equals_a_fit_on_all_and_removing_them_restores_the_state() -> None:
    old, new, none = taken(EVENTS, range(150)), taken(EVENTS, range(150, 200)), taken(EVENTS, [])
    before = Ease.fit(old, CONFIG)
    after = before.updated(added=new, removed=none)
    assert same(after, Ease.fit(EVENTS, CONFIG))
    assert same(after.updated(added=none, removed=new), before)
    assert not same(after, before)


def test_new_items_join_at_the_end() -> None:
    old, more = interactions([[0, 1], [1, 0]], 2), interactions([[0, 2]], 3)
    grown = Ease.fit(old, CONFIG).updated(added=more, removed=interactions([], 3))
    assert same(grown, Ease.fit(interactions([[0, 1], [1, 0], [0, 2]], 3), CONFIG))


def test_what_was_never_fitted_cannot_be_removed() -> None:
    ease = Ease.fit(interactions([[0, 1]], 3), CONFIG)
    with pytest.raises(InvalidInput, match="never fitted"):
        ease.updated(added=interactions([], 3), removed=interactions([[1, 2]], 3))


def test_too_many_items_are_refused_before_anything_is_computed() -> None:
    with pytest.raises(InvalidInput, match=r"at most 20,000, and 20,001 are given"):
        Ease.fit(interactions([[0, 1]], MAX_ITEMS + 1))


def test_reasons_are_the_largest_shares_of_the_score() -> None:
    ease = Ease.fit(EVENTS, CONFIG)
    history, item = np.arange(10), 20
    shares = ease.weights[:10, item]
    found = ease.because(history, item)
    assert 0 < len(found) <= 3
    assert found == [(int(i), float(shares[i])) for i in np.argsort(-shares)[: len(found)]]
    assert all(share > 0 for _, share in found)
