"""A graph encoder whose layers propagate k times, where k may differ between two graphs (A2GNN, AAAI 2024).

As in the paper's code: weights shared between the graphs, ReLU and dropout after every layer, and a classifier that
always propagates once. k = 0 makes the encoder an MLP. Ours: the weights are applied before propagation, since they
narrow the features first.
"""

from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from facetrail.models.graph.propagation import GraphTensors, Propagator, SparseMatrix


class EncoderConfig(BaseModel):
    """Shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_features: int = Field(ge=1)
    n_classes: int = Field(ge=2)
    dim: int = Field(default=128, ge=1)
    n_layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class Convolution(nn.Module):
    """Pᵏ (H W) + b, with W Glorot-uniform and b = 0 at the start."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        nn.init.xavier_uniform_(self.weight, generator=generator)

    def forward(self, h: Tensor | SparseMatrix, propagator: Propagator, k: int) -> Tensor:
        """h: (n, n_in) → (n, n_out)."""
        return propagator.power(h @ self.weight, k) + self.bias


class GraphEncoder(nn.Module):
    """Node representations, and the logits of their classes."""

    def __init__(self, config: EncoderConfig, generator: torch.Generator) -> None:
        """generator: on the CPU, draws the weights."""
        super().__init__()
        self.config = config
        widths = [config.n_features, *[config.dim] * config.n_layers]
        self.layers = nn.ModuleList(Convolution(n_in, n_out, generator) for n_in, n_out in pairwise(widths))
        self.classifier = Convolution(config.dim, config.n_classes, generator)

    def encode(self, graph: GraphTensors, k: int) -> Tensor:
        """(n, dim), after ReLU and dropout."""
        z: Tensor | SparseMatrix = graph.x
        for layer in self.layers:
            z = nn.functional.dropout(
                layer(z, graph.propagator, k).relu_(), self.config.dropout, training=self.training
            )
        assert isinstance(z, Tensor)
        return z

    def classify(self, graph: GraphTensors, z: Tensor) -> Tensor:
        """z: (n, dim), of `encode` → logits (n, C)."""
        logits: Tensor = self.classifier(z, graph.propagator, 1)
        return logits

    def forward(self, graph: GraphTensors, k: int) -> tuple[Tensor, Tensor]:
        """Logits (n, C) and representations (n, dim)."""
        z = self.encode(graph, k)
        return self.classify(graph, z), z
