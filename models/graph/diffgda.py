"""A labelled source graph carried towards the target by a guided diffusion (DiffGDA, ICLR 2026, arXiv 2602.10506).

Follows the paper's statement: one stochastic differential equation moves features and edges of the source together,
and ∇ log q_t = ∇ log p_t + ∇ log E[q(G_0) / p(G_0) | G_t] steers its reverse, p being the law of the source and q that
of the target. The released code does not do what is stated: its sampler returns its prior.

Ours, since neither says how: subgraphs of a few dozen nodes in place of the whole graph; coordinates of a joint SVD
with the scaled label beside them; a variance-preserving schedule; edges of -1 and +1 whose score comes from the odds
of a clean edge; a density ratio per node, whose logarithms add up, where one averaged over n nodes would shrink the
push by n; a start from the noised source, so that labels and part of the edges survive; as many edges as before.
"""

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from facetrail.models.graph.diffgda_networks import CleanEdges, FeatureNoise, RatioGuide
from facetrail.models.graph.sde import LAST, Schedule, State, reverse

RATIO_LIMITS = (0.1, 10.0)
"""Of target to source density at a node; beyond them the guide would learn a handful of nodes alone."""
_EDGE_WEIGHT, _GUIDE_WEIGHT = 4.0, 0.5
_FLOOR = 1e-6
_SURE = 0.5


class DiffusionConfig(BaseModel):
    """What is carried, how far, and how the networks learn it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=0.2, ge=0, le=1)
    """Of the source's nodes that are replaced; 0 leaves the source as it is, bit for bit."""
    n_nodes: int = Field(default=64, ge=2)
    """Of a subgraph; half of the smaller graph at most."""
    label_scale: float = Field(default=3.0, gt=0)
    """Of the one-hot label beside coordinates of unit variance."""
    start: float = Field(default=0.2, gt=LAST, le=1)
    """Time at which the reverse pass starts from the noised source; at 1 nothing of the source is left."""
    reverse_steps: int = Field(default=50, ge=1)
    guidance: float = Field(default=1.0, ge=0)
    """Of the push towards the target; 0 only noises and denoises."""
    network_steps: int = Field(default=1000, ge=1)
    """Of the three networks, which learn together."""
    network_batch: int = Field(default=8, ge=1)
    """Subgraphs a step."""


@dataclass(frozen=True)
class DiffusionLoss:
    """The terms of one step, each a scalar."""

    noise: Tensor
    """Mean squared error of the features' noise."""
    edges: Tensor
    """Cross-entropy of the clean edges."""
    guide: Tensor
    """Mean squared error of h."""

    def total(self) -> Tensor:
        """What is minimised."""
        return self.noise + _EDGE_WEIGHT * self.edges + _GUIDE_WEIGHT * self.guide


class Diffusion(nn.Module):
    """The networks that turn noised source subgraphs back, with or without a push to the target.

    Letters: b subgraphs, n nodes, D = latent width + classes. A graph is (u, edges): (b, n, D) and (b, n, n).
    """

    def __init__(self, width: int, generator: torch.Generator, schedule: Schedule | None = None) -> None:
        """width: D. generator: on the CPU, draws the weights."""
        super().__init__()
        self.schedule = schedule or Schedule()
        self.noise = FeatureNoise(width, generator)
        self.edges = CleanEdges(width, self.schedule, generator)
        self.guide = RatioGuide(width, generator)

    def loss(self, clean: State, ratio: Tensor, t: Tensor, noise: State) -> DiffusionLoss:
        """clean: graphs. ratio: (b, n) of target to source density. t: (b,). noise: of the graphs' shapes."""
        u, edges = noised(clean, t, noise, self.schedule)
        n = edges.shape[-1]
        rows, columns = torch.triu_indices(n, n, offset=1)
        logits = self.edges(u, edges, t)[:, rows, columns]
        return DiffusionLoss(
            (self.noise(u, edges, t) - noise[0]).square().mean(),
            binary_cross_entropy_with_logits(logits, (clean[1][:, rows, columns] > 0).to(logits.dtype)),
            (self.guide(u, edges, t) - ratio).square().mean(),
        )

    def score(self, graph: State, t: float) -> State:
        """∇ log p_t of features and edges, the latter off the diagonal."""
        u, edges = graph
        times = torch.full((len(u),), t, device=u.device)
        a, s = float(self.schedule.a(times[0])), float(self.schedule.s(times[0]))
        with torch.no_grad():
            odds = self.edges(u, edges, times)
            return -self.noise(u, edges, times) / s, edge_score(edges, odds.sigmoid(), a, s)

    def push(self, graph: State, t: float) -> State:
        """∇ Σ_v log h_v: where the target is denser than the source, and the graph can get to."""
        u, edges = (part.detach().requires_grad_() for part in graph)
        times = torch.full((len(u),), t, device=u.device)
        with torch.enable_grad():
            told = (self.guide(u, edges, times) + _FLOOR).log().sum()
        of_u, of_edges = torch.autograd.grad(told, (u, edges))
        # A pair is one variable that stands in the matrix twice.
        return of_u, of_edges + of_edges.mT

    def carry(
        self, clean: State, *, start: float, n_steps: int, guidance: float, generator: torch.Generator
    ) -> tuple[State, State]:
        """Noises graphs up to `start` and turns them back; → what came out, and the noised ones it began with.

        generator: on the CPU. Raises NotFinite.
        """

        def direction(graph: State, t: float) -> State:
            scores = self.score(graph, t)
            if guidance == 0:
                return scores
            return tuple(s + guidance * g for s, g in zip(scores, self.push(graph, t), strict=True))

        def noise() -> State:
            return drawn_noise(clean, generator)

        times = torch.full((len(clean[0]),), start, device=clean[0].device)
        begun = noised(clean, times, noise(), self.schedule)
        ended = reverse(
            begun, direction, noise, start=start, n_steps=n_steps, schedule=self.schedule, settle=without_loops
        )
        return ended, begun


def drawn_noise(like: State, generator: torch.Generator) -> State:
    """Standard normal: of the features freely, of the edges symmetric with a diagonal of 0."""
    u, edges = (torch.randn(part.shape, generator=generator).to(part.device) for part in like)
    upper = edges.triu(1)
    return u, upper + upper.mT


def noised(clean: State, t: Tensor, noise: State, schedule: Schedule) -> State:
    """a_t G_0 + s_t z, the diagonal left at -1. t: (b,)."""
    a, s = schedule.a(t)[:, None, None], schedule.s(t)[:, None, None]
    u, edges = (a * part + s * z for part, z in zip(clean, noise, strict=True))
    return without_loops((u, edges))


def without_loops(graph: State) -> State:
    """The graph with -1 on the diagonal."""
    u, edges = graph
    here = torch.eye(edges.shape[-1], dtype=torch.bool, device=edges.device)
    return u, edges.masked_fill(here, -1)


def edge_score(edges: Tensor, probability: Tensor, a: float, s: float) -> Tensor:
    """∇ log p_t of edges with the given probability of being +1 when clean (Tweedie's formula). all: (b, n, n)."""
    return (a * (2 * probability - 1) - edges) / s**2


@dataclass(frozen=True, eq=False)
class Decoded:
    """Clean subgraphs."""

    z: Tensor
    """(b, n, latent width)."""
    y: Tensor
    """(b, n) classes."""
    confidence: Tensor
    """(b, n) softmax of the label part at its maximum."""
    edges: Tensor
    """(b, n, n) bool, symmetric, no loops, as many as before."""


def decode(graph: State, y: Tensor, n_edges: Tensor, n_classes: int) -> Decoded:
    """y: (b, n) the classes before, which stay where there was none (-1) or the new one is doubtful. n_edges: (b,)."""
    u, edges = graph
    width = u.shape[-1] - n_classes
    confidence, told = u[..., width:].softmax(dim=-1).max(dim=-1)
    n = edges.shape[-1]
    rows, columns = torch.triu_indices(n, n, offset=1)
    order = edges[:, rows, columns].argsort(dim=-1, descending=True, stable=True)
    ranks = order.argsort(dim=-1)  # of each pair, 0 for the likeliest edge
    upper = torch.zeros(edges.shape, dtype=torch.bool, device=edges.device)
    upper[:, rows, columns] = ranks < n_edges[:, None]
    kept = (y < 0) | (confidence < _SURE)
    return Decoded(u[..., :width], torch.where(kept, y, told), confidence, upper | upper.mT)
