"""Losses that bring two sets of representations together: kernel MMD, and an adversary behind reversed gradients.

Both as in the released code of A2GNN and of the adversarial baselines beside it, but for the size and number of the
MMD's samples, which are the caller's. Letters: m rows of each side, d dimensions.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

_N_KERNELS = 5


def mmd(source: Tensor, target: Tensor) -> Tensor:
    """Squared maximum mean discrepancy under five Gaussian kernels, β to 16 β wide. both: (m, d) → scalar.

    β is a quarter of the mean squared distance between different rows, taken as given. Rows that are all equal: 0.
    """
    m = len(source)
    rows = torch.cat([source, target])
    norms = rows.square().sum(dim=1)
    squared = (norms[:, None] + norms - 2 * rows @ rows.T).clamp_min(0)  # (2m, 2m)
    squared = squared - torch.diag(squared.diagonal())  # rounding must not tell a row from itself
    beta = float(squared.detach().sum()) / (4 * m * m - 2 * m) / 4
    if beta == 0:
        return squared.sum() * 0
    kernels = torch.stack([(squared / (-beta * 2**i)).exp() for i in range(_N_KERNELS)]).sum(dim=0)
    within, across = kernels[:m, :m] + kernels[m:, m:], kernels[:m, m:] + kernels[m:, :m]
    return (within - across).mean()


def drawn_rows(rows: Tensor, m: int, generator: torch.Generator) -> Tensor:
    """m rows, with replacement. rows: (n, d) → (m, d); the generator is on the CPU."""
    return rows[torch.randint(len(rows), (m,), generator=generator).to(rows.device)]


def reverse_gradient(x: Tensor, coefficient: float) -> Tensor:
    """x itself; its gradient comes back times -coefficient."""
    reversed_: Tensor = _Reversed.apply(x, coefficient)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_coefficient(progress: float) -> float:
    """From 0 at the start to nearly 1. progress: share of the epochs done."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def domain_loss(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Cross-entropy of telling source (class 0) from target (class 1). both: (n, 2), of different n."""
    logits = torch.cat([source_logits, target_logits])
    domains = torch.arange(len(logits), device=logits.device) >= len(source_logits)
    return cross_entropy(logits, domains.long())


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * gradient, None
