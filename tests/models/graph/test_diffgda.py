"""DiffGDA's networks, what they learn on cases with a known answer, and the way into dense subgraphs and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.diffgda import (
    RATIO_LIMITS,
    Decoded,
    Diffusion,
    DiffusionLoss,
    decode,
    drawn_noise,
    noised,
    without_loops,
)
from facetrail.models.graph.diffgda_networks import DomainClassifier, linear
from facetrail.models.graph.diffgda_subgraphs import (
    dense_edges,
    dense_labels,
    dense_latents,
    draw_disjoint,
    draw_subgraphs,
    merge,
)
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.sde import Schedule, State, reverse

B, N, WIDTH, C = 3, 10, 7, 3
SCHEDULE = Schedule()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_graphs(b: int = B, n: int = N, seed: int = 0, density: float = 0.3) -> State:
    generator = seeded(seed)
    upper = (torch.rand(b, n, n, generator=generator) < density).float().triu(1)
    return torch.randn(b, n, WIDTH, generator=generator), without_loops((upper, 2 * (upper + upper.mT) - 1))[1]


def test_networks_follow_the_order_of_the_nodes():
    diffusion, (u, edges) = Diffusion(WIDTH, seeded()), random_graphs()
    edges = without_loops((u, edges + 0.4 * drawn_noise((u, edges), seeded(1))[1]))[1]
    order = torch.randperm(N, generator=seeded(2))
    moved, t = (u[:, order], edges[:, order][:, :, order]), torch.tensor([0.1, 0.2, 0.3])
    with torch.no_grad():
        for net in (diffusion.noise, diffusion.guide):
            assert torch.allclose(net(u, edges, t)[:, order], net(*moved, t), atol=1e-5)
        odds = diffusion.edges(u, edges, t)
        assert torch.allclose(odds[:, order][:, :, order], diffusion.edges(*moved, t), atol=1e-4, rtol=1e-5)
        assert torch.equal(odds, odds.mT)
        assert bool((diffusion.guide(u, edges, t) > 0).all())
        classifier = DomainClassifier(WIDTH, seeded())
        assert torch.allclose(classifier(u, edges)[:, order], classifier(*moved), atol=1e-5)


def test_scores_and_pushes_are_symmetric_and_networks_draw_from_their_generator():
    before = torch.get_rng_state()
    diffusion, same, graph = Diffusion(WIDTH, seeded()), Diffusion(WIDTH, seeded()), random_graphs()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(diffusion.parameters(), same.parameters(), strict=True))
    for _, edges in (diffusion.score(graph, 0.2), diffusion.push(graph, 0.2)):
        assert torch.equal(edges, edges.mT)
    ended, begun = diffusion.carry(graph, start=0.2, n_steps=5, guidance=1.0, generator=seeded())
    for _, edges in (ended, begun):
        assert torch.equal(edges, edges.mT)
        assert torch.equal(edges.diagonal(dim1=1, dim2=2), torch.full((B, N), -1.0))
    other, _ = diffusion.carry(graph, start=0.2, n_steps=5, guidance=0.0, generator=seeded())
    again, _ = diffusion.carry(graph, start=0.2, n_steps=5, guidance=0.0, generator=seeded())
    assert torch.equal(other[0], again[0])
    assert not torch.equal(ended[0], other[0])


def test_the_push_is_the_gradient_of_the_guides_logarithms():
    diffusion, (u, edges) = Diffusion(WIDTH, seeded()).double(), random_graphs()
    graph = (u.double(), edges.double())
    of_u, of_edges = diffusion.push(graph, 0.2)
    t, eps = torch.full((B,), 0.2, dtype=torch.float64), 1e-6

    def told(u: Tensor, edges: Tensor) -> float:
        return float((diffusion.guide(u, edges, t) + 1e-6).log().sum().detach())

    def nudged(part: Tensor, *places: tuple[int, ...], by: float) -> Tensor:
        changed = part.clone()
        for place in places:
            changed[place] += by
        return changed

    slope = (told(nudged(graph[0], (1, 2, 3), by=eps), graph[1]) - told(nudged(graph[0], (1, 2, 3), by=-eps), graph[1])) / (2 * eps)  # fmt: skip  # noqa: E501
    assert float(of_u[1, 2, 3]) == pytest.approx(slope, abs=1e-6)
    soft = (graph[0], graph[1] * 0.5)
    pair = ((1, 2, 4), (1, 4, 2))
    slope = (told(soft[0], nudged(soft[1], *pair, by=eps)) - told(soft[0], nudged(soft[1], *pair, by=-eps))) / (2 * eps)
    assert float(diffusion.push(soft, 0.2)[1][1, 2, 4]) == pytest.approx(slope, abs=1e-6)
    assert of_edges.shape == (B, N, N)


def test_every_network_learns():
    clean, diffusion, generator = random_graphs(b=24), Diffusion(WIDTH, seeded()), seeded(5)
    ratio = 1 + clean[0][..., 0].sign() / 2

    def loss(rows: Tensor, generator: torch.Generator) -> DiffusionLoss:
        graphs = (clean[0][rows], clean[1][rows])
        t = 1e-3 + 0.399 * torch.rand(len(rows), generator=generator)
        return diffusion.loss(graphs, ratio[rows], t, drawn_noise(graphs, generator))

    def judged() -> list[float]:
        return [float(term.detach()) for term in vars(loss(torch.arange(24), seeded(6))).values()]

    before = judged()
    optimiser = torch.optim.Adam(diffusion.parameters(), lr=2e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss(torch.randint(24, (8,), generator=generator), generator).total().backward()
        optimiser.step()
    after = judged()
    assert all(one < 0.95 * other for one, other in zip(after, before, strict=True)), (before, after)


def shrunk(steps: int) -> float:
    """How many times smaller the push becomes where every ratio is 1."""
    clean, diffusion = random_graphs(b=24), Diffusion(WIDTH, seeded())
    generator, optimiser = seeded(5), torch.optim.Adam(diffusion.guide.parameters(), lr=2e-3)
    before = float(diffusion.push(clean, 0.2)[0].norm())
    for _ in range(steps):
        rows = torch.randint(24, (8,), generator=generator)
        graphs = (clean[0][rows], clean[1][rows])
        t = 1e-3 + 0.399 * torch.rand(8, generator=generator)
        optimiser.zero_grad()
        (
            diffusion.guide(*noised(graphs, t, drawn_noise(graphs, generator), SCHEDULE), t) - 1
        ).square().mean().backward()
        optimiser.step()
    return before / float(diffusion.push(clean, 0.2)[0].norm())


def test_nothing_to_steer_by_leaves_less_and_less_push():
    """Seen: 3.1 times after 300 steps, 5.0 after 600."""
    assert shrunk(300) > 2


@pytest.mark.slow
def test_nothing_to_steer_by_leaves_no_push():
    assert shrunk(3000) >= 10


class LearnedRatio(nn.Module):
    """h(x, t) on rows of four numbers."""

    def __init__(self) -> None:
        super().__init__()
        generator = seeded()
        self.layers = nn.Sequential(
            linear(6, 128, generator), nn.ReLU(), linear(128, 128, generator), nn.ReLU(), linear(128, 1, generator)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a, s = SCHEDULE.a(t), SCHEDULE.s(t)
        told: Tensor = nn.functional.softplus(self.layers(torch.cat([x, a[:, None], s[:, None]], dim=1)))
        return told[:, 0]


def guided_mean(steps: int, batch: int) -> Tensor:
    """Mean of samples that a learned, clipped ratio of N(e1, I) to N(0, I) guides from the prior."""
    generator, h = seeded(3), LearnedRatio()
    optimiser = torch.optim.Adam(h.parameters(), lr=2e-3)
    for _ in range(steps):
        x = torch.randn(batch, 4, generator=generator)
        ratio = (x[:, 0] - 0.5).exp().clamp(*RATIO_LIMITS)
        t = 1e-3 + (1 - 1e-3) * torch.rand(batch, generator=generator)
        x_t = SCHEDULE.a(t)[:, None] * x + SCHEDULE.s(t)[:, None] * torch.randn(batch, 4, generator=generator)
        optimiser.zero_grad()
        (h(x_t, t) - ratio).square().mean().backward()
        optimiser.step()

    def direction(state: State, t: float) -> State:
        x = state[0].detach().requires_grad_()
        told = (h(x, torch.full((len(x),), t)) + 1e-6).log().sum()
        return (torch.autograd.grad(told, x)[0] - state[0],)

    noise = lambda: (torch.randn(4000, 4, generator=generator),)  # noqa: E731
    return reverse(noise(), direction, noise, start=1.0, n_steps=100, schedule=SCHEDULE)[0].mean(dim=0)


def test_a_briefly_learned_ratio_moves_the_mean():
    mean = guided_mean(200, 256)
    assert float(mean[0]) == pytest.approx(1.0, abs=0.25)
    assert float(mean[1:].abs().max()) < 0.15


@pytest.mark.slow
def test_a_learned_ratio_moves_the_mean_by_the_known_shift():
    mean = guided_mean(3000, 1024)
    assert float(mean[0]) == pytest.approx(1.0, abs=0.1)
    assert float(mean[1:].abs().max()) <= 0.06


def test_subgraphs_are_breadth_first_and_disjoint_ones_share_no_node(graph: GraphData):
    rng = np.random.default_rng(0)
    nodes = draw_subgraphs(graph, 8, 5, rng)
    assert nodes.shape == (5, 8)
    assert all(len(set(row)) == 8 for row in nodes.tolist())
    apart = draw_disjoint(graph, 8, 17, rng)
    assert apart.shape == (3, 8)
    assert len(set(apart.ravel().tolist())) == 24
    assert draw_disjoint(graph, 8, 1000, rng).shape == (5, 8)
    assert draw_disjoint(graph, 8, 0, rng).shape == (0, 8)
    edges = dense_edges(graph, nodes)
    for row, dense in zip(nodes, edges, strict=True):
        assert np.array_equal(dense.numpy() > 0, graph.adjacency.toarray()[row][:, row] > 0)
    assert bool((edges.abs() == 1).all())
    alone = replace(graph, adjacency=sparse.csr_array((40, 40), dtype=np.float32))
    assert draw_subgraphs(alone, 8, 1, rng).shape == (1, 8), "another root where a component ends"


def test_labels_are_scaled_one_hots_and_zero_where_there_is_none(graph: GraphData):
    y = graph.y.copy()
    y[0] = -1
    found = dense_labels(replace(graph, y=y), np.array([[0, 1, 2]]), 3.0)
    assert found.tolist() == [[[0, 0, 0], [0, 3, 0], [0, 0, 3]]]
    with pytest.raises(InvalidInput, match="one class each"):
        dense_labels(replace(graph, y=np.eye(3, dtype=bool)[graph.y]), np.array([[0]]), 3.0)


def decoded(graph: GraphData, nodes: np.ndarray, noise: float) -> Decoded:
    u = torch.cat([dense_latents(graph, nodes), dense_labels(graph, nodes, 3.0)], dim=-1)
    clean = (u, dense_edges(graph, nodes))
    drawn = drawn_noise(clean, seeded())
    graphs = tuple(part + noise * z for part, z in zip(clean, drawn, strict=True))
    y = torch.from_numpy(graph.y[nodes])
    return decode(graphs, y, (clean[1] > 0).sum(dim=(1, 2)) // 2, graph.n_classes)


def test_clean_subgraphs_come_back_as_they_were(graph: GraphData):
    nodes = draw_disjoint(graph, 8, 24, np.random.default_rng(0))
    merged = merge(graph, nodes, decoded(graph, nodes, 0.0))
    assert np.array_equal(merged.graph.x, graph.x.toarray() if hasattr(graph.x, "toarray") else graph.x)
    assert np.array_equal(merged.graph.y, graph.y)
    assert (merged.graph.adjacency != graph.adjacency).nnz == 0
    assert merged.replaced.sum() == 24
    assert merged.label_confidence[nodes[0, 0]] == pytest.approx(np.exp(3) / (np.exp(3) + 2), rel=1e-5)


def test_edges_are_as_many_as_before_and_those_to_the_outside_stay(graph: GraphData):
    nodes = draw_disjoint(graph, 8, 24, np.random.default_rng(0))
    found = decoded(graph, nodes, 2.0)
    merged = merge(graph, nodes, found).graph
    before, after = dense_edges(graph, nodes) > 0, dense_edges(merged, nodes) > 0
    assert before.sum(dim=(1, 2)).tolist() == after.sum(dim=(1, 2)).tolist()
    assert not torch.equal(before, after)
    assert merged.adjacency.diagonal().sum() == 0
    block = np.full(len(graph.ids), -1)
    block[nodes] = np.arange(3)[:, None]
    outside = (block[:, None] != block) | (block[:, None] < 0)
    assert np.array_equal(merged.adjacency.toarray() * outside, graph.adjacency.toarray() * outside)
    others = np.setdiff1d(np.arange(len(graph.ids)), nodes)
    assert np.array_equal(merged.x[others], graph.x[others])
    assert np.array_equal(merged.y[others], graph.y[others])


def test_doubtful_labels_stay_and_no_class_disappears(graph: GraphData):
    u = torch.zeros(1, 4, 12 + 3)
    u[0, 0, 13] = 3.0
    u[0, 1, 13] = 0.1
    u[0, 3, 13] = 3.0
    y = torch.tensor([[0, 0, 2, -1]])
    found = decode((u, -torch.ones(1, 4, 4)), y, torch.tensor([0]), 3)
    assert found.y.tolist() == [[1, 0, 2, -1]], "a node without a class gets none"
    assert int(found.edges.sum()) == 0
    rare = np.where(np.arange(40) < 3, 2, np.arange(40) % 2)
    nodes = np.array([[0, 1, 2, 3]])
    whole = replace(found, y=torch.tensor([[1, 1, 1, 0]]))
    wide = replace(graph, y=rare, x=np.zeros((40, 12), np.float32))
    assert merge(wide, nodes, whole).graph.y[:4].tolist() == [2, 2, 2, 0]
