"""Will this user like this item, from two averages: the rows that anything learnt has to beat.

Means are damped towards the mean label of training, as if DAMPING further events had it. All of them take the cut up
to which events are visible, so the same code gives frozen and rolling figures.
"""

from dataclasses import dataclass

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.time_blocks import EventLog, Floats, Ints, Ratings, Tally

DAMPING = 5.0
"""Events of the mean label that every average is mixed with."""


def damped(tally: Tally, prior: Floats) -> Floats:
    """(r,) means of the tallied labels, pulled towards the prior."""
    means: Floats = (tally.sums + DAMPING * prior) / (tally.counts + DAMPING)
    return means


def item_mean(log: EventLog, rows: Ratings, cuts: Ints) -> Floats:
    """(r,) damped mean label of each row's item."""
    return damped(log.of_items(rows.items, cuts), log.prior(cuts))


def user_mean(log: EventLog, rows: Ratings, cuts: Ints) -> Floats:
    """(r,) damped mean label of each row's user. Alone it cannot order the items of one user."""
    return damped(log.of_users(rows.users, cuts), log.prior(cuts))


def item_and_user_mean(log: EventLog, rows: Ratings, cuts: Ints) -> Floats:
    """(r,) their sum."""
    return item_mean(log, rows, cuts) + user_mean(log, rows, cuts)


@dataclass(frozen=True)
class BiasLogistic:
    """Probability of a like from both means."""

    item: float
    user: float
    intercept: float

    def probabilities(self, log: EventLog, rows: Ratings, cuts: Ints) -> Floats:
        """(r,) in (0, 1)."""
        logits = self.item * item_mean(log, rows, cuts) + self.user * user_mean(log, rows, cuts) + self.intercept
        likely: Floats = 1 / (1 + np.exp(-logits))
        return likely


def fit_bias_logistic(train: EventLog, *, share: float = 0.2) -> BiasLogistic:
    """Fits on the last `share` of training by time, with means from what came before it.

    Fitting on rows that are part of their own means would overrate them. Raises InvalidInput where the last part holds
    one label only, or where the means part its labels perfectly.
    """
    cut = round(len(train) * (1 - share))
    rows = train.events.take(slice(cut, None))
    cuts = np.full(len(rows), cut, np.int64)
    features = np.column_stack([item_mean(train, rows, cuts), user_mean(train, rows, cuts), np.ones(len(rows))])
    weights = logistic_weights(features, rows.labels)
    return BiasLogistic(*(float(weight) for weight in weights))


def logistic_weights(features: Floats, labels: Floats, *, ridge: float = 1e-6) -> Floats:
    """Maximum likelihood by Newton's method. features: (r, f), an intercept's ones included · labels: (r,) → (f,).

    ridge keeps the Hessian invertible where features are equal; it moves no weight that matters.
    """
    if not 0 < labels.mean() < 1:
        raise InvalidInput("a logistic fit needs rows of both labels; these hold one only, so give more events")
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-features @ weights))
        hessian = (features * (likely * (1 - likely))[:, None]).T @ features + ridge * np.eye(len(weights))
        move = np.linalg.solve(hessian, features.T @ (labels - likely) - ridge * weights)
        weights = weights + move
        if np.abs(move).max() < 1e-9:
            return weights
    raise InvalidInput("the logistic fit does not settle, so the features part the labels perfectly; give more events")
