"""A saved classifier answers as before, refuses other features, and writes what search will read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.adapted import AdaptedModel, ClassifierConfig, Predictions, open_adapted
from facetrail.models.graph.encoder import EncoderConfig, GraphEncoder
from facetrail.models.graph.features import JointSvd
from facetrail.models.graph.graph_data import GraphData


def classifier(graph: GraphData, svd: JointSvd | None = None) -> AdaptedModel:
    shape = EncoderConfig(n_features=graph.n_features if svd is None else len(svd.scale), n_classes=3, dim=8)
    config = ClassifierConfig(
        encoder=shape, class_names=("a", "b", "c"), k=2, temperature=1.5, feature_space="s", has_svd=svd is not None
    )
    return AdaptedModel(config, GraphEncoder(shape, torch.Generator().manual_seed(0)), svd)


@pytest.mark.parametrize("with_svd", [False, True])
def test_a_reopened_classifier_predicts_the_same(graph: GraphData, tmp_path: Path, with_svd: bool):
    model = classifier(graph, JointSvd.of(graph, graph, 4) if with_svd else None)
    model.save(tmp_path / "model")
    opened = open_adapted(tmp_path / "model")
    assert opened.config == model.config
    assert np.array_equal(opened.predict(graph).probabilities, model.predict(graph).probabilities)
    assert not np.array_equal(model.predict(graph, k=0).probabilities, model.predict(graph).probabilities)


def test_other_features_are_refused(graph: GraphData):
    model = classifier(graph)
    with pytest.raises(InvalidInput, match="trained on s"):
        model.predict(replace(graph, feature_space="other"))
    with pytest.raises(InvalidInput, match="the model reads 12"):
        model.predict(replace(graph, x=graph.x[:, :5]))


def test_predictions_by_hand_and_as_parquet(tmp_path: Path):
    p = Predictions(("x", "y"), ("a", "b", "c"), np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], np.float32))
    assert p.labels.tolist() == [0, 2]
    assert np.allclose(p.confidence, [0.5, 0.8])
    assert np.allclose(p.margin, [0.2, 0.7])
    p.write(tmp_path / "p.parquet", run="r1")
    table = parquet.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["id", "label", "confidence", "margin", "run"]
    rows = table.to_pylist()
    assert [(row["id"], row["label"], row["run"]) for row in rows] == [("x", "a", "r1"), ("y", "c", "r1")]
