"""Evaluation over a searcher: what is asked of it, what is dropped, what is compared with what; and tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.eval.datasets import RetrievalDataset
from facetrail.eval.retrieval import Report, compare, compare_family, evaluate, search_run
from facetrail.eval.tuning import TunedWeight, fuse_runs, fusion_of, hash_judgements, tune_weight, weight_curve
from facetrail.indexing.request import FusionConfig, Hit, SearchRequest, SearchResult
from facetrail.models.errors import InvalidInput
from facetrail.models.records import Query


class ListedSearcher:
    """Answers from two lists a query; hybrid is the fusion of both, as in a collection."""

    def __init__(self, lexical: Mapping[str, Mapping[str, float]], dense: Mapping[str, Mapping[str, float]]) -> None:
        self.runs = {"lexical": lexical, "dense": dense}
        self.requests: list[SearchRequest] = []
        self.batches: list[int] = []

    def search_many(self, queries: Sequence[str], request: SearchRequest) -> list[SearchResult]:
        self.requests.append(request)
        self.batches.append(len(queries))
        return [self._answer(text, request) for text in queries]

    def _answer(self, text: str, request: SearchRequest) -> SearchResult:
        assert request.mode is not None
        lists = {
            name: {text: sorted(run.get(text, {}).items(), key=lambda p: (-p[1], p[0]))}
            for name, run in self.runs.items()
        }
        ranking = fuse_runs(lists, request.fusion)[text] if request.mode == "hybrid" else lists[request.mode][text]
        warnings = [] if text != "odd" else ["no known word in the query"]
        hits = [Hit(i, s) for i, s in ranking[: request.limit]]
        return SearchResult(hits, request.mode, 1, warnings)


def dataset(n: int = 40, *, seed: int = 0, first: int = 0, **changed: Any) -> RetrievalDataset:
    names = [f"q{first + i}" for i in range(n)]
    parts: dict[str, Any] = {
        "name": "toy",
        "split": "test",
        "queries": tuple(Query(name, name) for name in names),
        "qrels": {name: {f"{name}-d{(i + seed) % 7}": 1} for i, name in enumerate(names)},
        "folder": Path("toy"),
        "corpus": Path("toy/corpus.jsonl"),
        "sha256": {"corpus": "0" * 64, "queries": "1" * 64, "qrels": f"{seed:064x}"},
    }
    return RetrievalDataset(**{**parts, **changed})


def searcher(data: RetrievalDataset, *, lexical: float = 1.0, dense: float = 1.0, seed: int = 0) -> ListedSearcher:
    """Two noisy rankers; the relevant document gains `lexical` and `dense` over the noise."""
    rng = np.random.default_rng(seed)

    def noisy(gain: float) -> dict[str, dict[str, float]]:
        return {
            q.id: {f"{q.id}-d{d}": float(rng.normal()) + gain * (f"{q.id}-d{d}" in data.qrels[q.id]) for d in range(20)}
            for q in data.queries
        }

    return ListedSearcher(noisy(lexical), noisy(dense))


def test_the_searcher_is_asked_in_batches_for_full_runs_without_payload() -> None:
    data = dataset(150)
    fake = searcher(data)
    told: list[int] = []
    report = evaluate(fake, data, mode="hybrid", fusion=FusionConfig(method="rrf", depth=50), progress=told.append)
    assert fake.batches == [64, 64, 22] == told
    request = fake.requests[0]
    assert (request.limit, request.fusion.depth, request.with_payload) == (1_000, 1_000, False)
    assert (request.mode, request.fusion.method) == ("hybrid", "rrf")
    assert report.n_queries == 150
    assert len(report.run["q0"]) == 20


def test_the_summary_is_what_json_prints() -> None:
    data = dataset()
    report = evaluate(searcher(data), data, mode="lexical")
    assert report.summary() == {
        "dataset": "toy", "split": "test", "mode": "lexical", "n_queries": 40, "measures": report.scores.means()
    }  # fmt: skip
    assert list(report.summary()["measures"]) == ["nDCG@10", "R@100", "AP", "RR"]


def test_exclude_self_drops_the_document_that_asks() -> None:
    data = dataset(1, qrels={"q0": {"other": 1}})
    fake = ListedSearcher({"q0": {"q0": 9.0, "other": 5.0}}, {})
    assert evaluate(fake, data, mode="lexical").scores.mean("RR") == 0.5
    report = evaluate(fake, data, mode="lexical", exclude_self=True)
    assert report.run["q0"] == [("other", 5.0)]
    assert report.scores.mean("RR") == 1.0


def test_a_query_the_searcher_finds_nothing_for_scores_zero() -> None:
    data = dataset(2)
    fake = ListedSearcher({"q0": {"q0-d0": 1.0}}, {})
    assert evaluate(fake, data, mode="lexical").scores.values["RR"].tolist() == [1.0, 0.0]


def test_warnings_of_searches_are_counted_and_those_of_the_data_kept() -> None:
    data = dataset(1, queries=(Query("q0", "odd"),), warnings=("2 judged documents are not in the corpus",))
    report = evaluate(searcher(dataset(1)), data, mode="lexical")
    assert report.warnings == ("2 judged documents are not in the corpus", "no known word in the query (1 queries)")


@pytest.mark.parametrize("depth", [0, 1_001])
def test_an_impossible_depth_is_refused(depth: int) -> None:
    data = dataset(1)
    with pytest.raises(InvalidInput, match="depth"):
        search_run(searcher(data), data, mode="lexical", depth=depth)


def test_a_wrong_measure_fails_before_the_search() -> None:
    data = dataset(1)
    fake = searcher(data)
    with pytest.raises(InvalidInput, match="sharpness"):
        evaluate(fake, data, mode="lexical", measures=["sharpness"])
    assert not fake.requests


def reports(data: RetrievalDataset, fake: ListedSearcher) -> list[Report]:
    return [evaluate(fake, data, mode=mode) for mode in ("lexical", "dense", "hybrid")]


def test_the_better_ranker_wins_against_the_baseline() -> None:
    data = dataset(120)
    compared = compare(reports(data, searcher(data, lexical=0.5, dense=3.0)), rng=np.random.default_rng(1))
    assert [(c.a, c.b, c.measure) for c in compared] == [
        ("dense", "lexical", "nDCG@10"),
        ("hybrid", "lexical", "nDCG@10"),
    ]
    dense = compared[0]
    assert dense.paired.difference > 0.2
    assert dense.paired.interval[0] > 0
    assert dense.paired.p <= dense.p_holm < 0.01
    assert dense.paired.n_wins + dense.paired.n_ties + dense.paired.n_losses == 120
    assert set(dense.as_row()) >= {
        "a",
        "b",
        "measure",
        "difference",
        "interval",
        "p",
        "p_holm",
        "wins",
        "ties",
        "losses",
    }


def test_holm_runs_over_every_declared_measure() -> None:
    data = dataset(60)
    found = reports(data, searcher(data, lexical=0.8, dense=1.2))
    one = compare(found, rng=np.random.default_rng(1), measures=["nDCG@10"])
    two = compare(found, rng=np.random.default_rng(1), measures=["nDCG@10", "RR"])
    assert (len(one), len(two)) == (2, 4)
    smallest = min(two, key=lambda c: c.paired.p)
    assert smallest.p_holm == pytest.approx(min(1.0, 4 * smallest.paired.p))


def test_comparisons_that_cannot_be_made_are_refused() -> None:
    data = dataset(5)
    found, other = reports(data, searcher(data)), reports(dataset(6), searcher(dataset(6)))
    rng = np.random.default_rng(1)
    with pytest.raises(InvalidInput, match="baseline is 3"):
        compare(found, rng=rng, baseline=3)
    with pytest.raises(InvalidInput, match="not paired"):
        compare_family([(found[0], other[0])], rng=rng)
    with pytest.raises(InvalidInput, match="P@5 was not computed"):
        compare(found, rng=rng, measures=["P@5"])


def test_tuning_prefers_the_stronger_ranker_and_keeps_its_curve() -> None:
    dev = dataset(200, seed=3)
    tuned = tune_weight(searcher(dev, lexical=0.2, dense=3.0), dev)
    assert tuned.weight == 0.8
    assert list(tuned.curve) == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert tuned.curve[0.8] == max(tuned.curve.values())
    assert tuned.fusion.weights == {"lexical": pytest.approx(0.2), "dense": 0.8}
    assert (tuned.dataset, tuned.n_queries) == ("toy/test", 200)


def test_equal_weights_win_where_nothing_differs() -> None:
    dev = dataset(10)
    same = searcher(dev).runs["lexical"]
    assert tune_weight(ListedSearcher(same, same), dev).weight == 0.5


def test_the_curve_is_what_the_searcher_itself_would_reach() -> None:
    data = dataset(30)
    fake = searcher(data)
    curve = weight_curve(fake, data, [0.3, 0.7])
    for weight, value in curve.items():
        assert evaluate(fake, data, mode="hybrid", fusion=fusion_of(weight)).scores.mean("nDCG@10") == value


class TestLeak:
    """A weight cannot be tuned on the judgements it is reported on."""

    def tuned(self, **changed: Any) -> tuple[TunedWeight, ListedSearcher, RetrievalDataset]:
        data = dataset(20)
        fake = searcher(data)
        return tune_weight(fake, data, **changed), fake, data

    def test_reporting_on_the_same_file_is_refused(self) -> None:
        tuned, fake, data = self.tuned()
        asked = len(fake.requests)
        with pytest.raises(InvalidInput, match="tune on another split"):
            evaluate(fake, data, mode="hybrid", tuned=tuned)
        assert len(fake.requests) == asked

    def test_a_copy_of_the_judgements_in_another_file_is_refused(self) -> None:
        tuned, fake, data = self.tuned()
        reordered = dict(reversed(data.qrels.items()))
        copy = replace(data, split="copy", qrels=reordered, sha256={**data.sha256, "qrels": "f" * 64})
        with pytest.raises(InvalidInput, match="toy/copy"):
            evaluate(fake, copy, mode="hybrid", tuned=tuned)

    def test_tuning_for_a_named_report_is_refused_before_any_search(self) -> None:
        data = dataset(20)
        fake = searcher(data)
        with pytest.raises(InvalidInput, match="allow_same"):
            tune_weight(fake, data, reporting=data)
        assert not fake.requests

    def test_allow_same_is_allowed_and_printed(self) -> None:
        tuned, fake, data = self.tuned(allow_same=True)
        report = evaluate(fake, data, mode="hybrid", tuned=tuned)
        assert any("allow_same" in warning for warning in report.warnings)

    def test_shared_queries_are_printed(self) -> None:
        tuned, fake, data = self.tuned()
        partly = replace(data, qrels=dict(list(data.qrels.items())[:5]), sha256={**data.sha256, "qrels": "f" * 64})
        partly = replace(partly, queries=partly.queries[:5])
        assert any("5 queries" in warning for warning in evaluate(fake, partly, mode="hybrid", tuned=tuned).warnings)

    def test_another_split_is_fine_and_silent(self) -> None:
        tuned, _, _ = self.tuned()
        test = dataset(20, seed=1, first=100)
        report = evaluate(searcher(test), test, mode="hybrid", tuned=tuned)
        assert report.warnings == ()


def test_the_hash_of_judgements_reads_their_meaning() -> None:
    assert hash_judgements({"a": {"x": 1, "y": 0}, "b": {"z": 1}}) == hash_judgements(
        {"b": {"z": 1}, "a": {"y": 0, "x": 1}}
    )
    assert hash_judgements({"a": {"x": 1}}) != hash_judgements({"a": {"x": 2}})


@pytest.mark.parametrize("grid", [[], [0.5, 1.2], [-0.1]])
def test_an_impossible_grid_is_refused(grid: list[float]) -> None:
    data = dataset(2)
    with pytest.raises(InvalidInput, match="grid"):
        tune_weight(searcher(data), data, grid)
