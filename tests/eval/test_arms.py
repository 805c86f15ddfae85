"""What the command line's words mean, where collections are cached, and the benchmark's controls."""

from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.arms import cached_collection, parse_arm, parse_arms, parse_weights
from facetrail.eval.benchmarks.quality_arms import bm25_run, naive_sum, random_run
from facetrail.eval.datasets import RetrievalDataset
from facetrail.models.records import Query


def test_modes_by_name() -> None:
    assert parse_arm("hybrid").fusion.method == "z"
    assert (parse_arm(" hybrid:rrf ").mode, parse_arm("hybrid:rrf").fusion.method) == ("hybrid", "rrf")
    assert parse_arm("hybrid", {"lexical": 0.3, "dense": 0.7}).fusion.weights == {"lexical": 0.3, "dense": 0.7}
    assert parse_arm("lexical", {"lexical": 0.3, "dense": 0.7}).fusion.weights is None


def test_the_reported_mode_comes_first_and_each_mode_once() -> None:
    arms = parse_arms("hybrid", "lexical,hybrid,dense,lexical")
    assert [arm.label for arm in arms] == ["hybrid", "lexical", "dense"]


def test_weights_by_share_and_by_name() -> None:
    assert parse_weights(None) is None
    assert parse_weights("0.25") == {"lexical": 0.75, "dense": 0.25}
    assert parse_weights("lexical=2, dense=1") == {"lexical": 2.0, "dense": 1.0}


def test_the_cache_tells_collections_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path))
    keys = {cached_collection(corpus, encoder) for corpus in ("a" * 64, "b" * 64) for encoder in ("", "c", "d")}
    assert len(keys) == 6
    assert all(key.parent == tmp_path / "collections" for key in keys)


@pytest.fixture
def data(tmp_path: Path) -> RetrievalDataset:
    corpus = tmp_path / "corpus.jsonl"
    texts = {"b": "running cells", "a": "cell", "c": "stars"}
    corpus.write_text("".join(f'{{"_id": "{i}", "title": "", "text": "{text}"}}\n' for i, text in texts.items()))
    return RetrievalDataset(
        "tiny",
        "test",
        (Query("q", "cells run"),),
        {"q": {"b": 1}},
        tmp_path,
        corpus,
        dict.fromkeys(("corpus", "qrels"), ""),
    )


def test_stemming_finds_more_and_both_are_in_total_order(data: RetrievalDataset) -> None:
    assert [d for d, _ in bm25_run(data)["q"]] == ["b", "a"]
    assert [d for d, _ in bm25_run(data, stemmer="none")["q"]] == ["b"]


def test_the_controls_are_the_mistakes_they_say() -> None:
    runs = {"lexical": {"q": [("a", 9.0), ("b", 1.0)]}, "dense": {"q": [("b", 0.9), ("c", 0.1)]}}
    assert naive_sum(runs, clamp=False)["q"] == [("a", 9.0), ("b", 1.9), ("c", 0.1)]
    peaked = {"lexical": {"q": [(f"d{i}", float(s)) for i, s in enumerate([90, 80, *np.linspace(1, 0, 98)])]}}
    clamped = naive_sum(peaked, clamp=True)["q"]
    assert clamped[0][1] == clamped[1][1] == 1.0, "clamping ties the head of a long list"


def test_a_random_partner_knows_nothing_and_is_drawn_from_its_seed(data: RetrievalDataset) -> None:
    assert random_run(data, seed=1) == random_run(data, seed=1)
    assert random_run(data, seed=1) != random_run(data, seed=2)
    assert sorted(d for d, _ in random_run(data, seed=1)["q"]) == ["a", "b", "c"]
