"""Writes UniFAR's experiment as one file of evidence, with what was not run and what the figures cannot show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from facetrail.eval.datasets import sha256_of
from facetrail.eval.evidence import Arm, ComparisonRow, DataSource, Meter, write_result
from facetrail.eval.experiments.unifar import Judged
from facetrail.eval.experiments.unifar_evidence import (
    Findings,
    demand_rows,
    family,
    probe_rows,
    role_measures,
)
from facetrail.eval.experiments.unifar_pictures import draw
from facetrail.eval.experiments.unifar_plan import PREREGISTERED, UnifarExperiment
from facetrail.eval.experiments.unifar_probe import Probed
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.eval.retrieval import Comparison

EQUAL_METERS = ("optimiser steps", "seen pairs")
"""What the trained arms of a comparison must have had alike."""
UNREACHABLE = (
    "The paper's own gain on questions (.3 to .5 points) is smaller than these sets can show: it is neither confirmed "
    "nor refuted here."
)


def write(
    experiment: UnifarExperiment,
    judged: Sequence[Judged],
    probed: Sequence[Probed],
    sets: Sequence[JudgedSet],
    *,
    command: str,
    data: Mapping[str, str],
    notes: str = "",
    accelerator: str = "",
    folder: Path | None = None,
    pictures: Path | None = None,
) -> Path:
    """Writes the experiment's file of evidence and returns its path.

    data: sha256 of further files, those that trained. pictures: the folder for them. notes: what was run (seeds,
    truncation, steps), in sentences. Random draws start from the first seed: the same scores give the same file.
    """
    findings = Findings(experiment, judged, sets)
    rng = np.random.default_rng(experiment.seeds[0])
    tested = family(findings, rng=rng)
    rows = [*map(_family_row, tested), *demand_rows(findings, rng=rng)]
    probe_arms, probed_rows = probe_rows(experiment, probed, rng=rng)
    if pictures is not None:
        draw(pictures, findings, tested, [one for one in probed if one.arm == experiment.probe.arm])
    arms = {name: _arm(findings, name, probed) for name in experiment.arms if name in findings.arms}
    accuracies = role_measures(probed, experiment.probe.arm).get("roles accuracy", [])
    least = experiment.probe.least_role_accuracy
    if accuracies and least is not None and experiment.probe.arm in arms:
        probed_rows.append(
            ComparisonRow(
                a=experiment.probe.arm, measure="roles accuracy", demand=f">= {least:g}", met=mean(accuracies) >= least
            )
        )
    hashes = {f"eval/experiments/{PREREGISTERED.name}": sha256_of(PREREGISTERED), **data}
    for one in sets:
        hashes |= one.sha256
    seeds = sorted({one.seed for one in judged if one.seed is not None})
    return write_result(
        experiment.name,
        claim=experiment.claim,
        data=[DataSource(name=name, sha256=value) for name, value in sorted(hashes.items())],
        arms=arms | probe_arms,
        comparisons=[*rows, *probed_rows],
        seeds=seeds,
        meter=Meter(name="optimiser steps and seen pairs of trained arms", equal_within=_largest_gap(findings)),
        command=command,
        notes=" ".join([verdict(tested, experiment), *_notes(findings, tested, seeds), notes, UNREACHABLE]).strip(),
        accelerator=accelerator,
        shown=[f"{name} {experiment.primary[name]}" for name in findings.sets],
        folder=folder,
    )


def verdict(tested: Sequence[Comparison], experiment: UnifarExperiment) -> str:
    """The first sentence a reader needs: do facets beat the equal-budget controls."""
    facets = experiment.probe.arm
    said = []
    for rival in (b for a, b in experiment.family if a == facets):
        found = [c for c in tested if c.a == facets and c.b == rival]
        better = [c.dataset for c in found if c.paired.difference > 0 and c.p_holm < 0.05]
        worse = [c.dataset for c in found if c.paired.difference < 0 and c.p_holm < 0.05]
        if found:
            won = f"beats {rival} on {', '.join(better)}" if better else f"beats {rival} on no set"
            said.append(won + (f" and loses on {', '.join(worse)}" if worse else ""))
    return f"After Holm's correction {facets} {'; it '.join(said)}." if said else ""


def _family_row(c: Comparison) -> ComparisonRow:
    return ComparisonRow(
        a=c.a, b=c.b, measure=f"{c.dataset} {c.measure}", difference=c.paired.difference, interval=c.paired.interval,
        p=c.paired.p, p_holm=c.p_holm,
    )  # fmt: skip


def _arm(findings: Findings, name: str, probed: Sequence[Probed]) -> Arm:
    runs = findings.arms[name]
    meters = {key: mean(one.meters[key] for one in runs) for key in runs[0].meters}
    chosen = [", ".join(f"{key} {_short(value)}" for key, value in one.chosen.items()) for one in runs if one.chosen]
    description = findings.experiment.arms[name].description
    if chosen:
        description += f"; chosen on development sets: {' | '.join(chosen)}"
    return Arm(description=description, measures=findings.measures(name) | role_measures(probed, name), meters=meters)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _largest_gap(findings: Findings) -> float:
    """Largest relative difference in what the trained arms saw."""
    gaps = [0.0]
    for meter in EQUAL_METERS:
        seen = [one.meters[meter] for runs in findings.arms.values() for one in runs if one.meters.get(meter)]
        gaps.append(1 - min(seen) / max(seen) if seen else 0.0)
    return max(gaps)


def _notes(findings: Findings, tested: Sequence[Comparison], seeds: Sequence[int]) -> list[str]:
    experiment = findings.experiment
    said = [judged.notes for judged in findings.sets.values()]
    if missing := [str(seed) for seed in experiment.seeds if seed not in seeds]:
        said.append(f"Declared but not run: seeds {', '.join(missing)}.")
    ran = {arm: {one.seed for one in runs if one.seed is not None} for arm, runs in findings.arms.items()}
    if fewer := [f"{name} ({', '.join(map(str, sorted(of)))})" for name, of in ran.items() if of and of < set(seeds)]:
        said.append(f"Run under some of the seeds alone: {', '.join(fewer)}.")
    if missing := [name for name in experiment.arms if name not in findings.arms]:
        said.append(f"Declared but not run: arms {', '.join(missing)}; their demands are not judged.")
    if missing := [name for name in experiment.sets if name not in findings.sets]:
        said.append(f"Declared but not run: sets {', '.join(missing)}.")
    said += [
        f"{c.dataset}, {c.a} against {c.b}: {c.paired.n_wins} won, {c.paired.n_ties} tied, {c.paired.n_losses} lost; "
        f"differences from {c.paired.smallest_visible:.3f} are visible with 80 % power."
        for c in tested
    ]
    for arm in dict.fromkeys(name for c in tested for name in (c.a, c.b)):
        if len(findings.arms[arm]) > 1:
            spreads = [
                f"{name} {stdev(findings.seed_means(arm, name, experiment.primary[name])):.4f}"
                for name in findings.sets
            ]
            said.append(f"SD over seeds, {arm}: {', '.join(spreads)}.")
    return said
