"""`facetrail eval recommend`: closed-form scorers on a split of anybody's events, every scorer in one table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from facetrail.eval.data_cli import AsJson, print_json
from facetrail.models.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from facetrail.eval.recommend import RecommendationReport
    from facetrail.eval.recommend_cleaning import Ties
    from facetrail.eval.recommend_splits import Split
    from facetrail.eval.significance import PairedComparison
    from facetrail.models.recommend.interactions import Interactions, Scorer

SHOWN = ("R@1", "R@10", "NDCG@10", "MRR")
COMPARED = "NDCG@10"


def recommend(
    data: Annotated[Path, typer.Option(help="Events: .jsonl, .csv, .tsv, .parquet or .inter.", metavar="FILE")],
    split: Annotated[str, typer.Option(help="time, cold-item, or leave-last (for literature tables only).")] = "time",
    scorers: Annotated[str, typer.Option(help="Of popularity, knn, ease, markov; sums as in ease+markov.")] = (
        "popularity,knn,ease,markov,ease+markov"
    ),
    keep: Annotated[
        str | None, typer.Option(help="Actions that count, as in order,rating>=4; left out: all.", metavar="ACTION,…")
    ] = None,
    ignore: Annotated[str | None, typer.Option(help="Known actions that do not count.", metavar="ACTION,…")] = None,
    action: Annotated[str | None, typer.Option(help="The action of rows that name none.")] = None,
    ties: Annotated[
        str | None, typer.Option(help="Equal times: group (default by time), shuffle (leave-last), file.")
    ] = None,
    core: Annotated[int, typer.Option(min=0, help="k-core: of train by time, of all events for leave-last.")] = 0,
    part: Annotated[str, typer.Option(help="test or validation.")] = "test",
    seed: Annotated[int, typer.Option(help="Seeds the order of ties, the tests and the intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fits scorers on the train part, ranks all items for every later event, compares each with the first by users."""
    import numpy as np

    from facetrail.eval.recommend import compare_over_users, evaluate
    from facetrail.eval.recommend_cleaning import Ties
    from facetrail.eval.recommend_data import load_events

    if ties not in (None, "group", "shuffle", "file"):
        raise InvalidInput(f"--ties {ties!r} is no rule; choose group, shuffle or file")
    if part not in ("test", "validation"):
        raise InvalidInput(f"--part {part!r} is none; choose test or validation")
    rule = Ties(ties or ("shuffle" if split == "leave-last" else "group"), seed)  # type: ignore[arg-type]
    wanted: Literal["test", "validation"] = "test" if part == "test" else "validation"
    loaded = load_events(data, keep=_names(keep), ignore=_names(ignore), action=action)
    made = _split(loaded.interactions, split, rule, core)
    fitted = [_fitted(name, made.train) for name in _names(scorers)]
    reports = [evaluate(scorer, made, part=wanted) for scorer in fitted]
    rng = np.random.default_rng(seed)
    compared = [compare_over_users(other, reports[0], COMPARED, rng=rng) for other in reports[1:]]
    if as_json:
        print_json(_as_object(loaded.report.summary(), reports, compared))
    else:
        _show(loaded.report.summary(), reports, compared, sys.stdout)


def _names(listed: str | None) -> list[str]:
    return [name.strip() for name in (listed or "").split(",") if name.strip()]


def _split(interactions: "Interactions", name: str, ties: "Ties", core: int) -> "Split":
    from facetrail.eval import recommend_splits as splits
    from facetrail.eval.recommend_cleaning import k_core

    if name == "leave-last":
        return splits.leave_last(k_core(interactions, core), ties=ties)
    cuts = splits.cut_times(interactions)
    if name == "time":
        return splits.time_split(interactions, cuts, ties=ties, core=core)
    if name == "cold-item" and core <= 1:
        return splits.cold_item(interactions, cuts, ties=ties)
    raise InvalidInput(f"--split {name} with --core {core} is not known; choose time, leave-last, or cold-item without")


def _fitted(name: str, train: "Interactions") -> "Scorer":
    from facetrail.models.recommend.blend import Blend
    from facetrail.models.recommend.ease import Ease
    from facetrail.models.recommend.knn import ItemKnn
    from facetrail.models.recommend.markov import Markov
    from facetrail.models.recommend.popularity import Popularity

    known: dict[str, Callable[[Interactions], Scorer]]
    known = {"popularity": Popularity.fit, "knn": ItemKnn.fit, "ease": Ease.fit, "markov": Markov.fit}
    parts = name.split("+")
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise InvalidInput(
            f"{unknown[0]!r} is no scorer; choose among {', '.join(known)}, or a sum such as ease+markov"
        )
    scorers = [known[part](train) for part in parts]
    return scorers[0] if len(scorers) == 1 else Blend(scorers)


def _as_object(rows: str, reports: "list[RecommendationReport]", compared: "list[PairedComparison]") -> dict[str, Any]:
    from facetrail.eval.significance import holm

    return {
        "data": rows,
        "reports": [report.summary() for report in reports],
        "comparisons": [
            {"a": other.scorer, "b": reports[0].scorer, "measure": f"{COMPARED} per user"}
            | {"difference": c.difference, "interval": list(c.interval), "p": c.p, "p_holm": p}
            for other, c, p in zip(reports[1:], compared, holm([c.p for c in compared]), strict=True)
        ],
    }


def _show(rows: str, reports: "list[RecommendationReport]", compared: "list[PairedComparison]", stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table

    from facetrail.eval.significance import holm

    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 140)
    first = reports[0]
    console.print(rows)
    for warning in first.warnings:
        console.print(f"note: {warning}", style="yellow")
    n_users = len(first.per_user("MRR"))
    console.print(
        f"{first.split}, {first.part}: {len(first.users):,} predictions of {n_users:,} users "
        f"(split {first.split_hash}); {first.n_without_history:,} events without history left out, "
        f"{first.n_cold_targets:,} targets not in train, "
        f"{first.tied_share:.1%} of targets share their time with another event"
    )
    for title, filter_seen in (("seen items removed", True), ("seen items kept", False)):
        table = Table(title=f"{title}: mean over predictions / over users", title_justify="left")
        table.add_column("scorer")
        for column in (*SHOWN, "coverage", "Gini"):
            table.add_column(column, justify="right")
        for report in reports:
            measured = report.measured(filter_seen=filter_seen)
            per_user = [report.per_user(m, filter_seen=filter_seen).mean() for m in SHOWN]
            per_question = [report.mean(m, filter_seen=filter_seen) for m in SHOWN]
            averages = [f"{a:.4f} / {b:.4f}" for a, b in zip(per_question, per_user, strict=True)]
            table.add_row(report.scorer, *averages, f"{measured.coverage:.3f}", f"{measured.gini:.3f}")
        console.print(table)
    for other, c, p in zip(reports[1:], compared, holm([c.p for c in compared]), strict=True):
        console.print(
            f"{other.scorer} - {first.scorer}, {COMPARED} over users: {c.difference:+.4f} "
            f"[{c.interval[0]:+.4f}, {c.interval[1]:+.4f}], p (Holm) {p:.5f}"
        )
