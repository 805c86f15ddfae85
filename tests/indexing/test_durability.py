"""Nothing acknowledged is lost by a kill; readers and a writer live side by side; a write costs little."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.models.records import Document

RUN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from facetrail.eval.benchmarks import durability_kills as kills
{sabotage}
report = kills.run_kills(Path(sys.argv[1]), kills=int(sys.argv[2]), seed=int(sys.argv[3]))
print(json.dumps(asdict(report)))
"""

ACKNOWLEDGES_TOO_EARLY = """
def note_first(folder, state, seed, note):
    def early(line):
        note(line)
        if line != "done":
            note("done")
    kills_writer(folder, state, seed, lambda line: early(line) if line != "done" else None)
kills_writer = kills.write_until_killed
kills.run_kills.__kwdefaults__["writer"] = note_first
"""

FORGETS_DELETES = """
from facetrail.indexing.collection import Collection, DeleteResult
Collection.delete = lambda self, ids: DeleteResult(tuple(ids), (), self.last_change)
"""


def kill(folder: Path, *, kills: int, seed: int, sabotage: str = "") -> dict[str, object]:
    """Runs in a process of its own: the writers are forked, and a process that forks should have no threads."""
    script = RUN.format(sabotage=sabotage)
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(kills), str(seed)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_hundred_kills_lose_nothing_acknowledged_and_resurrect_nothing(tmp_path: Path) -> None:
    report = kill(tmp_path / "c", kills=100, seed=11)
    assert report["problems"] == []
    assert report["n_kills"] == 100
    # The kills must have been worth something: operations done, operations cut short, some of those committed.
    assert int(str(report["n_acknowledged"])) >= 30
    assert int(str(report["n_under_way"])) >= 50


@pytest.mark.parametrize("sabotage", [ACKNOWLEDGES_TOO_EARLY, FORGETS_DELETES], ids=["early", "forgets"])
def test_the_kill_test_catches_a_writer_that_lies(tmp_path: Path, sabotage: str) -> None:
    report = kill(tmp_path / "c", kills=60, seed=12, sabotage=sabotage)
    assert report["problems"]


def test_readers_see_whole_transactions_while_a_writer_writes(tmp_path: Path) -> None:
    with Collection.create(tmp_path / "c", CollectionSettings(name="c", lexical={})) as writer:
        writer.put([Document("left", "0"), Document("right", "0")])
        stop, seen, torn = threading.Event(), set[str](), list[str]()

        def read(reader: Collection) -> None:
            while not stop.is_set():
                left, right = reader.get_many(["left", "right"])
                assert left is not None
                assert right is not None
                seen.add(left.text)
                if left.text != right.text:
                    torn.append(f"{left.text} {right.text}")

        with Collection.open(tmp_path / "c") as other:  # one reader of another connection pool, two of the writer's
            threads = [threading.Thread(target=read, args=(c,)) for c in (writer, writer, other)]
            for thread in threads:
                thread.start()
            for version in range(1, 200):
                writer.put([Document("left", f"{version}"), Document("right", f"{version}")])
            stop.set()
            for thread in threads:
                thread.join()
            assert other.get("left").text == "199"
        assert torn == []
        assert len(seen) > 5


def test_writers_in_many_threads_take_turns(tmp_path: Path) -> None:
    with Collection.create(tmp_path / "c", CollectionSettings(name="c", lexical={})) as collection:

        def write(name: str) -> None:
            for i in range(20):
                collection.put([Document(f"{name}-{i}", "t")])

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (collection.count(), collection.last_change) == (80, 80)
        assert [c.number for c in collection.changes_since(0)] == list(range(1, 81))


def test_a_single_write_costs_little_beside_its_fsync() -> None:
    """On a file system without a disk, so that the figure is the collection's own; the benchmark has the disk's."""
    import tempfile

    import numpy as np

    from facetrail.eval.benchmarks.durability import ADD_MS, DELETE_MS, time_writes

    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("needs a file system in memory at /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        times = time_writes(Path(scratch) / "c", rng=np.random.default_rng(3))
    assert times.add_ms <= ADD_MS
    assert times.delete_ms <= DELETE_MS
