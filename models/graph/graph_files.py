"""The neutral container of a graph: one `.npz` without pickle, for graphs of any origin."""

import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.models.errors import Damaged, NotFound
from facetrail.models.graph.graph_data import CsrArray, GraphData, build_graph


def write_graph(path: Path, graph: GraphData) -> None:
    """Writes the neutral container: `.npz` with ids, indptr, indices, x (or its three CSR arrays) and y."""
    arrays: dict[str, Any] = {
        "ids": np.array(graph.ids),
        "indptr": graph.adjacency.indptr,
        "indices": graph.adjacency.indices,
        "feature_space": np.array(graph.feature_space),
    }
    if sparse.issparse(graph.x):
        arrays |= {"x_data": graph.x.data, "x_indptr": graph.x.indptr, "x_indices": graph.x.indices}
        arrays["x_shape"] = np.array(graph.x.shape)
    else:
        arrays["x"] = graph.x
    if graph.y is not None:
        arrays["y"] = graph.y
    if graph.class_names is not None:
        arrays["class_names"] = np.array(graph.class_names)
    draft = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(draft, **arrays)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_graph(path: Path) -> GraphData:
    """Reads a `.npz` container; what its edges need is repaired and counted. Raises NotFound and Damaged."""
    if not path.is_file():
        raise NotFound(f"{path} does not exist; give a graph container (.npz)")
    try:
        with np.load(path, allow_pickle=False) as content:
            held = {name: content[name] for name in content.files}
    except (ValueError, BadZipFile, OSError) as error:
        raise Damaged(f"{path} is no graph container ({error}); write it again") from error
    if missing := {"ids", "indptr", "indices"} - held.keys():
        raise Damaged(f"{path} lacks {', '.join(sorted(missing))}; a graph container holds ids, indptr, indices and x")
    n = len(held["ids"])
    names = held.get("class_names")
    try:
        ones = np.ones(len(held["indices"]), np.float32)
        edges = sparse.csr_array((ones, held["indices"], held["indptr"]), shape=(n, n))
        x = held["x"] if "x" in held else _csr(held)
    except (ValueError, KeyError) as error:
        raise Damaged(f"{path} holds a matrix that does not fit its {n} nodes ({error}); write it again") from error
    return build_graph(
        held["ids"].tolist(),
        x,
        edges,
        held.get("y"),
        class_names=None if names is None else names.tolist(),
        feature_space=str(held.get("feature_space", "")),
    )


def _csr(held: dict[str, Any]) -> CsrArray:
    return sparse.csr_array((held["x_data"], held["x_indices"], held["x_indptr"]), shape=tuple(held["x_shape"]))
