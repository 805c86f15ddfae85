"""Losses of next-item prediction: pure functions of states, targets and the item table.

Letters: n positions that have a next item, d dimensions, m items, k negatives. Every loss is a mean over positions.
Full softmax: `-log softmax(h E^T)[target]`. Ours: its gradients are formed beside the loss, some hundred rows at a
time, so the (n, m) matrix of scores never exists; on one CPU core that takes half of the time.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

CPU_SCORES, GPU_SCORES = 1 << 21, 1 << 28
"""Scores held at a time: on a CPU about what its cache holds, on a GPU what its memory does not notice."""


def full_softmax(states: Tensor, targets: Tensor, table: Tensor, *, unavailable: Tensor | None = None) -> Tensor:
    """Cross-entropy over all items that are available.

    states: (n, d) · targets: (n,) int64 · table: (m, d) · unavailable: (m,) bool, items outside the sum. Once
    differentiable.
    """
    loss: Tensor = _FullSoftmax.apply(states, table, targets, unavailable)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax(states: Tensor, targets: Tensor, table: Tensor, negatives: Tensor, log_q: Tensor) -> Tensor:
    """Cross-entropy whose sum over the other items is estimated from k drawn ones, shared by all positions.

    negatives: (k,) int64, drawn from q with replacement · log_q: (m,) log-probability of drawing each item. Subtracting
    log(k q) makes the estimate of the sum unbiased; a negative that is a row's target is left out of that row.
    """
    wanted = (states * table[targets]).sum(-1, keepdim=True)
    others = states @ table[negatives].T - (log_q[negatives] + math.log(len(negatives)))
    others = others.masked_fill(negatives == targets.unsqueeze(1), float("-inf"))
    return cross_entropy(torch.cat([wanted, others], 1), targets.new_zeros(len(targets)))


def one_negative(states: Tensor, targets: Tensor, table: Tensor, negatives: Tensor) -> Tensor:
    """Binary cross-entropy of the target and one other item a position (SASRec as published); a weak baseline.

    negatives: (n,) int64.
    """
    right = (states * table[targets]).sum(-1)
    wrong = (states * table[negatives]).sum(-1)
    positive = binary_cross_entropy_with_logits(right, torch.ones_like(right))
    return positive + binary_cross_entropy_with_logits(wrong, torch.zeros_like(wrong))


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, targets: Tensor, unavailable: Tensor | None) -> Tensor:
        n, m = len(states), len(table)
        rows = max(1, (GPU_SCORES if states.is_cuda else CPU_SCORES) // m)
        buffer = states.new_empty(min(rows, n), m)
        total = states.new_zeros(())
        to_states, to_table = torch.empty_like(states), torch.zeros_like(table)
        for begin in range(0, n, rows):
            some, wanted = states[begin : begin + rows], targets[begin : begin + rows].unsqueeze(1)
            scores = torch.mm(some, table.T, out=buffer[: len(some)])
            if unavailable is not None:
                scores.masked_fill_(unavailable, float("-inf"))
            largest, right = scores.amax(1, keepdim=True), scores.gather(1, wanted)
            torch.softmax(scores, 1, out=scores)
            # The largest probability is at least 1 / m: its logarithm gives the normaliser without a second exp.
            total += (largest - scores.amax(1, keepdim=True).log() - right).sum()
            scores.scatter_add_(1, wanted, -torch.ones_like(right))
            torch.mm(scores, table, out=to_states[begin : begin + rows])
            to_table.addmm_(scores.T, some)
        ctx.save_for_backward(to_states.div_(n), to_table.div_(n))
        return total / n

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_states, to_table = ctx.saved_tensors
        return to_states * gradient, to_table * gradient, None, None
