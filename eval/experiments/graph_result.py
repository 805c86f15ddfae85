"""From the scores of arms on tasks under seeds to evidence: means, paired intervals over seeds, Holm, demands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.evidence import ComparisonRow, write_result
from facetrail.eval.experiments.graph_plan import GraphDemand, GraphExperiment, GraphPart
from facetrail.eval.graph_data import KNOWN
from facetrail.eval.language import difference_over_seeds
from facetrail.eval.significance import holm

MOMENTS = {"final": "final", "ema": "EMA", "infomax": "InfoMax"}
EVOLVED = {"probe_auc": "probe AUC", "label_kept": "label kept", "edge_overlap": "edge overlap"}
"""Of the replaced part of the source, where an experiment replaces one."""
NOT_FAIR = "best epoch on target labels, not a fair figure"

Unit = Mapping[str, Any]
"""One fit: {"final" | "ema" | "infomax" | "best": {"micro", "macro"}, "cpu_seconds_per_epoch", "epochs", ...}, and
"evolved": {"probe_auc", ...} where the experiment says what became of the source."""


class PartScores:
    """Everything that one part's fits came to."""

    def __init__(self, part: GraphPart, seeds: Sequence[int], units: Mapping[tuple[str, str, int], Unit]) -> None:
        """units: (arm, task, seed) → scores of that fit, for every arm and task of the part and every seed."""
        self.part, self.seeds, self._units = part, tuple(seeds), units

    def of(self, arm: str, measure: str, moment: str = "final", task: str = "") -> NDArray[np.float64]:
        """(n_seeds,), the mean over tasks where no task is named."""
        tasks = [task] if task else self.part.tasks
        found = [[self._units[arm, one, seed][moment][measure] for one in tasks] for seed in self.seeds]
        means: NDArray[np.float64] = np.array(found, np.float64).mean(axis=1)
        return means

    def measured(self, arm: str, measure: str, task: str = "") -> NDArray[np.float64]:
        """(n_seeds,): of the final epoch, or of the source that it was trained on."""
        return self.of(arm, measure, "evolved" if measure in EVOLVED else "final", task)

    def unit(self, arm: str, task: str, seed: int) -> Unit:
        """All that one fit came to."""
        return self._units[arm, task, seed]

    def meter(self, arm: str, name: str) -> float:
        """Mean over tasks and seeds."""
        return float(np.mean([self._units[arm, task, seed][name] for task in self.part.tasks for seed in self.seeds]))

    def by_task(self, a: str, b: str, measure: str) -> dict[str, float]:
        """Task → difference of the means over seeds, final epoch."""
        return {
            task: float((self.measured(a, measure, task) - self.measured(b, measure, task)).mean())
            for task in self.part.tasks
        }


def write_graph_result(
    plan: GraphExperiment, part: str, scores: PartScores, *, command: str, folder: Path | None
) -> Path:
    """Writes the part's result. F1 values are shares of 1, differences too."""
    graphs = sorted({graph for task in scores.part.tasks for graph in plan.tasks[task]})
    files = [(file, sha256) for graph in graphs for file, sha256 in KNOWN[graph].sha256.items()]
    shown = [f"{label} {measure}" for label in MOMENTS.values() for measure in ("micro", "macro")]
    return write_result(
        plan.result_name(part),
        claim=scores.part.claim,
        data=[{"name": file, "sha256": sha256} for file, sha256 in files],
        arms={
            arm: {
                "description": plan.arms[arm].description,
                "measures": _measures(scores, arm),
                "meters": {name: scores.meter(arm, name) for name in ("epochs", "cpu_seconds_per_epoch")},
            }
            for arm in scores.part.arms
        },
        comparisons=_comparisons(scores),
        seeds=scores.seeds,
        meter={"name": "epochs", "equal_within": 0},
        command=command,
        notes=_notes(plan, scores),
        shown=[*shown, NOT_FAIR],
        folder=folder,
    )


def _measures(scores: PartScores, arm: str) -> dict[str, list[float]]:
    found = {
        f"{label} {measure}": scores.of(arm, measure, moment)
        for moment, label in MOMENTS.items()
        for measure in ("micro", "macro")
    }
    best = scores.of(arm, "micro", "best")
    found |= {NOT_FAIR: best, "best epoch less final": best - scores.of(arm, "micro")}
    for task in scores.part.tasks:
        found[f"{task} final micro"] = scores.of(arm, "micro", task=task)
        found[f"{task} final macro"] = scores.of(arm, "macro", task=task)
        found[f"{task} EMA micro"] = scores.of(arm, "micro", "ema", task)
    units = [scores.unit(arm, task, seed) for task in scores.part.tasks for seed in scores.seeds]
    for name, label in EVOLVED.items():
        if all(name in unit.get("evolved", {}) for unit in units):
            found[label] = scores.measured(arm, name)
            found |= {f"{task} {label}": scores.measured(arm, name, task) for task in scores.part.tasks}
    return {name: [round(float(value), 6) for value in values] for name, values in found.items()}


def _comparisons(scores: PartScores) -> list[ComparisonRow]:
    """The declared pairs, Holm over the means of all of them; the first pair's tasks one by one; the other demands.

    A demand on the mean of a declared pair stands in the pair's own row.
    """
    rows: list[dict[str, Any]] = [
        {"a": a, "b": b, "measure": f"final {m}", **_paired(scores.of(a, m), scores.of(b, m))}
        for a, b in scores.part.compared
        for m in ("micro", "macro")
    ]
    tested = [row for row in rows if "p" in row]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = round(p, 6)
    of_pair = {(row["a"], row["b"], row["measure"]): row for row in rows}
    for a, b in scores.part.compared[:1]:
        for task in scores.part.tasks:
            found = _paired(scores.of(a, "micro", task=task), scores.of(b, "micro", task=task))
            found.pop("p", None)
            rows.append({"a": a, "b": b, "measure": f"{task} final micro", **found})
    for demand in scores.part.demands:
        row = {"a": demand.a, "b": demand.b or None, "measure": _named(demand)}
        own = of_pair.get((demand.a, demand.b, row["measure"])) if demand.of == "mean" else None
        if own is None:
            rows.append(own := row)
        own |= _judged(scores, demand)
    return [ComparisonRow.model_validate(row) for row in rows]


def _named(demand: GraphDemand) -> str:
    measure = EVOLVED.get(demand.measure, f"final {demand.measure}")
    return f"{demand.task} {measure}".strip()


def _judged(scores: PartScores, demand: GraphDemand) -> dict[str, Any]:
    """What is asked, and whether it is so."""
    if demand.of == "mean":
        value = 100 * float(scores.measured(demand.a, demand.measure, demand.task).mean())
        if not demand.b:
            return {"demand": f"at least {demand.least:g} hundredths; {value:.2f}", "met": value >= demand.least}
        value -= 100 * float(scores.measured(demand.b, demand.measure, demand.task).mean())
        return {"demand": f"at least {demand.least:+g} points; {value:+.2f}", "met": value >= demand.least}
    differences = scores.by_task(demand.a, demand.b, demand.measure)
    if demand.of == "tasks_above":
        n = sum(value > 0 for value in differences.values())
        asked = f"above on at least {demand.least:g} of {len(differences)} tasks; on {n}"
        return {"demand": asked, "met": n >= demand.least}
    task, worst = min(differences.items(), key=lambda entry: entry[1])
    asked = f"at least {demand.least:+g} points on every task; {100 * worst:+.2f} on {task}"
    return {"demand": asked, "met": 100 * worst >= demand.least}


def _paired(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, Any]:
    """The difference over seeds; with two seeds or more its 95 % t-interval and two-sided p."""
    from scipy import stats  # type: ignore[import-untyped]

    if len(ours) < 2:
        return {"difference": round(float((ours - theirs).mean()), 6)}
    found = difference_over_seeds(ours, theirs)
    if found.standard_error == 0:
        p = 1.0 if found.mean == 0 else 0.0
    else:
        p = float(2 * stats.t.sf(abs(found.mean) / found.standard_error, found.n - 1))
    low, high = found.interval
    return {"difference": round(found.mean, 6), "interval": (round(low, 6), round(high, 6)), "p": round(p, 6)}


def _notes(plan: GraphExperiment, scores: PartScores) -> str:
    """What whoever reads the figures must know, the losing tasks among it."""
    told = ["F1 on all nodes of the target, one configuration for every task, no target label in training or choice."]
    for a, b in scores.part.compared:
        differences = scores.by_task(a, b, "micro")
        lost = [f"{task} ({100 * value:+.2f})" for task, value in differences.items() if value < 0]
        mean = 100 * float(np.mean(list(differences.values())))
        told.append(f"{a} less {b}: {mean:+.2f} Micro points; loses on {', '.join(lost) or 'no task'}.")
    for row, values in scores.part.published.items():
        listed = ", ".join(f"{task} {value:.2f}" for task, value in values.items())
        told.append(f"Published, best epoch and search per task on target labels: {row}: {listed}.")
    return " ".join([*told, plan.disclosure]).strip()
