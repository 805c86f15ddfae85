"""What may be known when: labelled events in the order of time, and the cut up to which a row sees them.

Removing a row's own label from its statistics is not enough. Beside a user embedding, leave-one-out means give the
label away (`y = sum - (n - 1) * mean of the others`), and so does an item's absence from the user's liked ones. So
the events are cut into blocks of time, and a row sees the blocks before its own, never its own (ours).

Letters: e events, r rows. A cut is a number of leading events: those at positions below it are visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratings:
    """Rows of (user, item, label, time), by number. labels: (r,) 0 or 1; all 1 where feedback is implicit."""

    users: Ints
    items: Ints
    labels: Floats
    times: Ints

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: Ints | NDArray[np.bool_] | slice) -> "Ratings":
        """Some of the rows, by place or by mask."""
        return Ratings(self.users[rows], self.items[rows], self.labels[rows], self.times[rows])

    def ordered(self) -> "Ratings":
        """By time; rows of equal time keep their order."""
        return self.take(np.argsort(self.times, kind="stable"))


def joined(parts: Sequence[Ratings]) -> Ratings:
    """The rows of all parts, one after the other."""
    columns = zip(*((p.users, p.items, p.labels, p.times) for p in parts), strict=True)
    users, items, labels, times = (np.concatenate(column) for column in columns)
    return Ratings(users, items, labels, times)


class Tally(NamedTuple):
    """Of each row: how many visible events its user (or item) has, and the sum of their labels."""

    counts: Ints
    sums: Floats


class EventLog:
    """Events by time that answer for any cut. `prior` and the tallies of a cut depend on no event at or after it."""

    def __init__(self, events: Ratings, n_users: int, n_items: int, *, n_prior: int | None = None) -> None:
        """events: ordered by time. n_prior: the first so many events may set the mean that others are damped towards:
        those of training; None: all. Raises InvalidInput where the order is broken.
        """
        if (np.diff(events.times) < 0).any():
            raise InvalidInput("an event log is ordered by time; give `Ratings.ordered()`")
        self.events, self.n_users, self.n_items = events, n_users, n_items
        self._n_prior = len(events) if n_prior is None else n_prior
        self._label_sums = np.concatenate([[0.0], np.cumsum(events.labels)])
        self._by_user = _Grouped(events.users, events.labels, n_users)
        self._by_item = _Grouped(events.items, events.labels, n_items)

    def __len__(self) -> int:
        return len(self.events)

    def prior(self, cuts: Ints) -> Floats:
        """(r,) mean label of the visible events that may set it; one half before the first of them."""
        seen = np.minimum(cuts, self._n_prior)
        return np.where(seen > 0, self._label_sums[seen] / np.maximum(seen, 1), 0.5)

    def of_users(self, users: Ints, cuts: Ints) -> Tally:
        """Visible events of each row's user."""
        return self._by_user.tally(users, cuts)

    def of_items(self, items: Ints, cuts: Ints) -> Tally:
        """Visible events of each row's item."""
        return self._by_item.tally(items, cuts)

    def history(self, user: int, cut: int) -> Ints:
        """Positions of one user's visible events, oldest first."""
        return self._by_user.positions(user, cut)


class _Grouped:
    """Events sorted by a key, then by position, with running sums of their labels."""

    def __init__(self, keys: Ints, labels: Floats, n_keys: int) -> None:
        self._stride = len(keys) + 1
        self._positions = np.argsort(keys, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=n_keys))])
        self._ranks = keys[self._positions] * self._stride + self._positions
        self._sums = np.concatenate([[0.0], np.cumsum(labels[self._positions])])

    def tally(self, keys: Ints, cuts: Ints) -> Tally:
        starts, ends = self._starts[keys], np.searchsorted(self._ranks, keys * self._stride + cuts)
        return Tally(ends - starts, self._sums[ends] - self._sums[starts])

    def positions(self, key: int, cut: int) -> Ints:
        end = np.searchsorted(self._ranks, key * self._stride + cut)
        return self._positions[self._starts[key] : end]


def block_cuts(times: Ints, n_blocks: int) -> Ints:
    """(e,) the cut of each training event: the first event of its own block. times: ordered.

    Blocks are of equal size but for ties: a boundary moves back to the first event of its time. Events with cut 0 see
    nothing and train nothing. Raises InvalidInput where ties leave fewer than two blocks.
    """
    wanted = times[(np.arange(n_blocks) * len(times)) // n_blocks] if len(times) else times
    firsts = np.unique(np.searchsorted(times, wanted))
    if len(firsts) < 2:
        raise InvalidInput(
            f"{len(times)} events cannot be cut into blocks of time, for too many share one time stamp; "
            "give events with finer times, or more of them"
        )
    return firsts[np.searchsorted(firsts, np.arange(len(times)), side="right") - 1]


def frozen_cuts(rows: Ratings, train: EventLog) -> Ints:
    """(r,) all of training, for every row: the setting of published tables. Raises InvalidInput where a row is not
    later than training.
    """
    if len(rows) and len(train) and rows.times.min() < train.events.times[-1]:
        raise InvalidInput("a row to predict is earlier than the last training event; split by time first")
    return np.full(len(rows), len(train), np.int64)


def rolling_cuts(rows: Ratings, log: EventLog) -> Ints:
    """(r,) every event strictly earlier than the row, of whatever split: what a service knows."""
    return np.searchsorted(log.events.times, rows.times, side="left").astype(np.int64)
