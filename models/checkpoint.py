"""A model folder: tensors that anyone can read, a manifest that says what they are, and a card for people.

`model.safetensors` is read with numpy alone, so serving needs no torch. The manifest carries the tensors' sha256 and a
checksum of its own; a folder is written beside its place and renamed, so a half-written model is never found.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.models.errors import Conflict, Damaged, InvalidInput, NotFound

FORMAT_VERSION = 1
TENSORS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
CARD_FILE = "README.md"
_CURE = "copy the folder again, or train it again"


class BaseIdentity(BaseModel):
    """The model that another one differs from, or began as."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ModelManifest(BaseModel):
    """What a model folder holds and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    kind: str = Field(min_length=1)
    """Which code reads it."""
    config: dict[str, Any]
    """As the kind defines it."""
    tensors_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tensors_size: int = Field(ge=0)
    """Bytes."""
    base: BaseIdentity | None = None
    """None: trained from nothing, or the kind names its base in its config."""
    trained_on: dict[str, Any] = Field(default_factory=dict)
    """Data set → sha256, or a description of the same use."""
    figures: dict[str, float] = Field(default_factory=dict)
    """Measures at the end of training."""
    licence: str = ""
    """What the data and the base allow and ask for."""
    created_with: dict[str, str] = Field(default_factory=dict)
    """Package → version."""


def save_model(
    folder: Path,
    *,
    kind: str,
    config: BaseModel,
    tensors: Mapping[str, NDArray[Any]],
    base: BaseIdentity | None = None,
    trained_on: Mapping[str, Any] | None = None,
    figures: Mapping[str, float] | None = None,
    licence: str = "",
) -> ModelManifest:
    """Writes a model folder, whole or not at all. Raises Conflict where something stands already."""
    from safetensors.numpy import save_file

    if folder.exists():
        raise Conflict(f"{folder} exists already; choose another place for the model, or remove it first")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, draft / TENSORS_FILE)
        manifest = ModelManifest(
            kind=kind,
            config=config.model_dump(mode="json"),
            tensors_sha256=_sha256(draft / TENSORS_FILE),
            tensors_size=(draft / TENSORS_FILE).stat().st_size,
            base=base,
            trained_on=dict(trained_on or {}),
            figures=dict(figures or {}),
            licence=licence,
            created_with=_versions(),
        )
        (draft / MANIFEST_FILE).write_bytes(_with_checksum(manifest.model_dump(mode="json")))
        (draft / CARD_FILE).write_text(model_card(folder.name, manifest), encoding="utf-8")
        for path in (*draft.iterdir(), draft):
            _sync(path)
        draft.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def read_manifest(folder: Path, *, kind: str | None = None) -> ModelManifest:
    """The manifest of a model folder, checked; `kind` None accepts every kind.

    Raises NotFound (no model there), Damaged, Conflict (a newer format), InvalidInput (another kind).
    """
    file = folder / MANIFEST_FILE
    try:
        raw = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"{folder} holds no model (there is no {MANIFEST_FILE}); give the folder of a trained one"
        ) from None
    try:
        body = json.loads(raw)
        del body["checksum"]
        intact = _with_checksum(body) == raw
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise Damaged(f"{file} is not as it was written; {_CURE}")
    version = body.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise Conflict(f"{file} has format version {version}, this facetrail knows {FORMAT_VERSION}; upgrade facetrail")
    try:
        manifest = ModelManifest.model_validate(body)
    except ValidationError as error:
        raise Damaged(f"{file} does not fit its form ({error.errors()[0]['msg']}); {_CURE}") from error
    if kind is not None and manifest.kind != kind:
        raise InvalidInput(f"{folder} holds a model of kind {manifest.kind!r}, not {kind!r}; give one of that kind")
    return manifest


@contextmanager
def open_tensors(folder: Path, manifest: ModelManifest | None = None) -> Iterator[Any]:
    """The tensors of a model folder, verified: an open `safe_open` whose `get_tensor` gives numpy arrays.

    manifest: as read before; None reads it. Raises Damaged where the bytes are not those of the manifest.
    """
    from safetensors import SafetensorError, safe_open

    manifest = manifest or read_manifest(folder)
    file = folder / TENSORS_FILE
    if not file.is_file():
        raise Damaged(f"{file} is missing; {_CURE}")
    if (size := file.stat().st_size) != manifest.tensors_size:
        raise Damaged(f"{file} has {size:,} bytes, its manifest says {manifest.tensors_size:,}; {_CURE}")
    if _sha256(file) != manifest.tensors_sha256:
        raise Damaged(f"{file} is not byte for byte what was written; {_CURE}")
    try:
        handle = safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise Damaged(f"{file} cannot be read ({error}); {_CURE}") from error
    with handle as tensors:
        yield tensors


def model_card(name: str, manifest: ModelManifest) -> str:
    """The README.md of a model folder."""
    lines = [f"# {name}", "", f"A model of kind `{manifest.kind}`, made by facetrail.", ""]
    if manifest.base is not None:
        lines += [f"Base: `{manifest.base.name}`, weights sha256 `{manifest.base.weights_sha256}`.", ""]
    if manifest.figures:
        lines += ["| measure | value |", "|---|---|"]
        lines += [f"| {measure} | {value:.4f} |" for measure, value in sorted(manifest.figures.items())]
        lines.append("")
    if manifest.trained_on:
        lines += ["## Trained on", "", "```json", json.dumps(manifest.trained_on, indent=1), "```", ""]
    if manifest.licence:
        lines += ["## Licence", "", manifest.licence, ""]
    versions = ", ".join(f"{package} {version}" for package, version in manifest.created_with.items())
    lines += ["## Files", "", f"`{TENSORS_FILE}`: {manifest.tensors_size:,} bytes, `{manifest.tensors_sha256}`.", ""]
    lines += [f"Verify with `facetrail model info {name}`. Created with {versions}."]
    return "\n".join(lines) + "\n"


def _with_checksum(body: dict[str, Any]) -> bytes:
    content = json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False)
    checksum = hashlib.sha256(content.encode()).hexdigest()
    return (json.dumps({"checksum": checksum, **body}, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _versions() -> dict[str, str]:
    return {
        "facetrail": metadata.version("facetrail"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "safetensors": metadata.version("safetensors"),
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Waits until a file's bytes or a folder's entries are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
