"""From scores of arms under seeds to evidence: AUC and UAUC by rule and stratum, differences over users, demands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.evidence import ComparisonRow, DataSource, write_result
from facetrail.eval.experiments.hints_plan import Bound, Comparison, Erosion, HintsExperiment, HintsPart
from facetrail.eval.recommend_metrics import Int64Array, auc, user_auc
from facetrail.eval.significance import holm
from facetrail.eval.user_significance import AUC, UAUC, UserBootstrap, interval, swap_test, user_test
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput

RULES = ("frozen", "rolling")
MEASURES = {"AUC": AUC, "UAUC": UAUC}
STATISTICS_SEED = 7


@dataclass(frozen=True)
class HintTest:
    """The rows that were scored. users, labels: of all of test, (r,) · sample: rows that the part compares, (n,) ·
    strata: name → (n,) which of these belong to it, under frozen knowledge.
    """

    users: Int64Array
    labels: Float64Array
    sample: Int64Array
    strata: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ArmScores:
    """One arm. rule → (s, n) scores of the sample, and (s, r) of all rows where they are told apart from it; s is 1
    where no seed matters. meters: name → mean over seeds · labels: (s, r) those it is measured by, None: the test's.
    """

    sample: Mapping[str, Float64Array]
    every: Mapping[str, Float64Array]
    meters: Mapping[str, float]
    labels: Float64Array | None = None


def write_hints_result(
    plan: HintsExperiment, part: str, test: HintTest, arms: Mapping[str, ArmScores], *, seeds: Sequence[int],
    data: Sequence[DataSource], command: str, notes: str, accelerator: str, folder: Path | None,
) -> Path:  # fmt: skip
    """Writes `hints-<part>.json`. Raises InvalidInput where an arm is missing."""
    planned = plan.parts[part]
    if missing := [name for name in planned.every_arm if name not in arms]:
        raise InvalidInput(f"arm {missing[0]!r} has no scores; resume the experiment")
    measures = {name: _measures(test, arms[name]) for name in planned.every_arm}
    n_users = user_auc(test.users[test.sample], test.labels[test.sample], test.labels[test.sample]).n_users
    return write_result(
        f"{plan.name}-{part}",
        claim=planned.claim,
        data=data,
        arms={
            name: {
                "description": plan.description(name),
                "measures": measures[name],
                "meters": dict(arms[name].meters),
            }
            for name in planned.every_arm
        },
        comparisons=[
            *_comparisons(planned, test, arms, plan.n_resamples),
            *(_bound(bound, measures) for bound in planned.bounds),
            *(_erosion(one, measures) for one in planned.erosions),
        ],
        seeds=seeds,
        meter={"name": "rows of test scored by every arm", "equal_within": 0.0},
        command=command,
        notes=f"{len(test.sample):,} rows of {len(np.unique(test.users[test.sample])):,} users, {n_users} of whom "
        f"count in UAUC. Intervals and tests are over users. {notes}",
        accelerator=accelerator,
        shown=[f"{measure} {rule}" for rule in RULES for measure in MEASURES],
        folder=folder,
    )


def _measures(test: HintTest, scores: ArmScores) -> dict[str, list[float]]:
    users, n_seeds = test.users[test.sample], len(scores.sample[RULES[0]])
    of_all = np.broadcast_to(test.labels, (n_seeds, len(test.labels))) if scores.labels is None else scores.labels
    labels = of_all[:, test.sample]
    found: dict[str, list[float]] = {}
    for rule in RULES:
        found |= _pair(rule, users, labels, scores.sample[rule])
        if rule in scores.every:
            found |= _pair(f"{rule}, all rows", test.users, of_all, scores.every[rule])
    for name, mask in test.strata.items():
        n_liked = labels[:, mask].sum(axis=1)
        if ((n_liked > 0) & (n_liked < mask.sum())).all():
            frozen = scores.sample["frozen"]
            found[f"AUC frozen, {name}"] = [auc(a[mask], b[mask]) for a, b in zip(frozen, labels, strict=True)]
    return {name: [round(value, 6) for value in values] for name, values in found.items()}


def _pair(said: str, users: Int64Array, labels: Float64Array, scores: Float64Array) -> dict[str, list[float]]:
    """labels, scores: (s, n)."""
    rows = list(zip(scores, labels, strict=True))
    return {
        f"AUC {said}": [auc(row, truth) for row, truth in rows],
        f"UAUC {said}": [user_auc(users, row, truth).mean for row, truth in rows],
    }


def _comparisons(
    plan: HintsPart, test: HintTest, arms: Mapping[str, ArmScores], n_resamples: int
) -> list[ComparisonRow]:
    """The family under frozen knowledge, corrected by Holm; then the same pairs under rolling, without demands."""
    users, labels = test.users[test.sample], test.labels[test.sample]
    named = {name for pair in plan.comparisons for name in (pair.a, pair.b)}
    drawn: dict[str, dict[str, Float64Array]] = {}
    for rule in RULES:
        rng = np.random.default_rng(STATISTICS_SEED)
        bootstrap = UserBootstrap(users, labels, rng=rng, n_resamples=n_resamples)
        drawn[rule] = {name: bootstrap.measures(arms[name].sample[rule]) for name in sorted(named)}
    rows: list[tuple[Comparison, str]] = []
    p_values: list[float] = []
    for pair in plan.comparisons:
        a, b = (_alike(arms[name].sample["frozen"], arms, pair) for name in (pair.a, pair.b))
        for measure, test_of in (("AUC", swap_test), ("UAUC", user_test)):
            rng = np.random.default_rng([STATISTICS_SEED, len(rows)])
            p_values.append(test_of(users, labels, a, b, rng=rng, n_randomisations=n_resamples))
            rows.append((pair, measure))
    corrected = [
        _row(pair, measure, "frozen", test, arms, drawn["frozen"], p=p, p_holm=p_holm)
        for (pair, measure), p, p_holm in zip(rows, p_values, holm(p_values), strict=True)
    ]
    rolling = [_row(pair, measure, "rolling", test, arms, drawn["rolling"]) for pair, measure in rows]
    demanded = [pair for pair in plan.comparisons if pair.least_relative]
    frozen_gains, rolling_gains = (
        [_relative(pair, rule, test, arms, drawn[rule]) for pair in demanded] for rule in ("frozen", "rolling")
    )
    return [*corrected, *frozen_gains, *rolling, *rolling_gains]


def _alike(scores: Float64Array, arms: Mapping[str, ArmScores], pair: Comparison) -> Float64Array:
    """An arm without seeds stands against every seed of the other."""
    n = max(len(arms[name].sample["frozen"]) for name in (pair.a, pair.b))
    return np.repeat(scores, n, axis=0) if len(scores) < n else scores


def _row(
    pair: Comparison, measure: str, rule: str, test: HintTest, arms: Mapping[str, ArmScores],
    drawn: Mapping[str, Float64Array], *, p: float | None = None, p_holm: float | None = None,
) -> ComparisonRow:  # fmt: skip
    means = {name: _mean(test, arms[name].sample[rule]) for name in (pair.a, pair.b)}
    column = MEASURES[measure]
    difference = float(means[pair.a][column] - means[pair.b][column])
    low, high = interval(drawn[pair.a][:, column] - drawn[pair.b][:, column])
    values: dict[str, Any] = {"difference": round(difference, 6), "interval": (round(low, 6), round(high, 6))}
    if p is not None and p_holm is not None:
        values |= {"p": round(p, 6), "p_holm": round(p_holm, 6)}
        if pair.is_gain:
            values |= {"demand": "higher, corrected p below .05", "met": difference > 0 and p_holm < 0.05}
    return ComparisonRow(a=pair.a, b=pair.b, measure=f"{measure} {rule}", **values)


def _relative(
    pair: Comparison, rule: str, test: HintTest, arms: Mapping[str, ArmScores], drawn: Mapping[str, Float64Array]
) -> ComparisonRow:
    a, b = (_mean(test, arms[name].sample[rule]) for name in (pair.a, pair.b))
    gain = float((a / b - 1).mean())
    # A gain on nothing cannot be told: resamples in which b orders every pair wrongly are left out.
    gains = np.divide(drawn[pair.a], drawn[pair.b], out=np.full_like(drawn[pair.a], np.nan), where=drawn[pair.b] > 0)
    low, high = interval((gains - 1).mean(axis=1))
    demanded: dict[str, Any] = {}
    if rule == "frozen":
        said = f"at least {pair.least_relative:.2%} and an interval above 0"
        demanded = {"demand": said, "met": gain >= pair.least_relative and low > 0}
    return ComparisonRow(
        a=pair.a,
        b=pair.b,
        measure=f"relative gain, mean of AUC and UAUC {rule}",
        difference=round(gain, 6),
        interval=(round(low, 6), round(high, 6)),
        **demanded,
    )


def _mean(test: HintTest, scores: Float64Array) -> Float64Array:
    """(2,) AUC and UAUC of the sample, means over seeds."""
    users, labels = test.users[test.sample], test.labels[test.sample]
    found = np.array([[auc(row, labels), user_auc(users, row, labels).mean] for row in scores])
    means: Float64Array = found.mean(axis=0)
    return means


def _bound(bound: Bound, measures: Mapping[str, Mapping[str, Sequence[float]]]) -> ComparisonRow:
    reached = float(np.mean(measures[bound.arm][bound.measure]))
    said = f"at least {bound.least:.4f}" + (f" and at most {bound.most:.4f}" if bound.most < 1 else "")
    return ComparisonRow(
        a=bound.arm,
        measure=bound.measure,
        difference=round(reached - bound.least, 6),
        demand=said,
        met=bound.least <= reached <= bound.most,
    )


def _erosion(one: Erosion, measures: Mapping[str, Mapping[str, Sequence[float]]]) -> ComparisonRow:
    of_a, of_b = (
        float(np.mean(measures[before]["AUC frozen"]) - np.mean(measures[after]["AUC frozen"]))
        for before, after in (one.a, one.b)
    )
    return ComparisonRow(
        a=one.a[1],
        b=one.b[1],
        measure="loss of AUC frozen to fake attributes",
        difference=round(of_a - of_b, 6),
        demand=f"at most {one.most:g} of the other's; {of_a:.4f} and {of_b:.4f}",
        met=of_a <= one.most * of_b,
    )
