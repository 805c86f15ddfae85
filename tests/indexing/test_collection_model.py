"""Random histories against a dictionary: what a collection holds is what was put and not deleted since."""

import random
from pathlib import Path

import pytest

from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.models.records import Document

IDS = ["a", "b", "é", "z", "10", "9", "\U0001f600", "a b"]


def random_document(rng: random.Random) -> Document:
    metadata = {"n": rng.choice([1, 1.0, True, None, "1", [1], {"m": 1}])}
    return Document(rng.choice(IDS), rng.choice(["", "x", "y" * 9_000]), rng.choice(["", "x"]), metadata=metadata)


def typed(document: Document) -> str:
    """1, 1.0 and True are equal in Python, but not the same metadata."""
    return repr(document)


@pytest.mark.parametrize("seed", range(6))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    rng, expected, change = random.Random(seed), dict[str, Document](), 0
    last_change = dict[str, tuple[int, str]]()
    collection = Collection.create(tmp_path / "c", CollectionSettings(name="c", lexical={}))
    for _ in range(60):
        before = {i: typed(d) for i, d in expected.items()}
        if rng.random() < 0.6:
            batch = [random_document(rng) for _ in range(rng.randint(0, 4))]
            result = collection.put(batch)
            last = {d.id: d for d in batch}
            changed = [i for i, d in last.items() if before.get(i) != typed(d)]
            expected |= last
            assert result.created == len(last.keys() - before.keys())
            assert result.updated == len(changed) - result.created
            assert result.unchanged == len(last) - len(changed)
            kind = "put"
        else:
            ids = rng.sample(IDS, rng.randint(0, 3))
            deleted = collection.delete(ids)
            changed = [i for i in ids if i in expected]
            expected = {i: d for i, d in expected.items() if i not in ids}
            assert deleted.deleted == tuple(changed)
            assert deleted.missing == tuple(i for i in ids if i not in changed)
            kind = "delete"
        change += len(changed)
        assert collection.last_change == change
        last_change |= {i: (change - len(changed) + k + 1, kind) for k, i in enumerate(changed)}
        if rng.random() < 0.1:
            collection.close()
            collection = Collection.open(tmp_path / "c", writable=True)
        found = [d for part in collection.documents(batch=3) for d in part]
        in_order = sorted(expected, key=str.encode)
        assert [typed(d) for d in found] == [typed(expected[i]) for i in in_order]
        since = rng.randint(0, change)
        log = sorted((n, k, i) for i, (n, k) in last_change.items() if n > since)
        assert [(c.number, c.kind, c.id) for c in collection.changes_since(since)] == log
    assert collection.check() == []
    collection.close()
