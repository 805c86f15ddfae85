"""The ONNX graph of architectures that `graph.py` does not write itself, through torch's exporter (half a minute)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetrail.models.text.networks import open_automodel
from facetrail.models.text.pooling import Pooling, pool, unit_rows
from facetrail.models.text.source import EncoderSource


class _Whole(torch.nn.Module):
    """ids (texts, tokens) of texts of equal length → vectors (texts, dim)."""

    def __init__(self, model: Any, pooling: Pooling, *, normalise: bool) -> None:
        super().__init__()
        self.model, self._pooling, self._normalise = model, pooling, normalise

    def forward(self, ids: Tensor) -> Tensor:
        pooled = pool(self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state, self._pooling)
        return unit_rows(pooled) if self._normalise else pooled


def export_automodel(path: Path, source: EncoderSource, pooling: Pooling) -> None:
    """Writes the graph; whatever the exporter raises means that this architecture cannot be exported."""
    whole = _Whole(open_automodel(source), pooling, normalise=source.normalise).eval()
    example = torch.ones((2, 8), dtype=torch.long)
    shapes = ({0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")},)
    with torch.inference_mode():
        torch.onnx.export(
            whole,
            (example,),
            str(path),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=["ids"],
            output_names=["vectors"],
            external_data=True,
            verbose=False,
        )
