"""Events as arrays: the form that recommenders are fitted on and evaluated with.

Letters: n users, m items, e events, b histories. Items are numbered 0 to m - 1; a model that pads shifts them itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

ItemRows = NDArray[np.int64]
"""Items of one history by number, oldest first."""


@dataclass(frozen=True)
class Vocabulary:
    """External ids and their numbers."""

    ids: tuple[str, ...]

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Id → number."""
        return {name: number for number, name in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str]) -> ItemRows:
        """Numbers of the ids that are known, in their order; unknown ones are left out."""
        return np.array([self.numbers[name] for name in ids if name in self.numbers], np.int64)


@dataclass(frozen=True)
class Interactions:
    """The events of n users, user after user, each user's oldest first.

    starts: (n + 1,) where each user's events begin · items: (e,) int64 · times: (e,) int64 milliseconds in UTC, or
    places in the file where it has no times · values: (e,) float32, NaN where an event has none.
    """

    users: Vocabulary
    vocabulary: Vocabulary
    starts: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float32]

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.vocabulary)

    def history(self, user: int) -> ItemRows:
        """One user's items, oldest first."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def histories(self) -> Iterator[ItemRows]:
        """Every user's items."""
        return (self.history(user) for user in range(self.n_users))


class Scorer(Protocol):
    """Scores every item for raw histories; needs no row for the user, so unknown users are served as well."""

    @property
    def name(self) -> str:
        """As tables and answers call it."""

    @property
    def n_items(self) -> int:
        """m."""

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m), higher is better. Items of the history are scored like all others: leaving them out is the caller's.

        An empty history gives the row that the scorer holds best for somebody of whom nothing is known.
        """
