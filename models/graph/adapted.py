"""A fitted classifier of nodes, what it predicts, and both on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.models.checkpoint import ModelManifest, open_tensors, read_manifest, save_model
from facetrail.models.errors import Damaged, InvalidInput
from facetrail.models.graph.adapters import Backend, propagator
from facetrail.models.graph.encoder import EncoderConfig, GraphEncoder
from facetrail.models.graph.features import JointSvd
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.propagation import GraphTensors, graph_tensors

KIND = "graph-classifier"


@dataclass(frozen=True, eq=False)
class Predictions:
    """One class a node. Letters: n nodes, C classes."""

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """(n, C); rows sum to 1, or, of nodes with several classes, each is a probability of its own."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) the most probable class."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(n,) the largest probability. A promise only where the nodes are like those trained on."""
        best: NDArray[np.float32] = self.probabilities.max(axis=1)
        return best

    @property
    def margin(self) -> NDArray[np.float32]:
        """(n,) the largest probability less the second largest."""
        best = np.sort(self.probabilities, axis=1)
        return np.asarray(best[:, -1] - best[:, -2])

    def write(self, path: Path, *, run: str) -> None:
        """Parquet with the columns id, label (its name), confidence, margin, run."""
        import pyarrow as pa
        from pyarrow import parquet

        columns = {
            "id": pa.array(self.ids, pa.string()),
            "label": pa.array([self.class_names[label] for label in self.labels], pa.string()),
            "confidence": pa.array(self.confidence, pa.float32()),
            "margin": pa.array(self.margin, pa.float32()),
            "run": pa.array([run] * len(self.ids), pa.string()),
        }
        parquet.write_table(pa.table(columns), path)


class ClassifierConfig(BaseModel):
    """What a folder of a graph classifier holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: EncoderConfig
    class_names: tuple[str, ...]
    k: int = Field(ge=0)
    """Propagation steps on the target."""
    several_labels: bool = False
    """Classes are judged one by one (sigmoid) and not against each other (softmax)."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits."""
    feature_space: str = ""
    """Of the graphs given to `predict`."""
    has_svd: bool = False


@dataclass(frozen=True, eq=False)
class AdaptedModel:
    """A classifier for the target graph, and for others with the same features."""

    config: ClassifierConfig
    encoder: GraphEncoder
    svd: JointSvd | None = None
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, graph: GraphData, k: int | None = None, *, backend: Backend = "csr") -> Predictions:
        """k: propagation steps; None: as on the target. The graph's own labels are not looked at.

        Raises InvalidInput where its features are not those of the training.
        """
        spaces = {self.config.feature_space, graph.feature_space} - {""}
        if len(spaces) > 1:
            raise InvalidInput(
                f"the graph's features are {graph.feature_space}, the model was trained on "
                f"{self.config.feature_space}; make them with the same vocabulary or encoder"
            )
        graph = self.svd.apply(graph) if self.svd is not None else graph
        if graph.n_features != self.config.encoder.n_features:
            raise InvalidInput(
                f"the graph has {graph.n_features} features, the model reads {self.config.encoder.n_features}; "
                "give a graph with the columns that it was trained on"
            )
        device = str(self.encoder.classifier.bias.device)
        tensors = graph_tensors(graph, propagator(graph, backend), device=device)
        probabilities = class_probabilities(
            self.encoder,
            tensors,
            self.config.k if k is None else k,
            several_labels=self.config.several_labels,
            temperature=self.config.temperature,
        )
        return Predictions(graph.ids, self.config.class_names, probabilities)

    def save(self, folder: Path, *, figures: Mapping[str, float] | None = None) -> ModelManifest:
        """Writes a new model folder. Raises Conflict where something stands already."""
        tensors = {f"encoder.{name}": value.cpu().numpy() for name, value in self.encoder.state_dict().items()}
        if self.svd is not None:
            tensors |= {f"svd.{name}": getattr(self.svd, name) for name in ("basis", "centre", "scale")}
        return save_model(
            folder, kind=KIND, config=self.config, tensors=tensors, trained_on=self.trained_on, figures=figures
        )


def open_adapted(folder: Path) -> AdaptedModel:
    """The classifier of a model folder. Raises as `read_manifest`, and Damaged."""
    manifest = read_manifest(folder, kind=KIND)
    try:
        config = ClassifierConfig.model_validate(manifest.config)
    except ValidationError as error:
        raise Damaged(
            f"{folder} does not fit a graph classifier ({error.errors()[0]['msg']}); train it again"
        ) from error
    encoder = GraphEncoder(config.encoder, torch.Generator())
    with open_tensors(folder, manifest) as tensors:
        encoder.load_state_dict(
            {name: torch.from_numpy(tensors.get_tensor(f"encoder.{name}")) for name in encoder.state_dict()}
        )
        svd = None
        if config.has_svd:
            basis, centre, scale = (tensors.get_tensor(f"svd.{part}") for part in ("basis", "centre", "scale"))
            svd = JointSvd(basis, centre, scale, config.feature_space)
    return AdaptedModel(config, encoder.eval(), svd, manifest.trained_on)


def class_probabilities(
    encoder: GraphEncoder, graph: GraphTensors, k: int, *, several_labels: bool, temperature: float = 1.0
) -> NDArray[np.float32]:
    """(n, C) float32, in evaluation mode; the encoder is left in the mode it was in."""
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        logits = encoder(graph, k)[0] / temperature
        probabilities = logits.sigmoid() if several_labels else logits.softmax(dim=1)
    encoder.train(training)
    return np.asarray(probabilities.cpu().numpy(), np.float32)
