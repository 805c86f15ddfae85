"""Durability: kills, damage, and what an acknowledged write costs.

    python -m facetrail.eval.benchmarks.durability --kills 1000 --damage 500

Writes `eval/results/durability.json`. Must run on the disk that the figures are about (`--folder`).
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from facetrail.eval.benchmarks.durability_damage import DamageReport, make_collection, run_damage
from facetrail.eval.benchmarks.durability_kills import KillReport, run_kills
from facetrail.eval.evidence import write_result
from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.models.records import Document

ADD_MS, DELETE_MS = 5.0, 1.0
_N_STORED, _N_TIMED, _DIM = 5_000, 300, 384
_FINGERPRINT = "7e" * 32
_MEMORY = Path("/dev/shm")  # a file system without a disk: what the collection costs apart from its fsync


@dataclass(frozen=True)
class WriteTimes:
    """Medians in milliseconds of single-document transactions, and of a bare append with fsync on the same disk."""

    add_ms: float
    delete_ms: float
    fsync_ms: float


def time_writes(folder: Path, *, rng: np.random.Generator) -> WriteTimes:
    """Adds and deletes one document at a time, each with its vector, in a collection of 5,000."""
    settings = CollectionSettings(
        name="timed", encoder="none", encoder_fingerprint=_FINGERPRINT, dim=_DIM, lexical={}, dense={}
    )
    words = [f"word{i}" for i in range(5_000)]
    text = [" ".join(rng.choice(words, 150)) for _ in range(_N_TIMED)]
    with Collection.create(folder, settings) as collection:
        stored = [Document(f"old-{i:05d}", text[i % _N_TIMED], "title") for i in range(_N_STORED)]
        collection.put(stored, rng.standard_normal((_N_STORED, _DIM)))
        vectors = rng.standard_normal((_N_TIMED, 1, _DIM)).astype(np.float32)

        def add(i: int) -> None:
            collection.put([Document(f"new-{i:05d}", text[i], "title")], vectors[i])

        def delete(i: int) -> None:
            collection.delete([f"new-{i:05d}"])

        return WriteTimes(_median_ms(add), _median_ms(delete), _bare_fsync_ms(folder))


def _median_ms(call: Callable[[int], None]) -> float:
    spent = []
    for i in range(_N_TIMED):
        started = time.perf_counter()
        call(i)
        spent.append((time.perf_counter() - started) * 1e3)
    return round(statistics.median(spent), 3)


def _bare_fsync_ms(folder: Path) -> float:
    path = folder / "bare"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:

        def write(i: int) -> None:
            os.pwrite(descriptor, bytes(32_768), 32_768 * i)
            os.fdatasync(descriptor)

        return _median_ms(write)
    finally:
        os.close(descriptor)
        path.unlink()


def write_evidence(
    killed: KillReport,
    damaged: DamageReport,
    times: dict[str, WriteTimes],
    *,
    seed: int,
    command: str,
    folder: Path | None,
) -> Path:
    """The result file, with the demands judged."""
    lost, unseen = len(killed.problems), len(damaged.problems)
    on_disk = times["single writes"]
    floor = f"(a bare append and fsync took {on_disk.fsync_ms:.2f} ms in the same run)"
    return write_result(
        "durability",
        claim="no acknowledged write is lost by a kill, every damaged file is named, and a write costs little",
        data=[{"name": "generated from the seed", "sha256": ""}],
        arms={
            "kills": {
                "description": "a writer killed at random: put, delete, vectors, build, switch, close, open",
                "measures": {"acknowledged operations": killed.n_acknowledged, "lost or resurrected": lost},
                "meters": {"kills": killed.n_kills, "kills inside an operation": killed.n_under_way},
            },
            "damage": {
                "description": "a flipped bit or a zeroed sector in every file of a collection in turn",
                "measures": {"not named by verify": unseen},
                "meters": {"damaged": damaged.n_damaged.total(), "files": damaged.n_files},
            },
            **{
                name: {
                    "description": f"one document with its vector a transaction, {_N_STORED:,} documents stored",
                    "measures": {measure.replace("_", " "): value for measure, value in asdict(part).items()},
                }
                for name, part in times.items()
            },
        },
        comparisons=[
            _row("kills", "lost or resurrected", lost, "0 of all acknowledged operations", lost == 0),
            _row("damage", "not named by verify", unseen, "0 of all damaged files", unseen == 0),
            _row("single writes", "add ms", on_disk.add_ms, f"<= {ADD_MS:g} ms {floor}", on_disk.add_ms <= ADD_MS),
            _row(
                "single writes",
                "delete ms",
                on_disk.delete_ms,
                f"<= {DELETE_MS:g} ms {floor}",
                on_disk.delete_ms <= DELETE_MS,
            ),
        ],
        seeds=[seed],
        meter={"name": "runs", "equal_within": 0},
        command=command,
        notes="Single writes are the collection's part alone; index and encoder are timed elsewhere.",
        folder=folder,
    )


def _row(arm: str, measure: str, value: float, demand: str, met: bool) -> dict[str, object]:
    return {"a": arm, "measure": measure, "difference": value, "demand": demand, "met": met}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all three parts; exit 1 if something was lost or went unnamed."""
    parser = argparse.ArgumentParser(prog="python -m facetrail.eval.benchmarks.durability", description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--damage", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the collections are made (default: the temporary folder)")
    parser.add_argument("--out", type=Path, help="folder of the result (default: eval/results)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        killed = run_kills(Path(scratch) / "killed", kills=options.kills, seed=options.seed)
        rng = random.Random(options.seed)
        make_collection(Path(scratch) / "damaged", n_documents=150, rng=rng)
        damaged = run_damage(Path(scratch) / "damaged", times=options.damage, rng=rng)
        times = {"single writes": time_writes(Path(scratch) / "timed", rng=np.random.default_rng(options.seed))}
    if _MEMORY.is_dir():
        with tempfile.TemporaryDirectory(dir=_MEMORY) as scratch:
            timed = time_writes(Path(scratch) / "timed", rng=np.random.default_rng(options.seed))
            times["single writes in memory"] = timed
    command = f"python -m facetrail.eval.benchmarks.durability --kills {options.kills} --damage {options.damage}"
    print(write_evidence(killed, damaged, times, seed=options.seed, command=command, folder=options.out))
    for problem in [*killed.problems, *damaged.problems]:
        print(problem, file=sys.stderr)
    return 1 if killed.problems or damaged.problems else 0


if __name__ == "__main__":
    sys.exit(main())
