"""Joint SVD, the vocabulary of a union, and graphs of documents."""

from dataclasses import replace

import numpy as np
import pytest
from contracts.hash_encoders import HashEncoder
from scipy import sparse

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.features import EncoderFeatures, JointSvd, Tfidf, graph_from_documents
from facetrail.models.graph.graph_data import GraphData, build_graph, check_pair
from facetrail.models.records import Document


def drawn_pair(n: int = 50, f: int = 20) -> tuple[GraphData, GraphData]:
    rng = np.random.default_rng(0)
    x = sparse.csr_array(rng.poisson(0.3, (2 * n, f)).astype(np.float32))
    ids = [str(i) for i in range(n)]
    return build_graph(ids, x[:n], [], np.arange(n) % 2), build_graph(ids, x[n:], [])


def test_joint_svd_is_that_of_the_stacked_unit_rows():
    source, target = drawn_pair()
    svd = JointSvd.of(source, target, 5)
    stacked = np.vstack([svd.apply(source).x, svd.apply(target).x])
    assert np.allclose(stacked.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(stacked.std(axis=0), 1, atol=1e-5)
    rows = sparse.vstack([source.x, target.x]).toarray()
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    _, _, wanted = np.linalg.svd(rows, full_matrices=False)
    assert np.allclose(np.abs((svd.basis * wanted[:5].T).sum(axis=0)), 1, atol=1e-4)
    assert (svd.basis[np.abs(svd.basis).argmax(axis=0), np.arange(5)] > 0).all()


def test_iterated_and_dense_svd_agree(monkeypatch: pytest.MonkeyPatch):
    source, target = drawn_pair()
    dense = JointSvd.of(source, target, 4)
    monkeypatch.setattr("facetrail.models.graph.features._SMALL", 1)
    iterated, again = JointSvd.of(source, target, 4), JointSvd.of(source, target, 4)
    assert np.allclose(dense.basis, iterated.basis, atol=1e-4)
    assert np.array_equal(iterated.basis, again.basis)


def test_directions_without_variance_are_left_out_and_labels_are_not_seen():
    source, target = drawn_pair(f=6)
    svd = JointSvd.of(source, target, 128)
    assert svd.basis.shape[1] <= 6
    unlabelled = JointSvd.of(source.unlabelled(), target, 128)
    assert np.array_equal(svd.basis, unlabelled.basis)
    assert svd.feature_space == unlabelled.feature_space
    with pytest.raises(InvalidInput, match="same columns"):
        JointSvd.of(source, drawn_pair(f=7)[1])
    with pytest.raises(InvalidInput, match="made of 6"):
        svd.apply(drawn_pair(f=7)[1])
    flat = replace(target, x=np.ones((50, 6), np.float32))
    with pytest.raises(InvalidInput, match="no direction"):
        JointSvd.of(flat, flat)


OURS = [Document("a", "graph graph kernel"), Document("b", "kernel trees"), Document("c", "trees")]
THEIRS = [Document("d", "graph forest", title="Kernel"), Document("e", "forest")]


def test_tfidf_by_hand():
    tfidf = Tfidf.of(OURS, THEIRS)
    assert list(tfidf.columns) == ["forest", "graph", "kernel", "trees"]
    weight = dict(zip(tfidf.columns, tfidf.weights, strict=True))
    assert weight["kernel"] == pytest.approx(1 + np.log(6 / 4))
    row = tfidf.rows(OURS).toarray()[0]
    wanted = np.array([0, 2 * weight["graph"], weight["kernel"], 0])
    assert np.allclose(row, wanted / np.linalg.norm(wanted))
    assert tfidf.rows([Document("x", "unknown words")]).nnz == 0
    with pytest.raises(InvalidInput, match="no word occurs in two"):
        Tfidf.of([Document("x", "alone")])


def test_documents_become_nodes_and_unresolved_references_are_counted():
    tfidf = Tfidf.of(OURS, THEIRS)
    references = [("a", "b"), ("b", "a"), ("a", "z"), ("c", "c")]
    graph = graph_from_documents(OURS, references, tfidf, labels=["m", None, "k"])
    assert graph.ids == ("a", "b", "c")
    assert graph.n_edges == 1
    assert (graph.report.n_unresolved, graph.report.n_self_loops) == (1, 1)
    assert graph.class_names == ("k", "m")
    assert graph.y.tolist() == [1, -1, 0]
    with pytest.raises(InvalidInput, match="'m' is not among the classes k"):
        graph_from_documents(OURS, [], tfidf, labels=["m", None, "k"], class_names=["k"])


def test_two_vocabularies_are_an_error():
    union, ours, theirs = Tfidf.of(OURS, THEIRS), Tfidf.of(OURS, OURS), Tfidf.of(THEIRS, THEIRS)
    labels = ["p", "q", "p"]
    check_pair(graph_from_documents(OURS, [], union, labels=labels), graph_from_documents(THEIRS, [], union))
    one = replace(graph_from_documents(OURS, [], ours, labels=labels), x=np.eye(3, dtype=np.float32))
    other = replace(graph_from_documents(THEIRS, [], theirs), x=np.eye(2, 3, dtype=np.float32))
    with pytest.raises(InvalidInput, match="made separately"):
        check_pair(one, other)


def test_a_text_encoder_makes_features_too(hash_encoder: HashEncoder):
    graph = graph_from_documents(OURS, [], EncoderFeatures(hash_encoder))
    assert graph.x.shape == (3, hash_encoder.dim)
    assert graph.feature_space == f"encoder:{hash_encoder.fingerprint}"
