"""BERT with pooling and normalisation as an ONNX graph, written straight from safetensors: no torch, about a second.

Input `ids`: (texts, tokens) int64, texts of equal length, hence no mask. Output `vectors`: (texts, dim) float32.
The fused operators of ONNX Runtime (domain com.microsoft) are named directly instead of being found by its optimiser.
Weights stand beside the graph in one file that the runtime maps into memory.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facetrail.models.text.architecture import GELU, bare_names, first_position
from facetrail.models.text.pooling import Pooling

_MICROSOFT = "com.microsoft"
_ALIGNMENT = 4_096
"""Bytes; initialisers start on a page, as mapping a file into memory asks."""


class GraphWriter:
    """Collects nodes and initialisers; initialisers go to the weight file as they come."""

    def __init__(self, weights: Path) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._path, self._file = weights, weights.open("wb")

    def close(self) -> None:
        """Ends the weight file."""
        self._file.close()

    def weight(self, name: str, value: NDArray[np.float32]) -> str:
        """A float32 initialiser kept in the weight file."""
        self._file.seek(-self._file.tell() % _ALIGNMENT, 1)
        tensor = TensorProto(
            name=name, data_type=TensorProto.FLOAT, dims=value.shape, data_location=TensorProto.EXTERNAL
        )
        offset = self._file.tell()
        length = self._file.write(np.ascontiguousarray(value, "<f4").tobytes())
        for key, entry in (("location", self._path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(entry))
        self.initialisers.append(tensor)
        return name

    def integers(self, name: str, *values: int) -> str:
        """An int64 vector kept in the graph itself."""
        self.initialisers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def node(self, operator: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """One operator with one output, whose name is returned."""
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output


def write_bert(
    folder: Path,
    tensors: Mapping[str, NDArray[np.float32]],
    config: Mapping[str, Any],
    pooling: Pooling,
    *,
    normalise: bool,
) -> None:
    """Writes model.onnx and model.bin into an existing folder."""
    named = bare_names(tensors)
    graph = GraphWriter(folder / "model.bin")
    try:
        states = embeddings(graph, named, config)
        for i in range(int(config["num_hidden_layers"])):
            states = layer(graph, named, config, i, states)
        _head(graph, states, pooling, normalise=normalise)
    finally:
        graph.close()
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", int(config["hidden_size"])])
    save_graph(folder / "model.onnx", graph, [ids], [vectors])


def save_graph(
    path: Path, graph: GraphWriter, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> None:
    """Writes the .onnx file, which names the weight file beside it."""
    model = helper.make_model(
        helper.make_graph(graph.nodes, "encoder", inputs, outputs, graph.initialisers),
        ir_version=9,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(_MICROSOFT, 1)],
    )
    path.write_bytes(model.SerializeToString())


def embeddings(graph: GraphWriter, named: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> str:
    """Input `ids` to the states below the first layer; `named` are the weights with bare names."""
    positions = named["embeddings.position_embeddings.weight"][first_position(config) :]
    positions = (
        positions.astype(np.float32) + named["embeddings.token_type_embeddings.weight"][0]
    )  # every token is of type 0
    words = graph.node(
        "Gather", [graph.weight("words", named["embeddings.word_embeddings.weight"]), "ids"], "word_states"
    )
    length = graph.node("Shape", ["ids"], "length", start=1, end=2)
    bounds = [graph.integers("zero", 0), length, "zero"]
    places = graph.node("Slice", [graph.weight("positions", positions), *bounds], "places")
    summed = graph.node("Add", [words, places], "embedded")
    return graph.node(
        "LayerNormalization",
        [summed, *_norm(graph, named, "embeddings.LayerNorm")],
        "states",
        axis=-1,
        epsilon=_epsilon(config),
    )


def layer(
    graph: GraphWriter, named: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any], i: int, states: str
) -> str:
    """Transformer layer i, counted from 0 at the bottom."""
    prefix = f"encoder.layer.{i}."
    parts = [f"{prefix}attention.self.{part}." for part in ("query", "key", "value")]
    merged = graph.weight(f"{prefix}qkv", np.concatenate([named[part + "weight"] for part in parts]).T)
    bias = graph.weight(f"{prefix}qkv_bias", np.concatenate([named[part + "bias"] for part in parts]))
    context = graph.node(
        "Attention",
        [states, merged, bias],
        f"{prefix}context",
        domain=_MICROSOFT,
        num_heads=int(config["num_attention_heads"]),
    )
    states = _residual(graph, named, config, f"{prefix}attention.output.", context, states)
    inner = _linear(graph, named, f"{prefix}intermediate.dense", states)
    fused = "BiasGelu" if GELU[config["hidden_act"]] == "none" else "FastGelu"
    inner = graph.node(
        fused,
        [inner, graph.weight(f"{prefix}up_bias", named[f"{prefix}intermediate.dense.bias"])],
        f"{prefix}inner",
        domain=_MICROSOFT,
    )
    return _residual(graph, named, config, f"{prefix}output.", inner, states)


def _residual(
    graph: GraphWriter,
    named: Mapping[str, NDArray[np.float32]],
    config: Mapping[str, Any],
    prefix: str,
    inner: str,
    states: str,
) -> str:
    mapped = _linear(graph, named, f"{prefix}dense", inner)
    inputs = [
        mapped,
        states,
        *_norm(graph, named, f"{prefix}LayerNorm"),
        graph.weight(f"{prefix}dense.bias", named[f"{prefix}dense.bias"]),
    ]
    return graph.node("SkipLayerNormalization", inputs, f"{prefix}states", domain=_MICROSOFT, epsilon=_epsilon(config))


def _linear(graph: GraphWriter, named: Mapping[str, NDArray[np.float32]], name: str, states: str) -> str:
    return graph.node("MatMul", [states, graph.weight(f"{name}.weight", named[f"{name}.weight"].T)], f"{name}.mapped")


def _norm(graph: GraphWriter, named: Mapping[str, NDArray[np.float32]], name: str) -> list[str]:
    return [graph.weight(f"{name}.{part}", named[f"{name}.{part}"]) for part in ("weight", "bias")]


def _epsilon(config: Mapping[str, Any]) -> float:
    return float(config.get("layer_norm_eps", 1e-12))


def _head(graph: GraphWriter, states: str, pooling: Pooling, *, normalise: bool) -> None:
    last = "pooled" if normalise else "vectors"
    if pooling == "cls":
        graph.initialisers.append(helper.make_tensor("first", TensorProto.INT64, [], [0]))
        pooled = graph.node("Gather", [states, "first"], last, axis=1)
    else:
        operator = "ReduceMax" if pooling == "max" else "ReduceMean"
        pooled = graph.node(operator, [states, graph.integers("over_tokens", 1)], last, keepdims=0)
    if normalise:
        norm = graph.node("ReduceL2", [pooled, graph.integers("over_dim", 1)], "norm", keepdims=1)
        graph.initialisers.append(helper.make_tensor("tiny", TensorProto.FLOAT, [], [1e-12]))
        graph.node("Div", [pooled, graph.node("Max", [norm, "tiny"], "length_or_tiny")], "vectors")
