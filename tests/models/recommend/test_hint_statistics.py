"""Tastes and candidates by hand, similar users, and the averages that published figures are set against."""

from pathlib import Path

import numpy as np
import pytest
from contracts.planted_hints import attributes_of

from facetrail.eval.recommend_knowledge import load_pairs
from facetrail.eval.recommend_metrics import auc, user_auc
from facetrail.models.recommend.hint_rows import Contexts
from facetrail.models.recommend.hint_statistics import Evidence, item_candidates, user_candidates
from facetrail.models.recommend.pairwise_baselines import fit_bias_logistic, item_and_user_mean, item_mean
from facetrail.models.recommend.similar_users import similar_users
from facetrail.models.recommend.time_blocks import EventLog, Ratings, frozen_cuts, joined, rolling_cuts

NOBODY = (np.empty(0, np.int64), np.empty(0))


@pytest.fixture
def evidence() -> Evidence:
    """User 0 liked item 0 (a0, a1) and not item 1 (a1); user 1 liked item 2 (a2); user 2 did nothing."""
    events = Ratings(np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([1.0, 0.0, 1.0]), np.arange(3))
    return Evidence(EventLog(events, 3, 4), attributes_of([[0, 1], [1], [2], [0, 2]], 4))


def test_tastes_are_damped_surprises(evidence):
    prior = 2 / 3
    user, liked, other = (1 + 5 * prior) / 7, (1 + 5 * prior) / 6, 5 * prior / 6
    surprise_0, surprise_1 = 1 - (user + liked - prior), 0 - (user + other - prior)
    taste = evidence.taste(0, 3, *NOBODY)
    assert taste.count.tolist() == [1, 2, 0, 0]
    assert taste.taste == pytest.approx([surprise_0 / 6, (surprise_0 + surprise_1) / 7, 0, 0], abs=1e-7)
    assert not taste.similar_count.any()
    assert not taste.similar_taste.any()


def test_plain_tastes_look_at_the_mean_event_alone(evidence):
    prior = 2 / 3
    taste = evidence.taste(0, 3, *NOBODY)
    assert taste.plain == pytest.approx([(1 - prior) / 6, (1 - prior - prior) / 7, 0, 0], abs=1e-7)


def test_who_likes_nearly_everything_does_not_dislike_what_is_a_little_less_liked():
    """User 0 liked all ten films of a0 and eight of the ten of a1; user 1 liked none of twenty others, of a2."""
    liked = [1.0] * 10 + [1.0] * 8 + [0.0] * 2 + [0.0] * 20
    events = Ratings(np.repeat([0, 1], 20), np.arange(40), np.array(liked), np.arange(40))
    attributes = attributes_of([[0]] * 10 + [[1]] * 10 + [[2]] * 20, 3)
    evidence = Evidence(EventLog(events, 2, 40), attributes)
    taste = evidence.taste(0, 40, *NOBODY)
    assert taste.taste[0] > 0 > taste.taste[1]
    assert taste.plain[0] > taste.plain[1] > 0.1


def test_similar_users_lend_their_tastes_by_weight(evidence):
    alone = evidence.taste(1, 3, *NOBODY)
    taste = evidence.taste(0, 3, np.array([1, 2]), np.array([0.75, 0.25]))
    assert taste.similar_count.tolist() == [0, 0, 0.75, 0]
    assert taste.similar_taste[2] == pytest.approx(0.75 * alone.taste[2] / 5.75)


def test_candidates_are_what_the_user_or_similar_users_met(evidence):
    own = evidence.taste(0, 3, *NOBODY)
    both = evidence.taste(0, 3, np.array([1]), np.array([1.0]))
    asked = np.array([3, 2])
    assert [found.tolist() for found in item_candidates(own, evidence.attributes, asked)] == [[0], [0]]
    assert [found.tolist() for found in item_candidates(both, evidence.attributes, asked)] == [[0, 0, 1], [0, 2, 2]]
    assert user_candidates(both, 64).tolist() == [0, 1, 2]
    strength = np.abs(both.plain) + np.abs(both.similar_plain)
    assert user_candidates(both, 2).tolist() == sorted(np.argsort(-strength)[:2].tolist())


def test_nearest_users_leave_out_oneself_and_whoever_did_nothing(evidence):
    contexts = Contexts.of(evidence, np.array([0, 1, 2]), np.array([3, 3, 3]))

    def alike(asked: Contexts) -> np.ndarray:
        return np.ones((len(asked.users), 2), np.float32)

    similar = similar_users(evidence, contexts, alike, 2)
    assert similar.users.tolist() == [[1, -1], [0, -1], [-1, -1]]
    assert similar.weights.tolist() == [[1, 0], [1, 0], [0, 0]]
    assert similar_users(evidence, contexts, alike, 0).users.shape == (3, 0)


def test_similar_users_are_known_as_of_the_cut(evidence):
    contexts = Contexts.of(evidence, np.array([0]), np.array([2]))
    similar = similar_users(evidence, contexts, lambda c: np.ones((len(c.users), 2), np.float32), 2)
    assert similar.users.tolist() == [[-1, -1]]  # user 1's only event comes later


def test_the_averages_reproduce_the_published_split(data_folder: Path):
    data = load_pairs(data_folder / "ml-1m-pairs")
    assert (len(data.train), len(data.validation), len(data.test)) == (33_891, 10_401, 7_331)
    n_users, n_items = len(data.users), len(data.items)
    log = EventLog(data.train, n_users, n_items)
    every = EventLog(joined([data.train, data.validation, data.test]).ordered(), n_users, n_items, n_prior=len(log))
    test, late = data.test, frozen_cuts(data.test, log)
    scores = {
        "item": item_mean(log, test, late),
        "both": item_and_user_mean(log, test, late),
        "logistic": fit_bias_logistic(log).probabilities(log, test, late),
        "rolling item": item_mean(every, test, rolling_cuts(test, every)),
        "rolling both": item_and_user_mean(every, test, rolling_cuts(test, every)),
    }
    published = {
        "item": (0.7094, 0.6816),
        "both": (0.7317, 0.6816),
        "logistic": (0.7341, 0.6816),
        "rolling item": (0.7201, 0.6828),
        "rolling both": (0.7750, 0.6679),
    }
    for name, (expected, expected_by_user) in published.items():
        by_user = user_auc(test.users, scores[name], test.labels)
        assert auc(scores[name], test.labels) == pytest.approx(expected, abs=1e-3), name
        assert by_user.mean == pytest.approx(expected_by_user, abs=1e-3), name
        assert by_user.n_users == 224
