"""Judging arms: the choice on development sets, and that it is theirs alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.planted_retrieval import World, make_set

from facetrail.eval.experiments.unifar import Judged, best_trial, judge, prepare
from facetrail.eval.experiments.unifar_plan import PREREGISTERED, UnifarExperiment, read_experiment
from facetrail.eval.experiments.unifar_scores import Encoded
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.models.errors import InvalidInput


def test_the_declared_experiment_is_the_one_that_was_specified() -> None:
    experiment = read_experiment()
    assert experiment.family == (("U1", "B"), ("UK", "B"), ("UK", "B2"), ("UK", "B0"))
    assert experiment.n_randomisations == 100_000
    assert experiment.seeds == (1, 2, 3, 4, 5)
    assert experiment.rescore_depth == 200


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('["UK", "B0"]]', '["UK", "B9"]]', "'B9' is not among the arms"),
        ('scifact = "nDCG@10"', 'scifact = "P@3"', "no primary measure"),
        ("facet_shares = [0.0, ", "facet_shares = [", "as many trials"),
        ("depth = 1000", "depht = 1000", "depht"),
    ],
)
def test_an_experiment_that_contradicts_itself_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    text = PREREGISTERED.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "unifar.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidInput, match=says):
        read_experiment(tmp_path / "unifar.toml")


def test_every_arm_that_mixes_has_as_many_trials(
    experiment: UnifarExperiment, sets: list[JudgedSet], dev: list[JudgedSet]
) -> None:
    bench = prepare(experiment, sets, dev)
    trials = {
        one.arm: one.meters["tuning trials"]
        for one in judge(experiment, ["B0", "B2", "B3", "UK", "U1"], World(1.0), bench, seed=1)
    }
    assert trials == {"B0": 12, "B2": 12, "B3": 12, "UK": 12, "U1": 0, "H-UK": 18, "H-U1": 6}


def test_development_sets_choose_the_facets_when_facets_are_good(
    experiment: UnifarExperiment, sets: list[JudgedSet], dev: list[JudgedSet]
) -> None:
    bench = prepare(experiment, sets, dev)
    good, bad = (
        judge(experiment, ["UK"], World(noise, facet_noise=of_facets), bench, seed=1)[0]
        for noise, of_facets in ((6.0, 0.5), (0.2, 50.0))
    )
    assert float(good.chosen["share"]) >= 0.2
    assert float(bad.chosen["share"]) == 0.0  # nothing to gain, so nothing is mixed in


def test_test_judgements_have_no_part_in_the_choice(
    experiment: UnifarExperiment, sets: list[JudgedSet], dev: list[JudgedSet]
) -> None:
    """The same vectors, but test judgements that facets would fail: the choice stays, the scores do not."""
    world = World(3.0, facet_noise=0.5)
    rng = np.random.default_rng(0)
    unfair = [
        replace(s, qrels={query: {s.document_ids[int(rng.integers(40, 60))]: 1} for query in s.queries}) for s in sets
    ]
    truth = {s.name: s.qrels for s in (*sets, *dev)}

    def vectors(judged: JudgedSet) -> tuple[Encoded, Encoded]:
        return world(replace(judged, qrels=truth[judged.name]))

    straight, crooked = (
        judge(experiment, ["UK"], vectors, prepare(experiment, x, dev), seed=1) for x in (sets, unfair)
    )
    assert [one.chosen for one in straight] == [one.chosen for one in crooked]
    assert sum(straight[0].values["one"]["AP"]) > 2 * sum(crooked[0].values["one"]["AP"])


def test_a_development_set_with_test_judgements_is_refused(
    experiment: UnifarExperiment, sets: list[JudgedSet], dev: list[JudgedSet]
) -> None:
    query = next(iter(sets[1].queries))
    document = next(iter(sets[1].qrels[query]))
    leaking = JudgedSet(  # the link the other way round, under other ids
        "dev", "document", {"z": sets[1].documents[document]}, {"y": sets[1].queries[query]}, {"z": {"y": 1}}
    )
    with pytest.raises(InvalidInput, match="1 judged pairs of dev are also in two"):
        prepare(experiment, sets, [leaking])
    with pytest.raises(InvalidInput, match="'dev' is not among"):
        prepare(experiment, sets, [])


def test_bm25_needs_no_vectors_and_the_others_do(
    experiment: UnifarExperiment, sets: list[JudgedSet], dev: list[JudgedSet]
) -> None:
    bench = prepare(experiment, sets, dev)
    (lexical,) = judge(experiment, ["A0"], None, bench, seed=None)
    assert lexical.query_ids["two"] == tuple(sets[1].queries)
    with pytest.raises(InvalidInput, match="cannot be judged by itself"):
        judge(experiment, ["B"], None, bench, seed=1)
    with pytest.raises(InvalidInput, match="was not declared"):
        judge(experiment, ["D"], World(1.0), bench, seed=1)


def test_what_was_judged_survives_as_json(
    experiment: UnifarExperiment, sets: list[JudgedSet], dev: list[JudgedSet]
) -> None:
    found = judge(experiment, ["UK"], World(1.0), prepare(experiment, sets, dev), seed=2, meters={"seen pairs": 64})
    assert [one.arm for one in found] == ["UK", "H-UK"]
    assert found[0].meters == {"seen pairs": 64, "tuning trials": 12, "bytes per document": 4 * 16 + 4 * 20}
    assert [Judged.model_validate_json(one.model_dump_json()) for one in found] == found


def test_of_equal_trials_the_one_that_changes_least_is_taken() -> None:
    assert best_trial({(0.5, "own"): 0.4, (0.1, "uniform"): 0.4, (0.1, "own"): 0.4, (0.0, "own"): 0.3}) == (0.1, "own")
    assert best_trial({(0.3, "own"): 0.4, (0.6, "own"): 0.4}, near=0.5) == (0.6, "own")


def test_a_small_set_is_judged_like_a_whole_one(experiment: UnifarExperiment, dev: list[JudgedSet]) -> None:
    sets = [make_set("one", n_queries=3, n_documents=4), make_set("two", n_queries=3, n_documents=4, task="document")]
    (only,) = judge(experiment, ["B0"], World(0.1), prepare(experiment, sets, dev), seed=1)
    assert only.values["two"]["RR"] == pytest.approx((1, 1, 1))
