"""The facet probe: what it asks, and that it tells facets with a meaning from facets without."""

from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.experiments.unifar_evidence import probe_rows
from facetrail.eval.experiments.unifar_plan import read_experiment
from facetrail.eval.experiments.unifar_probe import (
    ANNOTATED,
    Probed,
    by_annotation,
    probe,
    probe_sets,
    read_abstracts,
    role_scores,
)
from facetrail.eval.experiments.unifar_scores import Encoded
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.models.errors import InvalidInput
from facetrail.models.text.facets import FACETS

ROLES = ("background", "background", "method", "method", "method", "result", "other")
ABSTRACTS = [(tuple(f"{role} {place} of {n}" for place, role in enumerate(ROLES)), ROLES) for n in range(12)]
WORDS = 24


def bag(text: str, role: str | None = None) -> np.ndarray:
    """Which abstract the sentences speak of, role by role: each role's sentences carry a direction of their own."""
    total = np.full(WORDS, 1e-3)
    for name in FACETS if role is None else (role,):
        if name in text:
            seed = FACETS.index(name) * 100 + int(text.rpartition(" ")[2])
            total = total + np.random.default_rng(seed).standard_normal(WORDS)
    return (total / np.linalg.norm(total)).astype(np.float32)


def encoded(texts: list[str]) -> Encoded:
    """An ideal facet encoder: each facet vector sees the sentences of its role and nothing else."""
    facets = np.array([[bag(text, role) for role in FACETS] for text in texts], np.float32)
    single = np.array([bag(text) for text in texts], np.float32)
    return Encoded(single.reshape(-1, WORDS), facets.reshape(-1, len(FACETS), WORDS))


def vectors(judged: JudgedSet) -> tuple[Encoded, Encoded]:
    return encoded(list(judged.queries.values())), encoded([judged.documents[name] for name in judged.document_ids])


def blind(judged: JudgedSet) -> tuple[Encoded, Encoded]:
    """Four vectors a text that are all the same: more vectors, no facets."""
    return tuple(  # type: ignore[return-value]
        Encoded(x.single, np.repeat(x.single[:, None], 4, axis=1)) for x in vectors(judged)
    )


def test_odd_sentences_ask_and_are_gone_from_their_abstract_only() -> None:
    background, _, method, result = probe_sets(ABSTRACTS)
    assert background.queries["csabstruct:test-1#background"] == "background 0 of 0"
    assert method.queries["csabstruct:test-1#method"] == "method 2 of 0 method 4 of 0"
    document = method.documents["csabstruct:test-1"]
    assert "method 3 of 0" in document
    assert "method 2 of 0" not in document
    assert "background 0 of 0" in document
    assert method.qrels["csabstruct:test-1#method"] == {"csabstruct:test-1": 1}
    assert not result.queries  # one sentence cannot both ask and stay


def test_facets_that_mean_something_pass_and_permuted_ones_fail() -> None:
    sets = probe_sets(ABSTRACTS)
    found = probe("UK", [vectors(s) for s in sets], sets, seed=1, margin=2.0)
    assert len(found.query_ids) == 24
    assert np.mean(found.right) == 1.0
    assert np.mean(found.wrong) < 0.6
    assert np.mean(found.shuffled_right) < 0.6
    arms, rows = probe_rows(read_experiment(), [found], rng=np.random.default_rng(0))
    assert [row.met for row in rows] == [True, True]
    assert arms["UK: right facet"].measures == {"facet probe RR@10": [1.0]}


def test_annotated_roles_take_the_place_of_an_encoders() -> None:
    """Where every role's sentences carry a direction of their own, knowing the roles is all it takes."""
    sets = probe_sets(ABSTRACTS)

    def encode(sentences: list[str]) -> np.ndarray:
        return np.array([bag(sentence) for sentence in sentences], np.float32)

    vectors_of = by_annotation(ABSTRACTS, sets, encode)
    for judged, (queries, documents) in zip(sets, vectors_of, strict=True):
        assert len(queries.single) == len(judged.queries)
        assert len(documents.single) == len(judged.documents)
    # The method that stays in the first abstract is its second of three: the mean of one sentence.
    assert vectors_of[2][1].facets[0, 2] == pytest.approx(bag("method 3 of 0"), abs=1e-6)
    assert vectors_of[2][0].single[0] == pytest.approx(bag("method 2 of 0"), abs=1e-6)
    # No abstract has an objective: the whole of what stays stands in.
    assert vectors_of[2][1].facets[0, 1] == pytest.approx(vectors_of[2][1].single[0], abs=1e-6)
    found = probe(ANNOTATED, vectors_of, sets, seed=None, margin=float("inf"))
    assert np.mean(found.right) == 1.0
    assert np.mean(found.wrong) < 0.6
    of_arm = probe("UK", [blind(s) for s in sets], sets, seed=1, margin=0.05)
    arms, rows = probe_rows(read_experiment(), [found, of_arm], rng=np.random.default_rng(0))
    assert arms["annotated roles: right facet"].measures == {"facet probe RR@10": [1.0]}
    assert rows[-1].a == "annotated roles: right facet"
    assert not rows[-1].demand
    assert rows[-1].difference == pytest.approx(1 - np.mean(found.wrong))


def test_more_vectors_without_facets_do_not_pass() -> None:
    sets = probe_sets(ABSTRACTS)
    found = probe("UK", [blind(s) for s in sets], sets, seed=1, margin=0.05)
    assert found.right == pytest.approx(found.wrong)
    _, rows = probe_rows(read_experiment(), [found], rng=np.random.default_rng(0))
    assert [row.met for row in rows] == [False, False]


def test_an_arm_without_facets_cannot_be_probed() -> None:
    sets = probe_sets(ABSTRACTS)
    plain = [(Encoded(q.single), Encoded(d.single)) for q, d in map(vectors, sets)]
    with pytest.raises(InvalidInput, match="facet vectors"):
        probe("B", plain, sets, seed=1, margin=0.05)


def test_role_scores_are_those_counted_by_hand() -> None:
    labels = ["background", "method", "method", "other", "result"]
    found = role_scores(np.array([0, 2, 0, 1, 3]), labels)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.accuracy_of_facets == pytest.approx(3 / 4)
    assert found.f1 == pytest.approx({"background": 2 / 3, "objective": 0.0, "method": 2 / 3, "result": 1.0})
    assert found.macro_f1 == pytest.approx((2 / 3 + 0 + 2 / 3 + 1) / 4)
    with pytest.raises(InvalidInput, match="2 predicted roles for 5 sentences"):
        role_scores(np.array([0, 1]), labels)


def test_the_real_abstracts_give_the_known_number_of_questions(data_folder: Path) -> None:
    abstracts = read_abstracts(data_folder)
    assert sum(len(labels) for _, labels in abstracts) == 1_349
    assert [len(s.queries) for s in probe_sets(abstracts)] == [161, 19, 132, 47]
    assert {len(s.documents) for s in probe_sets(abstracts)} == {226}


def test_a_probe_of_an_arm_that_was_not_run_gives_no_row() -> None:
    assert probe_rows(read_experiment(), list[Probed](), rng=np.random.default_rng(0)) == ({}, [])
