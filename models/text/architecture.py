"""What both forms of BERT, the torch one and the ONNX one, must know of config.json and of the weights' names."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

GELU: dict[str, Literal["none", "tanh"]] = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""The activations we compute: whether GELU is exact or approximated by tanh."""
FAMILIES = ("bert", "roberta", "xlm-roberta")

Array = TypeVar("Array")


def is_bert(config: Mapping[str, Any]) -> bool:
    """Whether `PackedBert` and `write_bert` compute the architecture that config.json describes."""
    return (
        config.get("model_type") in FAMILIES
        and config.get("hidden_act") in GELU
        and config.get("position_embedding_type", "absolute") in ("absolute", None)
        and not config.get("is_decoder")
        and not config.get("add_cross_attention")
    )


def first_position(config: Mapping[str, Any]) -> int:
    """Row of the position table that the first token uses; RoBERTa counts from behind the padding token."""
    return 0 if config["model_type"] == "bert" else int(config.get("pad_token_id", 1)) + 1


def bare_names(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The weights without the prefix that a head puts before them (`bert.`, `roberta.`)."""
    marker = "embeddings.word_embeddings.weight"
    prefix = next(name for name in tensors if name.endswith(marker)).removesuffix(marker)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
