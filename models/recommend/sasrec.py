"""SASRec: a causal transformer over the items of one history, its output tied to the item table.

Follows Kang and McAuley 2018 in learned positions, causal self-attention, pointwise feed-forward layers of the model's
width with ReLU, and the shared item table. Ours:
1. pre-norm blocks and a final norm;
2. a full softmax over all items (`sequence_losses`) where the paper draws one negative;
3. dropout of embeddings and of what each layer adds only: inside the attention weights it triples their time on a CPU;
4. positions count a history's real items from its oldest, wherever its padding stands.

Letters: b histories, t places, d dimensions, m items. Item i is id i + 1 inside; id 0 is padding and is never scored.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import dropout, relu, scaled_dot_product_attention

from facetrail.models.recommend.interactions import ItemRows

_ROWS = 256
"""Histories scored at a time."""


class SasrecConfig(BaseModel):
    """The shape of a SASRec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_items: int = Field(ge=1)
    """m."""
    dim: int = Field(default=64, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=2, ge=1)
    length: int = Field(default=100, ge=1)
    """Items of a history that are read; of longer ones, the latest."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of embeddings and of what each layer adds; .2 for dense histories, .5 for sparse ones."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "SasrecConfig":
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} cannot be shared by {self.n_heads} heads; choose a multiple")
        return self


class Sasrec(nn.Module):
    """Histories to states; a state times the table scores the next item."""

    prior: Tensor

    def __init__(self, config: SasrecConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(config.n_items + 1, config.dim)
        self.positions = nn.Embedding(config.length, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.register_buffer("prior", torch.zeros(config.n_items))
        """(m,) scores for somebody of whom nothing is known."""
        _initialise(self, torch.Generator().manual_seed(seed))

    @property
    def table(self) -> Tensor:
        """(m, d) items as they are scored, without padding."""
        return self.items.weight[1:]

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (b, t) int64, 0 where padding, t ≤ length → states (b, t, d); those at padding mean nothing."""
        mask = attention_mask(ids)
        x = self.embedded(ids)
        for block in self.blocks:
            x = block(x, mask)
        states: Tensor = self.norm(x)
        return states

    def embedded(self, ids: Tensor) -> Tensor:
        """What the first block reads. (b, t) → (b, t, d)."""
        places = ((ids != 0).cumsum(1) - 1).clamp_min(0)
        return dropout(self.items(ids) + self.positions(places), self.config.dropout, self.training)


class Block(nn.Module):
    """Attention, then a feed-forward layer, each behind a norm and added to what came in."""

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.attention_norm, self.feed_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.qkv, self.out = nn.Linear(config.dim, 3 * config.dim), nn.Linear(config.dim, config.dim)
        self.up, self.down = nn.Linear(config.dim, config.dim), nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (b, t, d) · mask: as `attention_mask` makes it."""
        return self.feed(self.attend(x, mask))

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x and what the places before each one tell it."""
        b, t, d = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(b, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        read = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return x + dropout(self.out(read.transpose(1, 2).reshape(b, t, d)), self.dropout, self.training)

    def feed(self, x: Tensor) -> Tensor:
        """x and what each place makes of itself."""
        inner = relu(self.up(self.feed_norm(x)))
        return x + dropout(self.down(inner), self.dropout, self.training)


def attention_mask(ids: Tensor) -> Tensor | None:
    """Which places each place may read: (b, 1, t, t) bool; None, plain causal, where all padding comes last.

    Padding that comes last is never read by a real place. Padding before one reads itself, so that no row is empty.
    """
    real = ids != 0
    if not bool((real[:, 1:] & ~real[:, :-1]).any()):
        return None
    t = ids.shape[1]
    causal = torch.ones(t, t, dtype=torch.bool, device=ids.device).tril()
    itself = torch.eye(t, dtype=torch.bool, device=ids.device)
    return ((causal & real[:, None, :]) | itself).unsqueeze(1)


def padded(histories: Sequence[ItemRows], length: int) -> NDArray[np.int64]:
    """The latest `length` items of each history as ids, padding last: (b, longest)."""
    cut = [history[-length:] for history in histories]
    ids = np.zeros((len(cut), max((len(history) for history in cut), default=0)), np.int64)
    for row, history in zip(ids, cut, strict=True):
        row[: len(history)] = history + 1
    return ids


class SasrecScorer:
    """A fitted SASRec as a `Scorer`; an empty history gets the model's prior."""

    kind: ClassVar[str] = "sasrec"

    def __init__(self, model: Sasrec) -> None:
        self.model = model.eval()

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return self.kind

    @property
    def n_items(self) -> int:
        """m."""
        return self.model.config.n_items

    @torch.inference_mode()
    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        """(b, m)."""
        model, table = self.model.eval(), self.model.table
        rows = np.empty((len(histories), self.n_items), np.float32)
        sizes = np.array([min(len(history), model.config.length) for history in histories], np.int64)
        rows[sizes == 0] = model.prior.cpu().numpy()
        # Histories of like length are scored together, so that little is computed for padding.
        order = np.argsort(sizes, kind="stable")
        order = order[sizes[order] > 0]
        for begin in range(0, len(order), _ROWS):
            some = order[begin : begin + _ROWS]
            ids = torch.from_numpy(padded([histories[i] for i in some], model.config.length)).to(table.device)
            last = model(ids)[torch.arange(len(some)), torch.from_numpy(sizes[some] - 1)]
            rows[some] = (last @ table.T).cpu().numpy()
        return rows

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config and tensors."""
        tensors = {name: tensor.detach().cpu().numpy() for name, tensor in self.model.state_dict().items()}
        return self.model.config.model_dump(), tensors

    @classmethod
    def restored(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "SasrecScorer":
        """The inverse of `stored`."""
        model = Sasrec(SasrecConfig.model_validate(config), seed=0)
        model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
        return cls(model)


def _initialise(model: Sasrec, generator: torch.Generator) -> None:
    """Tables and maps from N(0, .02²), biases 0, norms 1."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        model.items.weight[0] = 0
