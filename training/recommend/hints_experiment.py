"""`facetrail experiment hints`: do discovered hints help a language model, and does the system beat two averages?

Two claims, kept apart: arms that differ in the prompt's hint slot alone, at equal tuning, and arms beside the closed
forms. A rolling figure is never set against a frozen one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.evidence import DataSource
from facetrail.eval.experiments.hints_plan import CLOSED, DISCOVERY, HintsExperiment, read_hints_experiment
from facetrail.eval.experiments.hints_result import RULES, ArmScores, HintTest, write_hints_result
from facetrail.models.recommend.hint_model import fit_blend
from facetrail.models.recommend.time_blocks import Floats
from facetrail.training.recommend.hint_course import TINY, HintCourse
from facetrail.training.recommend.hint_material import HintMaterial, miniature, pairs_material
from facetrail.training.run_folder import open_run
from facetrail.training.text.unifar import torch_device


def run(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Scores every arm under every seed; → what the command prints. A smoke run makes its rows and reads no data.

    Raises NotFound (data, the language model) and Conflict (a run of another plan).
    """
    plan = smaller(read_hints_experiment()) if smoke else read_hints_experiment()
    chosen = plan.seeds[: 1 if smoke else seeds]
    material, place = miniature() if smoke else pairs_material(data), torch_device("cpu" if smoke else "auto")
    open_run(out, plan, material.hashes, resume=resume, accelerator=str(place))
    course = HintCourse(plan, material, out, device=place)
    course.closed()
    for seed in chosen:
        course.discovery(seed)
        # Arms that share a discovery network one after the other: its hints are read once.
        for name in sorted(plan.arms, key=lambda arm: sorted(plan.arms[arm].network)):
            course.language(name, seed)
    arms = gathered(plan, course, chosen, material.rows.validation.labels[course.validation])
    path = write_hints_result(
        plan,
        HintTest(material.rows.test.users, material.rows.test.labels, course.test, course.strata()),
        arms,
        seeds=chosen,
        data=_sources(material),
        command=f"facetrail experiment hints --data DATA --out RUN --seeds {len(chosen)}",
        notes=_notes(plan),
        accelerator="" if place.type == "cpu" else str(place),
        folder=out if smoke else None,
    )
    return {"result": str(path), "arms": len(arms), "seeds": len(chosen), "run": str(out)}


def smaller(plan: HintsExperiment) -> HintsExperiment:
    """Every arm in seconds, with a language model from random weights."""
    fit = {"steps": 2, "eval_every": 2, "checkpoint_every": 2}
    return plan.model_copy(
        update={
            "language_model": TINY,
            "n_test": 16,
            "n_validation": 16,
            "n_resamples": 20,
            "prompt": plan.prompt.model_copy(update={"n_liked": 3}),
            "discovery": ("fit.steps=2", "batch=64", "network.dim=8", "network.n_similar=3", "fit.eval_every=2"),
            "tuning": {**plan.tuning, "n_shots": 8, "batch": 4, "lr": 1e-3, "fit": fit},
        }
    )


def gathered(plan: HintsExperiment, course: HintCourse, seeds: Sequence[int], labels: Floats) -> dict[str, ArmScores]:
    """Every arm's scores; blends are weighed seed by seed on validation. labels: of the validation sample."""
    units = {name: [course.kept(name, seed) for seed in seeds] for name in (DISCOVERY, *plan.arms)}
    units |= {name: [course.kept(name, seeds[0])] for name in CLOSED}
    (bias,) = units["bias logistic"]
    for name, arm in plan.blends.items():
        units[name] = [_blended(bias, unit, labels) for unit in units[arm]]
    return {name: _scores(found) for name, found in units.items()}


def _blended(bias: Mapping[str, Any], unit: Mapping[str, Any], labels: Floats) -> dict[str, Any]:
    blend = fit_blend(np.array(bias["validation"]), np.array(unit["validation"]), labels)
    parts = [part for part in unit if part not in ("meters", "validation")]
    mixed: dict[str, Any] = {part: blend.log_odds(np.array(bias[part]), np.array(unit[part])) for part in parts}
    weights = {"weight of the bias logistic": blend.bias, "weight of the reasoner": blend.reasoner}
    return mixed | {"meters": {**unit["meters"], **weights}}


def _scores(units: Sequence[Mapping[str, Any]]) -> ArmScores:
    def stacked(part: str) -> Floats:
        return np.array([unit[part] for unit in units], np.float64)

    names = sorted(set.intersection(*(set(unit["meters"]) for unit in units)))
    return ArmScores(
        {rule: stacked(rule) for rule in RULES},
        {rule: stacked(f"{rule}_all") for rule in RULES if f"{rule}_all" in units[0]},
        {name: float(np.mean([unit["meters"][name] for unit in units])) for name in names},
    )


def _sources(material: HintMaterial) -> list[DataSource]:
    made_up = [DataSource(name="miniature", sha256="")]
    return [DataSource(name=name, sha256=value) for name, value in sorted(material.hashes.items())] or made_up


def _notes(plan: HintsExperiment) -> str:
    tuning = plan.tuning
    known = (
        "made here from random weights, not pretrained" if plan.language_model == TINY else "pretrained, adapter tuned"
    )
    return (
        f"Language model {plan.language_model} ({known}), {tuning['n_shots']} rows, {tuning['fit']['steps']} steps of "
        f"{tuning['batch']}, the same for every arm. A smaller model knows little of the world: its gain from hints is "
        "not that of a large one. Differences in AUC are tested by swapping users' ranks."
    )
