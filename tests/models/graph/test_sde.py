"""Noise, and the way back under scores that are known exactly."""

import math

import pytest
import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.diffgda import drawn_noise, edge_score, noised, without_loops
from facetrail.models.graph.sde import NotFinite, Schedule, State, reverse

SCHEDULE = Schedule()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def at(t: float) -> tuple[float, float]:
    return float(SCHEDULE.a(torch.tensor(t))), float(SCHEDULE.s(torch.tensor(t)))


@pytest.mark.parametrize("t", [0.05, 0.2, 0.5, 1.0])
def test_noised_graphs_have_the_mean_and_variance_of_the_schedule(t: float):
    b, n = 200, 20
    upper = torch.ones(b, n, n).triu(1)
    clean = (torch.full((b, n, 10), 2.0), without_loops((torch.empty(0), upper + upper.mT))[1])
    u, edges = noised(clean, torch.full((b,), t), drawn_noise(clean, torch.Generator().manual_seed(0)), SCHEDULE)
    exponent = 0.1 * t + 19.9 * t * t / 2
    a, s = math.exp(-exponent / 2), math.sqrt(1 - math.exp(-exponent))
    assert at(t) == pytest.approx((a, s), rel=1e-5)
    pairs = edges[:, *torch.triu_indices(n, n, offset=1)]
    for values, start in ((u, 2.0), (pairs, 1.0)):
        assert float(values.mean()) == pytest.approx(start * a, abs=0.02)
        assert float(values.var()) == pytest.approx(s * s, rel=0.02)
    assert torch.equal(edges, edges.mT)
    assert torch.equal(edges.diagonal(dim1=1, dim2=2), torch.full((b, n), -1.0))


def test_the_expected_ratio_has_its_closed_form():
    """p = N(0, I), q = N(μ, I): E[r | x_t] = exp(a μ·x_t - a² |μ|² / 2), so that the guided score is -x_t + a μ."""
    mu, t = torch.tensor([0.8, 0.0, -0.4, 0.2]), 0.3
    a, s = at(t)
    x_t = torch.tensor([0.5, -1.0, 0.3, 0.1])
    x_0 = a * x_t + s * drawn(200_000, 4)  # of p(x_0 | x_t)
    ratio = (x_0 @ mu - mu @ mu / 2).exp()
    expected = (a * mu @ x_t - a**2 * mu @ mu / 2).exp()
    assert float(ratio.mean()) == pytest.approx(float(expected), rel=0.01)


def gaussian_reverse(guidance: float, push: Tensor, n: int = 8000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    begun = torch.randn(n, 4, generator=generator)

    def direction(state: State, t: float) -> State:
        return (-state[0] + guidance * at(t)[0] * push,)

    noise = lambda: (torch.randn(n, 4, generator=generator),)  # noqa: E731
    return reverse((begun,), direction, noise, start=1.0, n_steps=100, schedule=SCHEDULE)[0], begun


@pytest.mark.parametrize(("guidance", "mean", "tolerance"), [(0.0, 0.0, 0.05), (1.0, 1.0, 0.05), (2.0, 2.0, 0.06)])
def test_exact_guidance_moves_the_mean_by_its_weight(guidance: float, mean: float, tolerance: float):
    found, begun = gaussian_reverse(guidance, torch.tensor([1.0, 0, 0, 0]))
    assert float(found[:, 0].mean()) == pytest.approx(mean, abs=tolerance)
    assert found.std(dim=0).tolist() == pytest.approx([1.0] * 4, rel=0.03)
    assert float(torch.corrcoef(torch.stack([found[:, 1], begun[:, 1]]))[0, 1].abs()) < 0.2, "not the prior"


def test_a_ratio_averaged_over_nodes_shrinks_the_push():
    """n independent nodes, each to be moved by μ: the sum of the logarithms does, the average of the ratios cannot."""
    n, mu = 8, 0.5
    generator = torch.Generator().manual_seed(0)

    def moved(averaged: bool) -> float:
        def direction(state: State, t: float) -> State:
            a = at(t)[0]
            x = state[0].detach().requires_grad_()
            h = (a * mu * x - a**2 * mu**2 / 2).exp()  # of each node; exact
            told = (h.mean(dim=1).log() if averaged else h.log().sum(dim=1)).sum()
            return (torch.autograd.grad(told, x)[0] - state[0],)

        noise = lambda: (torch.randn(3000, n, generator=generator),)  # noqa: E731
        return float(reverse(noise(), direction, noise, start=1.0, n_steps=100, schedule=SCHEDULE)[0].mean())

    assert moved(averaged=False) == pytest.approx(mu, abs=0.05)
    assert moved(averaged=True) == pytest.approx(mu / n, abs=0.04)


P, Q = 0.1, 0.3


def edge_probability(edges: Tensor, density: float, t: float) -> Tensor:
    """Two-point posterior of an independent edge."""
    a, s = at(t)
    return (math.log(density / (1 - density)) + 2 * a * edges / s**2).sigmoid()


def edge_push(edges: Tensor, t: float) -> Tensor:
    x = edges.detach().requires_grad_()
    pi = edge_probability(x, P, t)
    # One variable a pair: the upper triangle, its gradient put on both sides.
    told = (pi * Q / P + (1 - pi) * (1 - Q) / (1 - P)).log().triu(1).sum()
    gradient = torch.autograd.grad(told, x)[0]
    return gradient + gradient.mT


def test_guided_edges_have_the_score_of_the_other_density():
    for t in (0.1, 0.3, 0.7):
        a, s = at(t)
        edges = drawn(1, 12, 12).double()
        edges = (edges + edges.mT) / 2
        guided = edge_score(edges, edge_probability(edges, P, t), a, s) + edge_push(edges, t)
        wanted = edge_score(edges, edge_probability(edges, Q, t), a, s)
        rows, columns = torch.triu_indices(12, 12, offset=1)
        assert torch.allclose(guided[0, rows, columns], wanted[0, rows, columns], atol=1e-6)
        assert torch.equal(guided, guided.mT)


@pytest.mark.parametrize(("guidance", "density", "tolerance"), [(0.0, P, 0.02), (1.0, Q, 0.03)])
def test_exact_guidance_moves_the_density_of_edges(guidance: float, density: float, tolerance: float):
    b, n = 20, 40
    generator = torch.Generator().manual_seed(0)
    like = (torch.empty(b, n, 1), torch.empty(b, n, n))

    def direction(graph: State, t: float) -> State:
        u, edges = graph
        score = edge_score(edges, edge_probability(edges, P, t), *at(t))
        return -u, score + (guidance * edge_push(edges, t) if guidance else 0)

    begun = without_loops(drawn_noise(like, generator))
    noise = lambda: drawn_noise(like, generator)  # noqa: E731
    _, edges = reverse(begun, direction, noise, start=1.0, n_steps=100, schedule=SCHEDULE, settle=without_loops)
    pairs, before = (part[:, *torch.triu_indices(n, n, offset=1)] for part in (edges, begun[1]))
    assert float((pairs > 0).float().mean()) == pytest.approx(density, abs=tolerance)
    assert float(((pairs.abs() - 1).abs() < 0.2).float().mean()) >= 0.99
    assert torch.equal(edges, edges.mT)
    assert float(torch.corrcoef(torch.stack([pairs.flatten(), before.flatten()]))[0, 1].abs()) < 0.2, "not the prior"


def test_a_pass_that_leaves_the_finite_numbers_ends():
    noise = lambda: (torch.zeros(2),)  # noqa: E731
    with pytest.raises(NotFinite, match=r"t = 0\.500"):
        reverse((torch.zeros(2),), lambda s, t: (s[0] / 0,), noise, start=0.5, n_steps=3, schedule=SCHEDULE)
    with pytest.raises(InvalidInput, match="one step or more"):
        reverse((torch.zeros(2),), lambda s, t: s, noise, start=0.5, n_steps=0, schedule=SCHEDULE)
