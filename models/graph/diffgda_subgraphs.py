"""Subgraphs that a diffusion reads and writes: drawn from a graph, as dense tensors, and put back into it.

Letters: n nodes of the graph, b subgraphs of m nodes, C classes.
"""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import one_hot

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.diffgda import Decoded
from facetrail.models.graph.graph_data import GraphData

Nodes = NDArray[np.int64]
_MOST_NEIGHBOURS = 8


@dataclass(frozen=True, eq=False)
class Evolved:
    """A source graph of which some nodes have been replaced."""

    graph: GraphData
    replaced: NDArray[np.bool_]
    """(n,)."""
    label_confidence: NDArray[np.float32]
    """(n,) of the label; 1 where it was given."""


def draw_subgraphs(graph: GraphData, m: int, n_subgraphs: int, rng: np.random.Generator) -> Nodes:
    """(b, m) node numbers, breadth first from random roots; two subgraphs may share nodes."""
    everywhere = np.ones(len(graph.ids), bool)
    return np.stack([_breadth_first(graph, m, everywhere, rng) for _ in range(n_subgraphs)])


def draw_disjoint(
    graph: GraphData, m: int, n_wanted: int, rng: np.random.Generator, *, taken: Nodes | None = None
) -> Nodes:
    """(b, m) node numbers, none twice: the fewest subgraphs with `n_wanted` nodes, or as many as the graph holds.

    taken: nodes to leave out.
    """
    free = np.ones(len(graph.ids), bool)
    if taken is not None:
        free[taken] = False
    drawn = []
    for _ in range(min(-(-n_wanted // m), int(free.sum()) // m)):
        drawn.append(_breadth_first(graph, m, free, rng))
        free[drawn[-1]] = False
    return np.array(drawn, np.int64).reshape(-1, m)


def dense_edges(graph: GraphData, nodes: Nodes) -> Tensor:
    """(b, m, m) float32: +1 for an edge, -1 for none and on the diagonal."""
    parts = [graph.adjacency[row][:, row].toarray() for row in nodes]
    return torch.from_numpy(np.stack(parts).astype(np.float32)) * 2 - 1


def dense_latents(graph: GraphData, nodes: Nodes) -> Tensor:
    """(b, m, latent width) float32."""
    return torch.from_numpy(_dense_rows(graph)[nodes])


def dense_labels(graph: GraphData, nodes: Nodes, scale: float) -> Tensor:
    """(b, m, C) one-hot times the scale; zeros where a node has no class."""
    y = torch.from_numpy(_classes(graph)[nodes])
    return scale * one_hot(y.clamp_min(0), graph.n_classes) * (y >= 0)[..., None].float()


def merge(graph: GraphData, nodes: Nodes, decoded: Decoded) -> Evolved:
    """Replaces features, labels and all edges inside disjoint subgraphs; edges that leave one stay.

    A class that would be left without a node keeps those it had.
    """
    x, y = _dense_rows(graph).copy(), _classes(graph).copy()
    x[nodes] = decoded.z.cpu().numpy()
    y[nodes] = decoded.y.cpu().numpy()
    confidence = np.ones(len(y), np.float32)
    confidence[nodes] = decoded.confidence.cpu().numpy()
    before = _classes(graph)
    for lost in set(before[before >= 0].tolist()) - set(y.tolist()):
        y[before == lost] = lost
    replaced = np.zeros(len(y), bool)
    replaced[nodes] = True
    adjacency = _replaced_edges(graph, nodes, decoded.edges.cpu().numpy())
    return Evolved(replace(graph, x=x, y=y, adjacency=adjacency), replaced, confidence)


def _replaced_edges(graph: GraphData, nodes: Nodes, edges: NDArray[np.bool_]) -> sparse.csr_array:
    n = len(graph.ids)
    block = np.full(n, -1)
    block[nodes] = np.arange(len(nodes))[:, None]
    old = graph.adjacency.tocoo()
    stays = (block[old.row] != block[old.col]) | (block[old.row] < 0)
    which, rows, columns = edges.nonzero()
    ends = (
        np.concatenate([old.row[stays], nodes[which, rows]]),
        np.concatenate([old.col[stays], nodes[which, columns]]),
    )
    merged = sparse.csr_array((np.ones(len(ends[0]), np.float32), ends), shape=(n, n))
    merged.sort_indices()
    return merged


def _breadth_first(graph: GraphData, m: int, free: NDArray[np.bool_], rng: np.random.Generator) -> Nodes:
    """(m,) free nodes; a component that ends is followed by another. At least m nodes are free."""
    starts, ends = graph.adjacency.indptr, graph.adjacency.indices
    unseen = free.copy()
    found: list[int] = []
    queue: deque[int] = deque()
    while len(found) < m:
        if not queue:
            root = int(rng.choice(np.flatnonzero(unseen)))
            unseen[root] = False
            queue.append(root)
        node = queue.popleft()
        found.append(node)
        neighbours = ends[starts[node] : starts[node + 1]]
        fresh = rng.permutation(neighbours[unseen[neighbours]])[:_MOST_NEIGHBOURS]
        unseen[fresh] = False
        queue.extend(fresh.tolist())
    return np.array(found, np.int64)


def _classes(graph: GraphData) -> NDArray[np.int64]:
    if graph.y is None or graph.y.ndim == 2:
        raise InvalidInput("a diffusion draws one class a node; give a source whose nodes have one class each")
    return np.asarray(graph.y)


def _dense_rows(graph: GraphData) -> NDArray[np.float32]:
    return np.asarray(graph.x.toarray() if sparse.issparse(graph.x) else graph.x)
