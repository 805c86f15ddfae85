"""Graphs of other packages both ways, and their message passing beside ours; each needs its package."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from facetrail.models.errors import InvalidInput, Unavailable
from facetrail.models.graph import adapters
from facetrail.models.graph.encoder import EncoderConfig, GraphEncoder
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.propagation import graph_tensors


def needs(backend: str) -> Any:
    package, recipe = {"pyg": ("torch_geometric", adapters.PYG_RECIPE), "dgl": ("dgl", adapters.DGL_RECIPE)}[backend]
    return pytest.importorskip(package, reason=f"needs {package}: {recipe}", exc_type=ImportError)


@pytest.mark.parametrize("backend", ["pyg", "dgl"])
def test_round_trip(graph: GraphData, backend: str):
    needs(backend)
    ways: dict[str, tuple[Callable[..., Any], Callable[..., GraphData]]] = {
        "pyg": (adapters.to_pyg, adapters.from_pyg),
        "dgl": (adapters.to_dgl, adapters.from_dgl),
    }
    there, back = ways[backend]
    returned = back(there(graph))
    for part in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(returned.adjacency, part), getattr(graph.adjacency, part))
    assert np.array_equal(returned.x, graph.x)
    assert np.array_equal(returned.y, graph.y)
    if backend == "pyg":
        assert returned.ids == graph.ids


@pytest.mark.parametrize("backend", ["pyg", "dgl"])
def test_message_passing_equals_ours(graph: GraphData, backend: str):
    needs(backend)
    net = GraphEncoder(EncoderConfig(n_features=12, n_classes=3, dim=8), torch.Generator().manual_seed(0)).eval()
    found = []
    for propagator in (None, adapters.propagator(graph, backend)):
        logits, _ = net(graph_tensors(graph, propagator), 3)
        found.append((logits, torch.autograd.grad(logits.square().sum(), net.layers[0].weight)[0]))
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).detach().abs().max() / ours.detach().abs().max()) <= 1e-6


@pytest.mark.parametrize("backend", ["pyg", "dgl"])
def test_one_convolution_is_theirs(graph: GraphData, backend: str):
    package = needs(backend)
    net = GraphEncoder(EncoderConfig(n_features=12, n_classes=3, dim=8), torch.Generator().manual_seed(0))
    layer, x = net.layers[0], torch.from_numpy(graph.x)
    if backend == "pyg":
        theirs = importlib.import_module("torch_geometric.nn").GCNConv(12, 8)
        theirs.lin.weight.data = layer.weight.data.T.clone()
        wanted = theirs(x, adapters.to_pyg(graph).edge_index)
    else:
        theirs = importlib.import_module("dgl.nn").GraphConv(12, 8, norm="both")
        theirs.weight.data = layer.weight.data.clone()
        wanted = theirs(package.add_self_loop(adapters.to_dgl(graph)), x)
    tensors = graph_tensors(graph)
    assert float((layer(x, tensors.propagator, 1) - wanted).detach().abs().max()) <= 1e-5


def test_a_missing_package_says_how_to_install_it(graph: GraphData, monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(adapters, "import_module", absent)
    with pytest.raises(Unavailable, match=r'pip install "dgl==1\.1\.3" packaging'):
        adapters.to_dgl(graph)
    with pytest.raises(Unavailable, match="pip install torch_geometric"):
        adapters.propagator(graph, "pyg")
    with pytest.raises(InvalidInput, match="csr, dgl or pyg"):
        adapters.propagator(graph, "other")  # type: ignore[arg-type]
