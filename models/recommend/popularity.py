"""Popularity: all events counted alike, recent ones more, or inside the categories of a history."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, ItemRows
from facetrail.models.recommend.matrices import CsrArray, incidence

DAY_MS = 86_400_000


class Popularity:
    """Scores by the number of events."""

    kind: ClassVar[str] = "popularity"

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.counts = counts  # (m,)

    @classmethod
    def fit(cls, events: Interactions) -> "Popularity":
        """Counts every event."""
        return cls(np.bincount(events.items, minlength=events.n_items))

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.counts)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m) counts."""
        return np.tile(self.counts.astype(np.float32), (len(histories), 1))

    def updated(self, *, added: Interactions, removed: Interactions) -> "Popularity":
        """As a fit without the removed users and with the added ones. A user who did more is both.

        Both have one vocabulary, which begins with the fitted one and may go on. Raises InvalidInput where the removed
        were never fitted.
        """
        counts = Popularity.fit(added).counts - Popularity.fit(removed).counts
        counts[: self.n_items] += self.counts
        if counts.min(initial=0) < 0:
            raise InvalidInput("events are removed that were never fitted; give the histories as they were fitted")
        return Popularity(counts)

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        return {}, {"counts": self.counts}

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Popularity":
        """The inverse of `stored`."""
        return cls(tensors["counts"])


class RecencyConfig(BaseModel):
    """How fast an event loses its weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: float = Field(default=7.0, gt=0)


class RecentPopularity:
    """Scores by events that halve with every half-life before the newest one; needs events with real times."""

    kind: ClassVar[str] = "recent-popularity"

    def __init__(self, weights: NDArray[np.float64], newest: int, config: RecencyConfig) -> None:
        self.weights, self.newest, self.config = weights, newest, config  # (m,), milliseconds in UTC

    @classmethod
    def fit(cls, events: Interactions, config: RecencyConfig = RecencyConfig()) -> "RecentPopularity":  # noqa: B008
        """An event of the newest moment weighs 1."""
        newest = int(events.times.max(initial=0))
        return cls(_decayed(events, newest, config), newest, config)

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.weights)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m) decayed counts."""
        return np.tile(self.weights.astype(np.float32), (len(histories), 1))

    def updated(self, *, added: Interactions, removed: Interactions) -> "RecentPopularity":
        """As a fit without the removed users and with the added ones, to rounding. A user who did more is both.

        Both have one vocabulary, which begins with the fitted one and may go on. The newest moment never moves back.
        """
        newest = max(self.newest, int(added.times.max(initial=0)))
        weights = _decayed(added, newest, self.config) - _decayed(removed, newest, self.config)
        weights[: self.n_items] += self.weights * _decay(self.newest - newest, self.config)
        return RecentPopularity(np.maximum(weights, 0), newest, self.config)

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        return self.config.model_dump(), {"weights": self.weights, "newest": np.asarray([self.newest])}

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "RecentPopularity":
        """The inverse of `stored`."""
        return cls(tensors["weights"], int(tensors["newest"][0]), RecencyConfig.model_validate(config))


class CategoryPopularity:
    """Scores by popularity inside the categories that the history is made of."""

    kind: ClassVar[str] = "category-popularity"

    def __init__(self, membership: CsrArray, counts: NDArray[np.float32]) -> None:
        self.membership, self.counts = membership, counts  # (m, categories) float32 of 0 and 1, and (m,) events

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.counts)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m): events of the item times the share of the history in its categories; its events for an empty one."""
        held = incidence(histories, self.n_items)
        shares = np.asarray((held @ self.membership @ self.membership.T).toarray(), np.float32)
        sizes = np.asarray(held.sum(axis=1), np.float32)[:, None]
        rows: NDArray[np.float32] = self.counts * np.where(sizes, shares / np.maximum(sizes, 1), 1)
        return rows


def _decay(before: Any, config: RecencyConfig) -> Any:
    """Weight of an event that lies `before` (≤ 0) milliseconds from the newest."""
    return np.exp2(before / (config.half_life_days * DAY_MS))


def _decayed(events: Interactions, newest: int, config: RecencyConfig) -> NDArray[np.float64]:
    weights = _decay(events.times - newest, config)
    return np.bincount(events.items, weights=weights, minlength=events.n_items).astype(np.float64)
