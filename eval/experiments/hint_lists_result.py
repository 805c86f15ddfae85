"""From scores of lists to evidence: Hit@1 and NDCG@5 by kind and length, differences over users, demands.

The unit is the user: a user's lists are averaged first, then users, then seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrail.eval.evidence import ComparisonRow, DataSource, write_result
from facetrail.eval.experiments.hint_lists_plan import HintListsExperiment, ListComparison
from facetrail.eval.recommend_metrics import Int64Array, ndcg, recall
from facetrail.eval.recommend_options import KINDS, Kind, list_places
from facetrail.eval.significance import bootstrap_interval, holm, randomisation_test
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput

HIT, NDCG = "Hit@1", "NDCG@5"
STATISTICS_SEED = 7
OF_KIND: dict[Kind, str] = {"random": "at random", "matched": "as popular"}


@dataclass(frozen=True)
class ListScores:
    """One arm. options: kind → (s, n, o) scores, the target first; s is 1 where no seed matters · meters: means."""

    options: Mapping[Kind, Float64Array]
    meters: Mapping[str, float]


def write_lists_result(
    plan: HintListsExperiment, part: str, users: Int64Array, arms: Mapping[str, ListScores], *, seeds: Sequence[int],
    data: Sequence[DataSource], command: str, notes: str, accelerator: str, folder: Path | None,
) -> Path:  # fmt: skip
    """Writes `hints-lists-<part>.json`. users: (n,) of the lists. Raises InvalidInput where an arm is missing."""
    planned = plan.parts[part]
    if missing := [name for name in planned.every_arm if name not in arms]:
        raise InvalidInput(f"arm {missing[0]!r} has no scores; resume the experiment")
    lengths = [planned.n_options] if planned.n_options else sorted({max(2, plan.n_options // 2), plan.n_options})
    values = {name: _values(users, arms[name], lengths) for name in planned.every_arm}
    longest = lengths[-1]
    return write_result(
        f"{plan.name}-{part}",
        claim=planned.claim,
        data=data,
        arms={
            name: {
                "description": plan.description(name),
                "measures": {
                    measure: [round(float(v), 6) for v in of.mean(axis=1)] for measure, of in values[name].items()
                },
                "meters": dict(arms[name].meters),
            }
            for name in planned.every_arm
        },
        comparisons=_comparisons(plan, part, values, longest),
        seeds=seeds,
        meter={"name": "lists scored by every arm", "equal_within": 0.0},
        command=command,
        notes=f"{len(users):,} lists of {len(np.unique(users))} users, each user's lists averaged first; intervals and "
        f"tests are over users. Chance is 1/{longest} among {longest} options. {notes}",
        accelerator=accelerator,
        shown=[_said(measure, kind, n) for n in lengths for kind in KINDS for measure in (HIT, NDCG)]
        if len(lengths) == 1
        else [_said(HIT, kind, n) for n in lengths for kind in KINDS] + [_said(NDCG, kind, longest) for kind in KINDS],
        folder=folder,
    )


def _said(measure: str, kind: Kind, n: int) -> str:
    return f"{measure} of {n}, {OF_KIND[kind]}"


def _values(users: Int64Array, scores: ListScores, lengths: Sequence[int]) -> dict[str, Float64Array]:
    """measure → (s, users) the mean of each user's lists."""
    _, rows, counts = np.unique(users, return_inverse=True, return_counts=True)
    found: dict[str, Float64Array] = {}
    for n in lengths:
        for kind in KINDS:
            placed = [list_places(one[:, :n]) for one in scores.options[kind]]
            for measure, of_lists in ((HIT, [recall(p, 1) for p in placed]), (NDCG, [ndcg(p, 5) for p in placed])):
                found[_said(measure, kind, n)] = np.stack([np.bincount(rows, weights=one) / counts for one in of_lists])
    return found


def _comparisons(
    plan: HintListsExperiment, part: str, values: Mapping[str, Mapping[str, Float64Array]], n_options: int
) -> list[ComparisonRow]:
    """The family of Hit@1 on the longest lists, corrected by Holm, NDCG@5 beside it without a test."""
    told: list[tuple[ListComparison, Kind, float, tuple[float, float]]] = []
    p_values: list[float] = []
    for pair in plan.parts[part].comparisons:
        for kind in KINDS:
            rng = np.random.default_rng([STATISTICS_SEED, len(told)])
            apart = _apart(values, pair.a, pair.b, _said(HIT, kind, n_options))
            p_values.append(randomisation_test(apart, rng=rng))
            low, high = bootstrap_interval(apart, rng=rng, n_resamples=plan.n_resamples)
            told.append((pair, kind, float(apart.mean()), (round(low, 6), round(high, 6))))
    rows = []
    for (pair, kind, difference, between), p, p_holm in zip(told, p_values, holm(p_values), strict=True):
        demand = {"demand": "higher, corrected p below .05", "met": difference > 0 and p_holm < 0.05}
        rows.append(
            ComparisonRow.model_validate(
                {
                    "a": pair.a,
                    "b": pair.b,
                    "measure": _said(HIT, kind, n_options),
                    "difference": round(difference, 6),
                    "interval": between,
                    "p": round(p, 6),
                    "p_holm": round(p_holm, 6),
                    **(demand if pair.is_gain else {}),
                }
            )
        )
    for pair in plan.parts[part].comparisons:
        for kind in KINDS:
            apart = _apart(values, pair.a, pair.b, _said(NDCG, kind, n_options))
            low, high = bootstrap_interval(
                apart, rng=np.random.default_rng(STATISTICS_SEED), n_resamples=plan.n_resamples
            )
            rows.append(
                ComparisonRow(
                    a=pair.a,
                    b=pair.b,
                    measure=_said(NDCG, kind, n_options),
                    difference=round(float(apart.mean()), 6),
                    interval=(round(low, 6), round(high, 6)),
                )
            )
    return rows


def _apart(values: Mapping[str, Mapping[str, Float64Array]], a: str, b: str, measure: str) -> Float64Array:
    """(users,) differences of means over seeds."""
    apart: Float64Array = values[a][measure].mean(axis=0) - values[b][measure].mean(axis=0)
    return apart
