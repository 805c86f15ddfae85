"""How well predicted classes of nodes fit the true ones, and what their confidence is worth.

Letters: n nodes, C classes. Nodes without a true class (-1) are left out of every figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class GraphScores:
    """Figures of one prediction, as shares of 1."""

    micro_f1: float
    """For single labels, the accuracy."""
    macro_f1: float
    ece: float
    """Expected calibration error."""
    roc_auc: float | None
    """Of class 1, where there are two classes."""
    majority_rate: float
    """Accuracy of naming the most frequent true class everywhere."""
    n_nodes: int
    """With a true class."""


def score_graph(probabilities: Probabilities, y: NDArray[np.int64] | NDArray[np.bool_]) -> GraphScores:
    """Scores (n, C) probabilities against (n,) classes, or (n, C) bool where nodes have several (predicted: ≥ 0.5).

    For several labels ECE and majority rate judge the most probable class, which is right if it is among the true ones.
    """
    several = y.ndim == 2
    known = np.ones(len(y), bool) if several else y >= 0
    if not known.any():
        raise InvalidInput("no node has a true class, so nothing can be scored; give the graph with its labels")
    p, truth = probabilities[known], y[known]
    n_classes = p.shape[1]
    true = truth.astype(bool) if several else truth[:, None] == np.arange(n_classes)
    best = p.argmax(axis=1)
    predicted = p >= 0.5 if several else best[:, None] == np.arange(n_classes)
    micro, macro = _f1(predicted, true)
    return GraphScores(
        micro,
        macro,
        ece(p.max(axis=1), true[np.arange(len(p)), best]),
        _roc_auc(p[:, 1], truth == 1) if n_classes == 2 and not several else None,
        float(true.mean(axis=0).max()),
        len(p),
    )


def coverage_curve(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the nodes kept at each threshold, and their accuracy: both (thresholds,), from the most confident on.

    confidence, correct: (n,). Nodes of equal confidence are kept together.
    """
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.diff(confidence[order]) != 0, True)
    kept = np.arange(1, len(order) + 1)
    return (kept / len(order))[last], (np.cumsum(correct[order]) / kept)[last]


def ece(confidence: NDArray[np.floating], correct: NDArray[np.bool_], n_bins: int = 15) -> float:
    """Expected calibration error: |accuracy - mean confidence| over equal bins (a, b] of [0, 1], weighted by nodes."""
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    gaps = np.bincount(bins, weights=correct.astype(float) - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def oracle_trace(trace: Mapping[int, Probabilities], y: NDArray[np.int64]) -> tuple[int, dict[int, float]]:
    """The epoch that is best on *target labels*, and every epoch's Micro-F1. Not a fair figure: for comparison only."""
    found = {epoch: score_graph(trace[epoch], y).micro_f1 for epoch in sorted(trace)}
    if not found:
        raise InvalidInput("the trace holds no epoch; train with a trace first")
    return max(found, key=lambda epoch: found[epoch]), found


def _f1(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[float, float]:
    """Micro and Macro F1; a class neither predicted nor true is left out of the mean. both: (n, C)."""
    hits, n_predicted, n_true = (predicted & true).sum(axis=0), predicted.sum(axis=0), true.sum(axis=0)
    seen = n_predicted + n_true > 0
    if not seen.any():
        return 0.0, 0.0
    per_class = 2 * hits[seen] / (n_predicted + n_true)[seen]
    return float(2 * hits.sum() / (n_predicted.sum() + n_true.sum())), float(per_class.mean())


def _roc_auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    """Share of pairs (positive, negative) in the right order, ties half; None where one kind is missing."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    ranks = float(rankdata(scores)[positive].sum())
    return (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
