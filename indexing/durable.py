"""Bytes that survive a power cut: write, fsync, rename, fsync the folder.

A rename is atomic, but neither the new file's bytes nor the folder entry are on disk before their own fsync.
"""

import hashlib
import os
from pathlib import Path

_CHUNK = 1 << 20


def sync_file(path: Path) -> None:
    """Waits until a file's bytes are on disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Waits until a folder's entries (creations, renames, removals) are on disk."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(folder: Path) -> None:
    """Waits until every file and folder below a folder, and the folder itself, is on disk."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(here) / name)
        sync_folder(Path(here))


def write_durably(path: Path, content: bytes) -> None:
    """Creates or replaces a file: after a crash it holds either the old bytes or the new ones, never a mixture."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Renames within one folder or between two of one file system; the bytes must be on disk already."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def remove_durably(path: Path) -> None:
    """Removes a file if it is there, and waits until it is gone from the disk."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, streamed; releases the interpreter lock, so that two threads hash two files."""
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            digest.update(view[:n])
    return digest.hexdigest()


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
