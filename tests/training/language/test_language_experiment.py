"""The experiments on language models: a small run of every kind of arm, its evidence, and going on after a stop."""

from pathlib import Path

import pytest

from facetrail.eval.evidence import read_result
from facetrail.eval.experiments.language_plan import LanguageExperiment, read_language_experiment
from facetrail.eval.experiments.language_result import ArmScores, write_language_result
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.training.language import experiment
from facetrail.training.language.policy_recipe import ALGORITHMS


@pytest.mark.parametrize(("name", "n_arms"), [("hacpo", 10), ("rl-core", 5)])
def test_the_declared_experiments_are_whole(name: str, n_arms: int) -> None:
    plan = read_language_experiment(name)
    assert len(plan.arms) == n_arms
    for arm in plan.arms.values():
        assert arm.algorithm in {*ALGORITHMS, "hacpo", "imitation"}


def test_an_unknown_experiment_is_not_found() -> None:
    with pytest.raises(NotFound, match="no plan"):
        read_language_experiment("nothing")


def test_a_name_with_a_dot_is_refused_before_it_breaks_a_resumed_run() -> None:
    plan = read_language_experiment("rl-core")
    with pytest.raises(ValueError, match="holds a dot"):
        LanguageExperiment.model_validate({**plan.model_dump(), "agents": {"a.b": plan.agents["policy"].model_dump()}})


def few(plan: LanguageExperiment) -> LanguageExperiment:
    arms = {name: plan.arms[name] for name in ("GSPO", "HACPO", "Imitation")}
    small = experiment_smaller(plan)
    return small.model_copy(update={"arms": {name: small.arms[name] for name in arms}, "demands": small.demands[:1]})


experiment_smaller = experiment.smaller


def test_a_small_run_writes_evidence_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "smaller", few)
    experiment.run_hacpo(tmp_path, tmp_path / "run", smoke=True)
    first = read_result(tmp_path / "run" / "hacpo.json")
    assert set(first.arms) == {"GSPO", "HACPO", "Imitation"}
    assert first.arms["HACPO"].meters["rollout_tokens"] > 0
    # HACPO takes twice the updates from the same rollouts: own and foreign minibatches for each of two agents.
    assert first.arms["GSPO"].meters["optimiser_steps"] == 8
    assert first.arms["HACPO"].meters["optimiser_steps"] == 16
    assert 0 <= first.arms["HACPO"].measures["foreign_kept"][0] <= 1
    at_start = {tuple(arm.measures["solved_by_one/start"]) for arm in first.arms.values()}
    assert len(at_start) == 1, "the arms of a seed share their start"
    assert f"before training {at_start.pop()[0]:.3f}" in first.notes
    assert 0 <= first.arms["HACPO"].measures["solved_by_one/end"][0] <= 1
    assert (tmp_path / "run" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    scores = sorted((tmp_path / "run" / "scores").iterdir())
    kept = scores[1].read_bytes()
    scores[0].unlink()
    experiment.run_hacpo(tmp_path, tmp_path / "run", smoke=True, resume=True)
    again = read_result(tmp_path / "run" / "hacpo.json")
    assert scores[1].read_bytes() == kept
    assert {name: arm.measures for name, arm in again.arms.items()} == {n: a.measures for n, a in first.arms.items()}


def runs_of(values: dict[int, float]) -> ArmScores:
    return ArmScores(
        {
            seed: {
                "agents": {agent: {"sampled": value, "greedy": value, "area": value} for agent in ("A", "B")},
                "start": {agent: {"sampled": 0.5} for agent in ("A", "B")},
                "meters": {"rollout_tokens": 10.0},
                "last": {},
            }
            for seed, value in values.items()
        }
    )


def arms_of(plan: LanguageExperiment, gain: dict[int, float]) -> dict[str, ArmScores]:
    return {
        name: runs_of({s: 0.5 + 0.01 * s + (gain[s] if name == "HACPO" else 0) for s in gain}) for name in plan.arms
    }


@pytest.mark.parametrize(
    ("gain", "met"),
    [
        ({1: 0.030, 2: 0.032, 3: 0.031}, True),
        ({1: 0.10, 2: -0.04, 3: 0.03}, False),
        ({1: 0.01, 2: 0.01, 3: 0.011}, False),
    ],
    ids=["clear", "interval holds 0", "too small"],
)
def test_a_gain_is_met_only_by_its_size_and_its_interval(tmp_path: Path, gain: dict[int, float], met: bool) -> None:
    plan = read_language_experiment("hacpo")
    path = write_language_result(plan, arms_of(plan, gain), command="x", notes="", folder=tmp_path)
    row = read_result(path).comparisons[0]
    assert (row.a, row.b, row.measure) == ("HACPO", "GSPO", "sampled")
    assert row.difference == pytest.approx(sum(gain.values()) / 3, abs=1e-6)
    assert row.met is met
    assert row.p_holm is not None
    assert row.p is not None
    assert row.p_holm >= row.p


def test_arms_of_different_seeds_are_not_compared(tmp_path: Path) -> None:
    plan = read_language_experiment("hacpo")
    arms = arms_of(plan, {1: 0.1, 2: 0.1})
    arms["Naive"] = runs_of({1: 0.5})
    with pytest.raises(InvalidInput, match="'Naive' has not run"):
        write_language_result(plan, arms, command="x", notes="", folder=tmp_path)
