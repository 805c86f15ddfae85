"""The top layers of a BERT as trainable parameters, on padded states.

As in `PackedBert`, the linear maps see only real tokens; attention, a small share of the work, sees the padded form
with a mask. No dropout: the layers below are frozen and the runs are short.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facetrail.models.text.architecture import GELU, bare_names

_PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


class TopLayers(nn.Module):
    """The top `n_layers` layers of the base, starting as the base's, in float32."""

    def __init__(self, base: Mapping[str, Tensor], config: Mapping[str, Any], n_layers: int) -> None:
        """base: the base's tensors by name · config: its config.json. Raises KeyError where a tensor is missing."""
        super().__init__()
        total = int(config["num_hidden_layers"])
        if not 0 <= n_layers <= total:
            raise ValueError(f"{n_layers} top layers of a network that has {total}")
        self.first, self._n_layers = total - n_layers, total
        """The layer whose input `forward` takes: `PackedBert.lower(texts, first)` gives it."""
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config.get("layer_norm_eps", 1e-12))
        self._gelu = GELU[config["hidden_act"]]
        named = bare_names(base)
        # Modules allow no dot in a parameter's name.
        self._parameters_by_name = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(named[name].detach().to(torch.float32, copy=True))
                for name in top_names(config, n_layers)
            }
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """states: (b, t, d) before layer `first` · mask: (b, t) bool, True = a token → (b, t, d), zeros at padding."""
        b, t, d = states.shape
        is_full = bool(mask.all())
        places = None if is_full else mask.flatten().nonzero().squeeze(1)
        rows = states.reshape(b * t, d)
        rows = rows if places is None else rows.index_select(0, places)
        for layer in range(self.first, self._n_layers):
            rows = self._block(rows, f"encoder.layer.{layer}.", mask, places)
        return _spread(rows, places, b * t).view(b, t, d)

    def _block(self, rows: Tensor, prefix: str, mask: Tensor, places: Tensor | None) -> Tensor:
        """One layer. rows: (tokens, d) · places: (tokens,) their rows in the padded form; None: there is no padding."""
        (b, t), d = mask.shape, rows.shape[1]
        parts = [f"{prefix}attention.self.{part}." for part in ("query", "key", "value")]
        weight = torch.cat([self._get(part + "weight") for part in parts])
        bias = torch.cat([self._get(part + "bias") for part in parts])
        qkv = _spread(functional.linear(rows, weight, bias), places, b * t)
        heads = qkv.view(b, t, 3, self._heads, d // self._heads).permute(2, 0, 3, 1, 4)  # (3, b, heads, t, d / heads)
        visible = None if places is None else mask[:, None, None, :]
        context = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=visible)
        context = context.transpose(1, 2).reshape(b * t, d)
        context = context if places is None else context.index_select(0, places)
        rows = self._norm(rows + self._linear(context, prefix + "attention.output.dense"), prefix + "attention.output")
        inner = functional.gelu(self._linear(rows, prefix + "intermediate.dense"), approximate=self._gelu)
        return self._norm(rows + self._linear(inner, prefix + "output.dense"), prefix + "output")

    def _get(self, name: str) -> Tensor:
        parameter: Tensor = self._parameters_by_name[name.replace(".", "/")]
        return parameter

    def _linear(self, rows: Tensor, name: str) -> Tensor:
        return functional.linear(rows, self._get(f"{name}.weight"), self._get(f"{name}.bias"))

    def _norm(self, rows: Tensor, name: str) -> Tensor:
        weight, bias = self._get(f"{name}.LayerNorm.weight"), self._get(f"{name}.LayerNorm.bias")
        return functional.layer_norm(rows, rows.shape[-1:], weight, bias, self._eps)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the weights under the base's names (`encoder.layer.4.attention.self.query.weight`)."""
        return {name.replace("/", "."): p.detach().clone() for name, p in self._parameters_by_name.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over weights under the base's names; names of other layers are left out of account."""
        for name, parameter in self._parameters_by_name.items():
            parameter.copy_(tensors[name.replace("/", ".")])

    def differences(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights minus the base's, under the base's names, float32."""
        named = bare_names(base)
        return {name: tensor - named[name].float() for name, tensor in self.tensors().items()}

    @torch.no_grad()
    def interpolate(self, base: Mapping[str, Tensor], weight: float) -> None:
        """Moves the weights to (1 - weight) base + weight · trained: 0 is the base again, 1 changes nothing."""
        named = bare_names(base)
        for name, parameter in self._parameters_by_name.items():
            parameter.lerp_(named[name.replace("/", ".")].to(parameter), 1 - weight)


def top_names(config: Mapping[str, Any], n_layers: int) -> list[str]:
    """Names of the tensors of the top layers, as the base calls them without a head's prefix."""
    total = int(config["num_hidden_layers"])
    layers = range(total - n_layers, total)
    return [f"encoder.layer.{i}.{part}.{kind}" for i in layers for part in _PARTS for kind in ("weight", "bias")]


def _spread(rows: Tensor, places: Tensor | None, n: int) -> Tensor:
    """Rows back at their places among n, zeros elsewhere. (tokens, d) → (n, d)."""
    return rows if places is None else rows.new_zeros(n, rows.shape[1]).index_copy(0, places, rows)
