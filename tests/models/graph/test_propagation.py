"""P on graphs solved by hand, gradients by finite differences, and the encoder's invariances."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from facetrail.models.graph.encoder import EncoderConfig, GraphEncoder
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.propagation import (
    GraphTensors,
    SparseMatrix,
    graph_tensors,
    normalised_adjacency,
    symmetric,
)

PATH = sparse.csr_array(np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def encoder(graph: GraphData) -> GraphEncoder:
    config = EncoderConfig(n_features=graph.n_features, n_classes=3, dim=8)
    return GraphEncoder(config, torch.Generator().manual_seed(0)).eval()


def without_edges(graph: GraphData) -> GraphData:
    n = len(graph.ids)
    return replace(graph, adjacency=sparse.csr_array((n, n), dtype=np.float32))


def test_a_path_of_three_nodes():
    p = normalised_adjacency(PATH, np.float64)
    edge = 1 / math.sqrt(6)
    assert np.allclose(p.toarray(), [[1 / 2, edge, 0], [edge, 1 / 3, edge], [0, edge, 1 / 2]], rtol=0, atol=1e-15)
    fixed = torch.tensor([[math.sqrt(2)], [math.sqrt(3)], [math.sqrt(2)]], dtype=torch.float64)
    assert torch.allclose(symmetric(p) @ fixed, fixed, rtol=0, atol=1e-12)
    u = fixed / fixed.norm()
    assert torch.allclose(symmetric(p).power(torch.eye(3, dtype=torch.float64), 200), u @ u.T, rtol=0, atol=1e-12)


def test_an_isolated_node_keeps_what_it_has():
    lonely = sparse.csr_array(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]]))
    assert normalised_adjacency(lonely).toarray()[2].tolist() == [0, 0, 1]


def test_one_convolution_is_dense_algebra(graph: GraphData):
    layer = encoder(graph).layers[0]
    a = graph.adjacency.toarray().astype(np.float64) + np.eye(len(graph.ids))
    scale = np.diag(1 / np.sqrt(a.sum(axis=1)))
    wanted = scale @ a @ scale @ graph.x @ layer.weight.detach().numpy() + layer.bias.detach().numpy()
    tensors = graph_tensors(graph)
    assert np.abs(layer(tensors.x, tensors.propagator, 1).detach().numpy() - wanted).max() <= 1e-5


@pytest.mark.parametrize("k", [1, 3])
def test_gradient_of_a_product_with_an_asymmetric_matrix(k: int):
    matrix = sparse.csr_array(drawn(4, 4, seed=1).numpy() * (drawn(4, 4, seed=2).numpy() > 0))
    h = drawn(4, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: SparseMatrix(matrix).power(h, k), h)
    swapped = SparseMatrix(matrix, transpose=matrix)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda h: swapped.power(h, k), h)


def test_gradient_of_p_and_of_an_oblong_matrix():
    assert torch.autograd.gradcheck(
        symmetric(normalised_adjacency(PATH, np.float64)).__matmul__, drawn(3, 2, seed=3).requires_grad_()
    )
    oblong = SparseMatrix(sparse.csr_array(drawn(5, 3).numpy()))
    assert oblong.shape == (5, 3)
    assert torch.autograd.gradcheck(oblong.__matmul__, drawn(3, 2).requires_grad_())


def test_sparse_and_dense_features_give_the_same_logits_and_gradients(graph: GraphData):
    net = encoder(graph)
    found = []
    for x in (graph.x, sparse.csr_array(graph.x)):
        logits, _ = net(graph_tensors(replace(graph, x=x)), 2)
        found.append((logits, torch.autograd.grad(logits.square().sum(), net.layers[0].weight)[0]))
    (dense, dense_gradient), (thin, thin_gradient) = found
    assert torch.allclose(dense, thin, atol=1e-4, rtol=0)
    assert torch.allclose(dense_gradient, thin_gradient, atol=1e-4, rtol=1e-4)


def test_relabelled_nodes_permute_the_logits(graph: GraphData):
    net, order = encoder(graph), np.random.default_rng(1).permutation(len(graph.ids))
    moved = replace(
        graph,
        ids=tuple(graph.ids[i] for i in order),
        x=graph.x[order],
        adjacency=graph.adjacency[order][:, order].tocsr(),
        y=None,
    )
    logits, permuted = net(graph_tensors(graph), 3)[0], net(graph_tensors(moved), 3)[0]
    assert torch.allclose(logits[torch.from_numpy(order)], permuted, atol=1e-5, rtol=0)


def test_k_of_0_sees_no_edges_but_the_classifier_does(graph: GraphData):
    net, bare = encoder(graph), without_edges(graph)
    with_edges, without = (net.encode(graph_tensors(g), 0) for g in (graph, bare))
    assert torch.equal(with_edges, without)
    assert not torch.allclose(net(graph_tensors(graph), 0)[0], net(graph_tensors(bare), 0)[0])
    assert not torch.allclose(net.encode(graph_tensors(graph), 1), net.encode(graph_tensors(bare), 1))


def test_dropout_acts_in_training_alone(graph: GraphData):
    net, tensors = encoder(graph), graph_tensors(graph)
    assert torch.equal(net(tensors, 1)[0], net(tensors, 1)[0])
    net.train()
    assert not torch.equal(net(tensors, 1)[0], net(tensors, 1)[0])


def test_weights_differ_by_seed_alone(graph: GraphData):
    config = encoder(graph).config
    one, same, other = (GraphEncoder(config, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.layers[0].weight, same.layers[0].weight)
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)
    bound = math.sqrt(6 / (config.n_features + config.dim))
    assert float(one.layers[0].weight.detach().abs().max()) <= bound
    assert not one.layers[0].bias.any()


def test_tensors_carry_the_engine_they_are_given(graph: GraphData):
    class Twice:
        def power(self, dense: Tensor, k: int) -> Tensor:
            return dense * 2**k

    tensors = graph_tensors(graph, Twice())
    assert isinstance(tensors, GraphTensors)
    assert torch.equal(tensors.propagator.power(torch.ones(1), 3), torch.tensor([8.0]))
