"""LightGCN: embeddings averaged over the layers of a linear convolution on the user-item graph (He et al., SIGIR 2020).

As in the paper: no weights and no activations between layers, propagation by D^-½ A D^-½, the mean of all layers, BPR
loss on one uniform negative a pair, and L2 on the embeddings of the batch. Ours: a history that was not in the graph is
propagated as a user whose own embedding is 0, so users have no rows when serving; and serving needs no torch.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.recommend.interactions import Interactions, ItemRows
from facetrail.models.recommend.matrices import CsrArray, incidence

if TYPE_CHECKING:
    from torch import Tensor


class LightGcnConfig(BaseModel):
    """Size of the network and length of its fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=64, ge=1)
    layers: int = Field(default=3, ge=1)
    epochs: int = Field(default=50, ge=1)
    batch: int = Field(default=8_192, ge=1)
    """Pairs a step: few large steps, since every step propagates through the whole graph."""
    lr: float = Field(default=5e-3, gt=0)
    ridge: float = Field(default=1e-4, ge=0)
    """Weight of the squared embeddings of a batch's users and items, per pair."""


class LightGcn:
    """Scores by the product of the propagated history and the items' mean embeddings."""

    kind: ClassVar[str] = "lightgcn"

    def __init__(self, layers: NDArray[np.float32], users: NDArray[np.float32], config: LightGcnConfig) -> None:
        self.layers, self.users, self.config = layers, users, config  # (layers + 1, m, dim), and (m,) users of an item
        # What one item of the history adds: its layers below the last, normalised on the item's side.
        scale = 1 / np.sqrt(np.maximum(users, 1))[:, None]
        self._sent = layers[:-1].sum(axis=0) * scale / len(layers)
        self._items = layers.mean(axis=0)

    @classmethod
    def fit(cls, events: Interactions, config: LightGcnConfig, *, seed: int) -> "LightGcn":
        """Trains on the CPU; the same seed gives the same embeddings on the same machine."""
        held = incidence(events.histories(), events.n_items)
        layers = _trained(held, config, seed)
        return cls(layers[:, held.shape[0] :], np.asarray(held.sum(axis=0), np.float32), config)

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.users)

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m); the number of users for an empty history."""
        held = incidence(histories, self.n_items)
        sizes = np.maximum(np.diff(held.indptr), 1).astype(np.float32)[:, None]
        rows: NDArray[np.float32] = ((held @ self._sent) / np.sqrt(sizes)) @ self._items.T
        for row, history in enumerate(histories):
            if not len(history):
                rows[row] = self.users
        return rows

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        return self.config.model_dump(), {"layers": self.layers, "users": self.users}

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "LightGcn":
        """The inverse of `stored`."""
        return cls(tensors["layers"], tensors["users"], LightGcnConfig.model_validate(config))


def _trained(held: CsrArray, config: LightGcnConfig, seed: int) -> NDArray[np.float32]:
    """Embeddings of users and then items at every layer: (layers + 1, n + m, dim). held: (n, m)."""
    import torch
    from torch.nn.functional import softplus

    n, m = held.shape
    graph = _normalised(held)
    generator = torch.Generator().manual_seed(seed)
    table = torch.nn.Parameter(0.1 * torch.randn(n + m, config.dim, generator=generator))
    optimiser = torch.optim.Adam([table], lr=config.lr)
    users, items = (torch.from_numpy(side.astype(np.int64)) for side in held.nonzero())
    for _ in range(config.epochs):
        order = torch.randperm(len(users), generator=generator)
        for rows in torch.split(order, config.batch):
            negatives = torch.randint(m, (len(rows),), generator=generator)
            at = torch.stack([users[rows], n + items[rows], n + negatives])  # (3, pairs)
            user, positive, negative = torch.stack(_propagated(graph, table, config.layers)).mean(dim=0)[at]
            loss = softplus((user * (negative - positive)).sum(dim=-1)).mean()
            loss = loss + config.ridge * table[at].square().sum() / (2 * len(rows))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.no_grad():
        layers: NDArray[np.float32] = torch.stack(_propagated(graph, table, config.layers)).numpy()
    return layers


def _propagated(graph: "Tensor", table: "Tensor", n_layers: int) -> "list[Tensor]":
    layers = [table]
    for _ in range(n_layers):
        layers.append(graph @ layers[-1])
    return layers


def _normalised(held: CsrArray) -> "Tensor":
    """D^-½ A D^-½ of the graph of users and items: (n + m, n + m), sparse."""
    import torch
    from scipy import sparse  # type: ignore[import-untyped]

    graph = sparse.block_array([[None, held], [held.T, None]]).tocsr()
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(graph.sum(axis=1), 1)))
    graph = (scale @ graph @ scale).astype(np.float32).tocoo()
    places = torch.from_numpy(np.stack([graph.row, graph.col]).astype(np.int64))
    return torch.sparse_coo_tensor(places, torch.from_numpy(graph.data), graph.shape, check_invariants=True).coalesce()
