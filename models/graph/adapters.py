"""Graphs of PyTorch Geometric and DGL, both ways, and their message passing in place of ours.

Neither package is needed by anything else; each is imported when one of these functions asks for it.
"""

from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse  # type: ignore[import-untyped]
from torch import Tensor

from facetrail.models.errors import InvalidInput, Unavailable
from facetrail.models.graph.graph_data import GraphData, build_graph
from facetrail.models.graph.propagation import Propagator, normalised_adjacency, symmetric

Backend = Literal["csr", "dgl", "pyg"]
DGL_RECIPE = 'pip install "dgl==1.1.3" packaging'
PYG_RECIPE = "pip install torch_geometric"


def propagator(graph: GraphData, backend: Backend = "csr") -> Propagator:
    """P of the graph under an engine: our CSR product, DGL's or PyG's message passing. The same values to rounding."""
    if backend == "csr":
        return symmetric(normalised_adjacency(graph.adjacency))
    if backend == "pyg":
        return _PygPropagator(graph)
    if backend == "dgl":
        return _DglPropagator(graph)
    raise InvalidInput(f"there is no backend {backend!r} for message passing; choose csr, dgl or pyg")


def to_pyg(graph: GraphData) -> Any:
    """A torch_geometric `Data`: dense x, edge_index in both directions, y, and our names under `ids`."""
    data = _pyg("data").Data(x=_dense(graph), edge_index=_edge_index(graph))
    data.ids = list(graph.ids)
    if graph.y is not None:
        data.y = torch.from_numpy(graph.y)
    return data


def from_pyg(data: Any) -> GraphData:
    """From a torch_geometric `Data`; nodes without names are called by their number."""
    _pyg("data")
    names = getattr(data, "ids", None)
    y = getattr(data, "y", None)
    return _from_tensors(int(data.num_nodes), data.x, data.edge_index, y, names)


def to_dgl(graph: GraphData) -> Any:
    """A DGLGraph with the edges in both directions and `feat` and `label` as node data; names are not carried."""
    source, target = _edge_index(graph)
    made = _dgl().graph((source, target), num_nodes=len(graph.ids))
    made.ndata["feat"] = _dense(graph)
    if graph.y is not None:
        made.ndata["label"] = torch.from_numpy(graph.y)
    return made


def from_dgl(graph: Any) -> GraphData:
    """From a DGLGraph with `feat` and perhaps `label` as node data; nodes are called by their number."""
    _dgl()
    held = dict(graph.ndata)
    return _from_tensors(int(graph.num_nodes()), held["feat"], torch.stack(graph.edges()), held.get("label"), None)


class _PygPropagator:
    def __init__(self, graph: GraphData) -> None:
        self._sum = _pyg("nn").SimpleConv(aggr="sum")
        self._edges, self._weights = _weighted_edges(graph)

    def power(self, dense: Tensor, k: int) -> Tensor:
        for _ in range(k):
            dense = self._sum(dense, self._edges.to(dense.device), self._weights.to(dense.device))
        return dense


class _DglPropagator:
    def __init__(self, graph: GraphData) -> None:
        dgl = _dgl()
        edges, self._weights = _weighted_edges(graph)
        self._graph, self._function = dgl.graph((edges[0], edges[1]), num_nodes=len(graph.ids)), dgl.function

    def power(self, dense: Tensor, k: int) -> Tensor:
        function, graph = self._function, self._graph.to(dense.device)
        for _ in range(k):
            with graph.local_scope():
                graph.ndata["h"], graph.edata["w"] = dense, self._weights.to(dense.device)
                graph.update_all(function.u_mul_e("h", "w", "m"), function.sum("m", "h"))
                dense = graph.ndata["h"]
        return dense


def _weighted_edges(graph: GraphData) -> tuple[Tensor, Tensor]:
    """(2, e) ends and (e,) weights of P, self-loops among them."""
    p = normalised_adjacency(graph.adjacency).tocoo()
    return torch.from_numpy(np.stack([p.row, p.col]).astype(np.int64)), torch.from_numpy(p.data)


def _from_tensors(n: int, x: Tensor, edges: Tensor, y: Tensor | None, names: list[str] | None) -> GraphData:
    return build_graph(
        names if names is not None else [str(i) for i in range(n)],
        x.detach().cpu().numpy(),
        edges.cpu().numpy().T,
        None if y is None else y.cpu().numpy(),
    )


def _dense(graph: GraphData) -> Tensor:
    return torch.from_numpy(graph.x.toarray() if sparse.issparse(graph.x) else graph.x)


def _edge_index(graph: GraphData) -> Tensor:
    a = graph.adjacency.tocoo()
    return torch.from_numpy(np.stack([a.row, a.col]).astype(np.int64))


def _pyg(module: str) -> Any:
    try:
        return import_module(f"torch_geometric.{module}")
    except ImportError as error:
        raise _missing("PyTorch Geometric", PYG_RECIPE, error) from error


def _dgl() -> Any:
    try:
        return import_module("dgl")
    except (ImportError, OSError) as error:  # libraries that belong to another torch fail with OSError
        raise _missing("DGL", f"{DGL_RECIPE}  (Linux, Python 3.9 to 3.11)", error) from error


def _missing(package: str, recipe: str, error: Exception) -> Unavailable:
    return Unavailable(f"{package} cannot be imported ({error}); install it with: {recipe}")
