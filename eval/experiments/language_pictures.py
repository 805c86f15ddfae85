"""Pictures of what post-training gains for what it uses: accuracy over a meter, arms as lines, seeds as bands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Points = Sequence[tuple[float, float]]
"""(meter, value) of one run, in the order of its steps."""
Panel = Mapping[str, Sequence[Points]]
"""Line → the runs that it is the mean of, one a seed."""


def points(rows: Sequence[Mapping[str, Any]], name: str, meter: str) -> list[tuple[float, float]]:
    """A figure of a run's curves over a meter, whose value stands in the row of the same step; 0 before any step."""
    spent = {row["step"]: row[f"meter/{meter}"] for row in rows if f"meter/{meter}" in row}
    return [(spent.get(row["step"], 0.0), row[name]) for row in rows if row.get(name) is not None]


def draw_over_meter(path: Path, panels: Mapping[str, Panel], *, meter: str) -> Path:
    """One panel under another, titled by its key; a line without a point is left out, and so is an empty panel.

    The band is one standard deviation (n - 1) of the seeds to either side of their mean. Runs are joined evaluation by
    evaluation, at the mean of their meters; those of a run that is longer than another are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    filled = {title: _with_points(panel) for title, panel in panels.items()}
    filled = {title: panel for title, panel in filled.items() if panel}
    n_lines = max((len(panel) for panel in filled.values()), default=0)
    figure = Figure(figsize=(7.5, 3.4 * max(1, len(filled)) + 0.16 * n_lines), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, panel) in enumerate(filled.items(), start=1):
        axis = figure.add_subplot(len(filled), 1, place)
        for line, runs in panel.items():
            _draw_line(axis, line, runs)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set(xlabel=meter.replace("_", " "), ylabel=title)
        axis.legend(fontsize=7, ncols=1 + (len(panel) > 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def experiment_panels(
    arms: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], agents: Sequence[str], meter: str
) -> dict[str, Panel]:
    """A panel of sampled accuracy for each agent, and one of the share of others' rows that the bound keeps.

    arms: name → the curves' rows of each seed.
    """
    panels: dict[str, Panel] = {
        f"sampled accuracy of {agent}": {
            arm: [points(rows, f"eval/{agent}/sampled", meter) for rows in runs] for arm, runs in arms.items()
        }
        for agent in agents
    }
    kept = {
        f"{arm}, {agent}": [points(rows, f"train/{agent}/foreign_kept", meter) for rows in runs]
        for arm, runs in arms.items()
        for agent in agents
    }
    return {**panels, "share of others' rows kept": kept}


def _with_points(panel: Panel) -> dict[str, list[Points]]:
    found = {line: [run for run in runs if run] for line, runs in panel.items()}
    return {line: runs for line, runs in found.items() if runs}


def _draw_line(axis: Any, line: str, runs: Sequence[Points]) -> None:
    shortest = min(map(len, runs))
    values = np.array([run[:shortest] for run in runs], dtype=np.float64)  # (seeds, evaluations, 2)
    x, y = values.mean(axis=0).T
    drawn = axis.plot(x, y, marker="." if shortest < 30 else None, linewidth=1.2, label=line)[0]
    if len(runs) > 1:
        spread = values[:, :, 1].std(axis=0, ddof=1)
        axis.fill_between(x, y - spread, y + spread, color=drawn.get_color(), alpha=0.15, linewidth=0)
