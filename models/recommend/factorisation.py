"""Matrix factorisation by alternating least squares: iALS for events alone, biased factors for events with values.

iALS minimises Σ_held (1 - x·y)² + α Σ_all (x·y)² + Σ λ_x |x|² + Σ λ_y |y|², where λ_x = λ (held + α m) for a user and
likewise for an item (Rendle, Krichene, Zhang and Koren, "Revisiting the performance of iALS", RecSys 2022, ν = 1).
Biased factors minimise Σ_held (r - μ - b_u - b_i - x·y)² + λ Σ_held (|x|² + |y|² + b_u² + b_i²) (Koren, Bell and
Volinsky 2009, with the weighting of Zhou et al. 2008); ours: a bias is solved together with its factors, as one more.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, ItemRows
from facetrail.models.recommend.matrices import CsrArray, incidence

Factors = NDArray[np.float64]


class FactorConfig(BaseModel):
    """Size and strength of an iALS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=64, ge=1)
    unobserved: float = Field(default=0.1, gt=0)
    """α: the weight of an item that a user does not hold against one that he does."""
    ridge: float = Field(default=0.003, gt=0)
    """λ, per event."""
    sweeps: int = Field(default=16, ge=1)


class ImplicitFactors:
    """iALS. A history is solved for as a user of the fit would be, so users have no rows when serving."""

    kind: ClassVar[str] = "ials"

    def __init__(self, items: NDArray[np.float32], popularity: NDArray[np.float32], config: FactorConfig) -> None:
        self.items, self.popularity, self.config = items, popularity, config  # (m, dim), (m,) users
        self._gram = _gram(items.astype(np.float64))

    @classmethod
    def fit(cls, events: Interactions, config: FactorConfig, *, rng: np.random.Generator) -> "ImplicitFactors":
        """Alternates users and items, `sweeps` times each."""
        held = incidence(events.histories(), events.n_items)
        of_items = held.T.tocsr()
        items = rng.normal(0, 0.1 / np.sqrt(config.dim), (events.n_items, config.dim))
        for _ in range(config.sweeps):
            users = _solved(held, items, _gram(items), config)
            items = _solved(of_items, users, _gram(users), config)
        return cls(items.astype(np.float32), np.diff(of_items.indptr).astype(np.float32), config)

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.items)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m); the number of users for an empty history."""
        held = incidence(histories, self.n_items)
        rows: NDArray[np.float32] = (
            _solved(held, self.items.astype(np.float64), self._gram, self.config).astype(np.float32) @ self.items.T
        )
        for row, history in enumerate(histories):
            if not len(history):
                rows[row] = self.popularity
        return rows

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        return self.config.model_dump(), {"items": self.items, "popularity": self.popularity}

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "ImplicitFactors":
        """The inverse of `stored`."""
        return cls(tensors["items"], tensors["popularity"], FactorConfig.model_validate(config))


class BiasedFactors:
    """Predicts the value that a known user gives a known item. It is no scorer: a history carries no values."""

    def __init__(self, mean: float, users: Factors, items: Factors) -> None:
        self.mean, self.users, self.items = mean, users, items  # (n, dim + 1) and (m, dim + 1), the last one the bias

    @classmethod
    def fit(
        cls, events: Interactions, *, dim: int = 64, ridge: float = 0.1, sweeps: int = 15, rng: np.random.Generator
    ) -> "BiasedFactors":
        """Raises InvalidInput where an event has no value or there is none. A repeated pair counts its mean value."""
        if not len(events.items) or np.isnan(events.values).any():
            raise InvalidInput("biased factors need a value of every event; use ials for events without")
        pairs = (np.repeat(np.arange(events.n_users), np.diff(events.starts)), events.items)
        shape = (events.n_users, events.n_items)
        sums = sparse.coo_array((events.values.astype(np.float64), pairs), shape=shape).tocsr()
        sums.data /= sparse.coo_array((np.ones(len(events.items)), pairs), shape=shape).tocsr().data
        mean = float(sums.data.mean())
        sums.data -= mean
        of_items = sums.T.tocsr()
        items = np.hstack([rng.normal(0, 0.1, (events.n_items, dim)), np.zeros((events.n_items, 1))])
        for _ in range(sweeps):
            users = _fitted(sums, items, ridge)
            items = _fitted(of_items, users, ridge)
        return cls(mean, users, items)

    def predict(self, users: ItemRows, items: ItemRows) -> NDArray[np.float64]:
        """(p,) values of pairs by number; -1 stands for an unknown user or item, whose bias and factors are 0."""
        x = np.where(users[:, None] < 0, 0, self.users[users])
        y = np.where(items[:, None] < 0, 0, self.items[items])
        values: NDArray[np.float64] = self.mean + (x[:, :-1] * y[:, :-1]).sum(axis=1) + x[:, -1] + y[:, -1]
        return values


def _gram(factors: Factors) -> Factors:
    gram: Factors = factors.T @ factors
    return gram


def _solved(held: CsrArray, other: Factors, gram: Factors, config: FactorConfig) -> Factors:
    """One side of iALS given the other: (n, m), (m, dim), (dim, dim) → (n, dim)."""
    found = np.zeros((held.shape[0], config.dim))
    for row, (start, end) in enumerate(zip(held.indptr, held.indptr[1:], strict=False)):
        if start < end:
            y = other[held.indices[start:end]]
            system = y.T @ y + config.unobserved * gram
            system[np.diag_indices(config.dim)] += config.ridge * (end - start + config.unobserved * len(other))
            found[row] = np.linalg.solve(system, y.sum(axis=0))
    return found


def _fitted(values: CsrArray, other: Factors, ridge: float) -> Factors:
    """One side of biased factors given the other; values without the mean: (n, m), (m, dim + 1) → (n, dim + 1)."""
    found = np.zeros((values.shape[0], other.shape[1]))
    for row, (start, end) in enumerate(zip(values.indptr, values.indptr[1:], strict=False)):
        if start < end:
            y = other[values.indices[start:end]].copy()
            left = values.data[start:end] - y[:, -1]
            y[:, -1] = 1  # this side's bias is the factor of a constant
            system = y.T @ y
            system[np.diag_indices_from(system)] += ridge * (end - start)
            found[row] = np.linalg.solve(system, y.T @ left)
    return found
