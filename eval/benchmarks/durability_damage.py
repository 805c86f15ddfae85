"""Damages the files of a collection one at a time and asks whether `verify` names each.

The damage is a flipped bit or a zeroed sector of 512 bytes, at a random place of a file; bytes that were zero already
are drawn again, so that every damage is one. Each file is put back before the next is taken.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facetrail.indexing import generation
from facetrail.indexing.build import build_generation
from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.indexing.dense import DenseConfig
from facetrail.indexing.lexical import LexicalConfig
from facetrail.models.errors import Damaged
from facetrail.models.records import Document, Section

SECTOR = 512
_DIM = 32
_FINGERPRINT = "da" * 32
_WORDS = ("graph", "ranking", "query", "protein", "cell", "policy", "reward", "index", "entropy", "vaccine", "plasma")


@dataclass
class DamageReport:
    """How many files were damaged, by kind of damage, and every one that was not named."""

    n_damaged: Counter[str] = field(default_factory=Counter)
    n_files: int = 0
    problems: list[str] = field(default_factory=list)


def make_collection(folder: Path, *, n_documents: int, rng: random.Random) -> None:
    """A small real collection, closed and sealed: documents, vectors, deletions and every family of index."""
    draw = np.random.default_rng(rng.getrandbits(64))
    settings = CollectionSettings(
        name="damaged",
        encoder="none",
        encoder_fingerprint=_FINGERPRINT,
        dim=_DIM,
        lexical=LexicalConfig().model_dump(mode="json"),
        dense=DenseConfig().model_dump(mode="json"),
    )
    with Collection.create(folder, settings) as collection:
        documents = [_document(i, rng) for i in range(n_documents)]
        vectors = draw.standard_normal((n_documents, _DIM)).astype(np.float32)
        collection.put(documents, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        collection.delete([d.id for d in documents[::10]])
        build_generation(collection)
        collection.put(documents[:1], vectors[:1])


def _document(number: int, rng: random.Random) -> Document:
    text = " ".join(rng.choices(_WORDS, k=rng.randint(20, 400)))
    return Document(
        f"paper-{number:04d}",
        text,
        f"About {rng.choice(_WORDS)}",
        (Section("method", text[:80]),),
        {"year": 1990 + number % 30, "keywords": rng.sample(_WORDS, 2), "open_access": number % 2 == 0},
    )


def stored_files(folder: Path) -> list[Path]:
    """The files whose bytes matter; the lock and SQLite's shared memory hold nothing, nor does an empty log."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    return [p for p in found if p.name != "writer.lock" and not p.name.endswith("-shm")]


def damage(content: bytes, kind: str, rng: random.Random) -> bytes:
    """Other bytes of the same length: one bit flipped, or one aligned sector zeroed."""
    while True:
        changed = bytearray(content)
        if kind == "flip":
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            start = rng.randrange(0, len(content), SECTOR)
            changed[start : start + SECTOR] = bytes(len(content[start : start + SECTOR]))
        if changed != content:
            return bytes(changed)


def run_damage(folder: Path, *, times: int, rng: random.Random) -> DamageReport:
    """Damages the files in turn, `times` in all. A problem is a damage that was not named, or a file that changed."""
    files = stored_files(folder)
    report = DamageReport(n_files=len(files))
    for i in range(times):
        file, kind = files[i % len(files)], "flip" if rng.random() < 0.5 else "zero"
        before = file.read_bytes()
        after = damage(before, kind, rng)
        file.write_bytes(after)
        names = named(folder)
        if str(file) not in names:
            report.problems.append(f"{kind} in {file.relative_to(folder)} was not named; named were {names}")
        if file.read_bytes() != after:
            report.problems.append(f"{file.relative_to(folder)} was changed while it was damaged")
        file.write_bytes(before)
        report.n_damaged[kind] += 1
    if rest := generation.verify(folder):
        report.problems.append(f"with every file put back, verify still says {rest}")
    return report


def named(folder: Path) -> list[str]:
    """The files that `verify` says are damaged."""
    try:
        return [p.path for p in generation.verify(folder)]
    except Damaged as error:
        return [str(error)]
