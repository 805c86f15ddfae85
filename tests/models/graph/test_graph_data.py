"""What building repairs and counts, what it refuses, and that the container keeps everything."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.graph.graph_data import GraphData, GraphReport, build_graph, check_pair
from facetrail.models.graph.graph_files import read_graph, write_graph


def small(**changes: object) -> GraphData:
    given = {"ids": ["a", "b", "c"], "x": np.eye(3), "edges": [[0, 1]], "y": [0, 1, 1], **changes}
    return build_graph(**given)


def test_edges_become_symmetric_and_what_was_dropped_is_counted():
    graph = small(edges=[[0, 1], [1, 0], [0, 1], [2, 2], [1, 2]])
    assert graph.adjacency.toarray().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert graph.n_edges == 2
    assert graph.report == GraphReport(n_self_loops=1, n_duplicates=1, n_one_way=1)


def test_a_matrix_and_its_list_of_edges_give_the_same_graph():
    edges = np.array([[0, 1], [2, 1]])
    matrix = sparse.csr_array((np.array([2.0, 1.0]), edges.T), shape=(3, 3))
    assert (small(edges=edges).adjacency != small(edges=matrix).adjacency).nnz == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edges": [[0, 3]]}, "node 3"),
        ({"edges": [[-1, 0]]}, "node -1"),
        ({"x": np.full((3, 1), np.nan)}, "not finite"),
        ({"x": np.eye(2)}, "one row a node"),
        ({"y": [0, 1]}, "2 labels for 3 nodes"),
        ({"y": [0, 1, -2]}, "a label is -2"),
        ({"class_names": ["one"]}, "2 classes"),
        ({"ids": ["a", "b", "a"]}, "unique"),
        ({"ids": [], "x": np.empty((0, 1)), "edges": [], "y": None}, "at least one node"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(changes: dict[str, object], said: str):
    with pytest.raises(InvalidInput, match=said):
        small(**changes)


def test_a_graph_made_by_hand_must_be_clean():
    one_way = sparse.csr_array((np.ones(1, np.float32), ([0], [1])), shape=(2, 2))
    with pytest.raises(InvalidInput, match="build_graph"):
        GraphData(("a", "b"), np.eye(2, dtype=np.float32), one_way)


def test_unlabelled_keeps_all_but_the_labels():
    graph = small(edges=[[0, 0], [0, 1]])
    bare = graph.unlabelled()
    assert bare.y is None
    assert graph.y is not None
    assert bare.report == graph.report


def test_a_pair_needs_the_same_features_and_every_class_in_the_source():
    source, target = small(), small().unlabelled()
    check_pair(source, target)
    with pytest.raises(InvalidInput, match="3 features and the target 2"):
        check_pair(source, small(x=np.eye(3, 2)))
    with pytest.raises(InvalidInput, match="no labels"):
        check_pair(source.unlabelled(), target)
    with pytest.raises(InvalidInput, match=r"\[1, 0, 2\]"):
        check_pair(small(y=[0, 2, 2]), target)
    with pytest.raises(InvalidInput, match=r"\[1, 2, 0\]"):
        check_pair(small(class_names=["a", "b", "c"]), target)
    with pytest.raises(InvalidInput, match="made separately"):
        check_pair(replace(source, feature_space="one"), replace(target, feature_space="other"))


@pytest.mark.parametrize("x", [np.arange(6.0).reshape(3, 2), sparse.csr_array(np.eye(3, 5))])
def test_the_container_keeps_everything(tmp_path: Path, x: object):
    graph = small(x=x, class_names=["p", "q"], feature_space="s", y=[0, -1, 1])
    write_graph(tmp_path / "g.npz", graph)
    read = read_graph(tmp_path / "g.npz")
    assert (read.ids, read.class_names, read.feature_space) == (graph.ids, graph.class_names, graph.feature_space)
    assert read.y.tolist() == graph.y.tolist()
    assert (read.adjacency != graph.adjacency).nnz == 0
    assert sparse.issparse(read.x) == sparse.issparse(graph.x)
    assert abs(read.x - graph.x).max() == 0


def test_a_file_that_is_no_container_is_named(tmp_path: Path):
    with pytest.raises(NotFound):
        read_graph(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(Damaged, match="no graph container"):
        read_graph(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", ids=np.array(["a"]))
    with pytest.raises(Damaged, match="lacks indices, indptr"):
        read_graph(tmp_path / "other.npz")
