"""EASE: the item-to-item weights of a linear autoencoder in closed form (Steck, WWW 2019).

G = XᵀX + λI, P = G⁻¹, B_ij = -P_ij / P_jj, B_ii = 0, score = xB, as in the paper. Ours: the counts XᵀX are kept as
whole numbers, so that users are added and removed exactly; the system is then solved again, by Cholesky in float64.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse  # type: ignore[import-untyped]
from scipy.linalg import lapack  # type: ignore[import-untyped]

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, ItemRows
from facetrail.models.recommend.matrices import CsrArray, changed_counts, co_occurrence, incidence
from facetrail.models.recommend.ranking import heaviest

MAX_ITEMS = 20_000
"""Three dense matrices of this side take 8 GB."""


class EaseConfig(BaseModel):
    """How strongly weights are drawn to zero."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ridge: float = Field(default=200.0, gt=0)
    """λ, in users."""


class Ease:
    """Scores by the items that a history holds; their order does not count."""

    kind: ClassVar[str] = "ease"

    def __init__(self, counts: CsrArray, weights: NDArray[np.float32], config: EaseConfig) -> None:
        self.counts, self.weights, self.config = counts, weights, config  # XᵀX int32 and B float32, both (m, m)

    @classmethod
    def fit(cls, events: Interactions, config: EaseConfig = EaseConfig()) -> "Ease":  # noqa: B008 - frozen
        """Raises InvalidInput above 20,000 items."""
        return cls._solved(co_occurrence(events.histories(), _checked(events.n_items)), config)

    @classmethod
    def _solved(cls, counts: CsrArray, config: EaseConfig) -> "Ease":
        # A product with sparse rows reads B by rows, and would first copy all of it from any other order.
        return cls(counts, ease_weights(counts.toarray(), config.ridge).astype(np.float32, order="C"), config)

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.weights)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m) xB; the number of users for an empty history."""
        rows: NDArray[np.float32] = incidence(histories, self.n_items) @ self.weights
        for row, history in enumerate(histories):
            if not len(history):
                rows[row] = self.counts.diagonal()
        return rows

    def because(self, history: ItemRows, item: int) -> list[tuple[int, float]]:
        """The items of the history with the largest shares x_i B_ij of the item's score, largest first."""
        rows = np.unique(history)
        return heaviest(rows, self.weights[rows, item])

    def updated(self, *, added: Interactions, removed: Interactions) -> "Ease":
        """As a fit without the removed users and with the added ones, exactly. A user who did more is both.

        Both have one vocabulary, which begins with the fitted one and may go on. Raises InvalidInput where the removed
        were never fitted.
        """
        m = _checked(added.n_items)
        plus, minus = co_occurrence(added.histories(), m), co_occurrence(removed.histories(), m)
        return self._solved(changed_counts(self.counts, plus, minus), self.config)

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        counts = self.counts
        tensors = {"data": counts.data, "indices": counts.indices, "indptr": counts.indptr, "weights": self.weights}
        return self.config.model_dump(), tensors

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Ease":
        """The inverse of `stored`."""
        weights = tensors["weights"]
        parts = (tensors["data"], tensors["indices"], tensors["indptr"])
        return cls(sparse.csr_array(parts, shape=weights.shape), weights, EaseConfig.model_validate(config))


def ease_weights(counts: NDArray[Any], ridge: float) -> NDArray[np.float64]:
    """B of the co-occurrence counts XᵀX (m, m)."""
    g = np.asfortranarray(counts, dtype=np.float64)
    g[np.diag_indices_from(g)] += ridge
    factor, _ = lapack.dpotrf(g, lower=1, overwrite_a=1)  # positive definite, since the ridge is
    p, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    for column in range(len(p)):
        p[column, column + 1 :] = p[column + 1 :, column]  # only the lower half is written
    weights: NDArray[np.float64] = np.divide(p, -np.diag(p), out=p)
    np.fill_diagonal(weights, 0)
    return weights


def _checked(n_items: int) -> int:
    if n_items > MAX_ITEMS:
        raise InvalidInput(
            f"EASE solves a dense system of items, at most {MAX_ITEMS:,}, and {n_items:,} are given; "
            "keep the most frequent ones, fit by category, or use markov or item-knn"
        )
    return n_items
