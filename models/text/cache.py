"""The cache folder: what may be thrown away at any time and is made again when missing."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def cache_folder(*parts: str) -> Path:
    """FACETRAIL_CACHE, else ~/.cache/facetrail; `parts` name a sub-folder, made when missing."""
    root = os.environ.get("FACETRAIL_CACHE") or Path.home() / ".cache" / "facetrail"
    folder = Path(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
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
