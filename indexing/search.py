"""Answers one request over one state: sources, fusion, total order, pages, explanations.

Every source brings its best `depth` documents with the filter applied inside it; depth does not depend on limit and
offset, so a page never moves a document that another page showed.
"""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from facetrail.indexing.explain import explain_hits
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.fusion import Fused, fuse
from facetrail.indexing.index import EMPTY_HITS, BoolArray, Float32Array, Hits
from facetrail.indexing.request import Examples, Hit, Mode, SearchRequest, SearchResult
from facetrail.indexing.state import IndexState
from facetrail.models.errors import Gone, InvalidInput, NotFound
from facetrail.models.records import Document

Fetch = Callable[[Sequence[str]], Sequence[Document | None]]
"""Ids to documents, None where one was deleted meanwhile."""


@dataclass(frozen=True)
class Question:
    """A request made concrete: the words for the lexical source and the vector for the dense one."""

    text: str | None = None
    vector: Float32Array | None = None
    excluded: frozenset[int] = frozenset()
    rank_by_examples: Callable[[IndexState, int, BoolArray | None], Hits] | None = None


@dataclass
class Answer:
    """What the sources found, before a page is cut."""

    ranking: Hits
    sources: Mapping[str, Hits]
    fused: Fused | None = None
    warnings: list[str] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)


def resolve_mode(request: SearchRequest, state: IndexState) -> Mode:
    """The mode asked for, or the richest that the request and the collection allow."""
    n_questions = sum(q is not None for q in (request.query, request.like, request.vector, request.recommend))
    if n_questions != 1:
        raise InvalidInput(
            f"a search takes exactly one of query, like, vector and recommend, not {n_questions}; send one",
            pointer="/query",
        )
    vector_only = request.vector is not None or request.recommend is not None
    mode: Mode = request.mode or (
        "lexical" if state.dense is None else "dense" if vector_only or state.lexical is None else "hybrid"
    )
    if vector_only and mode != "dense":
        raise InvalidInput(
            f"a search by vector or by examples has no words for mode {mode!r}; use mode 'dense'", pointer="/mode"
        )
    if mode != "dense" and state.lexical is None:
        raise InvalidInput(
            f"mode {mode!r} needs a lexical index, which this collection was built without", pointer="/mode"
        )
    if mode != "lexical" and state.dense is None:
        raise InvalidInput(
            f"mode {mode!r} needs a dense index, which this collection was built without; use mode 'lexical' "
            "or rebuild it with `--mode-set lexical,dense`",
            pointer="/mode",
        )
    return mode


def living_ordinal(state: IndexState, document_id: str) -> int:
    """The ordinal of an id that must live."""
    ordinal = state.ids.ordinal(document_id)
    if ordinal is None:
        raise NotFound(f"document {document_id!r} is not in the collection; check the id")
    return ordinal


def question_for_like(state: IndexState, document_id: str, mode: Mode, fetch: Fetch) -> Question:
    """Document to document: its words and its stored vector; the document itself is left out."""
    ordinal = living_ordinal(state, document_id)
    text = vector = None
    if mode != "dense":
        document = fetch([document_id])[0]
        text = document.content if document else ""
    if mode != "lexical" and state.dense is not None:
        vector = state.dense.vectors([ordinal])[0]
    return Question(text, vector, frozenset([ordinal]))


def question_for_examples(state: IndexState, examples: Examples) -> Question:
    """Search by example; the three strategies are those of vector databases (average, best, sum)."""
    unknown = [i for i in (*examples.positive, *examples.negative) if state.ids.ordinal(i) is None]
    if unknown:
        raise NotFound(f"unknown example ids: {', '.join(map(repr, unknown[:10]))}; examples must be in the collection")
    assert state.dense is not None  # resolve_mode refused it
    ordinals = [[living_ordinal(state, i) for i in ids] for ids in (examples.positive, examples.negative)]
    positive, negative = (state.dense.vectors(o) for o in ordinals)
    excluded = frozenset(ordinals[0] + ordinals[1])
    if examples.strategy == "best":
        return Question(excluded=excluded, rank_by_examples=_best_example(positive, negative))
    if examples.strategy == "sum":
        target = positive.sum(0) - negative.sum(0)
    else:
        target = 2 * positive.mean(0) - negative.mean(0) if len(negative) else positive.mean(0)
    norm = float(np.linalg.norm(target))
    if norm < 1e-12:
        raise InvalidInput("the examples cancel each other out; send different ones", pointer="/recommend")
    unit = (target / norm).astype(np.float32)
    if examples.strategy == "average":
        return Question(vector=unit, excluded=excluded)

    def by_sum(state: IndexState, k: int, allowed: BoolArray | None) -> Hits:
        assert state.dense is not None
        hits = state.dense.search(unit, k, allowed=allowed)
        return Hits(hits.ordinals, hits.scores * norm)

    return Question(excluded=excluded, rank_by_examples=by_sum)


def _best_example(
    positive: Float32Array, negative: Float32Array
) -> Callable[[IndexState, int, BoolArray | None], Hits]:
    def rank(state: IndexState, k: int, allowed: BoolArray | None) -> Hits:
        assert state.dense is not None
        found = [hits.ordinals for hits in state.dense.search_many(positive, k, allowed=allowed)]
        ordinals = np.unique(np.concatenate(found))
        if not len(ordinals):
            return EMPTY_HITS
        nearest = np.max([state.dense.score(p, ordinals) for p in positive], axis=0)
        if len(negative):
            worst = np.max([state.dense.score(n, ordinals) for n in negative], axis=0)
            # Below every document that is nearer to a positive example, whatever its cosine.
            nearest = np.where(nearest > worst, nearest, nearest - worst - 2)
        return Hits(ordinals, nearest)

    return rank


def run(state: IndexState, request: SearchRequest, mode: Mode, question: Question) -> Answer:
    """Asks the sources of a mode and orders what they found."""
    depth = request.fusion.depth
    if request.offset + request.limit > depth:
        raise InvalidInput(
            f"offset + limit is {request.offset + request.limit}, above the depth of {depth}; "
            "ask for fewer, or raise fusion.depth (at most 10,000)",
            pointer="/offset",
        )
    allowed = None
    if request.filter is not None:
        allowed = state.fields.evaluate(parse_filter(request.filter), state.ids.n_ordinals)
    k = page_depth(state, request, mode)
    warnings: list[str] = []
    sources: dict[str, Hits] = {}
    timings: dict[str, float] = {}
    if mode != "dense" and state.lexical is not None:
        started = time.perf_counter()
        warnings += state.lexical.analyse_query(question.text or "")[1]
        hits = state.lexical.search(question.text or "", k + len(question.excluded), allowed=allowed)
        sources["lexical"] = _without(hits, question.excluded)
        timings["lexical"] = (time.perf_counter() - started) * 1e3
    if mode != "lexical" and state.dense is not None:
        started = time.perf_counter()
        sources["dense"] = _without(_dense_hits(state, question, k, allowed), question.excluded)
        timings["dense"] = (time.perf_counter() - started) * 1e3
    return combine(state, request, mode, sources, warnings, timings)


def page_depth(state: IndexState, request: SearchRequest, mode: Mode) -> int:
    """How many documents to ask a source for, so that every page cuts from the same list."""
    exact = mode == "lexical" or (mode == "dense" and state.dense is not None and state.dense.kind == "exact")
    # A single exact source is a prefix of itself at any depth, so it needs no more than the page.
    return request.offset + request.limit if exact and request.cursor is None else request.fusion.depth


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
    if mode != "dense" and state.lexical is not None:
        found["lexical"] = state.lexical.search_many([r.query or "" for r in requests], k)
    if mode != "lexical" and state.dense is not None and vectors is not None:
        found["dense"] = state.dense.search_many(vectors, k)
    return [
        combine(state, r, mode, {name: hits[i] for name, hits in found.items()}, [], {}) for i, r in enumerate(requests)
    ]


def unit_vector(values: Sequence[float], dim: int) -> Float32Array:
    """A caller's query vector, checked and normalised."""
    vector = np.asarray(values, np.float64)
    if vector.shape != (dim,):
        raise InvalidInput(
            f"the query vector has {len(vector)} numbers, the collection's have {dim}", pointer="/vector"
        )
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm < 1e-12:
        raise InvalidInput("the query vector must be finite and not zero", pointer="/vector")
    return (vector / norm).astype(np.float32)


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
        start = _after(ranking, _read_cursor(request, state), state)
    end = start + request.limit
    ordinals, scores = ranking.ordinals[start:end].tolist(), ranking.scores[start:end].tolist()
    ids = [state.ids.id(o) for o in ordinals]
    payloads = fetch(ids) if ids and (request.with_payload or request.explain) else [None] * len(ids)
    explanations = (
        explain_hits(state, question.text, ordinals, payloads, mode, answer.sources, answer.fused)
        if request.explain
        else [None] * len(ids)
    )
    hits = [
        Hit(i, s, p if request.with_payload else None, e)
        for i, s, p, e in zip(ids, scores, payloads, explanations, strict=True)
    ]
    # A page cut by the number asked for has a next one; depth ends the list for good.
    more = len(hits) == request.limit and (len(ranking) > end or mode != "hybrid") and end < request.fusion.depth
    cursor = _write_cursor(request, state, hits[-1]) if more and hits else None
    return SearchResult(hits, mode, state.number, answer.warnings, cursor, answer.timings_ms)


def _fingerprint(request: SearchRequest) -> str:
    asked = request.model_dump_json(exclude={"cursor", "limit", "offset", "with_payload", "explain"})
    return hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()


def _write_cursor(request: SearchRequest, state: IndexState, last: Hit) -> str:
    content = [state.number, last.score.hex(), last.id, _fingerprint(request)]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _read_cursor(request: SearchRequest, state: IndexState) -> tuple[float, str]:
    if request.offset:
        raise InvalidInput("a cursor replaces offset; send one of the two", pointer="/offset")
    try:
        number, score, document_id, asked = json.loads(base64.urlsafe_b64decode(request.cursor or ""))
        position = float.fromhex(score), str(document_id)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(
            "the cursor is not one this service gave out; start again without", pointer="/cursor"
        ) from error
    if asked != _fingerprint(request):
        raise InvalidInput("the cursor belongs to another search; send it with the same request", pointer="/cursor")
    if number != state.number:
        raise Gone(f"the cursor is of index generation {number}, which generation {state.number} replaced; start again")
    return position


def _after(ranking: Hits, position: tuple[float, str], state: IndexState) -> int:
    """Where the first hit behind (score, id) stands."""
    score, document_id = position
    start = int(np.searchsorted(-ranking.scores, -score, side="left"))
    while start < len(ranking) and ranking.scores[start] == score:
        if state.ids.id(int(ranking.ordinals[start])).encode() > document_id.encode():
            break
        start += 1
    return start
