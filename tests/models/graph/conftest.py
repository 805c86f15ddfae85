"""Small graphs that several tests share."""

import numpy as np
import pytest

from facetrail.models.graph.graph_data import GraphData, build_graph


def drawn_graph(n: int = 40, n_features: int = 12, n_classes: int = 3, seed: int = 0) -> GraphData:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n_features)) * (rng.random((n, n_features)) < 0.4)
    return build_graph([f"n{i}" for i in range(n)], x, rng.integers(0, n, (3 * n, 2)), np.arange(n) % n_classes)


@pytest.fixture
def graph() -> GraphData:
    """40 nodes in 3 classes, 12 features of which most are 0."""
    return drawn_graph()
