"""Measures of a run against judgements, through ir-measures with trec_eval (pytrec_eval-terrier) underneath.

Conventions:

- Names are those of ir-measures: `nDCG@10`, `R@100`, `AP`, `RR`, `P@5`, `Judged@10`.
- nDCG has linear gain and discount log2(rank + 1); its ideal takes all judged grades. AP divides by all relevant.
- A document is relevant at grade `rel_level` (1 unless said otherwise) or above; an unjudged document counts 0.
- Averages divide by all queries with at least one relevant document: a query missing in the run scores 0, a query
  without relevant documents is skipped and counted.
- Judged@k is the judged share of the first min(k, retrieved) documents, 0 where nothing was retrieved.
- Order is ours: score descending, then id ascending in UTF-8 byte order. trec_eval breaks ties the other way round, so
  it is handed strictly decreasing scores instead of ours.
- A document twice in one ranking, or a score that is not finite, is an error.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput
from facetrail.models.records import Qrels

DEFAULT_MEASURES = ("nDCG@10", "R@100", "AP", "RR")

Ranking = Mapping[str, float] | Sequence[tuple[str, float]]
"""One query's answer: document id → score, or pairs of the two in any order."""


@dataclass(frozen=True)
class QueryScores:
    """The per-query table: one row per query with at least one relevant document, in the order of the judgements."""

    query_ids: tuple[str, ...]
    values: Mapping[str, Float64Array]
    """Measure → (n_queries,) float64."""
    n_without_relevant: int
    """Judged queries skipped because nothing is relevant to them."""

    def mean(self, measure: str) -> float:
        """The average over all rows; 0.0 where there are none."""
        return float(self.values[measure].mean()) if self.query_ids else 0.0

    def means(self) -> dict[str, float]:
        """Every measure's average."""
        return {measure: self.mean(measure) for measure in self.values}


def ordered(ranking: Ranking, *, query_id: str = "") -> list[tuple[str, float]]:
    """The ranking in total order: score descending, id ascending in UTF-8 byte order.

    Raises InvalidInput for a document listed twice or a score that is not finite.
    """
    pairs = list(ranking.items()) if isinstance(ranking, Mapping) else list(ranking)
    seen: set[str] = set()
    for document_id, score in pairs:
        if document_id in seen:
            raise InvalidInput(f"document {document_id!r} stands twice in the run of query {query_id!r}; list it once")
        if not math.isfinite(score):
            raise InvalidInput(
                f"document {document_id!r} of query {query_id!r} has the score {score}; scores are finite"
            )
        seen.add(document_id)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0].encode()))


def strictly_decreasing(ranking: Ranking, *, query_id: str = "") -> dict[str, float]:
    """Scores n, n-1, …, 1 that preserve our order, so that every tool ranks alike."""
    pairs = ordered(ranking, query_id=query_id)
    return {document_id: float(len(pairs) - position) for position, (document_id, _) in enumerate(pairs)}


def parse_measures(names: Sequence[str], *, rel_level: int = 1) -> dict[str, Any]:
    """Name as given → ir-measures object. Raises InvalidInput for a name it does not know."""
    import ir_measures

    if rel_level < 1:
        raise InvalidInput(f"rel_level is {rel_level}; the lowest relevant grade is at least 1")
    if not names:
        raise InvalidInput("no measure was named; name at least one, for example nDCG@10")
    provider, measures = _provider(), {}
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            if rel_level != 1 and "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params:
                measure = measure(rel=rel_level)
            supported = provider.supports(measure)
        except (ValueError, NameError, SyntaxError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"{name!r} is not a measure ({error}); use names like nDCG@10, R@100, AP, RR, P@5"
            ) from error
        if not supported:
            raise InvalidInput(f"measure {name!r} cannot be computed here; use names like nDCG@10, R@100, AP, RR, P@5")
        measures[name] = measure
    return measures


def evaluate_run(
    run: Mapping[str, Ranking], qrels: Qrels, measures: Sequence[str] = DEFAULT_MEASURES, *, rel_level: int = 1
) -> QueryScores:
    """Scores a run query by query. A query of the run without judgements is ignored, as in trec_eval."""
    parsed = parse_measures(measures, rel_level=rel_level)
    judged = {query_id: grades for query_id, grades in qrels.items() if _has_relevant(grades, rel_level)}
    values = {name: np.zeros(len(judged)) for name in parsed}
    rows = {query_id: row for row, query_id in enumerate(judged)}
    ranked = {
        query_id: strictly_decreasing(ranking, query_id=query_id)
        for query_id, ranking in run.items()
        if query_id in rows and len(ranking)
    }
    if ranked:
        names = {str(measure): name for name, measure in parsed.items()}
        for metric in _provider().iter_calc(list(parsed.values()), judged, ranked):
            if metric.query_id in ranked:
                values[names[str(metric.measure)]][rows[metric.query_id]] = metric.value
        for name, measure in parsed.items():  # two spellings of one measure share its values
            values[name] = values[names[str(measure)]]
    return QueryScores(tuple(judged), values, len(qrels) - len(judged))


def _has_relevant(grades: Mapping[str, int], rel_level: int) -> bool:
    return any(grade >= rel_level for grade in grades.values())


def _provider() -> Any:
    import ir_measures

    # trec_eval first; Judged@k and RR@k are not among its measures.
    providers: Any = ir_measures.providers
    return providers.FallbackProvider([ir_measures.pytrec_eval, ir_measures.judged, ir_measures.msmarco])
