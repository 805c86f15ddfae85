"""The graphs of the adaptation experiments, read from files whose checksums are known, and any graph of those forms.

The files state no licence: whoever evaluates fetches them, and they are part of nothing that is distributed. What the
topics of the citation graphs mean is documented nowhere, so they are `topic-1` to `topic-5`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.eval.datasets import sha256_of
from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.graph.graph_data import NO_LABEL, GraphData, GraphReport, build_graph
from facetrail.models.graph.graph_files import read_graph

LabelRule = Literal["first", "drop", "multi"]
"""Of nodes with several classes: the lowest class, no label, or all of them (F1 not comparable with published ones)."""
N_DEGREES = 241
"""Columns of the one-hot degree that stands for features where a graph has none; larger degrees share the last."""


@dataclass(frozen=True)
class KnownGraph:
    """A public graph: where it comes from, and what its files must be."""

    source: str
    """Public repository, folder and commit."""
    path: str
    """Below the data folder."""
    sha256: Mapping[str, str]
    """Of the path and of the files beside it that it needs."""


_ACDNE = "github.com/shenxiaocam/ACDNE, ACDNE_codes/input, b3cafed35a75c5c087d5b1ad5667a6bfaee19992"
_STRUC2VEC = "github.com/leoribeiro/struc2vec, graph, 77b4cc63e79a37b1496f340c7772d932038417ec"


def _citations(file: str, sha256: str) -> KnownGraph:
    return KnownGraph(_ACDNE, f"citation-graphs/{file}", {file: sha256})


def _airports(name: str, edges: str, labels: str) -> KnownGraph:
    file = f"{name}-airports.edgelist"
    return KnownGraph(_STRUC2VEC, f"airports/{file}", {file: edges, f"labels-{name}-airports.txt": labels})


KNOWN = {
    "acmv9": _citations("acmv9.mat", "ee072387b0ea6599d9e9b4e60957b7b690aae4eb30adb3b9968a1e2c4e36cd74"),
    "citationv1": _citations("citationv1.mat", "98f8f96b4d6141ad6d413bbc43116da54462e10a6b5e10d1b056202f82520c25"),
    "dblpv7": _citations("dblpv7.mat", "986b5505025a188a2526be37225408bbb1eef2da8b643775ad3f7e1c12768932"),
    "brazil": _airports(
        "brazil",
        "896b7bd460ad2da9160888d99bc9099ffe8ed7de3e410833889ea393831bcaa7",
        "8f9d19f10192fbaeb91dfb46dd7eae0fef28bfe1272d41ab96a4494a0d06785f",
    ),
    "europe": _airports(
        "europe",
        "bd202178d0d1253c15bd3c9a22cc2a25f630244bbef9060bc30adbf0a5e130f6",
        "92bace031cc02937ac9629d6c69387458e5d5016a7dab98490fbf33e392cec4e",
    ),
    "usa": _airports(
        "usa",
        "c73fec3eef27ed6d6ef4d8dfa7fd1604b959601a38d399eeaa1f87e8d8d58fc0",
        "d4062ff3b3a67c3ae72b581bb68228433223e35d6f0b2d41844d197ad3772195",
    ),
}
"""Name → graph. Nothing but this table knows a graph by its name."""


def load_known(name: str, data: Path, *, labels: LabelRule = "first") -> GraphData:
    """A graph of `KNOWN` from the data folder. Raises NotFound, and Damaged where a checksum differs."""
    if name not in KNOWN:
        raise NotFound(f"there is no known graph {name!r}; known are {', '.join(KNOWN)}")
    known = KNOWN[name]
    path = data / known.path
    for file, wanted in known.sha256.items():
        if (found := sha256_of(path.with_name(file))) != wanted:
            raise Damaged(
                f"{path.with_name(file)} has sha256 {found[:12]}…, not {wanted[:12]}…; "
                f"fetch it again from {known.source}"
            )
    return load_graph(path, labels=labels)


def load_graph(path: Path, *, labels: LabelRule = "first") -> GraphData:
    """A graph file of any origin: a container (.npz), a MATLAB citation graph (.mat), or an .edgelist with labels.

    Raises NotFound, InvalidInput (another kind of file) and Damaged (a file that is not of its form).
    """
    readers: dict[str, Callable[[Path, LabelRule], GraphData]] = {
        ".npz": lambda file, _: read_graph(file),
        ".mat": _read_mat,
        ".edgelist": lambda file, _: _read_edges(file),
    }
    if path.suffix not in readers:
        raise InvalidInput(f"{path} is no graph file; graphs end in {', '.join(readers)}")
    if not path.is_file():
        raise NotFound(f"{path} does not exist; check the path, or fetch the data first")
    return readers[path.suffix](path, labels)


def _read_mat(path: Path, labels: LabelRule) -> GraphData:
    """`network` (n, n), `attrb` (n, F) and `group` (n, C), each sparse or dense."""
    from scipy.io import loadmat  # type: ignore[import-untyped]
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

    try:
        content = loadmat(path)
        network, attributes, group = (content[key] for key in ("network", "attrb", "group"))
    except (KeyError, ValueError, TypeError, MatReadError) as error:
        raise Damaged(
            f"{path} is no citation graph in MATLAB form ({error}); it needs network, attrb, group"
        ) from error
    classes = (group.toarray() if sparse.issparse(group) else np.asarray(group)) != 0
    y, report = _apply(labels, classes)
    n = network.shape[0]
    return build_graph(
        [str(node) for node in range(n)],
        sparse.csr_array(attributes),
        sparse.csr_array(network),
        y,
        class_names=[f"topic-{c}" for c in range(1, classes.shape[1] + 1)],
        report=report,
    )


def _apply(rule: LabelRule, classes: NDArray[np.bool_]) -> tuple[NDArray[Any], GraphReport]:
    """Labels by the rule. classes: (n, C); a node of no class has no label under any rule."""
    per_node = classes.sum(axis=1)
    report = GraphReport(n_double_labels=int((per_node > 1).sum()), label_rule=rule)
    if rule == "multi":
        return classes, report
    has_label = per_node == 1 if rule == "drop" else per_node >= 1
    return np.where(has_label, classes.argmax(axis=1), NO_LABEL), report


def _read_edges(path: Path) -> GraphData:
    """Pairs of node names, and `labels-<stem>.txt` beside them with a header, `node label` a line."""
    rows = [line.split() for line in _text(path.with_name(f"labels-{path.stem}.txt")).splitlines()[1:] if line.strip()]
    pairs = [line.split() for line in _text(path).splitlines() if line.strip()]
    if any(len(row) != 2 for row in (*rows, *pairs)):
        raise Damaged(f"{path} or its labels hold lines that are not two words; an edge or a label is two words a line")
    names = [name for name, _ in rows]
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := {name for pair in pairs for name in pair} - numbers.keys():
        raise Damaged(f"{path} names {len(unknown)} nodes that its labels lack, {min(unknown)!r} for one")
    edges = np.array([[numbers[a], numbers[b]] for a, b in pairs], np.int64)
    y = np.array([int(label) for _, label in rows], np.int64)
    bare = build_graph(names, np.empty((len(names), 0), np.float32), edges)
    return build_graph(
        names,
        degree_features(bare),
        edges,
        y,
        class_names=[f"class-{c}" for c in range(int(y.max()) + 1)],
        feature_space=f"degree, one-hot, {N_DEGREES} columns",
    )


def degree_features(graph: GraphData) -> sparse.csr_array:
    """(n, 241) one-hot of the degree."""
    degrees = np.minimum(np.diff(graph.adjacency.indptr), N_DEGREES - 1)
    n = len(degrees)
    return sparse.csr_array((np.ones(n, np.float32), degrees, np.arange(n + 1)), shape=(n, N_DEGREES))


def _text(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"{path} does not exist; an edge list needs its labels beside it")
    return path.read_text(encoding="utf-8")
