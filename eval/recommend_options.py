"""Lists of options to choose from: what a user liked next, among items that the user never took up.

Small lists overrate recommenders and reorder them (full ranking is `eval.recommend`), but they are all that a language
model can read. So two kinds are drawn: negatives at random, among which popularity alone goes far, and negatives as
popular as what came next, among which it says little. Ours.

Letters: n lists, o options of one kind, the target first.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.recommend_cleaning import Int64Array
from facetrail.eval.recommend_metrics import Places, places
from facetrail.eval.recommend_splits import Predictions
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, ItemRows

Kind = Literal["random", "matched"]
"""Of the negatives: every item alike · items about as popular in training as the target, which is as likely to be the
most popular of the list as any other."""
KINDS: tuple[Kind, ...] = get_args(Kind)
WINDOW = 2
"""Matched negatives are drawn from so many times their number of items that are neighbours in popularity."""


@dataclass(frozen=True)
class OptionLists:
    """n questions, each with the same target among both kinds of negatives.

    rows: (n,) which questions of `asked` they are · options: kind → (n, o) items.
    """

    asked: Predictions
    rows: Int64Array
    options: dict[Kind, Int64Array]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def users(self) -> Int64Array:
        """(n,) by number of the source."""
        return self.asked.users[self.rows]

    @property
    def times(self) -> Int64Array:
        """(n,) of the targets; a history ends before them."""
        return self.asked.times[self.rows]

    @property
    def every_option(self) -> Int64Array:
        """(n, 1 + k (o - 1)): the target, then the negatives of each of the k kinds."""
        return np.concatenate([self.options[KINDS[0]][:, :1], *(self.options[kind][:, 1:] for kind in KINDS)], axis=1)

    def history(self, number: int) -> ItemRows:
        """Items before one of the lists, oldest first, in catalogue numbers."""
        return self.asked.history(int(self.rows[number]))

    def take(self, chosen: Int64Array, *, n_options: int | None = None) -> "OptionLists":
        """Some of the lists, and of each the first options."""
        options = {kind: table[chosen][:, :n_options] for kind, table in self.options.items()}
        return OptionLists(self.asked, self.rows[chosen], options)


def of_kind(scores: NDArray[np.floating], kind: Kind, n_options: int) -> Float64Array:
    """(…, n_options) the scores of one kind, from those of `every_option`, (…, n)."""
    n_negatives = (scores.shape[-1] - 1) // len(KINDS)
    if not 1 < n_options <= n_negatives + 1:
        raise InvalidInput(f"lists of {n_options} options; these have between 2 and {n_negatives + 1}")
    first = 1 + KINDS.index(kind) * n_negatives
    return np.concatenate([scores[..., :1], scores[..., first : first + n_options - 1]], axis=-1).astype(np.float64)


def draw_lists(
    asked: Predictions, train: Interactions, *, least: float, n_options: int, per_user: int, rng: np.random.Generator
) -> OptionLists:
    """Lists for the questions whose target was valued at `least` or more, is known to train and new to the user.

    asked: questions with one target each · per_user: lists of one user at most, drawn at random. Negatives are items
    of train that the user takes up neither before nor after. Raises InvalidInput where nobody is left to ask, or where
    a user leaves too few items untouched.
    """
    source, targets = asked.source, asked.targets
    fits = (source.values[asked.events] >= least) & (targets < train.n_items)
    fits[fits] = [targets[row] not in asked.history(row) for row in np.flatnonzero(fits).tolist()]
    order = rng.permutation(np.flatnonzero(fits))
    order = order[np.argsort(asked.users[order], kind="stable")]
    place = np.arange(len(order)) - np.searchsorted(asked.users[order], asked.users[order])
    rows = np.sort(order[place < per_user])
    if not len(rows):
        raise InvalidInput(f"no later event of a known item is valued at {least:g} or more; ask for less")
    counts = np.bincount(train.items, minlength=train.n_items)
    drawn: dict[Kind, list[Int64Array]] = {kind: [] for kind in KINDS}
    for row in rows.tolist():
        user, target = int(asked.users[row]), int(targets[row])
        pool = np.setdiff1d(np.arange(train.n_items), source.history(user))
        if len(pool) < WINDOW * n_options:
            raise InvalidInput(
                f"user {source.users.ids[user]} leaves {len(pool)} items untouched; ask for shorter lists"
            )
        shuffled = rng.permutation(pool)
        drawn["random"].append(np.append(target, shuffled[: n_options - 1]))
        drawn["matched"].append(np.append(target, _neighbours(target, shuffled, counts, n_options - 1, rng)))
    return OptionLists(asked, rows, {kind: np.stack(lists).astype(np.int64) for kind, lists in drawn.items()})


def list_places(scores: Float64Array) -> Places:
    """Where the target, the first option, stands in each list. scores: (n, o)."""
    n = len(scores)
    return places(scores, np.arange(n + 1, dtype=np.int64), np.zeros(n, np.int64))


def _neighbours(target: int, pool: Int64Array, counts: Int64Array, n: int, rng: np.random.Generator) -> Int64Array:
    """n items from a window of popularity around the target.

    Where the target stands in the window is drawn: the nearest ones on both sides would put it into the middle, and
    whoever knows popularity would then know better than to choose an extreme. pool: in random order, for equals.
    """
    ordered = pool[np.argsort(counts[pool], kind="stable")]
    first, last = np.searchsorted(counts[ordered], [counts[target], counts[target] + 1])
    place = int(rng.integers(first, last + 1))  # anywhere among its equals
    begin = place - int(rng.integers(0, WINDOW * n + 1))
    begin = min(max(0, begin), len(ordered) - WINDOW * n)
    return rng.choice(ordered[begin : begin + WINDOW * n], n, replace=False)
