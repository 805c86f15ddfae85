"""Retrieval, evaluated: searches a judged data set, scores the run, compares runs with each other."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from facetrail.eval.datasets import RetrievalDataset
from facetrail.eval.metrics import DEFAULT_MEASURES, QueryScores, evaluate_run, parse_measures
from facetrail.eval.runs import RankedRun
from facetrail.eval.significance import PairedComparison, compare_paired, holm
from facetrail.indexing.request import MAX_LIMIT, FusionConfig, Mode, SearchRequest, SearchResult
from facetrail.models.errors import InvalidInput

if TYPE_CHECKING:
    from facetrail.eval.tuning import TunedWeight

_BATCH = 64
"""Queries handed over at once: enough for batched encoding, few enough for steady progress."""


class SearchesMany(Protocol):
    """What evaluation needs of a searcher."""

    def search_many(self, queries: Sequence[str], request: SearchRequest) -> list[SearchResult]:
        """The same request for many query texts."""


@dataclass(frozen=True)
class Report:
    """One system on one data set: its run and its per-query scores."""

    dataset: RetrievalDataset
    mode: str
    """What was evaluated, as a label: `lexical`, `hybrid:rrf`."""
    run: RankedRun
    scores: QueryScores
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    """Wall-clock time of searching, encoding of queries included."""

    @property
    def n_queries(self) -> int:
        """Queries the averages divide by."""
        return len(self.scores.query_ids)

    def summary(self) -> dict[str, Any]:
        """The object that `facetrail eval retrieval --json` prints."""
        return {
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "mode": self.mode,
            "n_queries": self.n_queries,
            "measures": self.scores.means(),
        }


@dataclass(frozen=True)
class Comparison:
    """Report `a` against report `b` in one measure; `p_holm` is corrected over the family it was declared in."""

    a: str
    b: str
    dataset: str
    measure: str
    paired: PairedComparison
    p_holm: float

    def as_row(self) -> dict[str, Any]:
        """Plain values, as in JSON and in `facetrail.eval.evidence.ComparisonRow`, plus the counts."""
        return {
            "a": self.a,
            "b": self.b,
            "measure": self.measure,
            "difference": self.paired.difference,
            "interval": list(self.paired.interval),
            "p": self.paired.p,
            "p_holm": self.p_holm,
            "wins": self.paired.n_wins,
            "ties": self.paired.n_ties,
            "losses": self.paired.n_losses,
            "smallest_visible": self.paired.smallest_visible,
        }


def search_run(
    searcher: SearchesMany,
    dataset: RetrievalDataset,
    *,
    mode: Mode,
    fusion: FusionConfig | None = None,
    exclude_self: bool = False,
    depth: int = MAX_LIMIT,
    progress: Callable[[int], None] | None = None,
) -> tuple[RankedRun, tuple[str, ...]]:
    """Asks every query of the data set; returns the run in total order and the distinct warnings.

    `exclude_self` drops the document whose id is the query's id. `progress` is told how many queries were answered.
    """
    if not 1 <= depth <= MAX_LIMIT:
        raise InvalidInput(f"depth is {depth}; a run holds 1 to {MAX_LIMIT:,} documents a query")
    fusion = fusion or FusionConfig()
    request = SearchRequest(
        query="",
        mode=mode,
        fusion=fusion.model_copy(update={"depth": max(depth, fusion.depth)}),
        limit=depth,
        with_payload=False,
    )
    run: RankedRun = {}
    warnings: dict[str, int] = {}
    for start in range(0, len(dataset.queries), _BATCH):
        batch = dataset.queries[start : start + _BATCH]
        results = searcher.search_many([query.text for query in batch], request)
        for query, result in zip(batch, results, strict=True):
            run[query.id] = [(hit.id, hit.score) for hit in result.hits if not (exclude_self and hit.id == query.id)]
            for warning in result.warnings:
                warnings[warning] = warnings.get(warning, 0) + 1
        if progress is not None:
            progress(len(batch))
    return run, tuple(f"{text} ({count} queries)" for text, count in warnings.items())


def evaluate(
    searcher: SearchesMany,
    dataset: RetrievalDataset,
    *,
    mode: Mode,
    fusion: FusionConfig | None = None,
    tuned: "TunedWeight | None" = None,
    exclude_self: bool = False,
    depth: int = MAX_LIMIT,
    measures: Sequence[str] = DEFAULT_MEASURES,
    rel_level: int = 1,
    label: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Searches and scores.

    A weight that was `tuned` replaces that of `fusion`. It is refused (InvalidInput) where it was tuned on the very
    judgements that are reported here, unless it was tuned with `allow_same`, which the report then states.
    """
    parse_measures(measures, rel_level=rel_level)  # a wrong name fails before the search, not after it
    warnings: list[str] = []
    if tuned is not None:
        warnings = tuned.refuse_leak(dataset)
        fusion = tuned.fusion
    started = time.perf_counter()
    run, said = search_run(
        searcher, dataset, mode=mode, fusion=fusion, exclude_self=exclude_self, depth=depth, progress=progress
    )
    seconds = time.perf_counter() - started
    return score_run(
        run,
        dataset,
        mode=label or mode,
        measures=measures,
        rel_level=rel_level,
        warnings=(*warnings, *said),
        seconds=seconds,
    )


def score_run(
    run: RankedRun,
    dataset: RetrievalDataset,
    *,
    mode: str,
    measures: Sequence[str] = DEFAULT_MEASURES,
    rel_level: int = 1,
    warnings: Sequence[str] = (),
    seconds: float = 0.0,
) -> Report:
    """The report of a run that exists already, for instance one read from a TREC file."""
    scores = evaluate_run(run, dataset.qrels, measures, rel_level=rel_level)
    return Report(dataset, mode, run, scores, (*dataset.warnings, *warnings), seconds)


def compare(
    reports: Sequence[Report], *, rng: np.random.Generator, baseline: int = 0, measures: Sequence[str] | None = None
) -> list[Comparison]:
    """Every other report against the baseline: difference = report - baseline, Holm over all of them.

    measures: those declared for comparison; the first one of the baseline by default, so that the family stays small.
    """
    if not 0 <= baseline < len(reports):
        raise InvalidInput(f"baseline is {baseline}, but there are {len(reports)} reports, numbered from 0")
    others = [report for place, report in enumerate(reports) if place != baseline]
    return compare_family([(report, reports[baseline]) for report in others], rng=rng, measures=measures)


def compare_family(
    pairs: Sequence[tuple[Report, Report]], *, rng: np.random.Generator, measures: Sequence[str] | None = None
) -> list[Comparison]:
    """A declared family of pairs (a, b), over one data set or several: difference = a - b, Holm over all of it."""
    return compare_declared(
        [(a, b, measure) for a, b in pairs for measure in (measures or list(a.scores.values)[:1])], rng=rng
    )


def compare_declared(declared: Sequence[tuple[Report, Report, str]], *, rng: np.random.Generator) -> list[Comparison]:
    """`compare_family` with a measure for each pair: (a, b, measure)."""
    for a, b, _ in declared:
        if a.dataset.label != b.dataset.label or a.scores.query_ids != b.scores.query_ids:
            raise InvalidInput(
                f"{a.mode} on {a.dataset.label} and {b.mode} on {b.dataset.label} are not paired by query"
            )
    for report, other, measure in declared:
        if measure not in report.scores.values or measure not in other.scores.values:
            raise InvalidInput(f"{measure} was not computed for {report.mode} and {other.mode}; evaluate it first")
    paired = [compare_paired(a.scores.values[m], b.scores.values[m], rng=rng) for a, b, m in declared]
    corrected = holm([result.p for result in paired])
    return [
        Comparison(a.mode, b.mode, a.dataset.label, measure, result, p_holm)
        for (a, b, measure), result, p_holm in zip(declared, paired, corrected, strict=True)
    ]


def intervals(report: Report, *, rng: np.random.Generator) -> Mapping[str, tuple[float, float]]:
    """The 95 % interval of each measure's mean over queries."""
    from facetrail.eval.significance import bootstrap_interval

    return {measure: bootstrap_interval(values, rng=rng) for measure, values in report.scores.values.items()}
