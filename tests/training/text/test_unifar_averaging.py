"""The last step of a training: trained layers averaged with the base's, by what development sets say."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from facetrail.models.text.unifar import UnifarHead
from facetrail.models.text.unifar_config import UnifarConfig
from facetrail.training.text.unifar_arm import average_with_start
from facetrail.training.text.unifar_model import UnifarModel

CONFIG = UnifarConfig(dim=8)


def _model() -> UnifarModel:
    model = UnifarModel(None, UnifarHead(CONFIG, generator=torch.Generator().manual_seed(0)))
    model.top = nn.Linear(2, 2, bias=False)  # type: ignore[assignment]  # anything with weights stands for layers
    return model


def _trained() -> tuple[UnifarModel, dict[str, torch.Tensor]]:
    model = _model()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model, start


def test_layers_are_averaged_and_the_head_stays_as_trained() -> None:
    model, start = _trained()

    def measure() -> Mapping[str, float]:
        return {"dev": 1 - abs(float(model.state_dict()["top.weight"][0, 0] - start["top.weight"][0, 0]) - 0.3)}

    share, measures = average_with_start(model, start, (0.3, 1.0), measure)
    end = model.state_dict()
    assert share == 0.3
    assert measures["dev"] == pytest.approx(1)
    assert torch.allclose(end["top.weight"], start["top.weight"] + 0.3)
    assert torch.allclose(end["head.question"], start["head.question"] + 0.3)
    assert torch.allclose(end["head.facet_scale"], start["head.facet_scale"] + 1)
    assert torch.allclose(end["head.anchors"], start["head.anchors"] + 1)


def test_a_share_that_loses_on_no_set_goes_before_a_better_mean() -> None:
    model, start = _trained()

    def measure() -> Mapping[str, float]:
        moved = float(model.state_dict()["top.weight"][0, 0] - start["top.weight"][0, 0])
        return {"dev": moved, "one set/s_1": 0.5 - (0.1 if moved > 0.6 else 0)}

    assert average_with_start(model, start, (0.3, 0.5, 1.0), measure)[0] == 0.5
