"""Measures of what the lists look like: coverage, concentration, novelty, diversity.

Where equal scores straddle the end of a list, each of them is on it with a chance; every measure is taken of these
chances, so that no order among equals enters:

- coverage: expected share of candidates on at least one list · Gini: of the expected number of lists per candidate
- novelty: mean of -log2((users + 1) / (all users + 1)) over the list, users being those of train who have the item
- intra-list distance: expected mean of 1 - cosine over pairs; an item without attributes is at distance 1 from all
- genre entropy (bits) and share of the dominant genre: of the list's expected shares, an item of several genres being
  split evenly; 0 where no item has a genre
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.index import Float64Array


@dataclass(frozen=True)
class TopLists:
    """The first k of b rankings. sure, open: (b, m) on the list, perhaps on it · chance: (b,) of an open item."""

    sure: NDArray[np.bool_]
    open: NDArray[np.bool_]
    chance: Float64Array

    @property
    def chances(self) -> Float64Array:
        """(b, m) of every item to be on the list."""
        return self.sure + self.open * self.chance[:, None]


def top_lists(scores: NDArray[np.floating], k: int) -> TopLists:
    """scores: (b, m), -inf for what is not a candidate; a list is shorter than k where there are fewer."""
    n = scores.shape[1]
    last = np.partition(scores, n - min(k, n), axis=1)[:, n - min(k, n)][:, None]
    sure = scores > last
    level = (scores == last) & (last > -np.inf)
    n_level = np.count_nonzero(level, axis=1)
    chance = (min(k, n) - np.count_nonzero(sure, axis=1)) * (n_level > 0) / np.maximum(n_level, 1)
    all_fit = (chance >= 1)[:, None]
    return TopLists(sure | (level & all_fit), level & ~all_fit, np.where(all_fit[:, 0], 0.0, chance))


class ListMeasures:
    """Collects over batches; `add` gives the values of each list, the properties those of all lists together."""

    def __init__(self, k: int, item_users: NDArray[np.int64], n_users: int, genres: Float64Array | None = None) -> None:
        """item_users: (m,) users of train who have the item · genres: (m, g) 0 / 1."""
        self.k = k
        self._information = -np.log2((item_users + 1) / (n_users + 1))
        self._genres = None if genres is None else genres / np.maximum(genres.sum(axis=1, keepdims=True), 1)
        self._exposure = np.zeros(len(item_users))
        self._is_listed = np.zeros(len(item_users), np.bool_)
        self._log_unseen = np.zeros(len(item_users))
        self._is_candidate = np.zeros(len(item_users), np.bool_)

    def add(self, scores: NDArray[np.floating]) -> dict[str, Float64Array]:
        """(b,) each: novelty, and with genres also distance, entropy and dominant share. scores: (b, m)."""
        lists = top_lists(scores, self.k)
        chances = lists.chances
        self._exposure += chances.sum(axis=0)
        self._is_listed |= lists.sure.any(axis=0)
        self._log_unseen += np.log1p(-lists.chance) @ lists.open
        self._is_candidate |= (scores > -np.inf).any(axis=0)
        lengths = np.maximum(chances.sum(axis=1), 1e-12)
        values = {f"novelty@{self.k}": chances @ self._information / lengths}
        if self._genres is not None:
            shares = chances @ self._genres
            shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
            logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
            values[f"distance@{self.k}"] = _distance(lists, self._genres)
            values[f"genre_entropy@{self.k}"] = -(shares * logs).sum(axis=1)
            values[f"dominant_genre@{self.k}"] = shares.max(axis=1)
        return values

    @property
    def coverage(self) -> float:
        """0 to 1."""
        listed = np.where(self._is_listed, 1.0, 1 - np.exp(self._log_unseen))
        return float(listed[self._is_candidate].mean()) if self._is_candidate.any() else 0.0

    @property
    def gini(self) -> float:
        """0 where all candidates are listed equally often, towards 1 where one item takes all places."""
        return gini(self._exposure[self._is_candidate])


def gini(amounts: Float64Array) -> float:
    """Gini coefficient of non-negative amounts; 0 for none. amounts: (m,)."""
    ordered, n = np.sort(amounts), len(amounts)
    total = ordered.sum()
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total)) if total > 0 else 0.0


def _distance(lists: TopLists, attributes: Float64Array) -> Float64Array:
    """(b,) expected mean of 1 - cosine over the pairs of a list; 0 for lists of one.

    With unit vectors x, the sum of x_i · x_j over the pairs of a set is (|Σ x|² - Σ |x|²) / 2, so no pair is visited. A
    pair of open items is on the list together with probability a (a - 1) / (n (n - 1)): a places for n items.
    """
    unit = attributes / np.maximum(np.linalg.norm(attributes, axis=1, keepdims=True), 1e-12)
    squares = (unit**2).sum(axis=1)
    n_sure, n_open = lists.sure.sum(axis=1), lists.open.sum(axis=1)
    n_free = lists.chance * n_open
    sure, free = lists.sure @ unit, lists.open @ unit  # (b, g)
    both = n_free * (n_free - 1) / np.maximum(n_open * (n_open - 1), 1)
    within_sure = ((sure**2).sum(axis=1) - lists.sure @ squares) / 2
    within_free = ((free**2).sum(axis=1) - lists.open @ squares) / 2
    similarity = within_sure + lists.chance * (sure * free).sum(axis=1) + both * within_free
    n_pairs = (n_sure + n_free) * (n_sure + n_free - 1) / 2
    distances: Float64Array = np.where(n_pairs > 0.5, 1 - similarity / np.maximum(n_pairs, 1), 0.0)
    return distances
