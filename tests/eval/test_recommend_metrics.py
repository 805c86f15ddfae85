"""Ranking measures against hand values, every order of the ties, and independent libraries."""

import math
from collections.abc import Callable
from itertools import combinations, pairwise, permutations

import ir_measures
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from facetrail.eval.recommend_lists import ListMeasures, gini
from facetrail.eval.recommend_metrics import Places, auc, ndcg, places, recall, reciprocal_rank, user_auc
from facetrail.models.errors import InvalidInput

INF = float("inf")
LOG = math.log2


def found(scores: list[float] | NDArray[np.floating], *targets: int) -> Places:
    return places(np.array([scores], np.float32), np.array([0, len(targets)]), np.array(targets))


@pytest.mark.parametrize(
    ("scores", "targets", "k", "expected"),  # expected: R@k, NDCG@k, MRR
    [
        ([3, 2, 1], [0], 1, (1, 1, 1)),
        ([3, 2, 1], [1], 2, (1, 1 / LOG(3), 1 / 2)),
        ([3, 2, 1], [2], 2, (0, 0, 1 / 3)),
        ([1, 1, 1, 1], [2], 2, (1 / 2, (1 + 1 / LOG(3)) / 4, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)),
        ([5, 1, 1, 0], [1], 2, (1 / 2, 1 / LOG(3) / 2, (1 / 2 + 1 / 3) / 2)),
        ([4, 3, 2, 1], [0, 2], 2, (1 / 2, 1 / (1 + 1 / LOG(3)), 1)),
        ([1, 1, 0], [0, 1], 1, (1 / 2, 1, 1)),
        ([2, -INF, 1], [1], 3, (0, 0, 0)),
    ],
)
def test_hand_values(scores: list[float], targets: list[int], k: int, expected: tuple[float, float, float]) -> None:
    at = found(scores, *targets)
    got = (recall(at, k)[0], ndcg(at, k)[0], reciprocal_rank(at)[0])
    assert got == pytest.approx(expected, abs=1e-12)


def every_order(scores: list[int]) -> list[tuple[int, ...]]:
    """All rankings that agree with the scores."""
    return [
        order for order in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]


def test_ties_give_the_mean_over_every_order() -> None:
    rng = np.random.default_rng(0)
    for n_targets in (1, 2, 3) * 8:
        scores = rng.integers(0, 3, 7).tolist()
        targets = rng.choice(7, n_targets, replace=False).tolist()
        ranks = [[order.index(t) + 1 for t in targets] for order in every_order(scores)]
        at, k = found(scores, *targets), 3
        ideal = sum(1 / LOG(r + 1) for r in range(1, min(k, n_targets) + 1))
        assert recall(at, k)[0] == pytest.approx(np.mean([np.mean([r <= k for r in row]) for row in ranks]))
        assert ndcg(at, k)[0] == pytest.approx(
            np.mean([sum(1 / LOG(r + 1) for r in row if r <= k) / ideal for row in ranks])
        )
        assert reciprocal_rank(at)[0] == pytest.approx(np.mean([1 / min(row) for row in ranks]))


def test_a_constant_scorer_finds_k_of_m() -> None:
    at = found(np.full(1682, 0.25), 17)
    assert recall(at, 10)[0] == pytest.approx(10 / 1682, abs=1e-15)


def test_adding_a_constant_changes_nothing() -> None:
    scores = np.random.default_rng(1).integers(0, 20, (50, 40)).astype(np.float32)
    starts, targets = np.arange(51), np.random.default_rng(2).integers(0, 40, 50)
    for measure in (lambda at: recall(at, 5), lambda at: ndcg(at, 5), reciprocal_rank):
        apart = [measure(places(scores + shift, starts, targets)) for shift in (0, 1024)]
        np.testing.assert_array_equal(*apart)


def test_agrees_with_trec_eval_where_nothing_is_tied() -> None:
    rng = np.random.default_rng(3)
    scores = np.stack([rng.permutation(30) for _ in range(40)]).astype(np.float32)
    targets = [sorted(rng.choice(30, rng.integers(1, 5), replace=False).tolist()) for _ in range(40)]
    at = places(scores, np.cumsum([0, *map(len, targets)]), np.concatenate(targets))
    qrels = {str(q): {str(t): 1 for t in row} for q, row in enumerate(targets)}
    run = {str(q): {str(i): float(s) for i, s in enumerate(row)} for q, row in enumerate(scores)}
    ours: dict[str, Callable[[Places], NDArray[np.float64]]] = {
        "R@10": lambda at: recall(at, 10),
        "nDCG@10": lambda at: ndcg(at, 10),
        "RR": reciprocal_rank,
    }
    for name, measure in ours.items():
        theirs = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.parse_measure(name)], qrels, run)}
        values = measure(at)
        if name == "nDCG@10":  # trec_eval's ideal takes all targets, which are fewer than 10 here
            assert max(map(len, targets)) < 10
        assert [theirs[str(q)] for q in range(40)] == pytest.approx(values.tolist(), abs=1e-6)


def test_a_target_unknown_to_the_scorer_counts_as_missed() -> None:
    at = found([1.0, 2.0], 5, 1)
    assert recall(at, 2)[0] == 0.5
    assert at.is_ranked.tolist() == [False, True]


def test_questions_may_share_a_row_of_scores() -> None:
    scores, starts, targets = np.array([[1, 2, 3.0], [3, 1, 2.0]], np.float32), np.arange(4), np.array([0, 2, 1])
    which = np.array([1, 0, 0])
    shared = places(scores, starts, targets, which=which)
    np.testing.assert_array_equal(shared.above, places(scores[which], starts, targets).above)
    assert shared.above.tolist() == [0, 0, 1]


def test_scores_that_are_no_numbers_and_questions_without_targets_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not a number"):
        found([1.0, float("nan")], 0)
    with pytest.raises(InvalidInput, match="no target"):
        found([1.0, 2.0])


def test_auc_is_scikit_learns_also_with_ties() -> None:
    rng = np.random.default_rng(4)
    for levels in (3, 1_000):
        scores, labels = rng.integers(0, levels, 300), rng.integers(0, 2, 300)
        assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auc([1, 1, 1, 1], [1, 0, 1, 0]) == 0.5


def test_user_auc_averages_over_users_with_both_labels_and_counts_the_others() -> None:
    users = [7, 9, 7, 9, 8, 8, 5]
    scores = [2.0, 1.0, 1.0, 1.0, 3.0, 4.0, 0.0]
    labels = [1, 1, 0, 0, 1, 1, 0]
    result = user_auc(users, scores, labels)
    assert result.mean == pytest.approx((1.0 + 0.5) / 2)
    assert (result.n_users, result.n_left_out) == (2, 2)
    assert dict(zip(result.users.tolist(), result.values.tolist(), strict=True)) == {7: 1.0, 9: 0.5}


def test_auc_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(InvalidInput, match="both labels"):
        auc([1, 2], [1, 1])
    with pytest.raises(InvalidInput, match="neither 0 nor 1"):
        auc([1, 2], [1, 4])
    with pytest.raises(InvalidInput, match="not a number"):
        auc([1, float("nan")], [1, 0])


def lists_by_hand(order: tuple[int, ...], genres: NDArray[np.float64], k: int) -> float:
    unit = genres / np.linalg.norm(genres, axis=1, keepdims=True)
    return float(np.mean([1 - unit[a] @ unit[b] for a, b in combinations(order[:k], 2)]))


def test_list_measures_are_the_mean_over_every_order() -> None:
    genres = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1.0]])
    item_users = np.array([7, 3, 1, 0, 2])
    for scores in ([2, 1, 1, 1, 0], [1, 1, 1, 1, 1], [5, 4, 3, 2, 1], [3, 3, 2, 2, 2]):
        measures = ListMeasures(3, item_users, 7, genres)
        values = measures.add(np.array([scores], np.float32))
        orders = every_order(scores)
        information = -np.log2((item_users + 1) / 8)
        assert values["novelty@3"][0] == pytest.approx(np.mean([information[list(o[:3])].mean() for o in orders]))
        assert values["distance@3"][0] == pytest.approx(np.mean([lists_by_hand(o, genres, 3) for o in orders]))
        assert measures.coverage == pytest.approx(3 / 5)


def test_coverage_over_several_lists_is_an_expectation() -> None:
    measures = ListMeasures(1, np.zeros(4, np.int64), 1)
    measures.add(np.array([[0, 0, 0, 0], [0, 0, 0, 0], [-INF, 0, 1, 0]], np.float32))
    # Items 0, 1, 3: missed by two draws of one in four. Item 2 is listed for certain.
    assert measures.coverage == pytest.approx((1 + 3 * (1 - (3 / 4) ** 2)) / 4)


def test_genre_entropy_and_dominant_share() -> None:
    genres = np.array([[1, 0], [1, 0], [0, 1], [1, 1.0]])
    values = ListMeasures(4, np.ones(4, np.int64), 1, genres).add(np.array([[4, 3, 2, 1.0]], np.float32))
    shares = np.array([2.5, 1.5]) / 4
    assert values["genre_entropy@4"][0] == pytest.approx(-(shares * np.log2(shares)).sum())
    assert values["dominant_genre@4"][0] == pytest.approx(2.5 / 4)


def test_gini_by_hand() -> None:
    assert gini(np.array([1.0, 1, 1, 1])) == 0
    assert gini(np.array([0.0, 0, 0, 4])) == pytest.approx(3 / 4)
    assert gini(np.zeros(3)) == 0
