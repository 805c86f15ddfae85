"""Evaluations and checks as tables on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from facetrail.eval.checks import CollectionCheck
from facetrail.eval.retrieval import Comparison, Report, intervals

if TYPE_CHECKING:
    from facetrail.eval.tuning import TunedWeight

_STYLES = {"ok": "green", "missing": "yellow", "damaged": "red"}


def show_evaluation(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison],
    *,
    rng: np.random.Generator,
    tuned: "TunedWeight | None",
    stream: TextIO,
) -> None:
    """Means with 95 % intervals, then the comparisons. `rng` draws the intervals."""
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 140)
    for warning in dict.fromkeys(warning for report in reports for warning in report.warnings):
        console.print(Text(f"note: {warning}", style="yellow"))
    if tuned is not None:
        console.print(f"weight of the dense ranker: {tuned.weight:g}, the best {tuned.measure} on {tuned.dataset}")
    table = Table(title=f"{reports[0].dataset.label}, {reports[0].n_queries:,} queries", title_justify="left")
    table.add_column("mode")
    for measure in reports[0].scores.values:
        table.add_column(measure, justify="right")
    for report in reports:
        spans = intervals(report, rng=rng)
        cells = [f"{report.scores.mean(m):.4f} [{low:.3f}, {high:.3f}]" for m, (low, high) in spans.items()]
        table.add_row(Text(report.mode), *(Text(cell) for cell in cells))
    console.print(table)
    if comparisons:
        console.print(_comparisons(comparisons))


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    table = Table(title="paired comparisons, Holm over all rows", title_justify="left")
    for name in ("pair", "measure"):
        table.add_column(name)
    for name in ("difference", "95 % interval", "p", "p (Holm)", "win/tie/loss", "visible from"):
        table.add_column(name, justify="right")
    for c in comparisons:
        low, high = c.paired.interval
        cells = (
            f"{c.a} - {c.b}",
            c.measure,
            f"{c.paired.difference:+.4f}",
            f"[{low:+.4f}, {high:+.4f}]",
            f"{c.paired.p:.5f}",
            f"{c.p_holm:.5f}",
            f"{c.paired.n_wins}/{c.paired.n_ties}/{c.paired.n_losses}",
            f"{c.paired.smallest_visible:.4f}",
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def show_checks(checks: Sequence[CollectionCheck], *, stream: TextIO) -> None:
    """One row a collection, then what is wrong, line by line."""
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 140)
    table = Table()
    table.add_column("collection")
    table.add_column("kind")
    for name in ("documents", "queries", "judgements", "files", "rows"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for found in checks:
        counts = [
            f"{found.counts[key]:,}" if key in found.counts else "" for key in ("documents", "queries", "judgements")
        ]
        cells = [found.name, found.kind, *counts, str(len(found.rows)), f"{sum(found.rows.values()):,}"]
        table.add_row(*(Text(cell) for cell in cells), Text(found.state, style=_STYLES[found.state]))
    console.print(table)
    for found in checks:
        lines = [*found.damaged, *(f"{name}: missing" for name in found.missing), *found.notes]
        for line in lines:
            console.print(Text(f"{found.name}/{line}"), soft_wrap=True)
