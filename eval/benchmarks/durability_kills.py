"""Kills a writer at random moments and holds what is found afterwards against what it acknowledged.

A forked child writes a collection at random (put, delete, vectors, build and switch, close and reopen) and keeps a
journal: a line before each operation, a line after its acknowledgement. The parent kills it, opens the collection and
accepts one of two states only: every acknowledged operation applied, and the one under way either wholly or not at all.
The collection lives on from kill to kill, so that nothing lost or resurrected can hide for long.
"""

import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.indexing import generation
from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.models.records import Document

DIM = 8
FINGERPRINT = "5e" * 32
_IDS = [f"document-{i:02d}" for i in range(40)]
_KINDS = ("put", "put", "put", "delete", "vectors", "build", "reopen")
_PAYLOAD = "payload.json"

Operation = dict[str, Any]


@dataclass
class State:
    """What a collection must hold: id → version, ids with a vector, and which build is in service with which ids."""

    versions: dict[str, int] = field(default_factory=dict)
    with_vector: set[str] = field(default_factory=set)
    build: int = 0
    built_ids: list[str] = field(default_factory=list)

    def after(self, operation: Operation) -> "State":
        """The state that an operation leads to."""
        kind, ids = operation["kind"], operation["ids"]
        new = State(dict(self.versions), set(self.with_vector), self.build, self.built_ids)
        if kind == "put":
            new.versions |= dict.fromkeys(ids, operation["version"])
            new.with_vector = new.with_vector | set(ids) if operation["vectors"] else new.with_vector - set(ids)
        elif kind == "delete":
            new.versions = {i: v for i, v in new.versions.items() if i not in ids}
            new.with_vector -= set(ids)
        elif kind == "vectors":
            new.with_vector |= set(ids)
        elif kind == "build":
            new.build = operation["version"]
            new.built_ids = sorted(new.versions)
        return new


@dataclass
class KillReport:
    """What a run of kills saw. problems: one sentence a loss, a resurrection, or damage; empty if all went well."""

    n_kills: int = 0
    n_acknowledged: int = 0
    n_under_way: int = 0
    n_under_way_applied: int = 0
    problems: list[str] = field(default_factory=list)


def document(document_id: str, version: int) -> Document:
    """The one form that a version of a document has; long enough for rows to overflow their page now and then."""
    return Document(document_id, f"text of version {version} " * (version % 700), f"{document_id} {version}")


def vector(document_id: str, version: int) -> list[float]:
    """The one vector of a version of a document."""
    return [float(version % 9973 + k) for k in range(DIM)]  # exact in float32


def create(folder: Path) -> None:
    """The empty collection that a run begins with."""
    Collection.create(
        folder,
        CollectionSettings(name="killed", encoder="none", encoder_fingerprint=FINGERPRINT, dim=DIM, lexical={}),
    ).close()


def draw(rng: random.Random, state: State, version: int) -> Operation:
    """The next operation; `ids` are its whole effect."""
    kind = rng.choice(_KINDS)
    ids = rng.sample(_IDS, rng.randint(1, 6))
    if kind == "vectors":
        ids = sorted(state.versions.keys() - state.with_vector)[:10]
    elif kind == "delete":
        ids = [i for i in ids if i in state.versions]
    return {"kind": kind, "ids": ids, "version": version, "vectors": rng.random() < 0.5}


def apply(collection: Collection, operation: Operation) -> Collection:
    """Carries an operation out; returns the open collection (another object after a reopening)."""
    kind, ids, version = operation["kind"], operation["ids"], operation["version"]
    if kind == "put":
        vectors = np.array([vector(i, version) for i in ids], np.float32) if operation["vectors"] else None
        collection.put([document(i, version) for i in ids], vectors)
    elif kind == "delete":
        collection.delete(ids)
    elif kind == "vectors":
        _store_missing(collection)
    elif kind == "build":
        _build(collection, version)
    else:
        collection.close()
        return Collection.open(collection.folder, writable=True)
    return collection


def _store_missing(collection: Collection) -> None:
    found = collection.documents_without_vectors(FINGERPRINT, 10)
    vectors = [vector(d.id, int(d.title.split()[1])) for d, _ in found]
    if found:
        collection.store_vectors([d.id for d, _ in found], [h for _, h in found], FINGERPRINT, vectors)


def _build(collection: Collection, version: int) -> None:
    with collection.snapshot() as view, generation.new_generation(collection.folder) as building:
        ids = view.ids_in_order()
        (building.folder / "lexical").mkdir()
        (building.folder / "lexical" / _PAYLOAD).write_text(json.dumps({"build": version, "ids": ids}))
        building.finish(built_from_change=view.change, n_documents=len(ids))


def write_until_killed(folder: Path, state: State, seed: int, note: Callable[[str], None]) -> None:
    """The child: operations without end, each noted before it begins and once it is acknowledged."""
    rng = random.Random(seed)
    collection = Collection.open(folder, writable=True)
    for step in range(10**9):
        operation = draw(rng, state, seed * 1_000 + step)
        note("begin " + json.dumps(operation))
        collection = apply(collection, operation)
        note("done")
        state = state.after(operation)


Writer = Callable[[Path, State, int, Callable[[str], None]], None]


def run_kills(folder: Path, *, kills: int, seed: int, writer: Writer = write_until_killed) -> KillReport:
    """Kills `writer` so many times over one collection, made in `folder`; must run in a process without threads."""
    create(folder)
    rng, report, state = random.Random(seed), KillReport(), State()
    for round_ in range(kills):
        journal = folder.with_name(f"{folder.name}.journal")
        journal.write_bytes(b"")
        child = _fork(writer, folder, state, seed * 10_000 + round_, journal)
        time.sleep(rng.uniform(0.002, 0.12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        text = journal.read_text()
        if not os.WIFSIGNALED(status):
            report.problems.append(f"kill {round_}: the writer ended by itself: {text[-2_000:]}")
            return report
        state = _settle(folder, state, text, report, f"kill {round_}")
        report.n_kills += 1
        if report.problems:
            return report
    return report


def _fork(writer: Writer, folder: Path, state: State, seed: int, journal: Path) -> int:
    child = os.fork()
    if child:
        return child
    # Plain write(2) on an append-only file: a killed process loses nothing that it has written.
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND)
    try:
        writer(folder, state, seed, lambda line: _write_line(descriptor, line))
    except BaseException:  # noqa: BLE001  the parent reports it; a forked child must not return into its code
        _write_line(descriptor, traceback.format_exc())
    finally:
        os._exit(1)


def _write_line(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode() + b"\n")


def _settle(folder: Path, state: State, journal: str, report: KillReport, where: str) -> State:
    """Compares the collection with the journal; returns the state that it is in."""
    under_way: Operation | None = None
    for line in journal.splitlines():
        if line == "done":
            assert under_way is not None
            state, under_way = state.after(under_way), None
            report.n_acknowledged += 1
        else:
            under_way = json.loads(line.removeprefix("begin "))
    allowed = [state] if under_way is None else [state, state.after(under_way)]
    report.n_under_way += under_way is not None
    found = [difference(folder, candidate) for candidate in allowed]
    if found[0] is None:
        return state
    if found[-1] is None:
        report.n_under_way_applied += 1
        return allowed[-1]
    report.problems.append(f"{where}, under way {under_way}: " + " | ".join(str(f) for f in found))
    return state


def difference(folder: Path, expected: State) -> str | None:
    """How a collection differs from a state, in words; None if it is that state, undamaged and ready to be written."""
    with Collection.open(folder, writable=True) as collection:
        documents = {d.id: d for batch in collection.documents() for d in batch}
        if documents != {i: document(i, v) for i, v in expected.versions.items()}:
            lost = {i for i, v in expected.versions.items() if documents.get(i) != document(i, v)}
            return f"lost or old: {sorted(lost)}, resurrected: {sorted(documents.keys() - expected.versions.keys())}"
        ids = sorted(expected.with_vector)
        missing = {d.id for d, _ in collection.documents_without_vectors(FINGERPRINT, len(_IDS))}
        if missing != expected.versions.keys() - expected.with_vector:
            return f"without a vector: {sorted(missing)}, expected with one: {ids}"
        if collection.vectors_for(ids, FINGERPRINT).tolist() != [vector(i, expected.versions[i]) for i in ids]:
            return "a vector is not the one that was stored"
    if problems := generation.verify(folder):
        return f"damage: {problems}"
    opened = generation.open_generation(folder)
    payload = json.loads((opened[0] / "lexical" / _PAYLOAD).read_text()) if opened else {"build": 0, "ids": []}
    if payload != {"build": expected.build, "ids": expected.built_ids}:
        return f"build {payload['build']} is in service, not {expected.build}"
    return None
