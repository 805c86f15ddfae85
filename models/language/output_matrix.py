"""A transformers model's output matrix: exact logits of half precision, and no copy of the matrix for every row."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


def refine(output: nn.Linear) -> None:
    """Changes the layer in place."""
    output.register_forward_pre_hook(_contiguous)
    if output.weight.dtype != torch.float32:
        output.__class__ = ExactOutput


class ExactOutput(nn.Linear):
    """An output matrix of half precision whose logits are float32.

    Logits of bfloat16 come in steps of an eighth and more: two answers whose odds differ by less would be level, and a
    ranking by them mostly ties. A frozen matrix is widened once, one that learns at every call.
    """

    _wide: Tensor | None = None

    def forward(self, states: Tensor) -> Tensor:
        """(…, d) → (…, v)."""
        if self.weight.requires_grad:
            weight = self.weight.float()
        else:
            if self._wide is None or self._wide.device != self.weight.device:
                with torch.inference_mode(False):  # made while scoring, it is read in training steps too
                    self._wide = self.weight.detach().float()
            weight = self._wide
        return linear(states.float(), weight, None if self.bias is None else self.bias.float())


def _contiguous(_: Any, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The last states of a batch are a view with gaps, for which torch copies a frozen output matrix for each row.

    `contiguous()` would not do: it leaves the strides of one row as they are, and torch looks at the strides.
    """
    return tuple(part.clone(memory_format=torch.contiguous_format) for part in states)
