"""The tiny causal language model: a pre-norm decoder made from a config, and its key-value cache.

The layout is GPT-2's (learned positions, LayerNorm before each part, GELU, output tied to the input table); with the
defaults and 19 tokens it has 109,504 weights. Ours: the cache is one tensor of the batch's final size, and it is
written in place.
"""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class DecoderConfig(BaseModel):
    """The shape of a tiny decoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tokens: int = Field(ge=1)
    """Size of the tokenizer's table."""
    dim: int = Field(default=64, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=4, ge=1)
    context: int = Field(default=128, ge=2)
    """Positions: the most tokens of prompt and completion together."""
    dtype: Literal["float32", "float64"] = "float32"
    """float64 for checks of mathematics."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "DecoderConfig":
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} cannot be shared by {self.n_heads} heads; choose a multiple")
        return self

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return torch.float64 if self.dtype == "float64" else torch.float32


class Decoder(nn.Module):
    """Token ids to last states, and last states to logits."""

    def __init__(self, config: DecoderConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.n_tokens, config.dim)
        self.positions = nn.Embedding(config.context, config.dim)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.dim)
        # In float64, so that both dtypes begin with the same numbers.
        self.double()
        _initialise(self, torch.Generator().manual_seed(seed))
        self.to(config.torch_dtype)

    def forward(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Last states. ids, positions: (n, t) int64 · mask: as `attention_mask` makes it → (n, t, d)."""
        x = self._embedded(ids, positions)
        for block in self.blocks:
            x = block(x, mask)
        states: Tensor = self.norm(x)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """states: (..., d) → (..., n_tokens)."""
        return states @ self.tokens.weight.T

    def _embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        embedded: Tensor = self.tokens(ids) + self.positions(positions)
        return embedded


class CachedDecoder:
    """A batch that a decoder is writing: keys and values of everything read so far.

    room: how many tokens will be appended at most.
    """

    def __init__(self, decoder: Decoder, *, room: int) -> None:
        self._decoder, self._room = decoder, room

    def start(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Reads prompts padded on the left. ids: (n, p) · mask: (n, p) bool → logits of the next token (n, v)."""
        config = self._decoder.config
        n, p = ids.shape
        weight = self._decoder.tokens.weight
        # (layer, key or value, row, head, slot, dim of a head)
        shape = (config.n_layers, 2, n, config.n_heads, p + self._room, config.dim // config.n_heads)
        self._cache, self._filled = weight.new_zeros(shape), 0
        self._position = mask.sum(1)
        self._readable: Tensor | None = None
        if not mask.all():
            self._readable = torch.cat([mask, mask.new_ones(n, self._room)], 1)[:, None, None]
        return self._read(ids, positions_of(mask, config.context), attention_mask(mask))[:, -1]

    def extend(self, ids: Tensor) -> Tensor:
        """Reads more of prompts without padding. ids: (n, t) → logits of the next token (n, v)."""
        return self.judge(ids, n_last=1)[:, -1]

    def judge(self, ids: Tensor, *, n_last: int = 0) -> Tensor:
        """As `extend` → logits after each of the tokens (n, t, v), or after the last ones alone."""
        n, t = ids.shape
        places = self._filled + torch.arange(t, device=ids.device)
        readable = torch.arange(self._filled + t, device=ids.device) <= places.unsqueeze(1)
        positions = places.clamp_max(self._decoder.config.context - 1).expand(n, t)
        logits = self._read(ids, positions, readable[None, None], n_last=n_last or t)
        self._position = self._position + t
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Appends one token to every row. tokens: (n,) int64 → logits of the next (n, v)."""
        readable = None if self._readable is None else self._readable[..., : self._filled + 1]
        # Rows that have ended may be carried along past the context; nobody reads what they say.
        position = self._position.clamp_max(self._decoder.config.context - 1).unsqueeze(1)
        logits = self._read(tokens.unsqueeze(1), position, readable)
        self._position = self._position + 1
        return logits[:, -1]

    def take(self, rows: Tensor) -> None:
        """Goes on with these rows, in this order; a row may occur twice. rows: (m,) int64."""
        self._cache, self._position = self._cache.index_select(2, rows), self._position[rows]
        self._readable = None if self._readable is None else self._readable[rows]

    def _read(self, ids: Tensor, positions: Tensor, mask: Tensor | None, *, n_last: int = 1) -> Tensor:
        decoder, end = self._decoder, self._filled + ids.shape[1]
        x = decoder._embedded(ids, positions)
        for block, cache in zip(decoder.blocks, self._cache, strict=True):
            x = block(x, mask, cache[..., :end, :])
        self._filled = end
        return decoder.logits(decoder.norm(x[:, -n_last:]))


class _Block(nn.Module):
    """Attention and two linear layers, each behind a norm and added to what came in."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim = config.dim
        self.n_heads = config.n_heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Tensor | None = None) -> Tensor:
        """x: (n, t, d) · mask: None for plain causal attention · cache: (2, n, h, s, d / h), its last t slots free."""
        n, t, dim = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(n, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv
        if cache is not None:
            cache[..., -t:, :] = qkv[1:]
            k, v = cache
        # One new token may read everything; several at once are always a prompt, which nothing precedes.
        read = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and t > 1)
        x = x + self.out(read.transpose(1, 2).reshape(n, t, dim))
        more: Tensor = self.down(gelu(self.up(self.mlp_norm(x))))
        return x + more


def positions_of(mask: Tensor, context: int) -> Tensor:
    """Position ids that count real tokens only; padding gets some position inside the table. (n, t) → (n, t)."""
    return (mask.cumsum(1) - 1).clamp(0, context - 1)


def attention_mask(mask: Tensor) -> Tensor | None:
    """What each token may read, where some rows begin with padding. mask: (n, t) bool → (n, 1, t, t), or None.

    Padding behind a row's tokens needs no mask: nothing looks ahead. A padded place reads itself, since attention to
    nothing is no number.
    """
    if mask[:, 0].all():
        return None
    t = mask.shape[1]
    causal = torch.ones(t, t, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(t, dtype=torch.bool, device=mask.device)
    return ((causal & mask[:, None]) | itself)[:, None]


def _initialise(decoder: Decoder, generator: torch.Generator) -> None:
    """GPT-2's: normal with deviation 0.02, the layers that write to the residual stream scaled by their number."""
    residual = 0.02 / (2 * decoder.config.n_layers) ** 0.5
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if parameter.ndim == 2:
                deviation = residual if name.endswith(("out.weight", "down.weight")) else 0.02
                parameter.normal_(0, deviation, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
