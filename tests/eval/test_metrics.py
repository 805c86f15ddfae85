"""Measures against values worked out by hand, one fixture per convention."""

from math import log2
from typing import Any

import numpy as np
import pytest

from facetrail.eval.metrics import evaluate_run, ordered, parse_measures, strictly_decreasing
from facetrail.models.errors import InvalidInput


def discounted(*gains: float) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))


# (name, run of query q, grades of query q, measure → value by hand)
FIXTURES: list[tuple[str, Any, dict[str, int], dict[str, float]]] = [
    ("one relevant document first", {"a": 2.0, "b": 1.0}, {"a": 1},
     {"nDCG@10": 1, "AP": 1, "RR": 1, "R@1": 1, "P@1": 1}),
    ("one relevant document third", {"a": 3.0, "b": 2.0, "c": 1.0}, {"c": 1},
     {"nDCG@10": 1 / log2(4), "AP": 1 / 3, "RR": 1 / 3, "R@2": 0, "R@3": 1, "P@3": 1 / 3}),
    ("average precision over all relevant, found or not", {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0},
     {"a": 1, "c": 1, "x": 1, "y": 1}, {"AP": (1 / 1 + 2 / 3) / 4, "R@10": 0.5, "P@4": 0.5, "RR": 1}),
    ("graded gains are linear", {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1, "b": 3, "c": 2},
     {"nDCG@10": discounted(1, 3, 2) / discounted(3, 2, 1), "AP": 1}),
    ("the ideal takes judged documents that were not found", {"a": 1.0}, {"a": 1, "x": 2},
     {"nDCG@10": discounted(1) / discounted(2, 1), "R@100": 0.5}),
    ("the ideal stops at the cutoff", {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1, "c": 1, "x": 1},
     {"nDCG@2": discounted(1) / discounted(1, 1), "nDCG@3": discounted(1, 0, 1) / discounted(1, 1, 1)}),
    ("unjudged documents count nothing and are reported", {"u": 3.0, "a": 2.0, "v": 1.0}, {"a": 1, "n": 0},
     {"nDCG@10": 1 / log2(3), "Judged@2": 0.5, "Judged@10": 1 / 3, "P@2": 0.5}),
    ("grade 0 is judged and not relevant", {"n": 2.0, "a": 1.0}, {"n": 0, "a": 1},
     {"RR": 0.5, "Judged@10": 1, "P@2": 0.5, "AP": 0.5}),
    ("ties go by id ascending", {"b": 1.0, "a": 1.0, "c": 1.0}, {"a": 1}, {"RR": 1, "nDCG@10": 1}),
    ("ties against the relevant document stay against it", {"b": 1.0, "a": 1.0, "c": 1.0}, {"c": 1},
     {"RR": 1 / 3, "P@1": 0, "nDCG@10": 0.5}),
    ("precision divides by k even where fewer were found", {"a": 1.0}, {"a": 1, "x": 1}, {"P@5": 0.2, "R@5": 0.5}),
    ("a query missing in the run scores 0", None, {"a": 1}, {"nDCG@10": 0, "AP": 0, "RR": 0, "Judged@10": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("run", "grades", "expected"), [f[1:] for f in FIXTURES], ids=[f[0] for f in FIXTURES])
def test_measures_by_hand(run: Any, grades: dict[str, int], expected: dict[str, float]) -> None:
    scores = evaluate_run({} if run is None else {"q": run}, {"q": grades}, list(expected))
    assert scores.means() == pytest.approx({k: float(v) for k, v in expected.items()}, abs=1e-12)


def test_averages_divide_by_queries_with_relevant_documents_only() -> None:
    qrels = {"found": {"a": 1}, "missing": {"a": 1}, "nothing relevant": {"a": 0}}
    run = {"found": {"a": 1.0}, "nothing relevant": {"a": 1.0}, "never judged": {"a": 1.0}}
    scores = evaluate_run(run, qrels, ["RR", "nDCG@10"])
    assert scores.query_ids == ("found", "missing")
    assert scores.n_without_relevant == 1
    assert scores.means() == {"RR": 0.5, "nDCG@10": 0.5}
    assert scores.values["RR"].tolist() == [1.0, 0.0]


def test_rel_level_raises_what_counts_as_relevant() -> None:
    qrels = {"q": {"a": 1, "b": 2}, "low": {"a": 1}}
    run = {"q": {"a": 2.0, "b": 1.0}, "low": {"a": 1.0}}
    scores = evaluate_run(run, qrels, ["RR", "P@1", "AP"], rel_level=2)
    assert scores.query_ids == ("q",)
    assert scores.means() == {"RR": 0.5, "P@1": 0.0, "AP": 0.5}


def test_ids_tie_by_utf8_bytes() -> None:
    # Code point order and byte order agree in UTF-8, but not in UTF-16: U+1F600 sorts after U+FF5E.
    assert [d for d, _ in ordered({"\U0001f600": 1.0, "\uff5e": 1.0, "Z": 1.0, "a": 1.0})] == [
        "Z", "a", "\uff5e", "\U0001f600"
    ]  # fmt: skip


def test_scores_closer_than_single_precision_keep_their_order() -> None:
    run = {f"d{i}": 1.0 + i * 1e-12 for i in range(50)}
    assert list(strictly_decreasing(run)) == [f"d{i}" for i in reversed(range(50))]
    assert evaluate_run({"q": run}, {"q": {"d49": 1}}, ["RR"]).mean("RR") == 1.0


def test_an_empty_ranking_scores_zero() -> None:
    assert evaluate_run({"q": {}}, {"q": {"a": 1}}, ["Judged@10", "AP"]).means() == {"Judged@10": 0.0, "AP": 0.0}


def test_no_judged_query_means_zero_not_nan() -> None:
    scores = evaluate_run({"q": {"a": 1.0}}, {"q": {"a": 0}}, ["AP"])
    assert scores.query_ids == ()
    assert scores.mean("AP") == 0.0


@pytest.mark.parametrize("ranking", [[("a", 1.0), ("b", 0.5), ("a", 0.1)], {"a": float("nan")}, {"a": float("inf")}])
def test_a_broken_ranking_is_refused(ranking: Any) -> None:
    with pytest.raises(InvalidInput, match="'a'"):
        evaluate_run({"q7": ranking}, {"q7": {"a": 1}}, ["AP"])


@pytest.mark.parametrize("name", ["nDCG@", "sharpness", "nDCG@ten", "", "__import__('os')", "ERR@10@3"])
def test_an_unknown_measure_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="measure"):
        parse_measures([name])


def test_two_spellings_of_one_measure_agree() -> None:
    scores = evaluate_run({"q": {"b": 2.0, "a": 1.0}}, {"q": {"a": 1}}, ["AP", "MAP", "RR", "MRR"])
    assert scores.means() == {"AP": 0.5, "MAP": 0.5, "RR": 0.5, "MRR": 0.5}


def test_measures_agree_with_a_second_implementation() -> None:
    rng = np.random.default_rng(3)
    run, qrels = {}, {}
    for q in range(40):
        run[f"q{q}"] = {f"d{d}": float(rng.integers(0, 6)) for d in rng.choice(60, 30, replace=False)}
        qrels[f"q{q}"] = {f"d{d}": int(rng.integers(0, 4)) for d in rng.choice(60, 12, replace=False)}
    scores = evaluate_run(run, qrels, ["nDCG@10", "AP", "RR@5"])
    for row, query_id in enumerate(scores.query_ids):
        grades = [qrels[query_id].get(d, 0) for d, _ in sorted(run[query_id].items(), key=lambda x: (-x[1], x[0]))]
        ideal = sorted(qrels[query_id].values(), reverse=True)[:10]
        assert scores.values["nDCG@10"][row] == pytest.approx(discounted(*grades[:10]) / discounted(*ideal), abs=1e-12)
        places = [rank for rank, grade in enumerate(grades, start=1) if grade >= 1]
        n_relevant = sum(grade >= 1 for grade in qrels[query_id].values())
        precision = sum(found / rank for found, rank in enumerate(places, start=1)) / n_relevant
        assert scores.values["AP"][row] == pytest.approx(precision, abs=1e-12)
        assert scores.values["RR@5"][row] == pytest.approx(1 / places[0] if places and places[0] <= 5 else 0, abs=1e-12)
