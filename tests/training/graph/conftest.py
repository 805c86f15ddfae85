"""The toy transfer: two graphs of three groups, the target shifted and with weaker edges."""

import numpy as np
import pytest

from facetrail.models.graph.graph_data import GraphData, build_graph


def toy_pair(seed: int, n: int = 300) -> tuple[GraphData, GraphData]:
    """x = 1.5 q_y + noise of 16 dimensions, q orthonormal; the target moves by a random vector of length 2."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((16, 3)))[0].T
    shift = rng.standard_normal(16)
    shift *= 2 / np.linalg.norm(shift)
    graphs = []
    for within, moved in ((0.04, 0), (0.03, shift)):
        y = np.arange(n) % 3
        x = 1.5 * q[y] + rng.standard_normal((n, 16)) + moved
        linked = np.triu(rng.random((n, n)) < np.where(y[:, None] == y, within, 0.01), 1)
        graphs.append(build_graph([str(i) for i in range(n)], x, np.argwhere(linked), y))
    return graphs[0], graphs[1]


@pytest.fixture(scope="session")
def pair() -> tuple[GraphData, GraphData]:
    """A small toy pair, both with labels."""
    return toy_pair(0, n=60)


@pytest.fixture(scope="session")
def pairs() -> list[tuple[GraphData, GraphData]]:
    """Five toy pairs of full size."""
    return [toy_pair(seed) for seed in range(5)]
