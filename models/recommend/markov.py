"""Markov: which item follows which, over five lags, in counts alone. Ours.

T[i_t, i_(t+d)] += w_d for the lags d = 1 to 5, T̃[i, ·] = T[i, ·] / (Σ_j T[i, j] + 5), and a history asks with its last
five items. Weights are counted in hundredths, so T holds whole numbers: users are added and removed exactly.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.models.recommend.interactions import Interactions, ItemRows
from facetrail.models.recommend.matrices import CsrArray, changed_counts

LAGS = (100, 50, 33, 25, 20)
"""Hundredths that a pair of items at a distance of 1 to 5 counts."""
SHRINKAGE = 500
"""Hundredths added to a row's sum: an item that was rarely followed speaks softly."""
RECENCY = (1.0, 0.7, 0.5, 0.35, 0.25)
"""Weights of the last item of a history, the one before, and so on."""


class Markov:
    """Scores by what followed the last five items of a history."""

    kind: ClassVar[str] = "markov"

    def __init__(self, counts: CsrArray) -> None:
        self.counts = counts  # (m, m) int64, hundredths
        sums = counts.sum(axis=1)
        self._transitions = (sparse.diags_array(1 / (sums + SHRINKAGE)) @ counts).astype(np.float32).tocsr()
        self._targets = np.asarray(counts.sum(axis=0), np.float32) / max(1, int(sums.sum()))  # (m,)

    @classmethod
    def fit(cls, events: Interactions) -> "Markov":
        """A user of one event contributes nothing."""
        return cls(count_transitions(events))

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return int(self.counts.shape[0])

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m) query · T̃; how often each item followed any other for an empty history."""
        last = [history[: -len(RECENCY) - 1 : -1] for history in histories]
        places = np.concatenate([np.empty(0, np.int64), *(np.arange(len(items)) for items in last)])
        ends = np.cumsum([0, *map(len, last)])
        items = np.concatenate([np.empty(0, np.int64), *last])
        weights = np.asarray(RECENCY, np.float32)[places]
        query = sparse.csr_array((weights, items, ends), shape=(len(histories), self.n_items))
        rows: NDArray[np.float32] = (query @ self._transitions).toarray()
        for row, history in enumerate(histories):
            if not len(history):
                rows[row] = self._targets
        return rows

    def because(self, history: ItemRows, item: int) -> list[tuple[int, float]]:
        """The one item of the history that gives the largest share of the item's score; none where the score is 0."""
        shares: dict[int, float] = {}
        for recent, weight in zip(history[::-1].tolist(), RECENCY, strict=False):
            shares[recent] = shares.get(recent, 0.0) + weight * float(self._transitions[recent, item])
        heaviest = max(shares, key=shares.__getitem__, default=-1)
        return [(heaviest, shares[heaviest])] if shares.get(heaviest, 0.0) > 0 else []

    def updated(self, *, added: Interactions, removed: Interactions) -> "Markov":
        """As a fit without the removed users and with the added ones, exactly. A user who did more is both.

        Both have one vocabulary, which begins with the fitted one and may go on. Raises InvalidInput where the removed
        were never fitted.
        """
        return Markov(changed_counts(self.counts, count_transitions(added), count_transitions(removed)))

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        return {}, {"data": self.counts.data, "indices": self.counts.indices, "indptr": self.counts.indptr}

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Markov":
        """The inverse of `stored`."""
        m = len(tensors["indptr"]) - 1
        return cls(sparse.csr_array((tensors["data"], tensors["indices"], tensors["indptr"]), shape=(m, m)))


def count_transitions(events: Interactions) -> CsrArray:
    """T in hundredths: (m, m) int64."""
    owners = np.repeat(np.arange(events.n_users), np.diff(events.starts))
    counts = sparse.csr_array((events.n_items, events.n_items), dtype=np.int64)
    for lag, weight in enumerate(LAGS, start=1):
        within = owners[:-lag] == owners[lag:]
        pairs = (events.items[:-lag][within], events.items[lag:][within])
        weights = np.full(len(pairs[0]), weight, np.int64)
        counts = counts + sparse.coo_array((weights, pairs), shape=counts.shape).tocsr()
    counts.sort_indices()
    return counts.tocsr()
