"""`facetrail experiment diffgda`: with and without diffusion, guidance and alignment, and random nodes as a control."""

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from facetrail.eval.experiments import graph_pictures
from facetrail.eval.experiments.graph_plan import GraphExperiment, read_graph_experiment
from facetrail.eval.experiments.graph_result import PartScores
from facetrail.training.graph.diffgda import Evolution, report_figures
from facetrail.training.graph.diffgda_probe import probe_auc
from facetrail.training.graph.experiment import Done, run_experiment


def run(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Fits, judges and writes one result a part (a smoke run: into `out`); → what the command prints."""
    plan = read_graph_experiment("diffgda")
    figures = _Figures()
    return run_experiment(plan, data, out, smoke=smoke, seeds=seeds, resume=resume, figures=figures, draw=_draw)


class _Figures:
    """What became of the source, where the arm evolves it; untouched nodes keep labels and edges."""

    def __init__(self) -> None:
        self._probed: WeakKeyDictionary[Evolution, float] = WeakKeyDictionary()

    def __call__(self, done: Done) -> dict[str, Any]:
        evolution = done.adapter.evolution
        if evolution is None:
            return {}
        if evolution not in self._probed:  # arms share evolutions
            rng = np.random.default_rng([done.adapter.recipe.seed, 1])
            graphs = (evolution.before, evolution.evolved.graph)
            self._probed[evolution] = probe_auc(*graphs, evolution.nodes, done.read, rng)
        report = report_figures(evolution.report)
        auc = self._probed[evolution]
        return {"evolved": {"label_kept": 1.0, "edge_overlap": 1.0, **report, "probe_auc": auc}}


def _draw(plan: GraphExperiment, part: str, scores: PartScores, folder: Path) -> None:
    first = {arm: scores.unit(arm, scores.part.tasks[0], scores.seeds[0]) for arm in scores.part.arms}
    evolved = [arm for arm, unit in first.items() if "evolved" in unit]
    if evolved:
        graph_pictures.likeness_of_sources(folder / f"{part}_likeness.png", scores, evolved)
