"""BERT's forward pass over packed texts: tokens of all texts in one row after another, no padding, no mask.

The linear maps, where almost all work is, see (tokens, d); attention sees each group of equally long texts as a batch.
Covers the architectures `bert`, `roberta` and `xlm-roberta` with absolute positions, straight from their safetensors.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
FAMILIES = ("bert", "roberta", "xlm-roberta")


def is_bert(config: Mapping[str, Any]) -> bool:
    """Whether this module computes the architecture that config.json describes."""
    return (config.get("model_type") in FAMILIES and config.get("hidden_act") in ACTIVATIONS
            and config.get("position_embedding_type", "absolute") in ("absolute", None)
            and not config.get("is_decoder") and not config.get("add_cross_attention"))


def first_position(config: Mapping[str, Any]) -> int:
    """Row of the position table that the first token uses."""
    return 0 if config["model_type"] == "bert" else int(config.get("pad_token_id", 1)) + 1


def strip_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the head's prefix (`bert.`, `roberta.`)."""
    marker = "embeddings.word_embeddings.weight"
    prefix = next(name for name in tensors if name.endswith(marker)).removesuffix(marker)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class PackedBert:
    """Weights of one BERT on one device in one dtype."""

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, dtype: torch.dtype,
                 device: torch.device) -> None:
        self.device, self.dtype = device, dtype
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config.get("layer_norm_eps", 1e-12))
        self._gelu = ACTIVATIONS[config["hidden_act"]]
        self._first = first_position(config)
        named = strip_prefix(tensors)

        def get(name: str) -> Tensor:
            return named[name].to(device=device, dtype=dtype).contiguous()

        self._words = get("embeddings.word_embeddings.weight")
        positions = named["embeddings.position_embeddings.weight"].float()
        kinds = named["embeddings.token_type_embeddings.weight"].float()
        self._positions = (positions + kinds[0]).to(device=device, dtype=dtype)     # every token is of type 0
        self._norm = (get("embeddings.LayerNorm.weight"), get("embeddings.LayerNorm.bias"))
        self._layers = [self._layer(named, f"encoder.layer.{i}.") for i in range(int(config["num_hidden_layers"]))]

    def _layer(self, named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        def get(*names: str) -> Tensor:
            return torch.cat([named[prefix + name] for name in names]).to(device=self.device, dtype=self.dtype).contiguous()

        parts = [f"attention.self.{part}." for part in ("query", "key", "value")]
        layer = {"qkv.weight": get(*[part + "weight" for part in parts]), "qkv.bias": get(*[part + "bias" for part in parts])}
        for ours, theirs in (("out", "attention.output.dense"), ("norm1", "attention.output.LayerNorm"),
                             ("up", "intermediate.dense"), ("down", "output.dense"), ("norm2", "output.LayerNorm")):
            layer |= {f"{ours}.weight": get(f"{theirs}.weight"), f"{ours}.bias": get(f"{theirs}.bias")}
        return layer

    def __call__(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Last hidden states of token ids, best sorted by length: (tokens of all texts, d), text after text."""
        lengths = [len(text) for text in texts]
        ids = torch.from_numpy(np.concatenate([np.asarray(text, np.int64) for text in texts])).to(self.device)
        places = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]) + self._first).to(self.device)
        states = F.embedding(ids, self._words).add_(F.embedding(places, self._positions))
        states = F.layer_norm(states, states.shape[-1:], *self._norm, self._eps)
        groups = equal_runs(lengths)
        for layer in self._layers:
            states = self._block(states, layer, groups)
        return states

    def _block(self, states: Tensor, layer: dict[str, Tensor], groups: list[tuple[int, int]]) -> Tensor:
        d = states.shape[-1]
        qkv = F.linear(states, layer["qkv.weight"], layer["qkv.bias"])              # (tokens, 3d)
        context = torch.empty_like(states)
        start = 0
        for n, length in groups:
            stop = start + n * length
            heads = qkv[start:stop].view(n, length, 3, self._heads, d // self._heads).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])    # (n, heads, length, d / heads)
            context[start:stop].view(n, length, self._heads, -1).copy_(mixed.transpose(1, 2))
            start = stop
        states = states.add_(F.linear(context, layer["out.weight"], layer["out.bias"]))
        states = F.layer_norm(states, (d,), layer["norm1.weight"], layer["norm1.bias"], self._eps)
        inner = F.gelu(F.linear(states, layer["up.weight"], layer["up.bias"]), approximate=self._gelu)
        states = states.add_(F.linear(inner, layer["down.weight"], layer["down.bias"]))
        return F.layer_norm(states, (d,), layer["norm2.weight"], layer["norm2.bias"], self._eps)


def equal_runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours of equal length: (how many, how long) of each run."""
    return [(len(list(run)), length) for length, run in groupby(lengths)]
