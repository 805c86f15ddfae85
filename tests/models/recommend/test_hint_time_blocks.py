"""What may be known when: cuts, the leave-one-out trap, and independence of a row's statistics from its own label."""

import numpy as np
import pytest
from contracts.planted_hints import attributes_of, random_ratings

from facetrail.eval.recommend_metrics import auc
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.hint_rows import Contexts, HintTable, contexts_of
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.pairwise_baselines import logistic_weights, user_mean
from facetrail.models.recommend.similar_users import similar_users
from facetrail.models.recommend.time_blocks import EventLog, Ratings, block_cuts, frozen_cuts, rolling_cuts

N_USERS, N_ITEMS, N_ATTRIBUTES = 12, 30, 9


def _evidence(events: Ratings) -> Evidence:
    rng = np.random.default_rng(5)
    items = [rng.choice(N_ATTRIBUTES, 3, replace=False).tolist() for _ in range(N_ITEMS)]
    return Evidence(EventLog(events, N_USERS, N_ITEMS), attributes_of(items, N_ATTRIBUTES))


def _vectors(contexts: Contexts) -> np.ndarray:
    """Of users as their liked items and their attributes say, so that whatever leaks there shows."""
    found = np.zeros((len(contexts.users), N_ITEMS + N_ATTRIBUTES), np.float32)
    for row in range(len(found)):
        for bags, first in ((contexts.liked, 0), (contexts.traits, N_ITEMS)):
            found[row, first + bags.rows[bags.starts[row] : bags.starts[row + 1]]] += 1
    return found


def _table(events: Ratings, rows: Ratings, cuts: np.ndarray) -> HintTable:
    evidence = _evidence(events)
    contexts, context = contexts_of(evidence, rows.users, cuts)
    similar = similar_users(evidence, contexts, _vectors, 3)
    return HintTable(evidence, rows.users, rows.items, contexts, context, similar)


def _same(a: HintTable, b: HintTable, rows: range) -> bool:
    return all(
        np.array_equal(a.bias[row], b.bias[row])
        and np.array_equal(a.item_side[row], b.item_side[row])
        and np.array_equal(a.item_features[row], b.item_features[row])
        and np.array_equal(a.user_side[a.context[row]], b.user_side[b.context[row]])
        and np.array_equal(a.user_features[a.context[row]], b.user_features[b.context[row]])
        for row in rows
    )


def test_blocks_are_equal_and_ties_stay_together():
    assert block_cuts(np.arange(10), 5).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    tied = np.array([0, 1, 2, 2, 2, 2, 6, 7])
    assert block_cuts(tied, 4).tolist() == [0, 0, 2, 2, 2, 2, 6, 6]
    with pytest.raises(InvalidInput, match="share one time stamp"):
        block_cuts(np.zeros(20, np.int64), 5)


def test_rolling_sees_strictly_earlier_events_and_frozen_all_of_training():
    rows = random_ratings(3, 3, 4, np.random.default_rng(0), start=10)
    times = np.array([10, 11, 11, 12])
    log = EventLog(Ratings(rows.users, rows.items, rows.labels, times), 3, 3)
    asked = Ratings(rows.users, rows.items, rows.labels, times + 1)
    assert rolling_cuts(asked, log).tolist() == [1, 3, 3, 4]
    later = Ratings(rows.users, rows.items, rows.labels, times + 2)
    assert frozen_cuts(later, log).tolist() == [4] * 4
    with pytest.raises(InvalidInput, match="split by time"):
        frozen_cuts(log.events, log)


def test_tallies_of_a_cut_equal_a_recount():
    events = random_ratings(N_USERS, N_ITEMS, 200, np.random.default_rng(1))
    log = EventLog(events, N_USERS, N_ITEMS, n_prior=120)
    for cut in (0, 1, 77, 150, 200):
        seen = events.take(slice(0, cut))
        for user in range(N_USERS):
            mine = seen.labels[seen.users == user]
            tally = log.of_users(np.array([user]), np.array([cut]))
            assert (tally.counts[0], tally.sums[0]) == (len(mine), mine.sum())
            assert np.array_equal(log.history(user, cut), np.flatnonzero(seen.users == user))
        prior = log.prior(np.array([cut]))[0]
        assert prior == pytest.approx(events.labels[: min(cut, 120)].mean() if cut else 0.5)


def test_leave_one_out_means_give_the_label_away_and_blocks_do_not():
    rng = np.random.default_rng(7)
    users = np.tile(np.arange(400), 40)
    events = random_ratings(400, 500, len(users), rng)
    events = Ratings(users, events.items, events.labels, events.times)
    one_hot = np.eye(400)
    sums = np.bincount(users, weights=events.labels)
    without_own = ((sums[users] - events.labels) / 39 - 0.5)[:, None]
    features = np.hstack([without_own, one_hot[users]])
    weights = logistic_weights(features, events.labels, ridge=1e-3)
    assert auc(features @ weights, events.labels) > 0.9

    log = EventLog(events, 400, 500)
    cuts = block_cuts(events.times, 5)
    earlier = (user_mean(log, events, cuts) - 0.5)[:, None]
    features = np.hstack([earlier, one_hot[users]])
    fitted, held = (cuts > 0) & (cuts < cuts.max()), cuts == cuts.max()
    weights = logistic_weights(features[fitted], events.labels[fitted], ridge=1e-3)
    assert auc(features[held] @ weights, events.labels[held]) == pytest.approx(0.5, abs=0.02)

    test = random_ratings(400, 500, 7_331, rng, start=len(events))
    features = np.hstack([(user_mean(log, test, frozen_cuts(test, log)) - 0.5)[:, None], one_hot[test.users]])
    assert auc(features @ weights, test.labels) == pytest.approx(0.5, abs=0.014)


def test_flipping_a_label_changes_nothing_for_its_row_nor_for_earlier_ones():
    events = random_ratings(N_USERS, N_ITEMS, 300, np.random.default_rng(2))
    cuts = block_cuts(events.times, 5)
    before = _table(events, events, cuts)
    for row in (0, 61, 130, 299):
        labels = events.labels.copy()
        labels[row] = 1 - labels[row]
        flipped = Ratings(events.users, events.items, labels, events.times)
        after = _table(flipped, events, cuts)
        assert _same(before, after, range(row + 1))
        later = range(int(np.searchsorted(cuts, row, side="right")), 300)
        assert not later or not _same(before, after, later)  # what may see it does


def test_deleting_all_events_after_a_block_changes_no_hint_of_it():
    events = random_ratings(N_USERS, N_ITEMS, 300, np.random.default_rng(3))
    cuts = block_cuts(events.times, 5)
    rows = np.flatnonzero(cuts == 120)
    whole = _table(events, events.take(rows), cuts[rows])
    cut_off = _table(events.take(slice(0, 120)), events.take(rows), cuts[rows])
    assert _same(whole, cut_off, range(len(rows)))
    assert any(len(found) for found in whole.item_side)
