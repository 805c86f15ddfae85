"""Measures of full ranking, with equal scores resolved exactly rather than by an order that happens to be there.

Conventions:

- Every candidate is ranked; a candidate is an item whose score is not -inf. NaN is an error.
- Ties: the expected value under a random order of equal scores, computed in closed form. A constant scorer over m
  items therefore gets R@k = k/m.
- R@k is the share of a question's targets among the first k; with one target, the hit rate.
- NDCG@k: gain 1, discount log2(rank + 1), ideal of min(k, targets). MRR: reciprocal rank of the first target.
- A target that is not a candidate (cold for the scorer, or removed as seen) is never found and still counts.
- Pair-wise: AUC is the probability that a positive scores above a negative, equal ones half; UAUC its mean over users
  who have both labels, the others counted.

Letters: b questions, m items, t targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput

Int64Array = NDArray[np.int64]
_BLOCK_CELLS = 8_000_000
"""Cells compared at a time."""


@dataclass(frozen=True)
class Places:
    """Where the targets of b questions stand, up to the order among equals.

    starts: (b + 1,) where each question's targets begin · above: (t,) candidates with a higher score, -1 for a target
    that is not a candidate · level: (t,) candidates with the same score, the target among them.
    """

    starts: Int64Array
    above: Int64Array
    level: Int64Array

    @property
    def n_targets(self) -> Int64Array:
        """(b,)."""
        return np.diff(self.starts)

    @property
    def is_ranked(self) -> NDArray[np.bool_]:
        """(t,) False where the target is not a candidate."""
        return self.above >= 0


def places(
    scores: NDArray[np.floating], starts: Int64Array, targets: Int64Array, *, which: Int64Array | None = None
) -> Places:
    """Counts what stands above and level with each target.

    scores: (b, m), -inf for what is not a candidate · starts: (b + 1,) · targets: (t,) items; those of m and above are
    unknown to the scorer · which: (b,) row of each question, where questions share rows of scores. Raises InvalidInput
    for a score that is NaN, or a question without a target.
    """
    if np.isnan(scores).any():
        raise InvalidInput("a score is not a number; scores are finite, or -inf for items that may not be proposed")
    if (np.diff(starts) < 1).any():
        raise InvalidInput("a question has no target; leave it out")
    rows = np.repeat(np.arange(len(scores)) if which is None else which, np.diff(starts))
    above, level = np.full(len(targets), -1, np.int64), np.zeros(len(targets), np.int64)
    known = np.flatnonzero(targets < scores.shape[1])
    known = known[scores[rows[known], targets[known]] > -np.inf]
    step = max(1, _BLOCK_CELLS // max(1, scores.shape[1]))
    for begin in range(0, len(known), step):
        part = known[begin : begin + step]
        line = scores[rows[part]]
        own = line[np.arange(len(part)), targets[part]][:, None]
        above[part] = np.count_nonzero(line > own, axis=1)
        level[part] = np.count_nonzero(line == own, axis=1)
    return Places(starts, above, level)


def recall(found: Places, k: int) -> Float64Array:
    """(b,) expected R@k."""
    share = np.clip(k - found.above, 0, found.level) / np.maximum(found.level, 1)
    return _sums(found, np.where(found.is_ranked, share, 0.0)) / found.n_targets


def ndcg(found: Places, k: int) -> Float64Array:
    """(b,) expected NDCG@k."""
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])  # of the first 0, 1, …, k ranks
    first, last = np.clip(found.above, 0, k), np.clip(found.above + found.level, 0, k)
    gains = (discounts[last] - discounts[first]) / np.maximum(found.level, 1)
    ideal: Float64Array = discounts[np.minimum(found.n_targets, k)]
    return _sums(found, np.where(found.is_ranked, gains, 0.0)) / ideal


def reciprocal_rank(found: Places) -> Float64Array:
    """(b,) expected reciprocal rank of the first target; 0 where none is a candidate."""
    n_ranks = int((found.above + found.level).max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n_ranks + 1))])
    values = np.zeros(len(found.starts) - 1)
    above = np.where(found.is_ranked, found.above, np.iinfo(np.int64).max)
    best = np.minimum.reduceat(above, found.starts[:-1]) if len(values) else values
    rows = np.repeat(np.arange(len(values)), found.n_targets)
    in_best = found.is_ranked & (above == best[rows])
    n_best = np.bincount(rows[in_best], minlength=len(values))
    level = np.zeros(len(values), np.int64)
    level[rows[in_best]] = found.level[in_best]
    single = np.flatnonzero(n_best == 1)
    start = best[single]
    values[single] = (harmonic[start + level[single]] - harmonic[start]) / level[single]
    for row in np.flatnonzero(n_best > 1):
        values[row] = _first_of_several(int(best[row]), int(level[row]), int(n_best[row]))
    return values


@dataclass(frozen=True)
class UserAuc:
    """AUC user by user."""

    mean: float
    """Over the users counted; NaN where there are none."""
    n_users: int
    """Users with both labels."""
    n_left_out: int
    """Users with one label only."""
    values: Float64Array
    """(n_users,) in the order of `users`."""
    users: NDArray[np.int64]
    """(n_users,) which they are."""


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a positive scores above a negative, equal scores half.

    scores, labels: (n,), labels 0 or 1. Raises InvalidInput where one of the labels is absent or a score is NaN.
    """
    values, positive = _checked_pairs(scores, labels)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        raise InvalidInput(f"{n_positive} positive and {n_negative} negative rows: AUC needs both labels")
    return (float(_middle_ranks(values)[positive].sum()) - n_positive * (n_positive + 1) / 2) / (
        n_positive * n_negative
    )


def user_auc(users: Sequence[int] | Int64Array, scores: ArrayLike, labels: ArrayLike) -> UserAuc:
    """UAUC: the mean AUC over users with both labels. users, scores, labels: (n,)."""
    values, positive = _checked_pairs(scores, labels)
    numbers, rows = np.unique(np.asarray(users, np.int64), return_inverse=True)
    order = np.argsort(rows, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(rows))[:-1]) if len(order) else []
    both = [0 < positive[group].sum() < len(group) for group in groups]
    each = np.array([auc(values[group], positive[group]) for group, use in zip(groups, both, strict=True) if use])
    counted = numbers[np.array(both, np.bool_)]
    mean = float(each.mean()) if len(each) else float("nan")
    return UserAuc(mean, len(each), len(numbers) - len(each), each.astype(np.float64), counted)


def _sums(found: Places, values: Float64Array) -> Float64Array:
    """(b,) sums over each question's targets."""
    return np.add.reduceat(values, found.starts[:-1]) if len(values) else values


def _first_of_several(above: int, level: int, n_targets: int) -> float:
    """E[1 / rank of the first target] where `n_targets` of `level` equals are targets.

    The first of r targets among n equals is the j-th with probability C(n - j, r - 1) / C(n, r).
    """
    steps = np.arange(1, level - n_targets + 1)
    ratios = (level - steps - n_targets + 1) / (level - steps)
    chances = n_targets / level * np.concatenate([[1.0], np.cumprod(ratios)])
    return float((chances / (above + np.arange(1, len(chances) + 1))).sum())


def _checked_pairs(scores: ArrayLike, labels: ArrayLike) -> tuple[Float64Array, NDArray[np.bool_]]:
    values, truth = np.asarray(scores, np.float64), np.asarray(labels)
    if values.shape != truth.shape or values.ndim != 1:
        raise InvalidInput(f"scores {values.shape} and labels {truth.shape} are not one column each of equal length")
    if np.isnan(values).any():
        raise InvalidInput("a score is not a number; every pair needs a finite score")
    if not np.isin(truth, (0, 1)).all():
        raise InvalidInput("a label is neither 0 nor 1; turn ratings into labels first")
    return values, truth.astype(np.bool_)


def _middle_ranks(values: Float64Array) -> Float64Array:
    """(n,) ranks from 1, equal values sharing the middle of theirs."""
    _, rows, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles: Float64Array = ends - (counts - 1) / 2
    return middles[rows]
