"""The sum of standardised scores: any scorers, none weighted, so that nothing is tuned. Ours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import ItemRows, Scorer

EPSILON = 1e-9
"""Added to the spread: a scorer that scores all items alike has no say."""


def standardised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """z of every row over all its items, before anything is left out. rows: (b, m) → (b, m)."""
    mean = rows.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = rows.std(axis=1, keepdims=True, dtype=np.float64) + EPSILON
    z: NDArray[np.float32] = ((rows - mean) / spread).astype(np.float32)
    return z


def summed(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Standardised and summed, each (b, m); a single part stays as it is."""
    if len(parts) == 1:
        return parts[0]
    total: NDArray[np.float32] = np.sum([standardised(part) for part in parts], axis=0)
    return total


class Blend:
    """z(a) + z(b) + … of scorers over the same items."""

    def __init__(self, parts: Sequence[Scorer]) -> None:
        if len({part.n_items for part in parts}) != 1:
            sizes = ", ".join(f"{part.name} {part.n_items:,}" for part in parts) or "none"
            raise InvalidInput(f"scorers can be summed over the same items only ({sizes}); fit them on the same events")
        self.parts = tuple(parts)

    @property
    def name(self) -> str:
        """`ease+markov`, for instance."""
        return "+".join(part.name for part in self.parts)

    @property
    def n_items(self) -> int:
        """m."""
        return self.parts[0].n_items

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m)."""
        return summed([part.scores(histories) for part in self.parts])
