"""What UniFAR's experiment found: the declared comparisons, and the demands with their verdicts."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from facetrail.eval.evidence import Arm, ComparisonRow
from facetrail.eval.experiments.unifar import Judged
from facetrail.eval.experiments.unifar_plan import Demand, UnifarExperiment
from facetrail.eval.experiments.unifar_probe import ANNOTATED, MEASURE, Probed
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.eval.retrieval import Comparison
from facetrail.eval.significance import PairedComparison, compare_paired, holm
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput

PROBE = f"facet probe {MEASURE}"
RIGHT, WRONG, SHUFFLED = "right facet", "wrong facets", "shuffled anchors"


class Findings:
    """Per-query values averaged over seeds, by arm and set."""

    def __init__(self, experiment: UnifarExperiment, judged: Sequence[Judged], sets: Sequence[JudgedSet]) -> None:
        """Raises InvalidInput where an arm was judged twice under a seed, or on other queries than the sets have."""
        self.experiment, self.sets = experiment, {s.name: s for s in sets}
        self.arms: dict[str, list[Judged]] = {}
        for one in sorted(judged, key=lambda j: j.seed or 0):
            others = self.arms.setdefault(one.arm, [])
            if any(other.seed == one.seed for other in others):
                raise InvalidInput(f"arm {one.arm!r} was judged twice under seed {one.seed}; keep one of the two")
            others.append(one)
            if any(one.query_ids.get(name) != tuple(s.queries) for name, s in self.sets.items()):
                raise InvalidInput(f"arm {one.arm!r} was judged on other queries than the sets hold; judge it again")

    def values(self, arm: str, name: str, measure: str) -> Float64Array:
        """(q,) mean over seeds."""
        return np.asarray(np.mean([one.values[name][measure] for one in self.arms[arm]], axis=0))

    def seed_means(self, arm: str, name: str, measure: str, subset: frozenset[str] | None = None) -> list[float]:
        """The set's mean under each seed."""
        keep = [subset is None or query in subset for query in self.sets[name].queries]
        return [float(np.asarray(one.values[name][measure])[keep].mean()) for one in self.arms[arm]]

    def compared(self, a: str, b: str, name: str, measure: str, *, rng: np.random.Generator) -> PairedComparison:
        """Arm a against arm b on one set."""
        pair = (self.values(arm, name, measure) for arm in (a, b))
        return compare_paired(*pair, rng=rng, n_randomisations=self.experiment.n_randomisations)

    def measures(self, arm: str) -> dict[str, list[float]]:
        """Everything an arm measured, as evidence names it."""
        found = {}
        for name, judged in self.sets.items():
            parts: dict[str, frozenset[str] | None] = {name: None}
            parts |= {f"{name}/{part}": chosen for part, chosen in judged.subsets.items() if chosen}
            for label, chosen in parts.items():
                for measure in self.experiment.measures:
                    found[f"{label} {measure}"] = self.seed_means(arm, name, measure, chosen)
        return found


def family(findings: Findings, *, rng: np.random.Generator) -> list[Comparison]:
    """The declared pairs on every set, as far as their arms were run; Holm over all of them."""
    experiment = findings.experiment
    pairs = [(a, b) for a, b in experiment.family if a in findings.arms and b in findings.arms]
    declared = [(a, b, name, experiment.primary[name]) for a, b in pairs for name in findings.sets]
    paired = [findings.compared(a, b, name, measure, rng=rng) for a, b, name, measure in declared]
    return [
        Comparison(a, b, name, measure, result, p)
        for (a, b, name, measure), result, p in zip(declared, paired, holm([r.p for r in paired]), strict=True)
    ]


def demand_rows(findings: Findings, *, rng: np.random.Generator) -> list[ComparisonRow]:
    """One row a demand and set, as far as arm and set were run."""
    return [
        _demanded(findings, demand, name, rng)
        for demand in findings.experiment.demands
        for name in demand.sets or findings.sets
        if name in findings.sets and demand.a in findings.arms and (demand.b is None or demand.b in findings.arms)
    ]


def _demanded(findings: Findings, demand: Demand, name: str, rng: np.random.Generator) -> ComparisonRow:
    measure = demand.measure or findings.experiment.primary[name]
    row: dict[str, Any] = {"a": demand.a, "b": demand.b, "measure": f"{name} {measure}"}
    if demand.b is None:
        value = 100 * mean(findings.seed_means(demand.a, name, measure))
        return ComparisonRow(**row, demand=f">= {demand.least_points / 100:g}", met=value >= demand.least_points - 1e-9)
    found = findings.compared(demand.a, demand.b, name, measure, rng=rng)
    met = 100 * found.difference >= demand.least_points - 1e-9
    asked = f"difference >= {demand.least_points / 100:+g}"
    return ComparisonRow(**row, difference=found.difference, interval=found.interval, p=found.p, demand=asked, met=met)


def probe_rows(experiment: UnifarExperiment, probed: Sequence[Probed], *, rng: np.random.Generator) -> tuple[
    dict[str, Arm], list[ComparisonRow]
]:  # fmt: skip
    """The facet probe and the roles as arms and rows; nothing where the probed arm was not run."""
    plan = experiment.probe
    runs = [one for one in probed if one.arm == plan.arm]
    if not runs:
        return {}, []
    columns = {part: np.mean([getattr(one, part) for one in runs], axis=0) for part in ("right", "wrong")}
    shuffled = np.mean([np.subtract(one.shuffled_right, one.shuffled_wrong) for one in runs], axis=0)
    arms = {
        f"{plan.arm}: {RIGHT}": Arm(measures={PROBE: [mean(one.right) for one in runs]}),
        f"{plan.arm}: {WRONG}": Arm(measures={PROBE: [mean(one.wrong) for one in runs]}),
        f"{plan.arm}: {SHUFFLED}": Arm(measures={PROBE: [mean(one.shuffled_right) for one in runs]}),
    }
    gain = compare_paired(columns["right"], columns["wrong"], rng=rng, n_randomisations=experiment.n_randomisations)
    hurt = compare_paired(
        columns["right"] - columns["wrong"], shuffled, rng=rng, n_randomisations=experiment.n_randomisations
    )
    rows = [
        ComparisonRow(
            a=f"{plan.arm}: {RIGHT}", b=f"{plan.arm}: {other}", measure=measure, difference=found.difference,
            interval=found.interval, p=found.p,
        )
        for other, measure, found in ((WRONG, PROBE, gain), (SHUFFLED, f"{PROBE}, gain over wrong facets", hurt))
    ]  # fmt: skip
    if plan.least_points is not None:
        least = plan.least_points / 100
        demanded = (
            (f"difference >= {least:+g} and p < .05", gain.difference >= least and gain.p < 0.05),
            ("shuffling hurts: difference > 0 and p < .05", hurt.difference > 0 and hurt.p < 0.05),
        )
        rows = [
            row.model_copy(update={"demand": demand, "met": met})
            for row, (demand, met) in zip(rows, demanded, strict=True)
        ]
    for one in (one for one in probed if one.arm == ANNOTATED):
        text = "the base's mean of sentences whose roles annotators gave: how far the text of a role alone can go"
        arms[f"{ANNOTATED}: {RIGHT}"] = Arm(description=text, measures={PROBE: [mean(one.right)]})
        arms[f"{ANNOTATED}: {WRONG}"] = Arm(measures={PROBE: [mean(one.wrong)]})
        bound = compare_paired(
            np.array(one.right), np.array(one.wrong), rng=rng, n_randomisations=experiment.n_randomisations
        )
        rows.append(
            ComparisonRow(
                a=f"{ANNOTATED}: {RIGHT}", b=f"{ANNOTATED}: {WRONG}", measure=PROBE, difference=bound.difference,
                interval=bound.interval, p=bound.p,
            )
        )  # fmt: skip
    return arms, rows


def role_measures(probed: Sequence[Probed], arm: str) -> dict[str, list[float]]:
    """Of an arm that was probed, one value a seed: how much the right facet gains, accuracy and F1 of the roles."""
    runs = [one for one in probed if one.arm == arm]
    found = [one.roles for one in runs if one.roles is not None]
    if not found:
        return {}
    measures = {
        f"{PROBE}, right minus wrong": [mean(one.right) - mean(one.wrong) for one in runs],
        "roles accuracy": [one.accuracy for one in found],
        "roles accuracy without other": [one.accuracy_of_facets for one in found],
        "roles macro-F1": [one.macro_f1 for one in found],
    }
    return measures | {f"roles F1 {facet}": [one.f1[facet] for one in found] for facet in found[0].f1}
