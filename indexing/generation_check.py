"""Checks every stored byte of a collection and names what is not as it was written."""

from dataclasses import dataclass
from pathlib import Path

from facetrail.indexing.collection_check import check_database
from facetrail.indexing.collection_schema import RESTORE_CURE, require_database
from facetrail.indexing.durable import file_sha256
from facetrail.indexing.generation_manifest import (
    CURRENT_FILE,
    GENERATIONS_FOLDER,
    MANIFEST_FILE,
    file_problems,
    read_current,
    read_manifest,
    rebuild_cure,
)
from facetrail.models.errors import Damaged


@dataclass(frozen=True, slots=True)
class Problem:
    """Something `verify` found. path: file or folder · what: what is wrong · cure: what to do."""

    path: str
    what: str
    cure: str


def verify(folder: Path) -> list[Problem]:
    """Every part of a collection that is not as it was written: database, CURRENT, manifests, index files.

    All generations are checked, those out of service too. Leftovers of killed builds and generations set aside are not
    problems: the next build clears the first and nothing reads the second. Raises NotFound, and Conflict for a format
    newer than this code.
    """
    require_database(folder)
    problems = [Problem(str(path), what, RESTORE_CURE) for path, what in check_database(folder)]
    problems += _current_problems(folder)
    parent = folder / GENERATIONS_FOLDER
    for path in sorted(parent.iterdir()) if parent.is_dir() else []:
        if path.name.isdigit():
            problems += _generation_problems(path, rebuild_cure(folder))
    return problems


def _current_problems(folder: Path) -> list[Problem]:
    """What is wrong with CURRENT itself; what it names is checked with the other generations."""
    file, cure = folder / CURRENT_FILE, rebuild_cure(folder)
    while True:
        what = None
        seen: tuple[int, str] | None = None
        try:
            if (seen := read_current(folder)) is None:
                return []
            path = folder / GENERATIONS_FOLDER / f"{seen[0]:06d}"
            if not path.is_dir():
                what = f"names generation {seen[0]}, which is missing"
            elif file_sha256(path / MANIFEST_FILE) != seen[1]:
                read_manifest(path)  # a damaged manifest is reported as such, not here
                what = f"names another manifest than generation {seen[0]} has"
        except (Damaged, FileNotFoundError):
            what = None if seen else "is not as it was written"
        if what is None:
            return []
        if seen is None or read_current(folder) == seen:  # else a writer switched while we looked
            return [Problem(str(file), what, cure)]


def _generation_problems(path: Path, cure: str) -> list[Problem]:
    try:
        manifest = read_manifest(path)
        found = [Problem(str(path / name), what, cure) for name, what in file_problems(path, manifest)]
        if manifest.number != int(path.name):
            found.append(Problem(str(path), f"holds generation {manifest.number}", cure))
    except Damaged as error:
        found = [Problem(str(path / MANIFEST_FILE), _without_cure(error, path, cure), cure)]
    except FileNotFoundError as error:
        found = [Problem(str(error.filename), "vanished", cure)]
    return found if path.is_dir() else []  # a writer may have pruned it while we looked


def _without_cure(error: Damaged, path: Path, cure: str) -> str:
    return str(error).removeprefix(f"{path / MANIFEST_FILE} ").removesuffix(f"; {cure}")
