"""The README's tables of figures, made from `eval/results`: `python -m facetrail.eval.tables README.md`.

Text between `<!-- figures -->` and `<!-- end of figures -->` is replaced; a test holds the README to what this makes.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev

from facetrail.eval.evidence import ComparisonRow, Evidence, read_result, results_folder
from facetrail.models.errors import InvalidInput

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
LONG, MANY = 700, 12
"""Characters of notes, behind their first sentence, and tested comparisons from which they are folded away."""


def all_results(folder: Path | None = None) -> list[Evidence]:
    """Every result on disk, by name."""
    return [read_result(path) for path in sorted((folder or results_folder()).glob("*.json"))]


def figures(results: Iterable[Evidence]) -> str:
    """One section a result: its claim, a row a demand or tested comparison (missed ones too), and its command."""
    return "\n".join(_section(result) for result in results)


def replace_figures(readme: str, results: Iterable[Evidence]) -> str:
    """The README with its figures made anew. Raises InvalidInput if it has no place for them."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InvalidInput(f"the README has no place for figures; put {BEGIN} and {END} into it")
    return f"{head}{BEGIN}\n{figures(results)}{END}{tail}"


def _section(result: Evidence) -> str:
    lines = [f"**Claim: {result.claim}**", ""]
    if result.shown:
        lines += [*arm_table(result), ""]
    # A tested comparison is shown whether or not anything was demanded of it: a claim's losing rows belong to it.
    demanded = [row for row in result.comparisons if row.demand]
    tested = [row for row in result.comparisons if not row.demand and row.p is not None]
    if len(tested) > MANY:
        lines += [*_table(result, demanded), *_folded(f"{len(tested)} tested comparisons", _table(result, tested))]
    else:
        lines += _table(result, [row for row in result.comparisons if row.demand or row.p is not None])
    machine = f"{result.machine.cpu}, {result.machine.cores} cores"
    lines += ["", f"`{result.command}` → [`{result.name}.json`](eval/results/{result.name}.json) ({machine})", ""]
    said, _, rest = result.notes.partition(". ")
    if len(rest) > LONG:
        lines += [f"{said}.", "", *_folded("What was run, and how", [rest])]
    elif result.notes:
        lines += [result.notes, ""]
    return "\n".join(lines) + "\n"


def _table(result: Evidence, rows: Sequence[ComparisonRow]) -> list[str]:
    head = ["| what | measured | demand | met |", "|---|---|---|---|"]
    return [*head, *(_row(result, row) for row in rows)] if rows else []


def _folded(summary: str, lines: Sequence[str]) -> list[str]:
    return ["", f"<details><summary>{summary}</summary>", "", *lines, "", "</details>", ""]


def arm_table(result: Evidence) -> list[str]:
    """A row an arm, a column a measure of `shown`: mean over seeds, ± their standard deviation where there are several.

    An arm with none of the measures is left out."""
    lines = [f"| arm | {' | '.join(result.shown)} |", "|---" * (1 + len(result.shown)) + "|"]
    for name, arm in result.arms.items():
        if arm.measures.keys() & set(result.shown):
            cells = [_over_seeds(arm.measures.get(measure, [])) for measure in result.shown]
            lines.append("| " + " | ".join([name.replace("|", "\\|"), *cells]) + " |")
    return lines


def _over_seeds(values: Sequence[float]) -> str:
    if not values:
        return ""
    return _number(mean(values)) + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def _row(result: Evidence, row: ComparisonRow) -> str:
    versus = f" against {row.b}" if row.b else ""
    value = mean(result.arms[row.a].measures[row.measure]) if row.measure in result.arms[row.a].measures else None
    shown = _number(value) if value is not None else ""
    if row.difference is not None and row.b is not None:
        shown += f" ({row.difference:+.3g}"
        if row.interval is not None:
            shown += f" [{row.interval[0]:+.3g}, {row.interval[1]:+.3g}]"
        if row.p_holm is not None or row.p is not None:
            shown += f", p = {row.p_holm if row.p_holm is not None else row.p:.2g}"
        shown += ")"
    met = "" if row.met is None else "yes" if row.met else "**no**"
    cells = (f"{row.a}{versus}: {row.measure}", shown, row.demand, met)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def main() -> None:
    """Rewrites the file named on the command line in place."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    path.write_text(replace_figures(path.read_text(encoding="utf-8"), all_results()), encoding="utf-8")


if __name__ == "__main__":
    main()
