"""A graph whose nodes have features and perhaps classes, and the pair of graphs that adaptation needs.

Letters: n nodes, F features, C classes. Whatever is wrong with given edges is repaired once, in `build_graph`, and
counted; `GraphData` itself accepts nothing that is not clean.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.models.errors import InvalidInput

CsrArray: TypeAlias = Any
"""scipy.sparse.csr_array, which carries no types."""
Features: TypeAlias = Any
"""A matrix, one row a node: a numpy array or a CsrArray."""
NO_LABEL = -1
"""Class of a node that takes part in propagation, but neither in the loss nor in a score."""


@dataclass(frozen=True)
class GraphReport:
    """What was repaired or left out when the graph was built."""

    n_self_loops: int = 0
    n_duplicates: int = 0
    """Entries that repeated an earlier one of the same direction."""
    n_one_way: int = 0
    """Edges given in one direction only, now symmetric."""
    n_unresolved: int = 0
    """References to documents that are not nodes."""
    n_double_labels: int = 0
    """Nodes of more than one class, to which the label rule applied."""
    label_rule: str = ""
    """What became of them: first, drop or multi; empty where the labels were single from the start."""


@dataclass(frozen=True, eq=False)
class GraphData:
    """One graph. Raises InvalidInput where its parts do not fit together."""

    ids: tuple[str, ...]
    """n, unique."""
    x: Features
    """(n, F) float32, dense or CSR, finite."""
    adjacency: CsrArray
    """(n, n) CSR float32, 0/1, symmetric, zero diagonal; isolated nodes are legal."""
    y: NDArray[Any] | None = None
    """(n,) int64 in [0, C), -1 where a node has none; or (n, C) bool, where nodes may be of several classes."""
    class_names: tuple[str, ...] | None = None
    """C names."""
    feature_space: str = ""
    """Two graphs that both name one must name the same: equal columns mean equal things."""
    report: GraphReport = field(default_factory=GraphReport)

    def __post_init__(self) -> None:
        n = len(self.ids)
        if n == 0:
            raise InvalidInput("a graph needs at least one node; this one has none")
        if len(set(self.ids)) != n:
            raise InvalidInput(f"node ids must be unique; {n - len(set(self.ids))} of {n} repeat an earlier one")
        if self.x.ndim != 2 or self.x.shape[0] != n or self.x.dtype != np.float32:
            raise InvalidInput(f"features must be ({n}, F) float32, one row a node; got {self.x.shape} {self.x.dtype}")
        if not np.isfinite(self.x.data if sparse.issparse(self.x) else self.x).all():
            raise InvalidInput("features hold values that are not finite; replace them before building the graph")
        a = self.adjacency
        if a.shape != (n, n) or a.diagonal().any() or (a.data != 1).any() or (a != a.T).nnz:
            raise InvalidInput("the adjacency is not 0/1, symmetric and free of self-loops; make it with build_graph")
        if self.y is not None:
            _check_labels(self.y, n, self.class_names)

    @property
    def n_edges(self) -> int:
        """Undirected edges."""
        return int(self.adjacency.nnz) // 2

    @property
    def n_features(self) -> int:
        """F."""
        return int(self.x.shape[1])

    @property
    def n_classes(self) -> int:
        """C, or 0 for a graph without labels and class names."""
        if self.class_names is not None:
            return len(self.class_names)
        if self.y is None:
            return 0
        return int(self.y.shape[1] if self.y.ndim == 2 else self.y.max() + 1)

    def unlabelled(self) -> "GraphData":
        """The same graph without its labels."""
        return replace(self, y=None)


def build_graph(
    ids: Sequence[str],
    x: Features,
    edges: Any,
    y: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    feature_space: str = "",
    report: GraphReport | None = None,
) -> GraphData:
    """Symmetrises (A or Aᵀ), drops self-loops and duplicates, and counts both in the report.

    edges: (e, 2) node numbers, or a sparse (n, n) matrix whose non-zero entries are edges. report: what is known to
    have been dropped before. Raises InvalidInput as `GraphData` does, and for a number outside [0, n).
    """
    n = len(ids)
    rows, columns = _pairs(edges, n)
    loops = rows == columns
    once = np.unique(np.stack([rows[~loops], columns[~loops]], axis=1), axis=0)
    directed = sparse.csr_array((np.ones(len(once), np.float32), (once[:, 0], once[:, 1])), shape=(n, n))
    adjacency = directed.maximum(directed.T).tocsr()
    adjacency.sort_indices()
    counted = replace(
        report or GraphReport(),
        n_self_loops=int(loops.sum()),
        n_duplicates=int((~loops).sum()) - len(once),
        n_one_way=adjacency.nnz - len(once),
    )
    return GraphData(
        tuple(ids),
        _features(x),
        adjacency,
        None if y is None else _labels(y),
        tuple(class_names) if class_names is not None else None,
        feature_space,
        counted,
    )


def check_pair(source: GraphData, target: GraphData) -> None:
    """Raises InvalidInput unless a classifier of the source can be asked about the target."""
    if source.n_features != target.n_features:
        raise InvalidInput(
            f"the source has {source.n_features} features and the target {target.n_features}; "
            "both graphs need the same columns, for instance one vocabulary over both corpora"
        )
    if source.feature_space and target.feature_space and source.feature_space != target.feature_space:
        raise InvalidInput(
            f"the features of the source ({source.feature_space}) and of the target ({target.feature_space}) were "
            "made separately; make both with one vocabulary over the union of the corpora, or with one encoder"
        )
    if source.y is None:
        raise InvalidInput("the source graph has no labels; give a labelled graph as the source")
    counts = source.y.sum(axis=0) if source.y.ndim == 2 else np.bincount(source.y[source.y >= 0])
    counts = np.pad(counts, (0, max(0, source.n_classes - len(counts))))
    if len(counts) < 2 or (counts == 0).any():
        raise InvalidInput(
            f"the source needs at least two classes and nodes of each; its classes have {counts.tolist()} nodes"
        )


def _pairs(edges: Any, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if sparse.issparse(edges):
        if edges.shape != (n, n):
            raise InvalidInput(f"the adjacency is {edges.shape}, but there are {n} nodes; give one row a node")
        listed = sparse.coo_array(edges)
        kept = listed.data != 0
        rows, columns = listed.row[kept].astype(np.int64), listed.col[kept].astype(np.int64)
    else:
        pairs = np.asarray(edges, np.int64).reshape(-1, 2)
        rows, columns = pairs[:, 0], pairs[:, 1]
    ends = np.concatenate([rows, columns])
    if len(ends) and (ends.min() < 0 or ends.max() >= n):
        wrong = ends[(ends < 0) | (ends >= n)][0]
        raise InvalidInput(f"an edge names node {wrong}, but the nodes are 0 to {n - 1}; check what edges count from")
    return rows, columns


def _features(x: Features) -> Features:
    if not sparse.issparse(x):
        return np.ascontiguousarray(x, dtype=np.float32)
    found = sparse.csr_array(x, dtype=np.float32)
    found.sum_duplicates()
    return found


def _labels(y: ArrayLike) -> NDArray[Any]:
    given = np.asarray(y)
    return given.astype(bool) if given.ndim == 2 else given.astype(np.int64)


def _check_labels(y: NDArray[Any], n: int, class_names: tuple[str, ...] | None) -> None:
    if len(y) != n:
        raise InvalidInput(f"there are {len(y)} labels for {n} nodes; give one a node, -1 where there is none")
    if y.ndim == 1 and y.min() < NO_LABEL:
        raise InvalidInput(f"a label is {y.min()}; classes count from 0, and -1 says that a node has none")
    n_classes = int(y.shape[1] if y.ndim == 2 else y.max() + 1)
    if class_names is not None and n_classes > len(class_names):
        raise InvalidInput(f"labels name {n_classes} classes, but only {len(class_names)} class names are given")
