"""Gradients of a contrastive loss over a batch too large for one graph.

The loss compares every text with every other, but the memory goes into the encoder. So: encode chunk by chunk without
a graph, take the loss of all outputs together and its gradient by each of them, then encode every chunk again, now with
a graph, and send it its share of that gradient. Twice the forward work, the memory of one chunk. The sum is the full
batch's gradient as long as `encode` gives the same outputs twice (no dropout between).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput

Chunk = TypeVar("Chunk")
Outputs = dict[str, Tensor]


def cached_backward(
    encode: Callable[[Chunk], Outputs],
    chunks: Sequence[Chunk],
    loss_of_outputs: Callable[[Outputs], Tensor],
) -> Tensor:
    """Adds the gradient of `loss_of_outputs(all chunks' outputs)` to every parameter's `.grad`; → the loss, detached.

    encode: chunk → tensors by name, the same names for every chunk, row i of each belonging to text i of the chunk;
    further dimensions must agree between chunks. Chunks may differ in kind, as long as their outputs do not.
    loss_of_outputs: rows of all chunks, in the chunks' order → scalar. Parameters it uses itself (mixing, anchors) get
    their gradient too.
    """
    if not chunks:
        raise InvalidInput("there is no chunk to take a gradient of; give at least one")
    with torch.no_grad():
        encoded = [encode(chunk) for chunk in chunks]
    whole = {name: torch.cat([outputs[name] for outputs in encoded]) for name in encoded[0]}
    leaves = {name: rows.requires_grad_() if rows.is_floating_point() else rows for name, rows in whole.items()}
    loss = loss_of_outputs(leaves)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    first = 0
    for chunk, outputs in zip(chunks, encoded, strict=True):
        last = first + len(next(iter(outputs.values())))
        _send_back(
            encode(chunk), {name: rows.grad[first:last] for name, rows in leaves.items() if rows.grad is not None}
        )
        first = last
    return loss.detach()


def _send_back(outputs: Outputs, gradients: Outputs) -> None:
    """Backward through one chunk, for the outputs that the loss used and a parameter has a part in."""
    wanted = [name for name in gradients if outputs[name].requires_grad]
    if wanted:
        torch.autograd.backward([outputs[name] for name in wanted], [gradients[name] for name in wanted])
