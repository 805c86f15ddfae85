"""The pictures of a report, as SVG that is part of the page: text stays text, colours follow light and dark.

matplotlib writes fixed colours, so it is given colours that stand for CSS variables, which replace them afterwards.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from facetrail.eval.metrics import evaluate_run
from facetrail.eval.retrieval import Report
from facetrail.eval.significance import TIE
from facetrail.indexing.index import Float64Array

if TYPE_CHECKING:
    from facetrail.eval.tuning import TunedWeight

CUTOFFS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)

_INK, _SOFT, _LINE = "#010101", "#010102", "#010103"
_WIN, _LOSS, _TIE = "#010104", "#010105", "#010106"
_SERIES = ("#010110", "#010111", "#010112", "#010113", "#010114", "#010115")
_VARIABLES = {
    _INK: "--ink", _SOFT: "--soft", _LINE: "--line", _WIN: "--win", _LOSS: "--loss", _TIE: "--tie",
    **{colour: f"--c{place}" for place, colour in enumerate(_SERIES)},
}  # fmt: skip


def measures_plot(reports: Sequence[Report], intervals: Sequence[Mapping[str, tuple[float, float]]]) -> str:
    """One panel a measure: mean and 95 % interval of every report."""
    measures = list(reports[0].scores.values)
    height = 0.75 + 0.34 * len(reports)

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for measure, axis in zip(measures, axes, strict=True):
            for place, (report, ranges) in enumerate(zip(reports, intervals, strict=True)):
                low, high = ranges[measure]
                colour = _SERIES[place % len(_SERIES)]
                axis.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
                axis.plot([report.scores.mean(measure)], [place], "o", color=colour, markersize=6)
            axis.set_title(measure, fontsize=10, color=_INK)
            axis.grid(axis="x", color=_LINE, linewidth=0.8)
            axis.locator_params(axis="x", nbins=4)
            low, high = axis.get_xlim()
            axis.set_xlim(max(low, -0.01), min(high, 1.01))  # no measure leaves 0 to 1
            axis.tick_params(left=False)
        axes[0].set_yticks(range(len(reports)), [report.mode for report in reports])
        axes[0].set_ylim(len(reports) - 0.4, -0.6)

    return _svg(draw, width=9.4, height=height, salt="measures")


def differences_plot(differences: Float64Array, *, a: str, b: str, measure: str, salt: str) -> str:
    """Every query's difference, sorted: wins of a on the left, losses on the right."""
    values = np.sort(differences)[::-1]
    colours = [_WIN if v > TIE else _LOSS if v < -TIE else _TIE for v in values]

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        axis.bar(np.arange(len(values)), values, width=1.0, color=colours, linewidth=0)
        axis.axhline(0, color=_SOFT, linewidth=0.8)
        axis.set_xlim(-0.5, len(values) - 0.5)
        axis.set_xlabel(f"{len(values)} queries, sorted")
        axis.set_ylabel(f"{measure}: {a} − {b}")
        axis.grid(axis="y", color=_LINE, linewidth=0.8)

    return _svg(draw, width=4.9, height=2.9, salt=salt)


def recall_plot(reports: Sequence[Report]) -> str:
    """R@k of every report over k, as deep as the runs go."""
    depth = max((len(ranking) for report in reports for ranking in report.run.values()), default=0)
    cutoffs = [k for k in CUTOFFS if k <= max(depth, 1)]

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for place, report in enumerate(reports):
            means = evaluate_run(report.run, report.dataset.qrels, [f"R@{k}" for k in cutoffs]).means()
            colour = _SERIES[place % len(_SERIES)]
            axis.plot(
                cutoffs, list(means.values()), "o-", color=colour, markersize=3.5, linewidth=1.8, label=report.mode
            )
        axis.set_xscale("log")
        axis.set_xticks(cutoffs, [f"{k:,}" for k in cutoffs])
        axis.minorticks_off()
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("k")
        axis.set_ylabel("R@k")
        axis.grid(color=_LINE, linewidth=0.8)
        axis.legend(frameon=False, labelcolor=_INK, fontsize=9, loc="lower right")

    return _svg(draw, width=4.9, height=2.9, salt="recall")


def weight_plot(tuned: "TunedWeight") -> str:
    """The measure on the dev queries over the dense ranker's share; the chosen weight is marked."""
    weights = sorted(tuned.curve)

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        axis.axvline(tuned.weight, color=_LOSS, linewidth=1.2, linestyle=(0, (4, 3)))
        axis.plot(weights, [tuned.curve[w] for w in weights], "o-", color=_SERIES[0], markersize=4, linewidth=1.8)
        axis.annotate(
            f"{tuned.weight:g}", (tuned.weight, tuned.curve[tuned.weight]), xytext=(6, -12), textcoords="offset points",
            color=_INK, fontsize=9,
        )  # fmt: skip
        axis.set_xlabel("weight of the dense ranker")
        axis.set_ylabel(f"{tuned.measure} on {tuned.dataset}")
        axis.grid(color=_LINE, linewidth=0.8)

    return _svg(draw, width=4.9, height=2.9, salt="weight")


def _svg(draw: Callable[[Any], None], *, width: float, height: float, salt: str) -> str:
    """Draws on a figure of its own (no pyplot, no global state) and returns one <svg> element."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9, "font.family": "DejaVu Sans",
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "axes.edgecolor": _LINE, "axes.labelcolor": _SOFT, "text.color": _INK, "text.parse_math": False,
        "xtick.color": _SOFT, "ytick.color": _SOFT, "xtick.labelcolor": _SOFT, "ytick.labelcolor": _INK,
    }  # fmt: skip
    with mpl.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        figure.patch.set_visible(False)
        for axis in figure.axes:
            axis.patch.set_visible(False)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _with_variables(target.getvalue(), salt)


def _with_variables(svg: str, salt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    # Several pictures share a page, so their ids must not meet.
    svg = re.sub(r'\bid="', f'id="{salt}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{salt}-", svg)
    return svg.strip()
