"""The log that a killed writer leaves: whole, cut short by a crash, or damaged. Only the last is refused."""

import os
import random
from pathlib import Path

import pytest

from facetrail.eval.benchmarks.durability_damage import damage
from facetrail.indexing import generation
from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.indexing.collection_log import log_problem
from facetrail.models.errors import Damaged
from facetrail.models.records import Document

N = 30
FRAME = 24 + 8192


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A collection whose writer vanished without closing it."""
    folder = tmp_path / "c"
    Collection.create(folder, CollectionSettings(name="c", lexical={})).close()
    child = os.fork()
    if child == 0:
        writer = Collection.open(folder, writable=True)
        for i in range(N):
            writer.put([Document(f"{i:02d}", "text " * 50)])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return folder


def log(folder: Path) -> Path:
    return folder / "collection.sqlite-wal"


def test_a_whole_log_is_no_problem_and_is_folded_in(killed: Path) -> None:
    assert log(killed).stat().st_size > N * FRAME
    assert generation.verify(killed) == []
    with Collection.open(killed, writable=True) as writer:
        assert writer.count() == N
    assert not log(killed).exists()


def commits(raw: bytes) -> list[int]:
    """Where each transaction ends, in bytes."""
    ends = range(32 + FRAME, len(raw) + 1, FRAME)
    return [end for end in ends if raw[end - FRAME + 4 : end - FRAME + 8] != bytes(4)]


def test_every_flipped_bit_before_the_last_transaction_is_named_and_nothing_is_dropped(killed: Path) -> None:
    clean, rng = log(killed).read_bytes(), random.Random(1)
    assert len(commits(clean)) == N
    covered = commits(clean)[-2]
    for i in range(80):
        changed = damage(clean[:32], "flip", rng) + clean[32:] if i < 20 else damage(clean[:covered], "flip", rng)
        changed += clean[len(changed) :]
        log(killed).write_bytes(changed)
        assert str(log(killed)) in [p.path for p in generation.verify(killed)]
        with pytest.raises(Damaged, match=r"collection\.sqlite-wal (is|has a) damaged.*nothing was changed"):
            Collection.open(killed, writable=True)
        assert log(killed).read_bytes() == changed
    log(killed).write_bytes(clean)
    with Collection.open(killed, writable=True) as writer:
        assert writer.count() == N


def test_a_log_cut_short_is_what_a_crash_leaves(killed: Path) -> None:
    clean = log(killed).read_bytes()
    log(killed).write_bytes(clean[: -FRAME // 2])
    assert log_problem(killed / "collection.sqlite") is None
    with Collection.open(killed, writable=True) as writer:
        assert writer.count() == N - 1


def test_unfinished_frames_behind_a_later_write_are_not_damage(killed: Path) -> None:
    """Killed in the middle of a large commit, opened, killed again: old frames stand behind the new transaction."""

    def write(documents: list[Document]) -> None:
        child = os.fork()
        if child == 0:
            Collection.open(killed, writable=True).put(documents)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    before = log(killed).stat().st_size
    write([Document(f"large-{i}", "text " * 2_000) for i in range(40)])
    after = log(killed).stat().st_size
    assert after > before + 20 * FRAME
    with log(killed).open("r+b") as file:
        file.truncate(after - 2 * FRAME)
    write([Document("small", "text")])
    assert log(killed).stat().st_size == after - 2 * FRAME  # the small write went over the first of the old frames
    assert log_problem(killed / "collection.sqlite") is None
    with Collection.open(killed, writable=True) as writer:
        assert (writer.count(), writer.get("small").text) == (N + 1, "text")


def test_frames_of_an_earlier_round_of_the_log_are_not_damage(tmp_path: Path) -> None:
    with Collection.create(tmp_path / "c", CollectionSettings(name="c", lexical={})) as writer:
        for i in range(1_200):  # far enough for SQLite to begin the log anew over its old frames
            writer.put([Document(f"{i % 40:02d}", f"text {i}")])
            if i % 100 == 0:
                assert log_problem(tmp_path / "c" / "collection.sqlite") is None
        assert log_problem(tmp_path / "c" / "collection.sqlite") is None
        assert log(tmp_path / "c").stat().st_size < 1_200 * 2 * FRAME
