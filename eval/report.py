"""One HTML file that says what was measured: no request leaves it, light and dark, every text escaped."""

import datetime
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facetrail.eval import report_plots as plots
from facetrail.eval import report_tables as tables
from facetrail.eval.evidence import describe_machine
from facetrail.eval.retrieval import Comparison, Report, intervals
from facetrail.models.errors import InvalidInput

if TYPE_CHECKING:
    from facetrail.eval.tuning import TunedWeight

_CONVENTIONS = (
    "Measures follow trec_eval: linear gain in nDCG, average precision over all relevant documents; unjudged documents "
    "count as not relevant. Averages divide by every query with a relevant document, and a query the system answered "
    "with nothing scores 0. Ties are ordered by document id. p is that of a two-sided paired randomisation test of the "
    "mean difference with 100,000 sign patterns. Intervals are percentile bootstraps over queries with 10,000 "
    "resamples. Differences up to 1e-9 are ties."
)


def write_html(
    path: Path,
    reports: Sequence[Report],
    comparisons: Sequence[Comparison] = (),
    *,
    rng: np.random.Generator,
    tuned: "TunedWeight | None" = None,
    command: str = "",
) -> Path:
    """Writes the report of one data set; the first report is the one that is compared with the others.

    `rng` draws the bootstrap intervals of the means. Raises InvalidInput where the file cannot be written.
    """
    page = render_html(reports, comparisons, rng=rng, tuned=tuned, command=command)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be written: {error.strerror}; choose another place for the report"
        ) from error
    return path


def render_html(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison] = (),
    *,
    rng: np.random.Generator,
    tuned: "TunedWeight | None" = None,
    command: str = "",
) -> str:
    """The page as text."""
    if not reports or any(r.dataset.label != reports[0].dataset.label for r in reports):
        raise InvalidInput(
            "a report shows at least one evaluation, and all of one data set; write one file per data set"
        )
    ranges = [intervals(report, rng=rng) for report in reports]
    by_mode = {report.mode: report for report in reports}
    style = resources.files("facetrail.eval").joinpath("report.css").read_text(encoding="utf-8")
    parts = [
        _head(reports, command),
        tables.summary(reports, ranges),
        tables.comparisons(comparisons, reports[0].n_queries),
        _pictures(reports, ranges, comparisons, by_mode, tuned),
        *(tables.extremes(c, by_mode[c.a], by_mode[c.b]) for c in comparisons[:1]),
        tables.per_query(reports),
        f'<h2>Conventions</h2><p class="soft">{_CONVENTIONS}</p>',
    ]
    title = escape(f"{reports[0].dataset.label}: retrieval evaluation")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Nothing may be fetched, whatever a document or query holds.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _head(reports: Sequence[Report], command: str) -> str:
    data, machine = reports[0].dataset, describe_machine()
    warnings = "".join(
        f'<p class="warn">{escape(w)}</p>' for w in dict.fromkeys(w for r in reports for w in r.warnings)
    )
    facts = {
        "Data set": f"{escape(data.name)}, split <b>{escape(data.split)}</b>",
        "Queries": f"{reports[0].n_queries:,} with at least one relevant document"
        + (f"; {data.n_without_relevant:,} without any, skipped" if data.n_without_relevant else ""),
        **{f"sha256 of {name}": f'<span class="mono">{value}</span>' for name, value in data.sha256.items()},
        "Machine": escape(f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB"),
        "Software": escape(f"Python {machine.python}, " + ", ".join(f"{k} {v}" for k, v in machine.versions.items())),
        "Date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    shown = f"<pre><code>{escape(command)}</code></pre>" if command else ""
    return (
        f"<header><h1>{escape(data.name)} <span class=soft>{escape(data.split)}</span></h1>"
        f'<p class="lead">{_finding(reports)}</p></header>{warnings}<dl>{rows}</dl>{shown}'
    )


def _finding(reports: Sequence[Report]) -> str:
    measure = next(iter(reports[0].scores.values))
    said = [f"{escape(r.mode)} {r.scores.mean(measure):.3f}" for r in reports]
    return f"{escape(measure)} over {reports[0].n_queries:,} queries: {', '.join(said)}."


def _pictures(
    reports: Sequence[Report],
    ranges: tables.Ranges,
    comparisons: Sequence[Comparison],
    by_mode: Mapping[str, Report],
    tuned: "TunedWeight | None",
) -> str:
    small = []
    for place, c in enumerate(comparisons):
        differences = by_mode[c.a].scores.values[c.measure] - by_mode[c.b].scores.values[c.measure]
        picture = plots.differences_plot(differences, a=c.a, b=c.b, measure=c.measure, salt=f"diff{place}")
        counts = f"{c.paired.n_wins} won, {c.paired.n_ties} tied, {c.paired.n_losses} lost"
        small.append(_figure(picture, f"{c.a} against {c.b}: {counts}."))
    small.append(_figure(plots.recall_plot(reports), "Share of the relevant documents among the first k."))
    if tuned is not None:
        chosen = f"The weight {tuned.weight:g} was chosen on {tuned.n_queries:,} queries of {tuned.dataset}"
        leak = "; tuning and reporting on the same judgements was allowed (allow_same)" if tuned.allow_same else ""
        small.append(_figure(plots.weight_plot(tuned), f"{chosen}{leak}."))
    measures = _figure(plots.measures_plot(reports, ranges), "Mean and 95 % bootstrap interval of every measure.")
    return f'<h2>Pictures</h2>{measures}<div class="pair">{"".join(small)}</div>'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
