"""Small interactions, listed in a test or drawn from a generator."""

from collections.abc import Sequence

import numpy as np

from facetrail.models.recommend.interactions import Interactions, Vocabulary
from facetrail.models.recommend.records import Event


def interactions(
    histories: Sequence[Sequence[int]], n_items: int, *, values: Sequence[Sequence[float]] | None = None
) -> Interactions:
    """One history a user; items are named `i0`, `i1` and so on, event t of a user happened at t milliseconds."""
    flat = [item for history in histories for item in history]
    stars = [value for row in values for value in row] if values else [np.nan] * len(flat)
    return Interactions(
        users=Vocabulary(tuple(f"u{user}" for user in range(len(histories)))),
        vocabulary=Vocabulary(tuple(f"i{item}" for item in range(n_items))),
        starts=np.cumsum([0, *map(len, histories)]),
        items=np.array(flat, np.int64),
        times=np.array([t for history in histories for t in range(len(history))], np.int64),
        values=np.array(stars, np.float32),
    )


def drawn(n_users: int, n_items: int, *, seed: int = 0, most: int = 12) -> Interactions:
    """Random histories of 0 to `most` events, with repeats."""
    rng = np.random.default_rng(seed)
    return interactions([rng.integers(n_items, size=rng.integers(most + 1)).tolist() for _ in range(n_users)], n_items)


def taken(events: Interactions, users: Sequence[int]) -> Interactions:
    """Some of the users."""
    return interactions([events.history(user).tolist() for user in users], events.n_items)


def posted(items: Sequence[str], *, user: str = "somebody") -> list[Event]:
    """A raw history, oldest first."""
    return [Event(user, item, "view", time) for time, item in enumerate(items)]
