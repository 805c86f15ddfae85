"""The best of many scores, in the one order that answers have: higher scores first, equal ones by id."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetrail.models.recommend.interactions import ItemRows

Scores = NDArray[np.float32]
N_EVIDENCE = 3
"""Items of the history that a reason names."""

Mask = NDArray[np.bool_]
"""(m,), True = the item may be returned."""


def id_places(ids: Sequence[str]) -> ItemRows:
    """(m,) the place of every id in the order of ids."""
    places = np.empty(len(ids), np.int64)
    places[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return places


def best(scores: Scores, n: int, *, allowed: Mask, places: ItemRows) -> ItemRows:
    """The n best allowed items, fewer only where fewer are allowed. scores: (m,) · places: (m,), as of `id_places`."""
    rows = np.flatnonzero(allowed)
    if 0 < n < len(rows):
        kept = scores[rows]
        rows = rows[kept >= np.partition(kept, -n)[-n]]  # every item that ties with the n-th
    return rows[np.lexsort((places[rows], -scores[rows]))[:n]]


def ranks(scores: Scores, rows: ItemRows, *, allowed: Mask) -> ItemRows:
    """Ranks of some items among the allowed, from 1; equal scores share the better rank."""
    ascending = np.sort(scores[allowed])
    above = len(ascending) - np.searchsorted(ascending, scores[rows], side="right")
    return above.astype(np.int64) + 1


def heaviest(rows: ItemRows, shares: Scores) -> list[tuple[int, float]]:
    """The items of a history that carry a score, heaviest first, at most three and each above 0.

    rows: (d,) distinct items · shares: (d,) what each adds to the score.
    """
    order = np.argsort(-shares, kind="stable")[:N_EVIDENCE]
    return [(int(rows[i]), float(shares[i])) for i in order if shares[i] > 0]
