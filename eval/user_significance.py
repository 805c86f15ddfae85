"""Is a difference in AUC or UAUC more than chance, with users and not rows as the unit. Ours.

Rows of one user share what is peculiar to them, so resampling rows makes intervals too narrow: about by half on the
pair-wise split of MovieLens 1M. Letters: n users, r rows, s seeds, B resamples.
"""

import numpy as np

from facetrail.eval.recommend_metrics import Int64Array, user_auc
from facetrail.eval.significance import randomisation_test
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput

N_RESAMPLES = 2_000
AUC, UAUC = 0, 1
"""Columns of `UserBootstrap.measures`."""


class UserBootstrap:
    """Draws users with replacement, once for all systems, so that their differences are paired."""

    def __init__(
        self, users: Int64Array, labels: Float64Array, *, rng: np.random.Generator, n_resamples: int = N_RESAMPLES
    ) -> None:
        """users, labels: (r,). Raises InvalidInput where no user has both labels."""
        self._users, self._labels = users, labels
        _, self._rows = np.unique(users, return_inverse=True)
        n = int(self._rows.max()) + 1
        self._counted = np.unique(self._rows[np.isin(users, user_auc(users, labels, labels).users)])
        if not len(self._counted):
            raise InvalidInput("no user has rows of both labels, so there is no UAUC; give more rows")
        # Poisson counts would do too; these keep the number of users.
        self._counts = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)  # (B, n)

    def measures(self, scores: Float64Array) -> Float64Array:
        """(B, 2) AUC and UAUC of each resample, means over seeds; NaN where it lacks a label. scores: (s, r)."""
        found = np.stack([np.column_stack([self._aucs(row), self._user_aucs(row)]) for row in scores])
        means: Float64Array = found.mean(axis=0)
        return means

    def _aucs(self, scores: Float64Array) -> Float64Array:
        _, level = np.unique(scores, return_inverse=True)
        found = np.empty(len(self._counts))
        for i, counts in enumerate(self._counts):
            weights = counts[self._rows]
            positive = np.bincount(level, weights=weights * self._labels)
            negative = np.bincount(level, weights=weights * (1 - self._labels))
            pairs = positive.sum() * negative.sum()
            below = np.cumsum(negative) - negative / 2
            found[i] = (positive * below).sum() / pairs if pairs else np.nan
        return found

    def _user_aucs(self, scores: Float64Array) -> Float64Array:
        counts = self._counts[:, self._counted]
        sums = counts.sum(axis=1)
        values = user_auc(self._users, scores, self._labels).values
        found: Float64Array = np.divide(counts @ values, sums, out=np.full(len(counts), np.nan), where=sums > 0)
        return found


def interval(values: Float64Array, *, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values, those that could not be measured left out."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def swap_test(
    users: Int64Array, labels: Float64Array, a: Float64Array, b: Float64Array, *, rng: np.random.Generator,
    n_randomisations: int = N_RESAMPLES,
) -> float:  # fmt: skip
    """Two-sided p of a difference in AUC: systems are swapped user by user. a, b: (s, r).

    Scores are compared as ranks among all rows, for a swap makes sense in one unit only. Equal systems give 1.
    """
    ours, theirs = (np.stack([_levels(row) for row in scores]) for scores in (a, b))
    _, rows = np.unique(users, return_inverse=True)
    n = int(rows.max()) + 1

    def difference(swapped: np.ndarray) -> float:
        first = np.where(swapped[rows], theirs, ours)
        second = np.where(swapped[rows], ours, theirs)
        return float(np.mean([_auc(x, labels) - _auc(y, labels) for x, y in zip(first, second, strict=True)]))

    observed = abs(difference(np.zeros(n, np.bool_)))
    as_far = sum(abs(difference(rng.random(n) < 0.5)) >= observed - 1e-12 for _ in range(n_randomisations))
    return (1 + as_far) / (1 + n_randomisations)


def user_test(
    users: Int64Array, labels: Float64Array, a: Float64Array, b: Float64Array, *, rng: np.random.Generator,
    n_randomisations: int = N_RESAMPLES,
) -> float:  # fmt: skip
    """Two-sided p of a difference in UAUC, by flipping the differences of users. a, b: (s, r)."""
    ours, theirs = (np.mean([user_auc(users, row, labels).values for row in scores], axis=0) for scores in (a, b))
    return randomisation_test(ours - theirs, rng=rng, n_randomisations=n_randomisations)


def _levels(scores: Float64Array) -> Int64Array:
    """(r,) twice the middle rank, equal scores sharing one: whole numbers, so that ties stay ties."""
    _, rows, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middles: Int64Array = (2 * np.cumsum(counts) - counts + 1)[rows]
    return middles


def _auc(levels: Int64Array, labels: Float64Array) -> float:
    """As `recommend_metrics.auc`, of whole numbers up to 2 r."""
    size = int(levels.max()) + 1
    positive = np.bincount(levels, weights=labels, minlength=size)
    negative = np.bincount(levels, weights=1 - labels, minlength=size)
    return float((positive * (np.cumsum(negative) - negative / 2)).sum() / (positive.sum() * negative.sum()))
