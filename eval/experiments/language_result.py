"""From the accuracies of arms under seeds to evidence: means, paired intervals over seeds, Holm, demands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.evidence import ComparisonRow, write_result
from facetrail.eval.experiments.language_plan import Demand, LanguageExperiment
from facetrail.eval.language import Difference, difference_over_seeds
from facetrail.eval.significance import holm
from facetrail.models.errors import InvalidInput

MEASURES = ("sampled", "greedy", "area")


class ArmScores:
    """One arm: for each seed the measures of every agent at the end, and the meters of the run."""

    def __init__(self, runs: Mapping[int, Mapping[str, Any]]) -> None:
        """runs: seed → {"agents": {agent: {measure: value}}, "start": the same before training, "meters", "last"}.

        With several agents there is "solved_by_one" too: {"start": share, "end": share}, see `solved_by_one`.
        """
        self.runs = dict(runs)

    def of_agents(self, measure: str, agents: Sequence[str]) -> NDArray[np.float64]:
        """Mean over agents for each seed, in the order of seeds. (n_seeds,)."""
        found = [[run["agents"][agent][measure] for agent in agents] for _, run in sorted(self.runs.items())]
        means: NDArray[np.float64] = np.array(found, dtype=np.float64).mean(axis=1)
        return means


def solved_by_one(correct: Sequence[NDArray[np.bool_]]) -> float:
    """Share of items that exactly one of the agents solves: what there is to be exchanged. correct: (n_items,) each."""
    shares = np.stack(correct).sum(axis=0) == 1
    return float(shares.mean())


def write_language_result(
    plan: LanguageExperiment, arms: Mapping[str, ArmScores], *, command: str, notes: str, folder: Path | None
) -> Path:
    """Writes `<name>.json`. Raises InvalidInput where an arm lacks a seed that another has."""
    seeds = sorted(next(iter(arms.values())).runs)
    if uneven := [name for name, scores in arms.items() if sorted(scores.runs) != seeds]:
        raise InvalidInput(f"arm {uneven[0]!r} has not run under all of the seeds {seeds}; resume the experiment")
    agents = list(plan.agents)
    return write_result(
        plan.name,
        claim=plan.claim,
        data=[{"name": f"{plan.task} {plan.task_options or ''}".strip(), "sha256": ""}],
        arms={
            name: {
                "description": plan.arms[name].description,
                "measures": _measures(scores, agents),
                "meters": _meters(scores),
            }
            for name, scores in arms.items()
        },
        comparisons=[_rounded(row) for row in _comparisons(plan, arms)],
        seeds=seeds,
        meter={"name": plan.meter, "equal_within": _spread(plan, arms)},
        command=command,
        notes=notes,
        shown=["sampled", "greedy", "area"],
        folder=folder,
    )


def _measures(scores: ArmScores, agents: Sequence[str]) -> dict[str, list[float]]:
    found = {measure: scores.of_agents(measure, agents).tolist() for measure in MEASURES}
    for agent in agents if len(agents) > 1 else ():
        found |= {f"{measure}/{agent}": scores.of_agents(measure, [agent]).tolist() for measure in MEASURES}
    starts = [[run["start"][agent]["sampled"] for agent in agents] for _, run in sorted(scores.runs.items())]
    found["start"] = np.mean(np.array(starts), axis=1).tolist()
    for moment in ("start", "end"):
        shares = [run.get("solved_by_one", {}).get(moment) for _, run in sorted(scores.runs.items())]
        found |= {f"solved_by_one/{moment}": shares} if None not in shares else {}
    keys = sorted(set.intersection(*(set(run["last"]) for run in scores.runs.values())))
    return found | {key: [run["last"][key] for _, run in sorted(scores.runs.items())] for key in keys}


def _meters(scores: ArmScores) -> dict[str, float]:
    names = sorted(set.intersection(*(set(run["meters"]) for run in scores.runs.values())))
    return {name: float(np.mean([run["meters"][name] for run in scores.runs.values()])) for name in names}


def _comparisons(plan: LanguageExperiment, arms: Mapping[str, ArmScores]) -> list[ComparisonRow]:
    """Every demand, then every other arm against the baseline; Holm over all of them."""
    rows: list[tuple[Demand | None, str, str, str, Difference | None, float | None]] = []
    for demand in plan.demands:
        if demand.a in arms and demand.b in arms:
            groups = [[agent] for agent in plan.agents] if demand.each_agent else [list(plan.agents)]
            for agents in groups:
                label = demand.measure if len(agents) == len(plan.agents) else f"{demand.measure}/{agents[0]}"
                rows.append((demand, demand.a, demand.b, label, *_paired(arms, demand.a, demand.b, label, agents)))
    stated = {(row[1], row[2], row[3]) for row in rows}
    for name in arms:
        if name != plan.baseline and (name, plan.baseline, "sampled") not in stated:
            found = _paired(arms, name, plan.baseline, "sampled", list(plan.agents))
            rows.append((None, name, plan.baseline, "sampled", *found))
    adjusted = iter(holm([p for *_, p in rows if p is not None]))
    return [
        _row(demand, a, b, label, difference, p, next(adjusted) if p is not None else None, arms, plan)
        for demand, a, b, label, difference, p in rows
    ]


def _paired(
    arms: Mapping[str, ArmScores], a: str, b: str, label: str, agents: Sequence[str]
) -> tuple[Difference | None, float | None]:
    """The difference over seeds and its two-sided p; None where one seed was run."""
    from scipy import stats  # type: ignore[import-untyped]

    measure = label.partition("/")[0]
    ours, theirs = (arms[name].of_agents(measure, agents) for name in (a, b))
    if len(ours) < 2:
        return None, None
    found = difference_over_seeds(ours, theirs)
    if found.standard_error == 0:
        return found, 1.0 if found.mean == 0 else 0.0
    return found, float(2 * stats.t.sf(abs(found.mean) / found.standard_error, found.n - 1))


def _row(
    demand: Demand | None,
    a: str,
    b: str,
    label: str,
    difference: Difference | None,
    p: float | None,
    p_holm: float | None,
    arms: Mapping[str, ArmScores],
    plan: LanguageExperiment,
) -> ComparisonRow:
    measure, _, agent = label.partition("/")
    agents = [agent] if agent else list(plan.agents)
    mean = float((arms[a].of_agents(measure, agents) - arms[b].of_agents(measure, agents)).mean())
    values: dict[str, Any] = {"a": a, "b": b, "measure": label, "difference": mean}
    if difference is not None:
        values |= {"interval": difference.interval, "p": p, "p_holm": p_holm}
    if demand is not None:
        is_shown = difference is not None and difference.is_gain
        met = mean * 100 >= demand.least_points and (is_shown or not demand.is_gain)
        asked = f"at least {demand.least_points:+g} points" + (" and an interval above 0" if demand.is_gain else "")
        values |= {"demand": asked, "met": met}
    return ComparisonRow.model_validate(values)


def _rounded(row: ComparisonRow) -> ComparisonRow:
    """Without digits that mean nothing."""
    digits = {
        name: round(value, 6) for name in ("difference", "p", "p_holm") if (value := getattr(row, name)) is not None
    }
    if row.interval is not None:
        digits["interval"] = tuple(round(value, 6) for value in row.interval)
    return row.model_copy(update=digits)


def _spread(plan: LanguageExperiment, arms: Mapping[str, ArmScores]) -> float:
    """Largest relative difference of the meter between an arm and the baseline."""
    base = _meters(arms[plan.baseline])[plan.meter]
    return round(max(abs(_meters(scores)[plan.meter] / base - 1) for scores in arms.values()), 4)
