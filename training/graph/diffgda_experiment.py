"""`facetrail experiment diffgda`: with and without diffusion, guidance and alignment, and random nodes as a control."""

from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.experiments import graph_pictures
from facetrail.eval.experiments.graph_plan import GraphExperiment, read_graph_experiment
from facetrail.eval.experiments.graph_result import PartScores
from facetrail.training.graph.diffgda import report_figures
from facetrail.training.graph.diffgda_probe import probe_auc
from facetrail.training.graph.experiment import Done, run_experiment


def run(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Fits, judges and writes one result a part (a smoke run: into `out`); → what the command prints."""
    plan = read_graph_experiment("diffgda")
    return run_experiment(plan, data, out, smoke=smoke, seeds=seeds, resume=resume, figures=_figures, draw=_draw)


def _figures(done: Done) -> dict[str, Any]:
    """What became of the source, where the arm evolves it; untouched nodes keep labels and edges."""
    evolution = done.adapter.evolution
    if evolution is None:
        return {}
    rng = np.random.default_rng([done.adapter.recipe.seed, 1])
    auc = probe_auc(evolution.before, evolution.evolved.graph, evolution.nodes, done.read, rng)
    return {
        "evolved": {"label_kept": 1.0, "edge_overlap": 1.0, **report_figures(evolution.report), "probe_auc": auc},
    }


def _draw(plan: GraphExperiment, part: str, scores: PartScores, folder: Path) -> None:
    first = {arm: scores.unit(arm, scores.part.tasks[0], scores.seeds[0]) for arm in scores.part.arms}
    evolved = [arm for arm, unit in first.items() if "evolved" in unit]
    if evolved:
        graph_pictures.likeness_of_sources(folder / f"{part}_likeness.png", scores, evolved)
