"""Index generations: immutable folders, put in service by one atomic switch.

    generations/000017/   MANIFEST.json (sha256 and size of every file) and what the index families saved
    CURRENT               number and manifest hash of the generation in service

A generation is written into `generations/.building-*`, synced, renamed, and only then named by CURRENT: a crash at any
moment leaves the old generation in service. The writer lock must be held to build; readers need nothing, and keep the
files they have mapped even after those were pruned.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from facetrail.indexing.durable import rename_durably, sync_folder, sync_tree, write_durably
from facetrail.indexing.generation_check import Problem, verify
from facetrail.indexing.generation_manifest import (
    CURRENT_FILE,
    GENERATIONS_FOLDER,
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    current_bytes,
    describe_files,
    file_problems,
    manifest_bytes,
    read_current,
    read_manifest,
    rebuild_cure,
)
from facetrail.models.errors import Conflict, Damaged

__all__ = [
    "Building",
    "FileEntry",
    "Manifest",
    "Problem",
    "built_from",
    "current",
    "current_line",
    "current_number",
    "new_generation",
    "open_generation",
    "quarantine",
    "verify",
]

_BUILDING = ".building-"
_DAMAGED = "damaged-"
_NUMBER = re.compile(r"(?:damaged-)?([0-9]{6,12})(?:-.*)?")
_KEPT = 2  # the one in service and the one before it, for readers about to open it


class Building:
    """A generation being written: index families save below `folder`, then `finish` puts it in service."""

    def __init__(self, collection: Path, folder: Path) -> None:
        self.folder = folder
        self.number: int | None = None
        self._collection = collection

    def finish(
        self,
        *,
        built_from_change: int,
        n_documents: int,
        encoder_fingerprint: str | None = None,
        analyser_fingerprint: str | None = None,
    ) -> int:
        """Seals the files with a manifest, makes all of it durable and switches CURRENT; returns the number.

        A damaged generation that this one replaces is set aside, every byte kept; a good one stays as predecessor.
        """
        if self.number is not None:
            raise Conflict(f"generation {self.number} is finished already; start another one")
        number = _next_number(self._collection)
        manifest = Manifest(
            number=number,
            built_from_change=built_from_change,
            n_documents=n_documents,
            encoder_fingerprint=encoder_fingerprint,
            analyser_fingerprint=analyser_fingerprint,
            kinds=tuple(sorted(p.name for p in self.folder.iterdir() if p.is_dir())),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            files=describe_files(self.folder),
        )
        (self.folder / MANIFEST_FILE).write_bytes(manifest_bytes(manifest))
        sync_tree(self.folder)
        damaged = _damaged_in_service(self._collection)
        rename_durably(self.folder, self.folder.parent / f"{number:06d}")
        write_durably(self._collection / CURRENT_FILE, current_line(manifest))
        self.number = number
        if damaged is not None:
            quarantine(damaged)
        _prune(self._collection, number)
        return number


@contextmanager
def new_generation(folder: Path) -> Iterator[Building]:
    """A generation of the collection in `folder` to be filled; a block left without `finish` leaves nothing behind."""
    parent = folder / GENERATIONS_FOLDER
    if not parent.is_dir():
        parent.mkdir()
        sync_folder(folder)
    for leftover in parent.glob(f"{_BUILDING}*"):
        shutil.rmtree(leftover)  # of a build that was killed: the writer lock says that nobody works on it
    building = Building(folder, Path(tempfile.mkdtemp(prefix=_BUILDING, dir=parent)))
    building.folder.chmod(0o755)
    try:
        yield building
    finally:
        if building.number is None:
            shutil.rmtree(building.folder, ignore_errors=True)


def current_number(folder: Path) -> int:
    """Number of the generation in service; 0 before the first. Raises Damaged."""
    found = read_current(folder)
    return found[0] if found is not None else 0


def current(folder: Path) -> Path | None:
    """Folder of the generation in service; None before the first. Raises Damaged if CURRENT is, or points nowhere."""
    found = read_current(folder)
    if found is None:
        return None
    path = folder / GENERATIONS_FOLDER / f"{found[0]:06d}"
    if not path.is_dir():
        raise Damaged(f"{folder / CURRENT_FILE} names generation {found[0]}, which is missing; {rebuild_cure(folder)}")
    return path


def current_line(manifest: Manifest) -> bytes:
    """The bytes of CURRENT that put a generation in service."""
    return current_bytes(manifest.number, hashlib.sha256(manifest_bytes(manifest)).hexdigest())


def built_from(folder: Path) -> int:
    """The change number the generation in service was built from; 0 before the first. Raises Damaged."""
    path = current(folder)
    return read_manifest(path).built_from_change if path is not None else 0


def open_generation(folder: Path, *, verify: bool = True) -> tuple[Path, Manifest] | None:
    """(folder, manifest) of the generation in service, None before the first; nothing is set aside or wiped.

    verify True streams every file's sha256, two files at a time; False compares names and sizes. Raises Damaged naming
    every file that is not as it was written, Conflict for a format newer than this code.
    """
    while True:
        seen = read_current(folder)
        if seen is None:
            return None
        try:
            return _open(folder, seen, verify)
        except (Damaged, FileNotFoundError) as error:
            if read_current(folder) == seen:
                if isinstance(error, Damaged):
                    raise
                raise Damaged(f"{error.filename} is missing; {rebuild_cure(folder)}") from error
            # A writer switched and pruned while we looked: what we looked at is out of service, not damaged.


def _open(folder: Path, seen: tuple[int, str], verify: bool) -> tuple[Path, Manifest]:
    number, manifest_sha256 = seen
    path = folder / GENERATIONS_FOLDER / f"{number:06d}"
    if not path.is_dir():
        raise Damaged(f"{folder / CURRENT_FILE} names generation {number}, which is missing; {rebuild_cure(folder)}")
    manifest = read_manifest(path)
    if hashlib.sha256((path / MANIFEST_FILE).read_bytes()).hexdigest() != manifest_sha256 or manifest.number != number:
        raise Damaged(f"{path / MANIFEST_FILE} is not the one that {CURRENT_FILE} names; {rebuild_cure(folder)}")
    problems = file_problems(path, manifest, hashes=verify)
    if problems:
        listed = ", ".join(f"{path / name} {what}" for name, what in problems[:5])
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise Damaged(f"{listed}{more}; {rebuild_cure(folder)}")
    return path, manifest


def quarantine(path: Path) -> Path:
    """Sets a damaged generation aside under `damaged-NUMBER-TIME`, every byte kept; returns where."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    target = path.with_name(f"{_DAMAGED}{path.name}-{stamp}")
    rename_durably(path, target)
    return target


def _damaged_in_service(folder: Path) -> Path | None:
    """The folder of the generation in service if its bytes are not as they were written."""
    try:
        open_generation(folder)
    except Damaged:
        with suppress(Damaged):
            return current(folder)
    return None


def _next_number(folder: Path) -> int:
    names = [p.name for p in (folder / GENERATIONS_FOLDER).iterdir()]
    taken = [int(found[1]) for found in map(_NUMBER.fullmatch, names) if found]
    with suppress(Damaged):  # a damaged CURRENT is about to be replaced, which is the cure that its error names
        taken.append(current_number(folder))
    return max(taken, default=0) + 1


def _prune(folder: Path, number: int) -> None:
    """Removes generations older than the one before `number`; what was set aside stays."""
    parent = folder / GENERATIONS_FOLDER
    old = sorted(int(p.name) for p in parent.iterdir() if p.name.isdigit() and int(p.name) < number)
    for gone in old[: max(0, len(old) - (_KEPT - 1))]:
        # Renamed first: a removal that is killed half way leaves a leftover, not a generation with missing files.
        doomed = parent / f"{_BUILDING}pruned-{gone:06d}-{os.getpid()}"
        (parent / f"{gone:06d}").rename(doomed)
        shutil.rmtree(doomed)
