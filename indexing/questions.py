"""What is looked for, made concrete: words for the lexical source, a vector for the dense one, what to leave out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facetrail.indexing.facet_search import FacetAsk, check_facets
from facetrail.indexing.index import EMPTY_HITS, BoolArray, Float32Array, Hits
from facetrail.indexing.request import Examples, Mode, SearchRequest
from facetrail.indexing.state import IndexState
from facetrail.models.errors import Conflict, InvalidInput, NotFound
from facetrail.models.records import Document

WITH_WORDS: tuple[Mode, ...] = ("lexical", "hybrid")
"""Modes that ask the lexical index."""
Fetch = Callable[[Sequence[str]], Sequence[Document | None]]
"""Ids to documents, None where one was deleted meanwhile."""


@dataclass(frozen=True)
class Question:
    """A request made concrete: the words for the lexical source and the vector for the dense one."""

    text: str | None = None
    vector: Float32Array | None = None
    excluded: frozenset[int] = frozenset()
    rank_by_examples: Callable[[IndexState, int, BoolArray | None], Hits] | None = None
    facets: FacetAsk | None = None
    """Where facets have a part in the scores."""


def resolve_mode(request: SearchRequest, state: IndexState) -> Mode:
    """The mode asked for, or the richest that the request and the collection allow."""
    n_questions = sum(q is not None for q in (request.query, request.like, request.vector, request.recommend))
    if n_questions != 1:
        raise InvalidInput(
            f"a search takes exactly one of query, like, vector and recommend, not {n_questions}; send one",
            pointer="/query",
        )
    vector_only = request.vector is not None or request.recommend is not None
    mode: Mode = request.mode or _richest_mode(request, state, vector_only)
    if vector_only and mode != "dense":
        raise InvalidInput(
            f"a search by vector or by examples has no words and no facets for mode {mode!r}; use mode 'dense'",
            pointer="/mode",
        )
    if mode in WITH_WORDS and state.lexical is None:
        raise InvalidInput(
            f"mode {mode!r} needs a lexical index, which this collection was built without", pointer="/mode"
        )
    if mode != "lexical" and state.dense is None:
        raise InvalidInput(
            f"mode {mode!r} needs a dense index, which this collection was built without; use mode 'lexical' "
            "or rebuild it with `--mode-set lexical,dense`",
            pointer="/mode",
        )
    check_facets(request, mode, state)
    return mode


def _richest_mode(request: SearchRequest, state: IndexState, vector_only: bool) -> Mode:
    if state.dense is None:
        return "lexical"
    if vector_only or state.lexical is None:
        return "facet" if request.facets is not None and not vector_only else "dense"
    return "hybrid"


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
    if mode in WITH_WORDS:
        document = fetch([document_id])[0]
        text = document.content if document else ""
    if mode != "lexical" and state.dense is not None:
        if ordinal in state.bare:
            raise Conflict(
                f"document {document_id!r} has no vector yet, its build was interrupted; finish it with "
                "`facetrail index build --out DIR --resume`, or use mode 'lexical'"
            )
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
