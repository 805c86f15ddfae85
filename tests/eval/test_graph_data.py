"""The known graphs hold what they must, and the label rules do what they say."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.io import savemat

from facetrail.eval.graph_data import KNOWN, load_graph, load_known
from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.graph.graph_data import GraphData

# nodes, edges, self-loops dropped, features, non-zeros a row, largest degree, nodes per class, double labels, and the
# share of edges within a class
CONTENT = {
    "acmv9": (9360, 15556, 46, 6775, 34.62, 73, [1916, 2767, 2110, 803, 1764], 581, 0.80),
    "citationv1": (8935, 15098, 15, 6775, 33.00, 104, [2262, 2323, 2004, 690, 1656], 166, 0.86),
    "dblpv7": (5484, 8117, 13, 6775, 28.34, 126, [1188, 1808, 1307, 332, 849], 15, 0.82),
    "brazil": (131, 1003, 71, 241, 1, 79, [32, 32, 32, 35], 0, 0.43),
    "europe": (399, 5993, 2, 241, 1, 202, [99, 99, 99, 102], 0, 0.40),
    "usa": (1190, 13599, 0, 241, 1, 238, [297, 297, 297, 299], 0, 0.70),
}


def content(graph: GraphData) -> tuple[object, ...]:
    ends = graph.adjacency.tocoo()
    return (
        len(graph.ids),
        graph.n_edges,
        graph.report.n_self_loops,
        graph.n_features,
        round(graph.x.nnz / len(graph.ids), 2),
        int(np.diff(graph.adjacency.indptr).max()),
        np.bincount(graph.y).tolist(),
        graph.report.n_double_labels,
        round(float((graph.y[ends.row] == graph.y[ends.col]).mean()), 2),
    )


@pytest.mark.parametrize("name", KNOWN)
def test_known_graphs_hold_what_they_must(name: str, data_folder: Path):
    if not (data_folder / KNOWN[name].path).is_file():
        pytest.skip(f"needs {KNOWN[name].path} in the data folder, from {KNOWN[name].source}")
    assert content(load_known(name, data_folder)) == CONTENT[name]


def test_other_bytes_are_refused(tmp_path: Path):
    write_mat(tmp_path / KNOWN["acmv9"].path)
    with pytest.raises(Damaged, match="fetch it again from github"):
        load_known("acmv9", tmp_path)
    with pytest.raises(NotFound, match="acmv9, citationv1"):
        load_known("cora", tmp_path)


def write_mat(path: Path, *, dense: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    network = sparse.csc_array(np.array([[1.0, 1, 0], [1, 0, 0], [0, 0, 0]]))
    attributes, group = np.array([[1.0, 0], [3, 1], [0, 2]]), np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]])
    savemat(path, {"network": network, "attrb": attributes if dense else sparse.csc_array(attributes), "group": group})
    return path


@pytest.mark.parametrize("dense", [False, True])
def test_label_rules(tmp_path: Path, dense: bool):
    path = write_mat(tmp_path / "any.mat", dense=dense)
    first, drop, multi = (load_graph(path, labels=rule) for rule in ("first", "drop", "multi"))
    assert first.y.tolist() == [0, 1, 2]
    assert drop.y.tolist() == [0, -1, 2]
    assert multi.y.tolist() == [[True, False, False], [False, True, True], [False, False, True]]
    assert [graph.report.label_rule for graph in (first, drop, multi)] == ["first", "drop", "multi"]
    assert (first.report.n_double_labels, first.report.n_self_loops, first.n_edges) == (1, 1, 1)
    assert first.class_names == ("topic-1", "topic-2", "topic-3")
    assert first.x.toarray().tolist() == [[1, 0], [3, 1], [0, 2]]


def test_edge_lists_have_names_of_their_own_and_degrees_as_features(tmp_path: Path):
    (tmp_path / "x.edgelist").write_text("10005 7\n7 7\n16746 10005\n")
    (tmp_path / "labels-x.txt").write_text("node label\n7 1\n10005 0\n16746 1\n")
    graph = load_graph(tmp_path / "x.edgelist")
    assert graph.ids == ("7", "10005", "16746")
    assert graph.y.tolist() == [1, 0, 1]
    assert graph.x.toarray()[:, :3].tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0]]
    (tmp_path / "labels-x.txt").write_text("node label\n7 1\n")
    with pytest.raises(Damaged, match="2 nodes that its labels lack"):
        load_graph(tmp_path / "x.edgelist")


def test_files_of_no_known_form_are_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match=r"\.npz, \.mat, \.edgelist"):
        load_graph(tmp_path / "graph.csv")
    with pytest.raises(NotFound):
        load_graph(tmp_path / "graph.mat")
    (tmp_path / "graph.mat").write_text("not MATLAB at all, but long enough to be read as a header of a file" * 4)
    with pytest.raises(Damaged, match="needs network, attrb, group"):
        load_graph(tmp_path / "graph.mat")
