"""An experiment on graph adaptation: every arm on every task under every seed, judged without and with target labels.

An arm on a task under a seed is one unit: fitted, judged, its scores written to the run folder. A run that was stopped
goes on with the first unit that has none. Of a fit only figures stay: weights and trace of all would fill a disk.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from facetrail.eval.experiments import graph_pictures
from facetrail.eval.experiments.graph_plan import GraphExperiment, GraphPart
from facetrail.eval.experiments.graph_result import PartScores, write_graph_result
from facetrail.eval.graph import oracle_trace, score_graph
from facetrail.eval.graph_data import KNOWN, load_known
from facetrail.indexing.durable import write_durably
from facetrail.models.errors import InvalidInput
from facetrail.models.graph.adapted import AdaptedModel
from facetrail.models.graph.graph_data import GraphData
from facetrail.training.graph.adalign import distance_before_and_after
from facetrail.training.graph.adapt import Fitted
from facetrail.training.graph.methods import DomainAdapter, Shared, method_recipe
from facetrail.training.run_folder import open_run

PICTURES = "pictures"
_NETWORKS = "networks"


@dataclass(frozen=True, eq=False)
class Done:
    """One unit that has just been fitted."""

    adapter: DomainAdapter
    model: AdaptedModel
    read: GraphData
    """The target as the encoder read it, without labels."""
    labelled: GraphData
    """The target, to judge by."""
    folder: Path
    """Of the fit; gone afterwards."""


Figures = Callable[[Done], dict[str, Any]]
"""What an experiment keeps of a unit beside its scores."""
Draw = Callable[[GraphExperiment, str, PartScores, Path], None]
"""(plan, part, scores, folder of pictures): pictures that an experiment adds."""


def run_experiment(
    declared: GraphExperiment,
    data: Path,
    out: Path,
    *,
    smoke: bool,
    seeds: int | None,
    resume: bool,
    figures: Figures,
    draw: Draw,
) -> dict[str, Any]:
    """Fits, judges and writes one result a part (a smoke run: into `out`); → what the command prints."""
    plan = declared.smaller() if smoke else declared
    open_run(out, plan, _files(plan), resume=resume)
    torch.set_num_threads(1)  # equal bits, and seconds that can be compared
    course = _Course(plan, data, out, figures)
    written = []
    for name, part in plan.parts.items():
        chosen = part.seeds[:seeds]
        # A run that is cut short has whole tables of few seeds.
        units = [(arm, task, seed) for seed in chosen for task in part.tasks for arm in part.arms]
        scores = PartScores(part, chosen, {unit: course.unit(part, *unit) for unit in units})
        command = f"facetrail experiment {plan.name} --data DATA --out RUN{f' --seeds {seeds}' if seeds else ''}"
        written.append(write_graph_result(plan, name, scores, command=command, folder=out if smoke else None))
        graph_pictures.arms_by_choice(out / PICTURES / f"{name}_arms.png", scores)
        told = dict.fromkeys(arm for pair in part.compared[:3] for arm in pair)
        graph_pictures.tasks_beside_published(out / PICTURES / f"{name}_tasks.png", scores, list(told))
        draw(plan, name, scores, out / PICTURES)
    return {"results": [str(path) for path in written], "pictures": str(out / PICTURES), "run": str(out)}


class _Course:
    """The run folder of an experiment, and the graphs that its units share."""

    def __init__(self, plan: GraphExperiment, data: Path, out: Path, figures: Figures) -> None:
        self._plan, self._out, self._figures = plan, out, figures
        self._graph = cache(lambda name: load_known(name, data))
        # The arms of a task and seed follow each other; what they share is dropped with the last of them.
        self._shared = lru_cache(1)(lambda task, seed: Shared(out / _NETWORKS / _slug(task)))

    def unit(self, part: GraphPart, arm: str, task: str, seed: int) -> dict[str, Any]:
        """The scores of one unit, from its file if it has been done."""
        name = f"{_slug(arm)}_{_slug(task)}_{seed}"
        path, folder = self._out / "scores" / f"{name}.json", self._out / "fits" / name
        if not path.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            found = self._done(part, arm, task, seed, folder)
            path.parent.mkdir(exist_ok=True)
            write_durably(path, json.dumps(found).encode())
            shutil.rmtree(folder)
        kept: dict[str, Any] = json.loads(path.read_bytes())
        return kept

    def _done(self, part: GraphPart, arm: str, task: str, seed: int, folder: Path) -> dict[str, Any]:
        planned = self._plan.arms[arm]
        of_part = part.set.get(planned.method, {})
        # Checkpoints at the end alone.
        values = {**self._plan.set, **planned.set, **of_part, "seed": seed, "checkpoint_every": 10_000}
        recipe = method_recipe(planned.method, tuple(f"{key}={value}" for key, value in values.items()))
        source, labelled = (self._graph(name) for name in self._plan.tasks[task])
        if labelled.y is None:
            raise InvalidInput(f"the target of {task} has no labels to judge by; choose another graph")
        target, adapter, recorded = labelled.unlabelled(), DomainAdapter(recipe), _Recorded(recipe.trace_every)
        model = adapter.fit(source, target, folder=folder, tracker=recorded, shared=self._shared(task, seed))
        read = model.svd.apply(target) if model.svd is not None else target
        return {
            **_scores(adapter.fitted, model, target, labelled),
            **distance_before_and_after(adapter.fitted, adapter.fitted.source, read),
            **self._figures(Done(adapter, model, read, labelled, folder)),
            "cpu_seconds_per_epoch": recorded.seconds_per_epoch,
            "epochs": recipe.epochs,
            "curve": recorded.curve,
        }


class _Recorded:
    """A `Recorder` that keeps every n-th epoch's figures and the processor time of all."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._at: list[float] = []
        self.curve: list[dict[str, float]] = []

    @property
    def seconds_per_epoch(self) -> float:
        """Median of the processor seconds between consecutive epochs; few have an evaluation between them."""
        return float(median(b - a for a, b in pairwise(self._at)))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Evaluations are left out: the trace holds more."""
        if "train/loss" not in values:
            return
        self._at.append(time.process_time())
        if step % self._every == 0:
            self.curve.append({"epoch": step, **{name.removeprefix("train/"): v for name, v in values.items()}})

    def note(self, step: int, text: str) -> None:
        """Nothing: a step that is not finite ends the fit."""

    def rewind(self, step: int) -> None:
        """A unit begins once."""


def _scores(fitted: Fitted, model: AdaptedModel, target: GraphData, labelled: GraphData) -> dict[str, Any]:
    """F1 under every rule of choice. model: of the moving average. The true labels judge, and choose `best` alone."""
    assert labelled.y is not None
    trace, last = fitted.trace, fitted.recipe.epochs
    best, _ = oracle_trace(trace, labelled.y)
    infomax = fitted.chosen_epoch("infomax")
    average = model.predict(target).probabilities
    judged = {"final": trace[last], "ema": average, "infomax": trace[infomax], "best": trace[best]}
    scores = {moment: score_graph(probabilities, labelled.y) for moment, probabilities in judged.items()}
    found: dict[str, Any] = {
        moment: {"micro": one.micro_f1, "macro": one.macro_f1, "ece": one.ece} for moment, one in scores.items()
    }
    return found | {
        "infomax_epoch": infomax,
        "best_epoch": best,
        "majority_rate": scores["final"].majority_rate,
    }


def _files(plan: GraphExperiment) -> dict[str, str]:
    """File → sha256 of every graph; loading them checks it."""
    graphs = {graph for part in plan.parts.values() for task in part.tasks for graph in plan.tasks[task]}
    return {file: sha256 for graph in sorted(graphs) for file, sha256 in KNOWN[graph].sha256.items()}


def _slug(name: str) -> str:
    kept = name.lower().replace("→", "-to-").replace("/", "-").replace(",", "-")
    return kept.replace(" ", "-")
