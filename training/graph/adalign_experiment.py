"""`facetrail experiment adalign`: the arms of ADAlign, and what its last frequencies see."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetrail.eval.experiments import graph_pictures
from facetrail.eval.experiments.graph_pictures import Spectrum
from facetrail.eval.experiments.graph_plan import GraphExperiment, read_graph_experiment
from facetrail.eval.experiments.graph_result import PartScores
from facetrail.models.graph.encoder import GraphEncoder
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.propagation import graph_tensors
from facetrail.models.graph.spectral import characteristic
from facetrail.training.graph.adalign import learned_frequencies
from facetrail.training.graph.experiment import Done, run_experiment


def run(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Fits, judges and writes one result a part (a smoke run: into `out`); → what the command prints."""
    plan = read_graph_experiment("adalign")
    return run_experiment(plan, data, out, smoke=smoke, seeds=seeds, resume=resume, figures=_figures, draw=_draw)


def _figures(done: Done) -> dict[str, Any]:
    """Of ADAlign, |Ψ| of each class on both sides at the last frequencies."""
    fitted = done.adapter.fitted
    if fitted.recipe.method != "adalign":
        return {}
    t = learned_frequencies(done.folder)
    net = GraphEncoder(fitted.config.encoder, torch.Generator()).eval()
    net.load_state_dict(fitted.final)
    sides: tuple[tuple[GraphData, Any, int], ...] = (
        (fitted.source, fitted.source.y, fitted.recipe.k_source),
        (done.read, done.labelled.y, fitted.recipe.k_target),
    )
    classes: dict[str, list[list[float]]] = {name: [] for name in fitted.config.class_names}
    with torch.no_grad():
        for graph, y, k in sides:
            z = net.encode(graph_tensors(graph), k)
            for number, name in enumerate(classes):
                of_class = z[torch.from_numpy(np.asarray(y) == number)]
                classes[name].append(characteristic(t, of_class).modulus().tolist())
    return {"spectrum": {"lengths": t.norm(dim=1).tolist(), "classes": classes}}


def _draw(plan: GraphExperiment, part: str, scores: PartScores, folder: Path) -> None:
    if plan.pictured in scores.part.arms:
        spectra = {task: _spectrum(scores, plan.pictured, task) for task in scores.part.tasks}
        graph_pictures.learned_frequencies(folder / f"{part}_frequencies.png", spectra)


def _spectrum(scores: PartScores, arm: str, task: str) -> Spectrum:
    """All seeds' frequencies together."""
    kept = [scores.unit(arm, task, seed)["spectrum"] for seed in scores.seeds]
    classes = {
        name: (
            np.concatenate([one["classes"][name][0] for one in kept]),
            np.concatenate([one["classes"][name][1] for one in kept]),
        )
        for name in kept[0]["classes"]
    }
    return Spectrum(np.concatenate([one["lengths"] for one in kept]), classes)
