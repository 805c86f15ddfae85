"""Pictures of UniFAR's experiment, as PNG files in a folder of the run. No pyplot, no global state."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.experiments.unifar_evidence import Findings
from facetrail.eval.experiments.unifar_probe import MEASURE, Probed
from facetrail.eval.retrieval import Comparison
from facetrail.models.text.facets import FACETS, GRANULARITIES

BYTES = "bytes per document"


def draw(folder: Path, findings: Findings, tested: Sequence[Comparison], probed: Sequence[Probed]) -> None:
    """What a result shows: wins and losses, quality by bytes, and the facet probe where it was asked."""
    quality_by_bytes(folder / "quality-by-bytes.png", findings)
    if tested:
        wins_and_losses(folder / "wins-and-losses.png", tested)
    if probed:
        right_and_wrong(folder / "facet-probe.png", probed)


def dev_curves(path: Path, curves: Mapping[str, Sequence[tuple[int, float]]], *, measure: str) -> Path:
    """Arm → (optimiser steps, measure on the development sets)."""

    def draw(axis: Any) -> None:
        for arm, points in curves.items():
            steps, values = zip(*points, strict=True)
            axis.plot(steps, values, marker=".", label=arm)
        axis.set(xlabel="optimiser steps", ylabel=f"{measure} on development sets")
        axis.legend()

    return _saved(path, draw)


def gate_by_length(path: Path, n_tokens: NDArray[np.int64], gate: NDArray[np.float32], *, n_bins: int = 6) -> Path:
    """Mean share of every granularity in equally full bins of text length. n_tokens: (n,) · gate: (n, 4)."""
    parts = np.array_split(np.argsort(n_tokens, kind="stable"), min(n_bins, len(n_tokens)))

    def draw(axis: Any) -> None:
        bottom = np.zeros(len(parts))
        names = [f"{n_tokens[part].min()}–{n_tokens[part].max()}" for part in parts]
        for place, granularity in enumerate(GRANULARITIES):
            share = np.array([gate[part, place].mean() for part in parts])
            axis.bar(range(len(parts)), share, bottom=bottom, label=granularity)
            bottom += share
        axis.set_xticks(range(len(parts)), names)
        axis.set(xlabel="tokens", ylabel="gate, mean share")
        axis.legend()

    return _saved(path, draw)


def anchor_similarity(path: Path, anchors: NDArray[np.float32]) -> Path:
    """Cosines of the anchors with each other. anchors: (k, d)."""
    unit = anchors / np.linalg.norm(anchors, axis=1, keepdims=True).clip(1e-12)
    cosines = unit @ unit.T

    def draw(axis: Any) -> None:
        image = axis.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set_xticks(range(len(FACETS)), FACETS, rotation=30)
        axis.set_yticks(range(len(FACETS)), FACETS)
        for (row, column), value in np.ndenumerate(cosines):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center")
        axis.figure.colorbar(image, label="cosine")

    return _saved(path, draw)


def right_and_wrong(path: Path, probed: Sequence[Probed]) -> Path:
    """The facet probe by facet, mean over seeds: right facet, wrong ones, and the right one with anchors permuted."""

    def draw(axis: Any) -> None:
        of_facet = [query.rpartition("#")[2] for query in probed[0].query_ids]
        for shift, (part, label) in enumerate(
            (("right", "right facet"), ("wrong", "wrong facets"), ("shuffled_right", "right, anchors permuted"))
        ):
            values = np.mean([getattr(one, part) for one in probed], axis=0)
            heights = [_mean_of(values, [f == facet for f in of_facet]) for facet in FACETS]
            axis.bar(np.arange(len(FACETS)) + 0.27 * (shift - 1), heights, 0.25, label=label)
        axis.set_xticks(range(len(FACETS)), [f"{facet}\n{of_facet.count(facet)} queries" for facet in FACETS])
        axis.set_ylabel(MEASURE)
        axis.legend()

    return _saved(path, draw)


def wins_and_losses(path: Path, tested: Sequence[Comparison]) -> Path:
    """Share of queries won, tied and lost in every tested comparison."""

    def draw(axis: Any) -> None:
        names = [f"{c.a} – {c.b}, {c.dataset}" for c in tested]
        counts = np.array([[c.paired.n_wins, c.paired.n_ties, c.paired.n_losses] for c in tested], float)
        shares, left = counts / counts.sum(1, keepdims=True), np.zeros(len(tested))
        for place, (label, colour) in enumerate((("won", "tab:green"), ("tied", "lightgrey"), ("lost", "tab:red"))):
            axis.barh(range(len(tested)), shares[:, place], left=left, label=label, color=colour)
            left += shares[:, place]
        axis.set_yticks(range(len(tested)), names)
        axis.invert_yaxis()
        axis.set_xlabel("share of queries")
        axis.legend()

    return _saved(path, draw, height=1.5 + 0.28 * len(tested))


def quality_by_bytes(path: Path, findings: Findings) -> Path:
    """What an arm's quality, the mean of the primary measures, costs in stored bytes."""

    def draw(axis: Any) -> None:
        for arm, runs in findings.arms.items():
            sizes = [one.meters[BYTES] for one in runs if BYTES in one.meters]
            if sizes:
                primary = findings.experiment.primary
                quality = mean(mean(findings.seed_means(arm, name, primary[name])) for name in findings.sets)
                axis.plot(mean(sizes), quality, "o")
                axis.annotate(arm, (mean(sizes), quality), xytext=(4, 4), textcoords="offset points")
        axis.set(xlabel=f"{BYTES} (vectors)", ylabel="mean of the primary measures")
        axis.margins(0.15)

    return _saved(path, draw)


def _saved(path: Path, draw: Callable[[Any], None], *, width: float = 7.0, height: float = 4.2) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    draw(axis)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _mean_of(values: NDArray[np.float64], chosen: Sequence[bool]) -> float:
    """0 where nothing is chosen."""
    return float(values[np.asarray(chosen)].mean()) if any(chosen) else 0.0
