"""Neighbours: items near those of the history, by who had them both or by vectors that somebody else made."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.models.recommend.interactions import Interactions, ItemRows
from facetrail.models.recommend.matrices import CsrArray, co_occurrence, incidence
from facetrail.models.recommend.ranking import heaviest

DENSE_SHARE = 0.25
"""Above this share of pairs that ever met, plain rows are summed several times faster than compressed ones."""


class ItemKnn:
    """Scores by the sum of similarities to the items of the history."""

    kind: ClassVar[str] = "item-knn"

    def __init__(self, similarities: CsrArray, popularity: NDArray[np.float32]) -> None:
        self.similarities, self.popularity = similarities, popularity  # (m, m) float32 with a diagonal of 0, and (m,)
        is_dense = similarities.nnz > DENSE_SHARE * len(popularity) ** 2
        self._rows = similarities.toarray() if is_dense else similarities

    @classmethod
    def fit(cls, events: Interactions) -> "ItemKnn":
        """Cosines of the items' users: c_ij / √(c_ii c_jj), c_ij the users who had both."""
        counts = co_occurrence(events.histories(), events.n_items)
        users = counts.diagonal().astype(np.float32)
        scale = sparse.diags_array(1 / np.sqrt(np.maximum(users, 1)))
        cosines = (scale @ counts @ scale).astype(np.float32).tocsr()
        cosines.setdiag(0)
        cosines.eliminate_zeros()
        return cls(cosines, users)

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.popularity)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m); the number of users for an empty history."""
        summed = incidence(histories, self.n_items) @ self._rows
        rows: NDArray[np.float32] = summed if isinstance(summed, np.ndarray) else summed.toarray()
        for row, history in enumerate(histories):
            if not len(history):
                rows[row] = self.popularity
        return rows

    def because(self, history: ItemRows, item: int) -> list[tuple[int, float]]:
        """The items of the history that are most similar to the item, most similar first."""
        rows = np.unique(history)
        return heaviest(rows, self.similarities[rows][:, [item]].toarray()[:, 0])

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        csr = self.similarities
        tensors = {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr, "popularity": self.popularity}
        return {}, tensors

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "ItemKnn":
        """The inverse of `stored`."""
        m = len(tensors["popularity"])
        csr = sparse.csr_array((tensors["data"], tensors["indices"], tensors["indptr"]), shape=(m, m))
        return cls(csr, tensors["popularity"])


class ItemVectors:
    """Scores by the cosine between an item's vector, of its text for instance, and the mean of the history's."""

    kind: ClassVar[str] = "item-vectors"

    def __init__(self, unit: NDArray[np.float32]) -> None:
        self.vectors = unit  # (m, dim), of length 1, or 0 where nothing is known of the item

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> "ItemVectors":
        """From vectors of any length: (m, dim)."""
        return cls(_unit(vectors))

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.vectors)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m); for an empty history the cosine to the mean of all items."""
        known = [self.vectors[history] if len(history) else self.vectors for history in histories]
        means = np.reshape([vectors.mean(axis=0) for vectors in known], (len(histories), self.vectors.shape[1]))
        rows: NDArray[np.float32] = _unit(means) @ self.vectors.T
        return rows

    def because(self, history: ItemRows, item: int) -> list[tuple[int, float]]:
        """The items of the history whose vectors are nearest to the item's, nearest first; weights are cosines."""
        rows = np.unique(history)
        return heaviest(rows, self.vectors[rows] @ self.vectors[item])

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        return {}, {"vectors": self.vectors}

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "ItemVectors":
        """The inverse of `stored`."""
        return cls(tensors["vectors"])


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return unit
