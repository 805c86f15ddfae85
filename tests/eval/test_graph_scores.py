"""Scores against scikit-learn and cases solved by hand."""

import numpy as np
import pytest

from facetrail.eval.graph import coverage_curve, ece, oracle_trace, score_graph
from facetrail.models.errors import InvalidInput


def drawn(n: int, c: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(c), n).astype(np.float32)
    return p, rng.integers(0, c, n)


def test_f1_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    p, y = drawn(200, 4)
    y[:50] = p[:50].argmax(axis=1)
    scores, predicted = score_graph(p, y), p.argmax(axis=1)
    assert scores.micro_f1 == pytest.approx((predicted == y).mean())
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert scores.majority_rate == np.bincount(y).max() / 200
    several = np.random.default_rng(1).random((200, 4)) < 0.4
    scores = score_graph(p, several)
    assert scores.micro_f1 == pytest.approx(metrics.f1_score(several, p >= 0.5, average="micro"))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(several, p >= 0.5, average="macro"))


def test_roc_auc_of_two_classes_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    p, y = drawn(100, 2)
    p = p.round(1)
    assert score_graph(p, y).roc_auc == pytest.approx(metrics.roc_auc_score(y, p[:, 1]))
    assert score_graph(*drawn(10, 3)).roc_auc is None


def test_nodes_without_a_class_are_left_out():
    p = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    scores = score_graph(p, np.array([0, 1, -1, 2]))
    assert (scores.n_nodes, scores.micro_f1) == (3, pytest.approx(2 / 3))
    with pytest.raises(InvalidInput, match="no node has a true class"):
        score_graph(p, np.full(4, -1))


def test_a_class_neither_true_nor_predicted_does_not_count():
    scores = score_graph(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]))
    assert scores.macro_f1 == 1


def test_coverage_starts_with_the_most_confident():
    coverage, accuracy = coverage_curve(np.array([0.5, 0.9, 0.5, 0.7]), np.array([False, True, True, False]))
    assert coverage.tolist() == [0.25, 0.5, 1]
    assert accuracy.tolist() == [1, 0.5, 0.5]


def test_ece_by_hand():
    assert ece(np.array([1.0, 1.0]), np.array([True, True])) == 0
    assert ece(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, True, False, False])) == pytest.approx(0.35)
    assert ece(np.array([0.9, 0.9]), np.array([True, False])) == pytest.approx(0.4)  # one bin: gaps cancel inside


def test_the_oracle_looks_at_target_labels():
    y = np.array([0, 1, 2])
    trace = {
        10: np.eye(3, dtype=np.float32)[[0, 0, 0]],
        20: np.eye(3, dtype=np.float32),
        30: np.eye(3, dtype=np.float32),
    }
    epoch, scores = oracle_trace(trace, y)
    assert epoch == 20
    assert scores == {10: pytest.approx(1 / 3), 20: 1, 30: 1}
