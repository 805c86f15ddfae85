"""The id map, the total order and the lock that every search and write goes through."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing.index import Hits, best_with_ties
from facetrail.indexing.ordering import IdMap
from facetrail.indexing.read_write_lock import ReadWriteLock
from facetrail.models.errors import Damaged


@pytest.mark.parametrize("seed", range(20))
def test_sort_equals_a_full_sort_by_score_and_id_bytes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alphabet = ["a", "B", "é", "z", "\U0001f600", "\uffff", "0", "_"]
    ids = list({"".join(rng.choice(alphabet, 4)) for _ in range(300)})
    base = sorted(ids[:200], key=str.encode)
    id_map = IdMap(base)
    for document_id in ids[200:]:
        id_map.add(document_id)
    ordinals = rng.permutation(id_map.n_ordinals).astype(np.int64)
    scores = rng.integers(0, 5, len(ordinals)).astype(np.float64)
    sorted_hits = id_map.sort(Hits(ordinals, scores))
    expected = sorted(zip(scores, ordinals, strict=True), key=lambda p: (-p[0], id_map.id(int(p[1])).encode()))
    assert sorted_hits.ordinals.tolist() == [int(o) for _, o in expected]
    assert sorted_hits.scores.tolist() == [s for s, _ in expected]


def test_ids_come_back_after_removal_under_a_new_ordinal() -> None:
    id_map = IdMap(["a", "b"])
    assert id_map.remove("a") == 0
    assert id_map.remove("a") is None
    assert id_map.ordinal("a") is None
    assert id_map.add("a") == 2
    assert (len(id_map), id_map.n_ordinals) == (2, 3)


def test_an_unreadable_id_file_is_damage(tmp_path: Path) -> None:
    for content in (b"[1, 2]", b'{"a": 1}', b"[", b"\xff"):
        (tmp_path / "ids.json").write_bytes(content)
        with pytest.raises(Damaged, match=r"ids\.json"):
            IdMap.open(tmp_path)


def test_partial_selection_keeps_every_tie_in_ten_thousand_cases() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        n, k = int(rng.integers(1, 30)), int(rng.integers(1, 12))
        scores = rng.integers(0, 5, n).astype(np.float64)
        ordinals = rng.permutation(n).astype(np.int64)
        hits = best_with_ties(ordinals, scores, k)
        full = sorted(zip(-scores, ordinals, strict=True))
        cut = full[min(k, n) - 1][0]
        expected = [(int(o), -s) for s, o in full if s <= cut]
        assert list(zip(hits.ordinals.tolist(), hits.scores.tolist(), strict=True)) == expected


def test_a_waiting_writer_goes_before_new_readers() -> None:
    lock, order = ReadWriteLock(), []
    first_in, release = threading.Event(), threading.Event()

    def reader() -> None:
        with lock.read():
            first_in.set()
            release.wait(5)
            order.append("first reader")

    def writer() -> None:
        with lock.write():
            order.append("writer")

    def late_reader() -> None:
        with lock.read():
            order.append("late reader")

    threads = [threading.Thread(target=reader), threading.Thread(target=writer), threading.Thread(target=late_reader)]
    threads[0].start()
    assert first_in.wait(5)
    threads[1].start()
    while lock._writers_waiting == 0:
        time.sleep(0.001)
    threads[2].start()
    time.sleep(0.02)
    release.set()
    for thread in threads:
        thread.join(5)
    assert order == ["first reader", "writer", "late reader"]


def test_readers_run_beside_each_other_and_a_failed_block_frees_the_lock() -> None:
    lock, barrier = ReadWriteLock(), threading.Barrier(3)

    def read() -> None:
        with lock.read():
            barrier.wait(5)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not barrier.broken
    with pytest.raises(ZeroDivisionError), lock.write():
        _ = 1 // 0
    with lock.read():
        pass
