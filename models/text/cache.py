"""The cache folder: what may be thrown away at any time and is made again when missing."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facetrail.models.errors import Unavailable


def cache_folder(*parts: str) -> Path:
    """FACETRAIL_CACHE, else ~/.cache/facetrail; `parts` name a sub-folder, made when missing.

    Raises Unavailable where nothing can be written there.
    """
    root = os.environ.get("FACETRAIL_CACHE") or Path.home() / ".cache" / "facetrail"
    folder = Path(root, *parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} is read-only")
    except OSError as error:
        raise Unavailable(
            f"the cache folder {folder} cannot be written ({type(error).__name__}); set FACETRAIL_CACHE to another"
        ) from error
    return folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well and vanishes when it does not."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_verdict(path: Path) -> dict[str, Any] | None:
    """A remembered JSON object; None where there is none or it cannot be read, so that it is worked out again."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_verdict(path: Path, verdict: dict[str, Any]) -> None:
    """Remembers a JSON object atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(verdict, indent=2, sort_keys=True), encoding="utf-8")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside; the others wait."""
    from filelock import FileLock

    with FileLock(path):
        yield


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
