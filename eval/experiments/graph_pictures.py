"""Pictures of an experiment on graph adaptation, as PNG files in a folder of the run. No pyplot, no global state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.experiments.graph_result import MOMENTS, NOT_FAIR, PartScores


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What one fit's frequencies see of the classes. Letter: K frequencies."""

    lengths: NDArray[np.float64]
    """(K,) of |t|."""
    classes: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    """Class → |Ψ| of its nodes in the source and in the target, (K,) each."""


def arms_by_choice(path: Path, scores: PartScores) -> Path:
    """Micro-F1 of every arm under every way to choose weights; the best epoch on target labels is greyed."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        arms = scores.part.arms
        bars = [(label, moment, None) for moment, label in MOMENTS.items()] + [(NOT_FAIR, "best", "lightgrey")]
        for place, (label, moment, colour) in enumerate(bars):
            values = [100 * scores.of(arm, "micro", moment) for arm in arms]
            spread = [one.std(ddof=1) if len(one) > 1 else 0.0 for one in values]
            at = np.arange(len(arms)) + 0.2 * (place - 1.5)
            hatch = "//" if colour else None
            axis.barh(at, [one.mean() for one in values], 0.18, xerr=spread, label=label, color=colour, hatch=hatch)
        axis.set_yticks(range(len(arms)), arms)
        axis.invert_yaxis()
        axis.set(xlabel="Micro-F1 in hundredths, mean over tasks; bars of error: seeds", xlim=_limits(scores))
        figure.legend(fontsize=7, loc="outside lower center", ncols=len(bars))

    return _saved(path, draw, width=8.0, height=1.5 + 0.6 * len(scores.part.arms))


def tasks_beside_published(path: Path, scores: PartScores, arms: Sequence[str]) -> Path:
    """Final Micro-F1 of some arms task by task; published figures in grey: they are best epochs."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        tasks = scores.part.tasks
        for place, arm in enumerate(arms):
            values = [100 * scores.of(arm, "micro", task=task) for task in tasks]
            at = np.arange(len(tasks)) + 0.12 * (place - (len(arms) - 1) / 2)
            spread = [one.std(ddof=1) if len(one) > 1 else 0.0 for one in values]
            axis.errorbar(at, [one.mean() for one in values], spread, fmt="o", capsize=3, label=f"{arm}, final epoch")
        for marker, (row, published) in zip("_x+|", scores.part.published.items(), strict=False):
            places = [tasks.index(task) for task in published]
            axis.plot(places, list(published.values()), marker, color="grey", label=f"{row}: not a fair figure")
        axis.set_xticks(range(len(tasks)), tasks)
        axis.set_ylabel("Micro-F1 in hundredths")
        axis.legend(fontsize=7)

    return _saved(path, draw)


def learned_frequencies(path: Path, spectra: Mapping[str, Spectrum]) -> Path:
    """How long the learned frequencies are, and what they see: |Ψ| of each class on both sides, a panel a task.

    Off the diagonal, the frequency still tells the sides of that class apart.
    """

    def draw(figure: Any) -> None:
        columns = min(4, 1 + len(spectra))
        rows = -(-(1 + len(spectra)) // columns)
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        lengths = [spectrum.lengths for spectrum in spectra.values()]
        axes[0].hist(lengths, bins=20, stacked=True, label=list(spectra))
        axes[0].set(xlabel="|t|", ylabel="frequencies", title="length of the learned frequencies")
        axes[0].legend(fontsize=6)
        for axis, (task, spectrum) in zip(axes[1:], spectra.items(), strict=False):
            for name, (source, target) in spectrum.classes.items():
                axis.plot(source, target, ".", label=name)
            axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
            axis.set(xlabel="|Ψ| on the source", ylabel="|Ψ| on the target", title=task, xlim=(0, 1), ylim=(0, 1))
            axis.legend(fontsize=6)
        for axis in axes[1 + len(spectra) :]:
            axis.set_axis_off()

    columns = min(4, 1 + len(spectra))
    return _saved(path, draw, width=3.6 * columns, height=3.4 * -(-(1 + len(spectra)) // columns))


def likeness_of_sources(path: Path, scores: PartScores, arms: Sequence[str]) -> Path:
    """How well a probe tells what each arm trained on from the target, task by task; at 0.5 it cannot."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        tasks = scores.part.tasks
        for place, arm in enumerate(arms):
            values = [scores.measured(arm, "probe_auc", task) for task in tasks]
            spread = [one.std(ddof=1) if len(one) > 1 else 0.0 for one in values]
            at = np.arange(len(tasks)) + 0.1 * (place - (len(arms) - 1) / 2)
            axis.errorbar(at, [one.mean() for one in values], spread, fmt="o", capsize=3, label=arm)
        axis.set_xticks(range(len(tasks)), tasks)
        axis.set_ylabel("probe AUC, replaced part of the source against the target")
        axis.legend(fontsize=7)

    return _saved(path, draw)


def _limits(scores: PartScores) -> tuple[float, float]:
    found = [100 * scores.of(arm, "micro", moment).mean() for arm in scores.part.arms for moment in (*MOMENTS, "best")]
    return max(0.0, min(found) - 5), max(found) + 3


def _saved(path: Path, draw: Callable[[Any], None], *, width: float = 7.5, height: float = 4.5) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
