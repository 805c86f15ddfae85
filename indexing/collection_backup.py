"""Snapshots: a collection copied whole while it is being written, and brought back after every byte was checked."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from facetrail.indexing import generation
from facetrail.indexing.collection_check import SEAL_FILE, Seal
from facetrail.indexing.collection_schema import DATABASE_FILE, connect, require_database, translated
from facetrail.indexing.durable import rename_durably, sync_tree, write_durably
from facetrail.indexing.generation_manifest import CURRENT_FILE, GENERATIONS_FOLDER
from facetrail.models.errors import Conflict, Damaged


def backup(source: Path, target: Path) -> None:
    """Copies a collection to a folder that must not exist: the committed database and the generation in service.

    Consistent while a writer writes. The copy appears whole or not at all, sealed, and is itself a collection. Raises
    Conflict (target exists) and Damaged (the generation in service is).
    """
    database = require_database(source)
    with _draft_of(target) as draft:
        _copy_generation(source, draft)  # first: the database must know every change that the generation holds
        with translated(database):
            reader = connect(database, writable=False)
            try:
                _copy_database(reader, draft / DATABASE_FILE)
            finally:
                reader.close()
        Seal(draft).write()


def restore(source: Path, target: Path) -> None:
    """Makes a collection in `target`, which must not exist, from a snapshot whose every byte is checked first.

    Raises NotFound, Conflict (target exists) and Damaged naming what is wrong with the snapshot.
    """
    require_database(source)
    if not Seal(source).exists():
        raise Conflict(f"{source} is not a snapshot, or was written to since; make one with `facetrail index snapshot`")
    problems = generation.verify(source)
    if problems:
        listed = "; ".join(f"{p.path}: {p.what}" for p in problems[:5])
        raise Damaged(f"the snapshot {source} is damaged ({listed}); nothing was restored, use another snapshot")
    with _draft_of(target) as draft:
        shutil.copyfile(source / SEAL_FILE, draft / SEAL_FILE)
        shutil.copyfile(source / DATABASE_FILE, draft / DATABASE_FILE)
        if Seal(draft).problem() is not None:
            raise Conflict(f"{source} was written to while it was being restored; make a snapshot and restore that")
        _copy_generation(source, draft)


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes it, durably, if the block succeeds, and vanishes if not."""
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists already; name a folder that does not")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid4().hex[:12]}.tmp")
    draft.mkdir()
    try:
        yield draft
        sync_tree(draft)
        if target.exists():
            raise Conflict(f"{target} was made by somebody else meanwhile; name another folder")
        rename_durably(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _copy_database(reader: sqlite3.Connection, target: Path) -> None:
    """All pages in one step, so that a busy writer cannot make the copy start again."""
    copy = sqlite3.connect(target, isolation_level=None)
    try:
        reader.backup(copy)
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        copy.close()


def _copy_generation(source: Path, target: Path) -> None:
    """The generation in service, its hashes checked on the copy; opened again if a switch pruned it under the copy."""
    while True:
        opened = generation.open_generation(source, verify=False)
        if opened is None:
            return
        path, manifest = opened
        copy = target / GENERATIONS_FOLDER / path.name
        try:
            shutil.copytree(path, copy)
        except (shutil.Error, FileNotFoundError):
            shutil.rmtree(target / GENERATIONS_FOLDER, ignore_errors=True)
            if generation.current_number(source) == manifest.number:
                raise
            continue
        write_durably(target / CURRENT_FILE, generation.current_line(manifest))
        try:
            generation.open_generation(target, verify=True)
        except Damaged:
            generation.open_generation(source, verify=True)  # names the source's file where that is the damaged one
            raise
        return
