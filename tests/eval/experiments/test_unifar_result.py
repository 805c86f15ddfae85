"""The evidence: the family as declared, a better system found better, a copy not, and what was left out said."""

from pathlib import Path

import numpy as np
import pytest
from contracts.planted_retrieval import World

from facetrail.eval.evidence import Evidence, read_result
from facetrail.eval.experiments.unifar import Judged, judge, prepare
from facetrail.eval.experiments.unifar_evidence import Findings, demand_rows, family
from facetrail.eval.experiments.unifar_pictures import quality_by_bytes, wins_and_losses
from facetrail.eval.experiments.unifar_plan import UnifarExperiment
from facetrail.eval.experiments.unifar_probe import Probed, RoleScores
from facetrail.eval.experiments.unifar_result import verdict, write
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.eval.significance import holm
from facetrail.eval.tables import figures
from facetrail.models.errors import InvalidInput

NOISE = {"A1": 4.0, "B": 4.0, "B2": 4.0, "B0": 4.0, "U1": 4.0, "UK": 1.5}


@pytest.fixture
def judged(experiment: UnifarExperiment, sets: list[JudgedSet], dev: list[JudgedSet]) -> list[Judged]:
    """UK is far better; the others are copies of each other."""
    bench = prepare(experiment, sets, dev)
    found = judge(experiment, ["A0"], None, bench, seed=None)
    for arm, noise in NOISE.items():
        for seed in (1, 2):
            meters = {"optimiser steps": 100.0, "seen pairs": 3_200.0 if arm != "B2" else 3_040.0}
            found += judge(experiment, [arm], World(noise, seed=seed), bench, seed=seed, meters=meters)
    return found


@pytest.fixture
def findings(experiment: UnifarExperiment, judged: list[Judged], sets: list[JudgedSet]) -> Findings:
    return Findings(experiment, judged, sets)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_family_is_the_declared_pairs_on_every_set_and_holm_covers_all(findings: Findings) -> None:
    found = family(findings, rng=rng())
    assert [(c.a, c.b, c.dataset, c.measure) for c in found] == [
        (a, b, name, measure)
        for a, b in (("U1", "B"), ("UK", "B"), ("UK", "B2"), ("UK", "B0"))
        for name, measure in (("one", "AP"), ("two", "nDCG@10"))
    ]
    assert [c.p_holm for c in found] == holm([c.paired.p for c in found])
    assert min(c.p_holm for c in found) == pytest.approx(8 * min(c.paired.p for c in found))


def test_a_better_system_is_found_better_and_a_copy_is_not(findings: Findings) -> None:
    for c in family(findings, rng=rng()):
        if c.a == "UK":
            assert c.paired.difference > 0.1
            assert c.p_holm < 0.05
        else:
            assert c.paired.difference == 0
            assert c.p_holm == 1
    said = verdict(family(findings, rng=rng()), findings.experiment)
    assert said == ("After Holm's correction UK beats B on one, two; it beats B2 on one, two; it beats B0 on one, two.")


def test_values_are_averaged_over_seeds_query_by_query(findings: Findings, judged: list[Judged]) -> None:
    runs = [one.values["one"]["AP"] for one in judged if one.arm == "UK"]
    assert len(runs) == 2
    assert runs[0] != runs[1]
    np.testing.assert_allclose(findings.values("UK", "one", "AP"), np.mean(runs, axis=0))
    assert findings.seed_means("UK", "one", "AP") == pytest.approx([np.mean(run) for run in runs])
    assert findings.seed_means("UK", "one", "AP", frozenset(["q000"])) == pytest.approx([run[0] for run in runs])


def test_demands_are_judged_in_points_and_only_where_both_arms_were_run(findings: Findings) -> None:
    rows = {(row.a, row.b, row.measure.split()[0]): row for row in demand_rows(findings, rng=rng())}
    assert rows["UK", "B", "one"].met
    assert not rows["B", "A1", "one"].met  # equal, where one point more was asked
    assert rows["U1", "B", "two"].met  # equal, where .3 points less are allowed
    assert not rows["U1", None, "one"].met
    assert rows["UK", None, "one"].demand == ">= 0.665"
    short = Findings(findings.experiment, findings.arms["UK"], list(findings.sets.values()))
    assert {(row.a, row.b) for row in demand_rows(short, rng=rng())} == {("UK", None)}


def test_a_judgement_of_other_queries_or_twice_is_refused(
    experiment: UnifarExperiment, judged: list[Judged], sets: list[JudgedSet]
) -> None:
    with pytest.raises(InvalidInput, match="judged twice under seed 1"):
        Findings(experiment, [*judged, next(one for one in judged if one.seed == 1)], sets)
    other = judged[0].model_copy(update={"query_ids": {**judged[0].query_ids, "one": ("q",)}})
    with pytest.raises(InvalidInput, match="other queries"):
        Findings(experiment, [other], sets)


def probed(seed: int, right: float) -> Probed:
    wrong = tuple(0.01 * place for place in range(20))
    roles = RoleScores(accuracy=0.6 + 0.05 * seed, accuracy_of_facets=0.8, f1={"method": 0.7})
    gained = tuple(right + value for value in wrong)
    return Probed(
        arm="UK", seed=seed, query_ids=tuple(f"a{i}#method" for i in range(20)), right=gained, wrong=wrong,
        shuffled_right=wrong, shuffled_wrong=wrong, roles=roles,
    )  # fmt: skip


@pytest.fixture
def evidence(experiment: UnifarExperiment, judged: list[Judged], sets: list[JudgedSet], tmp_path: Path) -> Evidence:
    probes = [probed(seed, 0.05) for seed in (1, 2)]
    path = write(experiment, judged, probes, sets, command="run", data={}, notes="Texts end at 128.", folder=tmp_path)
    return read_result(path)


def test_the_evidence_holds_every_arm_seed_by_seed_and_says_what_was_not_run(evidence: Evidence) -> None:
    assert len(evidence.arms["UK"].measures["one AP"]) == 2
    assert len(evidence.arms["A0"].measures["one AP"]) == 1
    assert "two/first nDCG@10" in evidence.arms["B"].measures
    assert evidence.arms["UK"].meters["bytes per document"] == 4 * 16 + 4 * 20
    assert "chosen on development sets: share" in evidence.arms["UK"].description
    assert evidence.meter.equal_within == pytest.approx(0.05)
    assert evidence.notes.startswith("After Holm's correction UK beats B")
    assert "Declared but not run: arms B3, C, H-B" not in evidence.notes  # H-B came with B
    for said in (
        "Declared but not run: arms B3; their demands",
        "SD over seeds, UK",
        "Texts end at 128.",
        "refuted",
    ):
        assert said in evidence.notes
    assert evidence.data[0].name == "eval/experiments/unifar.toml"


def test_an_arm_of_fewer_seeds_is_named(
    experiment: UnifarExperiment, judged: list[Judged], sets: list[JudgedSet], evidence: Evidence, tmp_path: Path
) -> None:
    some = [one for one in judged if (one.arm, one.seed) != ("B2", 2)]
    found = read_result(write(experiment, some, [], sets, command="run", data={}, folder=tmp_path / "some"))
    assert "Run under some of the seeds alone: B2 (1)." in found.notes
    assert len(found.arms["B2"].measures["one AP"]) == 1
    assert "Run under some" not in evidence.notes


def test_probe_and_roles_are_judged(evidence: Evidence) -> None:
    rows = {row.measure: row for row in evidence.comparisons if "probe" in row.measure or "roles" in row.measure}
    assert rows["facet probe RR@10"].difference == pytest.approx(0.05)
    assert rows["facet probe RR@10"].met
    assert rows["facet probe RR@10, gain over wrong facets"].met
    assert not rows["roles accuracy"].met  # .65 and .70
    assert evidence.arms["UK"].measures["roles F1 method"] == [0.7, 0.7]


def test_the_readme_shows_arms_first_and_then_the_comparisons(evidence: Evidence) -> None:
    lines = figures([evidence]).split("\n")
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| arm | one AP | two nDCG@10 |"
    assert any(line.startswith("| UK | ") and "±" in line for line in table)
    assert not any(line.startswith("| UK: right facet |") for line in table)
    assert "| what | measured | demand | met |" in table
    assert all(line.count("|") == 4 for line in table[: table.index("| what | measured | demand | met |")])


def test_pictures_of_what_was_found_are_drawn(findings: Findings, tmp_path: Path) -> None:
    tested = family(findings, rng=rng())
    for path in (
        wins_and_losses(tmp_path / "wins.png", tested),
        quality_by_bytes(tmp_path / "run" / "bytes.png", findings),
    ):
        assert path.read_bytes().startswith(b"\x89PNG")
