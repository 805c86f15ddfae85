"""The field index against a brute-force evaluator of its own, on random trees, metadata and histories."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.indexing import fields
from facetrail.indexing.corpus import read_corpus
from facetrail.indexing.fields import FieldIndex
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.filters_tree import date_stamp, number_in
from facetrail.models.errors import Damaged

LONG = "é" * 199
DATES = ["2015-01-31", "2015-01-31T10:00:00Z", "2014-12-31T23:59:60Z", "2016-01-01T00:00:00.5-01:30"]
WORDS = ["a", "b", "A", "1", "2012", "2.5", *DATES, "2016-02-30", LONG + "é", LONG + "x", "", "日本"]
SCALARS = [1, 2, 2.0, 0, -1, 2.5, True, False, 2**53, 2**53 + 1, 2**70, *WORDS]
KEYS = ["a", "a", "b", "c", "d", "a.b", "b.a", "a.b.c", "c.a.b", "missing"]
NUMBERS = [0, 1, 2, 2.0, 2.5, 2012, -1.5, 2**53, 2**53 + 1, 2**70, 1e308, 10**400]


def random_value(rng: random.Random, depth: int = 0) -> Any:
    draw = rng.random()
    if draw < 0.55 or depth > 3:
        return rng.choice(SCALARS)
    if draw < 0.65:
        return None
    if draw < 0.8:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {k: random_value(rng, depth + 1) for k in rng.sample(["a", "b", "c", "a.b", ""], rng.randrange(3))}


def random_metadata(rng: random.Random) -> dict[str, Any]:
    return {k: random_value(rng) for k in rng.sample(["a", "b", "c", "d", "a.b"], rng.randrange(6))}


def random_leaf(rng: random.Random) -> dict[str, Any]:
    key, draw = rng.choice(KEYS), rng.random()
    if draw < 0.4:
        some = rng.sample(SCALARS, rng.randrange(1, 9))
        return {"key": key, "match": rng.choice([{"value": some[0]}, {"any": some}, {"except": some}])}
    if draw < 0.75:
        pool: list[Any] = DATES if rng.random() < 0.3 else NUMBERS
        return {
            "key": key,
            "range": {w: rng.choice(pool) for w in rng.sample(["gt", "gte", "lt", "lte"], rng.choice([1, 1, 2, 3]))},
        }
    if draw < 0.85:
        return {"is_empty": {"key": key}}
    if draw < 0.92:
        return {"is_null": {"key": key}}
    return {"has_id": [f"d{rng.randrange(60)}" for _ in range(8)]}


def random_tree(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    if depth > 2 or rng.random() < 0.4:
        return random_leaf(rng)
    words = rng.sample(["must", "should", "should", "must_not"], rng.randrange(1, 4))
    tree: dict[str, Any] = {w: [random_tree(rng, depth + 1) for _ in range(rng.randrange(3))] for w in words}
    if tree.get("should") and rng.random() < 0.5:
        tree["min_should"] = rng.randrange(len(tree["should"]) + 1)
    return tree


def naive_leaves(value: Any, path: str) -> list[Any]:
    """Written apart from the package: every leaf reached by any way of cutting the path at its dots."""
    if isinstance(value, list):
        return [leaf for part in value for leaf in naive_leaves(part, path)]
    if path == "":
        return [value]
    if not isinstance(value, dict):
        return []
    names = path[1:].split(".")
    found = []
    for n in range(1, len(names) + 1):
        if (name := ".".join(names[:n])) in value:
            rest = names[n:]
            found += naive_leaves(value[name], "." + ".".join(rest) if rest else "")
    return found


def naive_same(a: Any, b: Any) -> bool:
    return (isinstance(a, bool) == isinstance(b, bool)) and (isinstance(a, str) == isinstance(b, str)) and bool(a == b)


def naive(tree: dict[str, Any], document_id: str, metadata: dict[str, Any]) -> bool:
    if "has_id" in tree:
        return document_id in tree["has_id"]
    for word, test in (("is_empty", all), ("is_null", any)):
        if word in tree:
            return test(leaf is None for leaf in naive_leaves(metadata, "." + tree[word]["key"]))
    if "key" not in tree:
        held = {w: [naive(t, document_id, metadata) for t in tree.get(w, [])] for w in ("must", "should", "must_not")}
        wanted = tree.get("min_should", 1 if held["should"] else 0)
        return all(held["must"]) and not any(held["must_not"]) and sum(held["should"]) >= wanted
    scalars = [x for x in naive_leaves(metadata, "." + tree["key"]) if isinstance(x, str | int | float)]
    if "match" in tree:
        ((word, given),) = tree["match"].items()
        values = [given] if word == "value" else given
        return any(any(naive_same(x, v) for v in values) != (word == "except") for x in scalars)
    return any(naive_in_range(x, tree["range"]) for x in scalars)


def naive_in_range(x: Any, bounds: dict[str, Any]) -> bool:
    are_dates = isinstance(next(iter(bounds.values())), str)
    value = (date_stamp(x) if are_dates else number_in(x)) if isinstance(x, str) else None if are_dates else x
    if value is None or isinstance(value, bool):
        return False
    for word, bound in bounds.items():
        limit = date_stamp(bound) if are_dates else bound
        if not {"gt": value > limit, "gte": value >= limit, "lt": value < limit, "lte": value <= limit}[word]:
            return False
    return True


class World:
    """An index and what it should hold, changed together at random."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng, self.folder = random.Random(seed), folder
        self.index, self.documents, self.next, self.n_saved = FieldIndex(), dict[int, dict[str, Any]](), 0, 0

    def step(self) -> None:
        draw = self.rng.random()
        if draw < 0.6:
            self.next += self.rng.choice([0, 0, 3])
            ordinals = range(self.next, self.next + self.rng.randrange(1, 15))
            metadatas = [random_metadata(self.rng) for _ in ordinals]
            self.index.add(ordinals, [f"d{o}" for o in ordinals], metadatas)
            self.documents.update(zip(ordinals, metadatas, strict=True))
            self.next = ordinals.stop
        elif draw < 0.8 and self.documents:
            gone = self.rng.sample(sorted(self.documents), min(len(self.documents), self.rng.randrange(1, 6)))
            self.index.remove(gone)
            for ordinal in gone:
                del self.documents[ordinal]
        elif draw < 0.9:
            self.n_saved += 1
            target = self.folder / str(self.n_saved)
            target.mkdir()
            self.index.save(target)
            self.index = FieldIndex.open(target)


@pytest.mark.parametrize("max_tail", [0, 8, 1_000])
def test_5000_random_trees_agree_with_brute_force(
    max_tail: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "MAX_TAIL", max_tail)
    n_trees = n_telling = 0
    for seed in range(17):
        (tmp_path / str(seed)).mkdir()
        world = World(seed * 3 + max_tail, tmp_path / str(seed))
        for _ in range(14):
            world.step()
            assert len(world.index) == len(world.documents)
            for _ in range(7):
                tree = random_tree(world.rng)
                condition = parse_filter(tree)
                found = world.index.evaluate(condition, world.next)
                wanted = [o in world.documents and naive(tree, f"d{o}", world.documents[o]) for o in range(world.next)]
                assert found.dtype == np.bool_
                assert found.tolist() == wanted, tree
                assert all(condition.matches(f"d{o}", m) == wanted[o] for o, m in world.documents.items()), tree
                n_trees += 1
                n_telling += 0 < sum(wanted) < len(world.documents)
    assert n_trees == 17 * 14 * 7  # × 3 tails = 4,998
    assert n_telling > n_trees / 4


def test_counts_and_keys_follow_the_living_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "MAX_TAIL", 3)
    index = FieldIndex()
    metadatas = [{"t": ["x", "y"], "n": i % 3, "flag": i % 2 == 0, "d": "2020-01-01"} for i in range(10)]
    index.add(range(10), [f"d{i}" for i in range(10)], metadatas)
    index.save(tmp_path)
    index = FieldIndex.open(tmp_path)
    index.add([10, 11, 12, 13, 14], list("abcde"), [{"t": "y"}, {"t": "z", "n": 1.0}, {}, {"t": None}, {"gone": 1}])
    index.remove([0, 14])
    assert [(c.value, c.n_documents) for c in index.counts("t")] == [("y", 10), ("x", 9), ("z", 1)]
    assert [(c.value, c.n_documents) for c in index.counts("n")] == [(1, 4), (0, 3), (2, 3)]
    assert [(c.value, c.n_documents) for c in index.counts("flag")] == [(False, 5), (True, 4)]
    allowed = np.zeros(15, bool)
    allowed[[1, 10, 0]] = True
    assert [(c.value, c.n_documents) for c in index.counts("t", allowed, 1)] == [("y", 2)]
    assert index.counts("absent") == []
    infos = index.keys()
    found = {info.key: info for info in infos}
    assert sorted(found) == ["d", "flag", "n", "t"]
    assert (found["t"].kinds, found["t"].n_values, found["t"].n_documents) == (("null", "string"), 3, 11)
    assert found["d"].kinds == ("date", "string")
    assert Counter(found["n"].kinds) == Counter(["number"])


def test_ordinals_that_do_not_live_and_ordinals_used_twice_are_bugs() -> None:
    index = FieldIndex()
    index.add([3], ["a"], [{}])
    for wrong in (0, 4, -1):
        with pytest.raises(KeyError):
            index.remove([wrong])
    index.remove([3])
    with pytest.raises(ValueError, match="used before"):
        index.add([3], ["b"], [{}])
    assert len(index) == 0


def test_size_beyond_and_below_what_was_added() -> None:
    index = FieldIndex()
    index.add([0, 1], ["a", "b"], [{"k": 1}, {"k": 2}])
    assert index.evaluate(parse_filter({"k": 1}), 4).tolist() == [True, False, False, False]
    assert index.evaluate(parse_filter({}), 1).tolist() == [True]
    assert FieldIndex().evaluate(parse_filter({}), 2).tolist() == [False, False]


def test_an_empty_index_is_saved_and_opened(tmp_path: Path) -> None:
    FieldIndex().save(tmp_path)
    assert len(FieldIndex.open(tmp_path)) == 0


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    index = FieldIndex()
    index.add(range(4), list("abcd"), [{"k": i, "s": "x"} for i in range(4)])
    index.save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for wrong in (content[:-1], content + content[-8:], b"", None):
            path.unlink() if wrong is None else path.write_bytes(wrong)
            if wrong == content + content[-8:] and path.suffix == ".npy":
                path.write_bytes(content)  # NumPy reads no further than the length in the header
                continue
            with pytest.raises(Damaged, match=path.name):
                FieldIndex.open(tmp_path)
            path.write_bytes(content)
    assert len(FieldIndex.open(tmp_path)) == 4


def test_a_real_collection_is_filtered_by_its_years(data_folder: Path, tmp_path: Path) -> None:
    documents = list(read_corpus(data_folder / "acl_anthology_2019"))
    index = FieldIndex()
    index.add(range(len(documents)), [d.id for d in documents], [d.metadata for d in documents])
    index.save(tmp_path)
    index = FieldIndex.open(tmp_path)
    tree = {"must": [{"key": "year", "range": {"gte": 2017}}], "must_not": [{"is_empty": {"key": "authors"}}]}
    found = index.evaluate(parse_filter(tree), len(documents))
    wanted = [int(d.metadata["year"]) >= 2017 and bool(d.metadata["authors"]) for d in documents]
    assert found.tolist() == wanted
    assert 0 < sum(wanted) < len(wanted)
    years = Counter(d.metadata["year"] for d in documents)
    assert {c.value: c.n_documents for c in index.counts("year", None, 100)} == years
