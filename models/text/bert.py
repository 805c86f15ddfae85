"""BERT's forward pass over packed texts: tokens of all texts in one row after another, no padding, no mask.

The linear maps, where almost all work is, see (tokens, d); attention sees each group of equally long texts as a batch.
Covers the architectures `bert`, `roberta` and `xlm-roberta` with absolute positions, straight from their safetensors.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facetrail.models.text.architecture import GELU, bare_names, first_position
from facetrail.models.text.pooling import Pooling, pool


class PackedBert:
    """Weights of one BERT on one device in one dtype."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        pooling: Pooling,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.device, self.dtype, self._pooling = device, dtype, pooling
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config.get("layer_norm_eps", 1e-12))
        self._gelu = GELU[config["hidden_act"]]
        self._first = first_position(config)
        named = bare_names(tensors)

        def get(name: str) -> Tensor:
            return named[name].to(device=device, dtype=dtype).contiguous()

        self._words = get("embeddings.word_embeddings.weight")
        positions = named["embeddings.position_embeddings.weight"].float()
        kinds = named["embeddings.token_type_embeddings.weight"].float()
        self._positions = (positions + kinds[0]).to(device=device, dtype=dtype)  # every token is of type 0
        self._norm = (get("embeddings.LayerNorm.weight"), get("embeddings.LayerNorm.bias"))
        self._layers = [self._layer(named, f"encoder.layer.{i}.") for i in range(int(config["num_hidden_layers"]))]

    def _layer(self, named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        def get(*names: str) -> Tensor:
            return (
                torch.cat([named[prefix + name] for name in names])
                .to(device=self.device, dtype=self.dtype)
                .contiguous()
            )

        parts = [f"attention.self.{part}." for part in ("query", "key", "value")]
        layer = {
            "qkv.weight": get(*[part + "weight" for part in parts]),
            "qkv.bias": get(*[part + "bias" for part in parts]),
        }
        for ours, theirs in (
            ("out", "attention.output.dense"),
            ("norm1", "attention.output.LayerNorm"),
            ("up", "intermediate.dense"),
            ("down", "output.dense"),
            ("norm2", "output.LayerNorm"),
        ):
            layer |= {f"{ours}.weight": get(f"{theirs}.weight"), f"{ours}.bias": get(f"{theirs}.bias")}
        return layer

    @property
    def n_layers(self) -> int:
        """Transformer layers, the embeddings not counted."""
        return len(self._layers)

    def __call__(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of texts, best sorted by length → pooled vectors (texts, d) float32, not normalised."""
        return self.pooled(self.lower(texts, self.n_layers), [len(text) for text in texts])

    def pooled(self, states: Tensor, lengths: Sequence[int]) -> Tensor:
        """Last hidden states of texts of these lengths, (tokens, d) → (texts, d) float32, not normalised."""
        pooled, start = [], 0
        for n, length in equal_runs(lengths):
            stop = start + n * length
            pooled.append(pool(states[start:stop].view(n, length, -1).float(), self._pooling))
            start = stop
        return torch.cat(pooled)

    def lower(self, texts: Sequence[Sequence[int] | NDArray[np.integer]], layer: int) -> Tensor:
        """Token ids → states after the embeddings and layers [0, layer): (tokens of all texts, d), text after text."""
        lengths = [len(text) for text in texts]
        ids = torch.from_numpy(np.concatenate([np.asarray(text, np.int64) for text in texts])).to(self.device)
        places = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]) + self._first).to(self.device)
        states = functional.embedding(ids, self._words).add_(functional.embedding(places, self._positions))
        states = functional.layer_norm(states, states.shape[-1:], *self._norm, self._eps)
        return self._run(states, lengths, 0, layer)

    def upper(self, states: Tensor, lengths: Sequence[int], layer: int) -> Tensor:
        """States from `lower`, which stay as they are → states after layers [layer, n_layers). (tokens, d) both."""
        # Blocks add in place, to the input too.
        return self._run(states.to(device=self.device, dtype=self.dtype, copy=True), lengths, layer, self.n_layers)

    def _run(self, states: Tensor, lengths: Sequence[int], start: int, stop: int) -> Tensor:
        groups = equal_runs(lengths)
        for layer in self._layers[start:stop]:
            states = self._block(states, layer, groups)
        return states

    def _block(self, states: Tensor, layer: dict[str, Tensor], groups: list[tuple[int, int]]) -> Tensor:
        d = states.shape[-1]
        qkv = functional.linear(states, layer["qkv.weight"], layer["qkv.bias"])  # (tokens, 3d)
        context = torch.empty_like(states)
        start = 0
        for n, length in groups:
            stop = start + n * length
            heads = qkv[start:stop].view(n, length, 3, self._heads, d // self._heads).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(
                heads[0], heads[1], heads[2]
            )  # (n, heads, length, d / heads)
            context[start:stop].view(n, length, self._heads, -1).copy_(mixed.transpose(1, 2))
            start = stop
        states = states.add_(functional.linear(context, layer["out.weight"], layer["out.bias"]))
        states = functional.layer_norm(states, (d,), layer["norm1.weight"], layer["norm1.bias"], self._eps)
        inner = functional.gelu(functional.linear(states, layer["up.weight"], layer["up.bias"]), approximate=self._gelu)
        states = states.add_(functional.linear(inner, layer["down.weight"], layer["down.bias"]))
        return functional.layer_norm(states, (d,), layer["norm2.weight"], layer["norm2.bias"], self._eps)


def equal_runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours of equal length: (how many, how long) of each run."""
    return [(len(list(run)), length) for length, run in groupby(lengths)]
