"""Answers one request over one state: sources, fusion, total order, pages, explanations.

Every source brings its best `depth` documents with the filter applied inside it; depth does not depend on limit and
offset, so a page never moves a document that another page showed.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from facetrail.indexing.cursor import first_after, read_cursor, write_cursor
from facetrail.indexing.explain import explain_hits
from facetrail.indexing.facet_search import facet_warnings, rescored
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.fusion import Fused, fuse
from facetrail.indexing.index import BoolArray, Float32Array, Hits
from facetrail.indexing.questions import WITH_WORDS, Fetch, Question
from facetrail.indexing.request import Hit, Mode, SearchRequest, SearchResult
from facetrail.indexing.state import IndexState
from facetrail.models.errors import InvalidInput


@dataclass
class Answer:
    """What the sources found, before a page is cut."""

    ranking: Hits
    sources: Mapping[str, Hits]
    fused: Fused | None = None
    warnings: list[str] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)


def run(state: IndexState, request: SearchRequest, mode: Mode, question: Question) -> Answer:
    """Asks the sources of a mode and orders what they found."""
    _require_within_depth(request, mode)
    allowed = None
    if request.filter is not None:
        allowed = state.fields.evaluate(parse_filter(request.filter), state.ids.n_ordinals)
    k = page_depth(state, request, mode)
    warnings = facet_warnings(request, mode, state)
    sources: dict[str, Hits] = {}
    timings: dict[str, float] = {}
    if mode in WITH_WORDS and state.lexical is not None:
        started = time.perf_counter()
        warnings += state.lexical.analyse_query(question.text or "")[1]
        hits = state.lexical.search(question.text or "", k + len(question.excluded), allowed=allowed)
        sources["lexical"] = _without(hits, question.excluded)
        timings["lexical"] = (time.perf_counter() - started) * 1e3
    if mode != "lexical" and state.dense is not None:
        started = time.perf_counter()
        hits = _without(_dense_hits(state, question, k, allowed), question.excluded)
        timings["dense"] = (time.perf_counter() - started) * 1e3
        if question.facets is not None:
            started = time.perf_counter()
            hits = rescored(state, question.facets, hits, k if mode == "facet" else None)
            timings["facet"] = (time.perf_counter() - started) * 1e3
        sources["facet" if mode == "facet" else "dense"] = hits
    return combine(state, request, mode, sources, warnings, timings)


def _depth(request: SearchRequest, mode: Mode) -> int:
    """Where the list ends, whatever page is asked for."""
    return request.rescore_depth if mode == "facet" else request.fusion.depth


def _require_within_depth(request: SearchRequest, mode: Mode) -> None:
    last, depth = request.offset + request.limit, _depth(request, mode)
    if last <= depth:
        return
    name, most = ("rescore_depth", "1,000") if mode == "facet" else ("fusion.depth", "10,000")
    raise InvalidInput(
        f"offset + limit is {last}, above the depth of {depth}; ask for fewer, or raise {name} (at most {most})",
        pointer="/offset",
    )


def page_depth(state: IndexState, request: SearchRequest, mode: Mode) -> int:
    """How many documents to ask a source for, so that every page cuts from the same list."""
    exact = mode == "lexical" or (mode == "dense" and state.dense is not None and state.dense.kind == "exact")
    # A single exact source is a prefix of itself at any depth, so it needs no more than the page.
    return request.offset + request.limit if exact and request.cursor is None else _depth(request, mode)


def run_many(
    state: IndexState, requests: Sequence[SearchRequest], mode: Mode, vectors: Float32Array | None
) -> list[Answer]:
    """`run` for many query texts at once; the requests differ in `query` alone. vectors: (n, dim) or None."""
    first = requests[0]
    if first.filter is not None or first.cursor is not None or first.limit + first.offset > first.fusion.depth:
        rows = [None] * len(requests) if vectors is None else list(vectors)
        return [run(state, r, mode, Question(r.query, v)) for r, v in zip(requests, rows, strict=True)]
    k = page_depth(state, first, mode)
    found: dict[str, list[Hits]] = {}
    if mode in WITH_WORDS and state.lexical is not None:
        found["lexical"] = state.lexical.search_many([r.query or "" for r in requests], k)
    if mode != "lexical" and state.dense is not None and vectors is not None:
        found["dense"] = state.dense.search_many(vectors, k)
    return [
        combine(state, r, mode, {name: hits[i] for name, hits in found.items()}, facet_warnings(r, mode, state), {})
        for i, r in enumerate(requests)
    ]


def combine(
    state: IndexState,
    request: SearchRequest,
    mode: Mode,
    sources: Mapping[str, Hits],
    warnings: list[str],
    timings: dict[str, float],
) -> Answer:
    """One ranking in total order from what the sources found."""
    if mode != "hybrid":
        return Answer(state.ids.sort(next(iter(sources.values()))), sources, None, warnings, timings)
    started = time.perf_counter()
    fused = fuse(sources, request.fusion)
    ranking = state.ids.sort(Hits(fused.ordinals, fused.scores))
    timings["fusion"] = (time.perf_counter() - started) * 1e3
    return Answer(ranking, sources, fused, [*warnings, *fused.warnings], timings)


def _dense_hits(state: IndexState, question: Question, k: int, allowed: BoolArray | None) -> Hits:
    assert state.dense is not None
    k += len(question.excluded)
    if question.rank_by_examples is not None:
        return question.rank_by_examples(state, k, allowed)
    assert question.vector is not None
    return state.dense.search(question.vector, k, allowed=allowed)


def _without(hits: Hits, excluded: frozenset[int]) -> Hits:
    if not excluded:
        return hits
    keep = ~np.isin(hits.ordinals, list(excluded))
    return Hits(hits.ordinals[keep], hits.scores[keep])


def page(
    state: IndexState, request: SearchRequest, mode: Mode, question: Question, answer: Answer, fetch: Fetch
) -> SearchResult:
    """Cuts the page a request asks for out of an answer, with payloads and explanations."""
    ranking, start = answer.ranking, request.offset
    if request.score_threshold is not None:
        if mode == "hybrid" and request.fusion.method == "rrf" and not request.force:
            raise InvalidInput(
                "score_threshold on reciprocal rank fusion cuts by rank sums, which mean nothing alone; "
                "use fusion 'z' or set force",
                pointer="/score_threshold",
            )
        n_kept = int(np.searchsorted(-ranking.scores, -request.score_threshold, side="right"))
        ranking = Hits(ranking.ordinals[:n_kept], ranking.scores[:n_kept])
    if request.cursor is not None:
        start = first_after(ranking, read_cursor(request, state), state)
    end = start + request.limit
    ordinals, scores = ranking.ordinals[start:end].tolist(), ranking.scores[start:end].tolist()
    ids = [state.ids.id(o) for o in ordinals]
    payloads = fetch(ids) if ids and (request.with_payload or request.explain) else [None] * len(ids)
    explanations = (
        explain_hits(state, question, ordinals, payloads, mode, answer.sources, answer.fused)
        if request.explain
        else [None] * len(ids)
    )
    hits = [
        Hit(i, s, p if request.with_payload else None, e)
        for i, s, p, e in zip(ids, scores, payloads, explanations, strict=True)
    ]
    # A page cut by the number asked for has a next one; depth ends the list for good.
    whole = mode in ("facet", "hybrid")  # the other modes may have been asked for this page alone
    more = len(hits) == request.limit and (len(ranking) > end or not whole) and end < _depth(request, mode)
    cursor = write_cursor(request, state, hits[-1]) if more and hits else None
    facets = task = None
    if question.facets is not None and state.facets is not None:
        facets = dict(zip(state.facets.config.names, question.facets.weights.tolist(), strict=True))
        task = question.facets.query.task
    return SearchResult(hits, mode, state.number, answer.warnings, cursor, facets, task, answer.timings_ms)
