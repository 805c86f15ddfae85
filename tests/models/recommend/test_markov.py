"""Markov: counts and scores by hand, what order does to them, and users in and out."""

import numpy as np
import pytest
from contracts.toy_interactions import drawn, interactions, taken

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.markov import Markov

A, B, C = 0, 1, 2
EVENTS = drawn(200, 30)


def same(a: Markov, b: Markov) -> bool:
    stored = [scorer.stored()[1] for scorer in (a, b)]
    return all(np.array_equal(stored[0][name], stored[1][name]) for name in stored[0])


def test_after_a_comes_b_where_they_alternate() -> None:
    markov = Markov.fit(interactions([[A, B, A, B]], 3))
    assert markov.scores([np.array([A])])[0].argmax() == B
    assert markov.scores([np.array([B])])[0].argmax() == A


def test_counts_and_scores_by_hand() -> None:
    markov = Markov.fit(interactions([[A, B, C], [A, C]], 3))
    assert markov.counts.toarray().tolist() == [[0, 100, 150], [0, 0, 100], [0, 0, 0]]
    # the row of a sums to 2.5, that of b to 1; the last item weighs 1, the one before .7
    expected = [0, 0.7 * 1 / 7.5, 1 / 6 + 0.7 * 1.5 / 7.5]
    np.testing.assert_allclose(markov.scores([np.array([A, B])])[0], expected, rtol=1e-6)


def test_lags_end_after_five_and_histories_at_their_last_five() -> None:
    markov = Markov.fit(interactions([[0, 1, 2, 3, 4, 5, 6]], 7))
    assert markov.counts.toarray()[0].tolist() == [0, 100, 50, 33, 25, 20, 0]
    long, short = markov.scores([np.array([3, 0, 1, 2, 3, 4]), np.array([0, 1, 2, 3, 4])])
    np.testing.assert_array_equal(long, short)


def test_a_user_of_one_event_contributes_nothing() -> None:
    assert Markov.fit(interactions([[A], [B], []], 3)).counts.nnz == 0
    alone, beside = interactions([[A, B]], 3), interactions([[C], [A, B], [C]], 3)
    assert same(Markov.fit(alone), Markov.fit(beside))


def test_a_reversed_sequence_gives_other_counts() -> None:
    forward, backward = (Markov.fit(interactions([items], 3)) for items in ([A, B, C], [C, B, A]))
    assert (forward.counts.toarray() == backward.counts.toarray().T).all()
    assert not same(forward, backward)


def test_an_empty_history_is_answered_with_how_often_items_follow() -> None:
    markov = Markov.fit(interactions([[A, B], [C, B], [B, C]], 3))
    np.testing.assert_allclose(markov.scores([np.array([], np.int64)])[0], [0, 2 / 3, 1 / 3])


def test_adding_users_equals_a_fit_on_all_and_removing_them_restores_the_state() -> None:
    old, new, none = taken(EVENTS, range(150)), taken(EVENTS, range(150, 200)), taken(EVENTS, [])
    before = Markov.fit(old)
    after = before.updated(added=new, removed=none)
    assert same(after, Markov.fit(EVENTS))
    assert same(after.updated(added=none, removed=new), before)
    assert not same(after, before)


def test_what_was_never_fitted_cannot_be_removed() -> None:
    with pytest.raises(InvalidInput, match="never fitted"):
        Markov.fit(interactions([[A, B]], 3)).updated(added=interactions([], 3), removed=interactions([[B, A]], 3))


def test_the_item_responsible_is_the_one_with_the_largest_share() -> None:
    markov = Markov.fit(interactions([[A, C]] * 9 + [[B, C]], 4))
    [(item, share)] = markov.because(np.array([A, B]), C)
    assert item == A
    assert share == pytest.approx(0.7 * 9 / (9 + 5))
    assert markov.because(np.array([A, B]), 3) == []
    assert markov.because(np.array([], np.int64), C) == []
