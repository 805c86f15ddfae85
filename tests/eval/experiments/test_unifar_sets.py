"""The judged sets: their sizes, their promises, their small form, and BM25's reference figures on them."""

from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.experiments.unifar_collections import SETS, load_sets
from facetrail.eval.experiments.unifar_plan import read_experiment
from facetrail.eval.experiments.unifar_scores import lexical_ranking
from facetrail.eval.experiments.unifar_sets import JudgedSet, all_texts, cacm_split, smoke
from facetrail.models.errors import InvalidInput

SIZES = {
    "cacm-all": (1_751, 3_204), "cacm-all-cocitation": (985, 3_204), "scitldr": (619, 4_619),
    "acm_cr-paragraphs": (268, 4_688), "acm_cr-papers": (50, 4_688), "scifact": (300, 5_183),
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(data_folder: Path) -> dict[str, JudgedSet]:
    return {judged.name: judged for judged in load_sets(data_folder, list(SETS))}


def test_every_set_has_the_declared_queries_and_pool(loaded: dict[str, JudgedSet]) -> None:
    assert {name: (len(loaded[name].queries), len(loaded[name].documents)) for name in SIZES} == SIZES


def test_cacm_queries_are_the_test_part_and_links_go_to_every_document(loaded: dict[str, JudgedSet]) -> None:
    for name in ("cacm-direct", "cacm-cocitation"):
        judged, whole = loaded[name], loaded[name.replace("direct", "all").replace("cacm-co", "cacm-all-co")]
        assert judged.queries.keys() == {query for query in whole.queries if cacm_split(query) == "test"}
        assert all(judged.qrels[query] == whole.qrels[query] for query in judged.queries)
        assert all(query not in grades for query, grades in judged.qrels.items())
        assert judged.exclude_self
    parts = [cacm_split(str(i)) for i in range(1, 3_205)]
    assert parts.count("test") / 3_204 == pytest.approx(0.2, abs=0.02)
    assert parts.count("dev") / (3_204 - parts.count("test")) == pytest.approx(0.1, abs=0.02)
    assert cacm_split("cacm:123") == cacm_split("123")


def test_queries_with_abstract_are_a_subset(loaded: dict[str, JudgedSet]) -> None:
    judged = loaded["cacm-all"]
    assert len(judged.subsets["abstract"]) == 1_146
    lengths = {part: [len(judged.queries[q]) for q in judged.queries if (q in chosen) == part]
               for chosen in [judged.subsets["abstract"]] for part in (True, False)}  # fmt: skip
    assert np.mean(lengths[True]) > 5 * np.mean(lengths[False])


def test_documents_that_sets_share_are_encoded_once(loaded: dict[str, JudgedSet]) -> None:
    documents, questions = all_texts(loaded[name] for name in read_experiment().sets)
    assert len(documents) == len(set(documents))
    assert len(documents) < 3_204 + 5_183 + 4_619 + 642 + 1
    assert len(questions) <= 619 + 268 + 300
    assert set(loaded["acm_cr-papers"].queries.values()) <= set(documents)
    assert not set(questions) & set(documents)


def test_distractors_are_never_judged_and_notes_call_the_pool_a_sample(loaded: dict[str, JudgedSet]) -> None:
    judged = {d for name in ("acm_cr-paragraphs", "acm_cr-papers") for g in loaded[name].qrels.values() for d in g}
    assert not judged & loaded["scitldr"].documents.keys()
    assert all("hash sample" in loaded[name].notes for name in ("scitldr", "acm_cr-paragraphs", "acm_cr-papers"))


def test_fewer_distractors_are_the_first_of_the_same_order(loaded: dict[str, JudgedSet], data_folder: Path) -> None:
    (few,) = load_sets(data_folder, ["scitldr"], distractors=10)
    assert few.documents.keys() < loaded["scitldr"].documents.keys()
    assert len(few.documents) == 619 + 10


@pytest.mark.parametrize("name", read_experiment().sets)
def test_the_small_form_is_small_and_answerable(loaded: dict[str, JudgedSet], name: str) -> None:
    small = smoke(loaded[name])
    assert len(small.queries) == 20
    assert len(small.documents) <= 300
    assert all(small.qrels[query] for query in small.queries)
    assert "mean nothing" in small.notes
    assert smoke(loaded[name]).queries == small.queries


@pytest.mark.parametrize(
    ("name", "ndcg", "ap"),
    [("cacm-all", 0.311, 0.258), ("cacm-all-cocitation", 0.230, 0.163), ("scifact", 0.677, None)],
)
def test_bm25_has_its_reference_figures(loaded: dict[str, JudgedSet], name: str, ndcg: float, ap: float | None) -> None:
    found = lexical_ranking(loaded[name], depth=1_000).measured(loaded[name], ["nDCG@10", "AP"]).means()
    assert found["nDCG@10"] == pytest.approx(ndcg, abs=0.003)
    assert ap is None or found["AP"] == pytest.approx(ap, abs=0.003)


def test_a_set_whose_parts_do_not_fit_is_refused(data_folder: Path) -> None:
    with pytest.raises(InvalidInput, match="not in its pool"):
        JudgedSet("s", "question", {"q": "?"}, {"a": "x"}, {"q": {"b": 1}})
    with pytest.raises(InvalidInput, match="no judged set 'nonsense'"):
        load_sets(data_folder, ["nonsense"])
