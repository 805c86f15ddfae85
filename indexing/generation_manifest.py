"""What a generation says of itself (MANIFEST.json) and which one is in service (CURRENT), every byte checked.

Both files carry their own checksum, so that damage to the description is told from damage to what it describes.
"""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.indexing.durable import file_sha256
from facetrail.models.errors import Conflict, Damaged

FORMAT_VERSION = 1
MANIFEST_FILE = "MANIFEST.json"
CURRENT_FILE = "CURRENT"
GENERATIONS_FOLDER = "generations"
_CURRENT = re.compile(rb"([0-9]{6,12}) ([0-9a-f]{64}) ([0-9a-f]{32})\n")
_REBUILD = "rebuild it from the collection with `facetrail index build --out {folder}`"


class FileEntry(BaseModel):
    """One file of a generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    """Bytes."""


class Manifest(BaseModel):
    """What a generation holds and what it was built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    number: int = Field(ge=1)
    built_from_change: int = Field(ge=0)
    """The collection's change number up to which the generation is current."""
    n_documents: int = Field(ge=0)
    encoder_fingerprint: str | None = None
    analyser_fingerprint: str | None = None
    kinds: tuple[str, ...] = ()
    """The index families in it, by the names of their folders."""
    created_at: str
    """UTC, ISO 8601."""
    files: dict[str, FileEntry]
    """Path inside the generation, with /, to what the file must be."""


def rebuild_cure(folder: Path) -> str:
    """The cure for every damage of a generation."""
    return _REBUILD.format(folder=folder)


def manifest_bytes(manifest: Manifest) -> bytes:
    """The text of MANIFEST.json."""
    body = manifest.model_dump(mode="json")
    return _with_checksum(body)


def _with_checksum(body: dict[str, Any]) -> bytes:
    content = json.dumps(body, sort_keys=True, ensure_ascii=False)
    checksum = hashlib.sha256(content.encode()).hexdigest()
    return (json.dumps({"checksum": checksum, **body}, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_manifest(path: Path) -> Manifest:
    """Reads a generation's manifest. Raises Damaged, or Conflict for a format newer than this code."""
    file, folder = path / MANIFEST_FILE, path.parent.parent
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{file} is missing; {rebuild_cure(folder)}") from None
    try:
        body = json.loads(raw)
        body.pop("checksum")
        intact = _with_checksum(body) == raw
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise Damaged(f"{file} is not as it was written; {rebuild_cure(folder)}")
    version = body.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise Conflict(f"{file} has format version {version}, this facetrail knows {FORMAT_VERSION}; upgrade facetrail")
    try:
        return Manifest.model_validate(body)
    except ValidationError as error:
        raise Damaged(f"{file} does not fit its form ({error.errors()[0]['msg']}); {rebuild_cure(folder)}") from error


def current_bytes(number: int, manifest_sha256: str) -> bytes:
    """The text of CURRENT: number, sha256 of the manifest, checksum of both."""
    content = f"{number:06d} {manifest_sha256}"
    return f"{content} {hashlib.sha256(content.encode()).hexdigest()[:32]}\n".encode()


def read_current(folder: Path) -> tuple[int, str] | None:
    """(number, sha256 of its manifest) of the generation in service; None before the first. Raises Damaged."""
    file = folder / CURRENT_FILE
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return None
    found = _CURRENT.fullmatch(raw)
    if found is None or current_bytes(int(found[1]), found[2].decode()) != raw:
        raise Damaged(f"{file} is not as it was written; {rebuild_cure(folder)}")
    return int(found[1]), found[2].decode()


def describe_files(path: Path) -> dict[str, FileEntry]:
    """sha256 and size of every file below a folder, hashed by two threads; the manifest itself is left out."""
    names = sorted(file_names(path))
    with ThreadPoolExecutor(2) as pool:
        hashes = pool.map(lambda name: file_sha256(path / name), names)
        return {n: FileEntry(sha256=h, size=(path / n).stat().st_size) for n, h in zip(names, hashes, strict=True)}


def file_names(path: Path) -> set[str]:
    """Paths of the files below a generation's folder, with /, without the manifest."""
    found = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()}
    return found - {MANIFEST_FILE}


def file_problems(path: Path, manifest: Manifest, *, hashes: bool = True) -> list[tuple[str, str]]:
    """(file name, what is wrong) of every file that is missing, extra, or of other bytes than the manifest says.

    hashes False compares names and sizes only.
    """
    present = file_names(path)
    problems = [(name, "is missing") for name in manifest.files.keys() - present]
    problems += [(name, "is not in the manifest") for name in present - manifest.files.keys()]
    listed = sorted(manifest.files.keys() & present, key=lambda n: -manifest.files[n].size)  # large ones first
    with ThreadPoolExecutor(2) as pool:
        for name, what in zip(
            listed, pool.map(lambda n: _problem(path / n, manifest.files[n], hashes), listed), strict=True
        ):
            if what is not None:
                problems.append((name, what))
    return sorted(problems)


def _problem(file: Path, entry: FileEntry, hashes: bool) -> str | None:
    size = file.stat().st_size
    if size != entry.size:
        return f"has {size:,} bytes, the manifest says {entry.size:,}"
    if hashes and file_sha256(file) != entry.sha256:
        return "is not byte for byte what was written"
    return None
