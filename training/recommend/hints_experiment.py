"""`facetrail experiment hints`: do discovered hints help a language model, and does the system beat two averages?

Two claims, kept apart: arms that differ in the prompt's hint slot alone, at equal tuning, and arms beside the closed
forms. A rolling figure is never set against a frozen one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.experiments.hints_plan import BIAS_LOGISTIC, CLOSED, PLAN_FILE, HintsExperiment, HintsPart
from facetrail.eval.experiments.hints_result import RULES, ArmScores, HintTest, write_hints_result
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.hint_model import fit_blend
from facetrail.models.recommend.time_blocks import Floats, Ints
from facetrail.training.config import read_recipe
from facetrail.training.recommend.hint_course import HintCourse
from facetrail.training.recommend.hint_material import miniature, pairs_material
from facetrail.training.recommend.hint_units import TINY, sources
from facetrail.training.run_folder import open_run
from facetrail.training.text.unifar import torch_device


def run(
    data: Path, out: Path, *, part: str | None = None, overrides: Sequence[str] = (), smoke: bool = False,
    seeds: int | None = None, resume: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Scores the arms of a part, or of every part, under every seed; → what the command prints.

    A smoke run makes its rows and reads no data. Raises InvalidInput (no such part, an override), NotFound (data, the
    language model) and Conflict (a run of another plan).
    """
    plan = read_recipe(PLAN_FILE, HintsExperiment, overrides)
    plan = smaller(plan) if smoke else plan
    if part is not None and part not in plan.parts:
        raise InvalidInput(f"--part {part} is none; choose {' or '.join(plan.parts)}, or leave it out for all")
    chosen = plan.seeds[: 1 if smoke else seeds]
    material, place = miniature() if smoke else pairs_material(data), torch_device("cpu" if smoke else "auto")
    open_run(out, plan, material.hashes, resume=resume, accelerator=str(place))
    course = HintCourse(plan, material, out, device=place)
    changes = "".join(f" --set {override}" for override in overrides)
    written = {}
    for name in plan.parts if part is None else [part]:
        _score(plan, plan.parts[name], course, chosen)
        rows = np.arange(len(material.rows.test)) if plan.parts[name].rows == "all" else course.test
        written[name] = write_hints_result(
            plan,
            name,
            HintTest(material.rows.test.users, material.rows.test.labels, rows, course.strata(rows)),
            gathered(plan.parts[name], course, chosen, material.rows.validation.labels),
            seeds=chosen,
            data=sources(material.hashes),
            command=f"facetrail experiment hints --part {name} --data DATA --out RUN --seeds {len(chosen)}{changes}",
            notes=_notes(plan, plan.parts[name]),
            accelerator="" if place.type == "cpu" else str(place),
            folder=out if smoke else None,
        )
    return {"results": [str(path) for path in written.values()], "seeds": len(chosen), "run": str(out)}


def _score(plan: HintsExperiment, part: HintsPart, course: HintCourse, seeds: Sequence[int]) -> None:
    course.closed()
    asking = [name for name in part.arms if name in plan.arms]
    for seed in seeds:
        for name in part.arms:
            if name in plan.networks:
                course.network(name, seed)
        # Arms that share a discovery network one after the other: its hints are read once.
        for name in sorted(asking, key=lambda arm: sorted(plan.arms[arm].network)):
            course.language(name, seed)


def smaller(plan: HintsExperiment) -> HintsExperiment:
    """Every arm in seconds, with a language model from random weights."""
    fit = {"steps": 2, "eval_every": 2, "checkpoint_every": 2}
    return plan.model_copy(
        update={
            "language_model": TINY,
            "n_test": 16,
            "n_validation": 16,
            "n_resamples": 20,
            "prompt": plan.prompt.model_copy(update={"n_liked": 3, "n_plain": 1}),
            "discovery": ("fit.steps=2", "batch=64", "network.dim=8", "network.n_similar=3", "fit.eval_every=2"),
            "tuning": {**plan.tuning, "n_shots": 8, "batch": 4, "lr": 1e-3, "fit": fit},
        }
    )


def gathered(part: HintsPart, course: HintCourse, seeds: Sequence[int], labels: Floats) -> dict[str, ArmScores]:
    """Every arm's scores; blends are weighed seed by seed on validation. labels: of all of validation."""
    units = {name: [course.kept(name, seed) for seed in seeds] for name in part.arms}
    units |= {name: [course.kept(name, seeds[0])] for name in CLOSED}
    (bias,) = units[BIAS_LOGISTIC]
    for name, arm in part.blends.items():
        units[name] = [_blended(bias, unit, labels, course.validation) for unit in units[arm]]
    return {name: _scores(found, is_whole=part.rows == "all") for name, found in units.items()}


def _blended(bias: Mapping[str, Any], unit: Mapping[str, Any], labels: Floats, sample: Ints) -> dict[str, Any]:
    """On all of validation where the arm scored it, or else on the sample of it."""
    part, truth = ("validation_all", labels) if "validation_all" in unit else ("validation", labels[sample])
    blend = fit_blend(np.array(bias[part]), np.array(unit[part]), truth)
    parts = [name for name in unit if name.removesuffix("_all") in RULES]
    mixed: dict[str, Any] = {name: blend.log_odds(np.array(bias[name]), np.array(unit[name])) for name in parts}
    weights = {"weight of the bias logistic": blend.bias, "weight of the reasoner": blend.reasoner}
    return mixed | {"meters": {**unit["meters"], **weights}}


def _scores(units: Sequence[Mapping[str, Any]], *, is_whole: bool) -> ArmScores:
    """is_whole: the part compares all rows, so that they are the sample."""

    def stacked(name: str) -> Floats:
        return np.array([unit[name] for unit in units], np.float64)

    names = sorted(set.intersection(*(set(unit["meters"]) for unit in units)))
    every = {rule: stacked(f"{rule}_all") for rule in RULES if f"{rule}_all" in units[0]}
    return ArmScores(
        every if is_whole else {rule: stacked(rule) for rule in RULES},
        {} if is_whole else every,
        {name: float(np.mean([unit["meters"][name] for unit in units])) for name in names},
        stacked("labels_all") if "labels_all" in units[0] else None,
    )


def _notes(plan: HintsExperiment, part: HintsPart) -> str:
    swapped = "Differences in AUC are tested by swapping users' ranks."
    if not {*part.arms} & {*plan.arms}:
        return f"No language model. Shuffled labels are measured by the labels of the shuffle. {swapped}"
    tuning = plan.tuning
    known = (
        "made here from random weights, not pretrained" if plan.language_model == TINY else "pretrained, adapter tuned"
    )
    return (
        f"Language model {plan.language_model} ({known}), {tuning['n_shots']} rows, {tuning['fit']['steps']} steps of "
        f"{tuning['batch']}, the same for every arm. A smaller model knows little of the world: its gain from hints is "
        f"not that of a large one. {swapped}"
    )
