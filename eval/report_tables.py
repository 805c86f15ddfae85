"""The tables of a report as HTML; every text is escaped here."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from facetrail.eval.retrieval import Comparison, Report

N_SHOWN = 10
"""Queries in each of the lists of most won and most lost."""
SIGNIFICANT = 0.05

Ranges = Sequence[Mapping[str, tuple[float, float]]]
"""One mapping per report: measure → 95 % interval of its mean."""


def summary(reports: Sequence[Report], ranges: Ranges) -> str:
    """One row a report: every measure with its interval, and the time of a query."""
    measures = list(reports[0].scores.values)
    rows = []
    for place, (report, spans) in enumerate(zip(reports, ranges, strict=True)):
        values = [f'{report.scores.mean(m):.4f}<span class="range">{_span(spans[m], 3)}</span>' for m in measures]
        time = f"{1e3 * report.seconds / max(1, len(report.dataset.queries)):.1f}" if report.seconds else "–"
        mark = ' class="main"' if place == 0 and len(reports) > 1 else ""
        cells = "".join(_number(value) for value in [*values, time])
        rows.append(f'<tr{mark}><th scope="row">{escape(report.mode)}</th>{cells}</tr>')
    note = "Mean over queries; below it the 95 % bootstrap interval. Time includes encoding the query."
    return f"<h2>Summary</h2>{_table(['Mode'], [*measures, 'ms a query'], rows)}{_note(note)}"


def comparisons(compared: Sequence[Comparison], n_queries: int) -> str:
    """One row a pair: difference, interval, p before and after Holm, wins, ties and losses, power."""
    rows = []
    for c in compared:
        kind = ("win" if c.paired.difference > 0 else "loss") if c.p_holm < SIGNIFICANT else "tie"
        counts = (("win", c.paired.n_wins), ("tie", c.paired.n_ties), ("loss", c.paired.n_losses))
        cells = [
            _number(f"<b>{c.paired.difference:+.4f}</b>", kind),
            _number(_span(c.paired.interval, 4, "+")),
            _number(_p(c.paired.p)),
            _number(_p(c.p_holm)),
            _number(" / ".join(f'<span class="{name}">{count}</span>' for name, count in counts)),
            _number(f"{c.paired.smallest_visible:.3f}"),
        ]
        pair = f"{escape(c.a)} − {escape(c.b)}"
        rows.append(f"<tr><td>{pair}</td><td>{escape(c.measure)}</td>{''.join(cells)}</tr>")
    numbers = ["difference", "95 % interval", "p", "p, Holm", "win / tie / loss", "visible from"]
    note = (
        "A coloured difference is significant at 5 % after Holm’s correction over this table. “Visible from” is the "
        f"difference that {n_queries:,} queries would show with 80 % power; smaller ones may go unseen."
    )
    return f"<h2>Comparisons</h2>{_table(['Pair', 'Measure'], numbers, rows)}{_note(note)}" if rows else ""


def extremes(comparison: Comparison, a: Report, b: Report) -> str:
    """The queries that a won and lost most clearly against b, with their text."""
    first, second = a.scores.values[comparison.measure], b.scores.values[comparison.measure]
    texts = {query.id: query.text for query in a.dataset.queries}
    order = np.argsort(first - second, kind="stable")
    parts = [f"<h2>Queries: {escape(a.mode)} against {escape(b.mode)}, {escape(comparison.measure)}</h2>"]
    for title, kind, places in (
        ("Most won", "win", [p for p in order[::-1] if first[p] > second[p]]),
        ("Most lost", "loss", [p for p in order if first[p] < second[p]]),
    ):
        rows = []
        for p in places[:N_SHOWN]:
            cells = (
                _number(f"{first[p]:.3f}") + _number(f"{second[p]:.3f}") + _number(f"{first[p] - second[p]:+.3f}", kind)
            )
            rows.append(f"<tr>{_query(a.scores.query_ids[p], texts, 280)}{cells}</tr>")
        shown = _table(["Id", "Query"], [a.mode, b.mode, "difference"], rows) if rows else _note("None.")
        parts.append(f"<h3>{title}</h3>{shown}")
    return "".join(parts)


def per_query(reports: Sequence[Report]) -> str:
    """Every query with every measure of every report, folded away."""
    texts = {query.id: query.text for query in reports[0].dataset.queries}
    columns = [(report, measure) for report in reports for measure in report.scores.values]
    span = len(reports[0].scores.values)
    groups = "".join(f'<th class="n" colspan="{span}">{escape(report.mode)}</th>' for report in reports)
    rows = []
    for row, query_id in enumerate(reports[0].scores.query_ids):
        cells = "".join(_number(f"{report.scores.values[measure][row]:.3f}") for report, measure in columns)
        rows.append(f"<tr>{_query(query_id, texts, 120)}{cells}</tr>")
    table = _table(
        ["Id", "Query"], [measure for _, measure in columns], rows, above=f'<tr><th colspan="2"></th>{groups}</tr>'
    )
    summary_line = f"<summary>Table of {len(rows):,} queries</summary>"
    return f"<h2>Every query</h2><details>{summary_line}{table}</details>"


def _table(texts: Sequence[str], numbers: Sequence[str], rows: Sequence[str], *, above: str = "") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in texts)
    head += "".join(f'<th class="n">{escape(name)}</th>' for name in numbers)
    body = "".join(rows)
    return f'<div class="scroll"><table><thead>{above}<tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(html: str, kind: str = "") -> str:
    return f'<td class="n {kind}">{html}</td>' if kind else f'<td class="n">{html}</td>'


def _note(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _query(query_id: str, texts: Mapping[str, str], length: int) -> str:
    text = texts.get(query_id, "")
    short = text if len(text) <= length else text[: length - 1].rstrip() + "…"
    return f'<td class="mono">{escape(query_id)}</td><td class="question">{escape(short)}</td>'


def _span(interval: tuple[float, float], digits: int, sign: str = "") -> str:
    return f"{interval[0]:{sign}.{digits}f} to {interval[1]:{sign}.{digits}f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "&lt; 0.0001"
