"""From token states to one vector: pure functions of tensors.

`pool` takes rows of equal length, so it needs no mask: the encoder groups texts by length. `masked_pool` is for padded
batches of architectures that need padding.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "cls", "max"]


def pool(states: "Tensor", pooling: Pooling) -> "Tensor":
    """states: (b, t, d), every token counts → (b, d)."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.amax(dim=1)
    return states.mean(dim=1)


def masked_pool(states: "Tensor", mask: "Tensor", pooling: Pooling) -> "Tensor":
    """states: (b, t, d) · mask: (b, t) bool, True = counts; at least one token of each row counts → (b, d)."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(dim=1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def unit_rows(vectors: "Tensor") -> "Tensor":
    """Rows divided by their length; a row of zeros stays zero. (n, d) → (n, d)."""
    length: Tensor = vectors.norm(dim=1, keepdim=True)
    return vectors / length.clamp_min(1e-12)
