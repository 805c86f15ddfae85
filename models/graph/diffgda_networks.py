"""The four networks of DiffGDA on dense subgraphs: whose node it is, how it would change, its noise, its edges.

None of them depends on the order of the nodes. Letters: b subgraphs, n nodes each, D = latent width + classes.
`edges` are -1 or +1 when clean, anything when noised; the diagonal is -1.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from facetrail.models.graph.encoder import Convolution
from facetrail.models.graph.sde import Schedule

_N_WAVES = 8


class DensePropagator:
    """P = D^-½ (E + I) D^-½ of weighted edges E in [0, 1], the noised ones clipped."""

    def __init__(self, edges: Tensor) -> None:
        """edges: (b, n, n)."""
        looped = unit(edges) + torch.eye(edges.shape[-1], device=edges.device)
        scale = looped.sum(dim=-1).rsqrt()
        self.matrix = scale[..., None] * looped * scale[..., None, :]

    def power(self, dense: Tensor, k: int) -> Tensor:
        """Pᵏ @ dense. dense: (b, n, d)."""
        for _ in range(k):
            dense = self.matrix @ dense
        return dense


class DomainClassifier(nn.Module):
    """Log odds that a node is the target's rather than the source's. It must never see a label."""

    def __init__(self, width: int, generator: torch.Generator, dim: int = 32) -> None:
        super().__init__()
        self.first, self.second = Convolution(width, dim, generator), Convolution(dim, 1, generator)

    def forward(self, z: Tensor, edges: Tensor) -> Tensor:
        """z: (b, n, latent width) · edges: (b, n, n) → (b, n)."""
        p = DensePropagator(edges)
        logits: Tensor = self.second(self.first(z, p, 1).relu(), p, 1)
        return logits.squeeze(-1)


class RatioGuide(nn.Module):
    """h > 0, of each node: the ratio of target to source density that its clean self is expected to have."""

    def __init__(self, width: int, generator: torch.Generator, dim: int = 64) -> None:
        super().__init__()
        self.first = Convolution(width + 2 * _N_WAVES, dim, generator)
        self.second = Convolution(dim, 1, generator)

    def forward(self, u: Tensor, edges: Tensor, t: Tensor) -> Tensor:
        """u: (b, n, D) · edges: (b, n, n) · t: (b,) → (b, n)."""
        p = DensePropagator(edges)
        h = self.first(with_time(u, t), p, 1).relu()
        return nn.functional.softplus(self.second(h, p, 1)).squeeze(-1)


class FeatureNoise(nn.Module):
    """The noise in the features; -noise / s_t is their score."""

    def __init__(self, width: int, generator: torch.Generator, dim: int = 64, n_layers: int = 3) -> None:
        super().__init__()
        n_read = width + 2 * _N_WAVES
        widths = [n_read, *[dim] * n_layers]
        self.layers = nn.ModuleList(Convolution(n_in, n_out, generator) for n_in, n_out in pairwise(widths))
        self.hidden, self.out = linear(sum(widths), 2 * dim, generator), linear(2 * dim, width, generator)

    def forward(self, u: Tensor, edges: Tensor, t: Tensor) -> Tensor:
        """u: (b, n, D) · edges: (b, n, n) · t: (b,) → (b, n, D)."""
        p = DensePropagator(edges)
        states = [with_time(u, t)]
        for layer in self.layers:
            states.append(layer(states[-1], p, 1).relu())
        noise: Tensor = self.out(self.hidden(torch.cat(states, dim=-1)).relu())
        return noise


class CleanEdges(nn.Module):
    """Log odds that a pair of nodes is an edge of the clean graph, symmetric.

    The pair's own noised value speaks by its likelihood ratio, 2 a_t A_t / s_t², exactly; the network says what all
    others say.
    """

    def __init__(
        self, width: int, schedule: Schedule, generator: torch.Generator, dim: int = 48, pair_dim: int = 16
    ) -> None:
        super().__init__()
        self._schedule = schedule
        self.first = Convolution(width + 2 * _N_WAVES, dim, generator)
        self.second = Convolution(dim, dim, generator)
        self.sums, self.products = linear(dim, pair_dim, generator), linear(dim, pair_dim, generator)
        self.hidden = linear(2 * pair_dim + 2 + 2 * _N_WAVES, 2 * pair_dim, generator)
        self.out = linear(2 * pair_dim, 1, generator)

    def forward(self, u: Tensor, edges: Tensor, t: Tensor) -> Tensor:
        """u: (b, n, D) · edges: (b, n, n) · t: (b,) → (b, n, n); the diagonal means nothing."""
        p, near = DensePropagator(edges), unit(edges)
        h = self.second(self.first(with_time(u, t), p, 1).relu(), p, 1).relu()
        summed, multiplied = self.sums(h), self.products(h)  # (b, n, pair_dim)
        paired = torch.cat(
            [
                summed[:, :, None] + summed[:, None, :],
                multiplied[:, :, None] * multiplied[:, None, :],
                edges[..., None],
                (near @ near)[..., None],
            ],
            dim=-1,
        )  # (b, n, n, 2 pair_dim + 2)
        told: Tensor = self.out(self.hidden(with_time(paired, t)).relu()).squeeze(-1)
        a, s = self._schedule.a(t), self._schedule.s(t)
        # Sums of many terms round differently in both orders; the halves make the symmetry exact.
        return (told + told.mT) / 2 + (2 * a / s.square())[:, None, None] * edges


def unit(edges: Tensor) -> Tensor:
    """Edges of -1 and +1 as 0 and 1; noised ones are clipped to between."""
    return ((edges + 1) / 2).clamp(0, 1)


def with_time(x: Tensor, t: Tensor) -> Tensor:
    """x with sines and cosines of the time as further columns. x: (b, ..., d) · t: (b,)."""
    angles = math.pi * t[:, None] * 2.0 ** torch.arange(_N_WAVES, device=t.device)  # (b, waves)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
    spread = waves.reshape(len(t), *[1] * (x.ndim - 2), -1).expand(*x.shape[:-1], -1)
    return torch.cat([x, spread], dim=-1)


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """With torch's own start, but drawn from the generator."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
    return layer
