"""The shapes that answers have, for the OpenAPI description. The service writes its answers itself, once."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.app.schemas import SectionIn
from facetrail.indexing.request import Mode


class Shape(BaseModel):
    """Base of the answers' shapes: they describe and check nothing."""


class DocumentShape(Shape):
    """A stored document."""

    id: str
    text: str
    title: str = ""
    sections: list[SectionIn] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)


class SourceShape(Shape):
    """What one source said of a hit; `weight` × `normalised` summed over the sources is the score."""

    name: str
    raw: float | None
    normalised: float
    rank: int | None
    weight: float


class TermShape(Shape):
    """One query term's share of the BM25 score."""

    term: str
    tf: int
    df: int
    idf: float
    contribution: float


class HighlightShape(Shape):
    """Characters [start, end) of the named field."""

    field: str
    start: int
    end: int


class FacetMatchShape(Shape):
    """One facet's share of `s_k`: `weight` × `score`.

    `matched` is the facet of the document that came nearest; where the request gave weights, the facet itself.
    """

    facet: str
    weight: float
    score: float
    matched: str


class FacetSentenceShape(Shape):
    """The sentence that a facet's vector looked at most: characters [start, end) of the named field."""

    facet: str
    field: str
    start: int
    end: int
    weight: float
    role: str


class FacetExplanationShape(Shape):
    """The facet score, opened up: (1 - `mixing`) × `s_1` + `mixing` × `s_k`."""

    s_1: float
    s_k: float
    mixing: float
    matches: list[FacetMatchShape]
    sentences: list[FacetSentenceShape]
    prior_query: dict[str, float]
    prior_document: dict[str, float]
    gate: dict[str, float]


class ExplanationShape(Shape):
    """Why a hit stands where it stands; `facets` is null where facets played no part."""

    sources: list[SourceShape]
    terms: list[TermShape]
    highlights: list[HighlightShape]
    facets: FacetExplanationShape | None


class HitShape(Shape):
    """One found document."""

    id: str
    score: float
    payload: DocumentShape | None
    explanation: ExplanationShape | None


class SearchShape(Shape):
    """One page of hits: score descending, then id ascending in UTF-8 byte order.

    `facets`, the weights that were used, sum to 1; they and `task` are null where facets played no part.
    """

    hits: list[HitShape]
    mode: Mode
    generation: int
    warnings: list[str]
    next_cursor: str | None
    facets: dict[str, float] | None
    task: Literal["question", "document"] | None
    timings_ms: dict[str, float]


class BatchShape(Shape):
    """One result a query, in the order of the queries."""

    results: list[SearchShape]


class PutShape(Shape):
    """What a PUT did."""

    created: int
    updated: int
    unchanged: int
    change: int


class DeleteShape(Shape):
    """What was deleted, and which of the ids did not exist."""

    deleted: list[str]
    missing: list[str]
    change: int


class BuildShape(Shape):
    """The newest background build. Times are seconds since the epoch."""

    status: Literal["none", "running", "done", "failed"]
    started: float | None
    finished: float | None
    generation: int | None
    error: str | None


class CollectionShape(Shape):
    """A collection in service; `facets` is empty where its encoder knows none, `recommenders` where none was fitted."""

    model_config = ConfigDict(extra="allow")

    name: str
    n_documents: int
    modes: list[str]
    facets: list[str]
    generation: int
    recommenders: list[str]
    build: BuildShape


class CollectionsShape(Shape):
    """Every collection; `default` is the one that a request without `collection` means."""

    collections: list[CollectionShape]
    default: str | None


class ProblemShape(Shape):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    pointer: str | None = None


class EmbeddingShape(Shape):
    """One unit vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class UsageShape(Shape):
    """Tokens of the input before cutting; whitespace words where the encoder's folder has no tokenizer.json."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsShape(Shape):
    """OpenAI's answer."""

    object: Literal["list"]
    data: list[EmbeddingShape]
    model: str
    usage: UsageShape


class RankedShape(Shape):
    """One document's place: its index in the request and its score, higher is better."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RankingShape(Shape):
    """How the scores were made."""

    method: Literal["dense", "lexical", "hybrid"]


class RerankShape(Shape):
    """Cohere's answer, best document first."""

    id: str
    results: list[RankedShape]
    meta: RankingShape


class ValueShape(Shape):
    """A value of a field and how many documents have it."""

    value: Any
    n_documents: int


class FieldShape(Shape):
    """A metadata field: what it holds, in how many documents, and its most frequent values."""

    key: str
    kinds: list[str]
    n_values: int
    n_documents: int
    values: list[ValueShape]


class FieldsShape(Shape):
    """The metadata fields that a filter may name."""

    fields: dict[str, FieldShape]


class JudgedQueryShape(Shape):
    """A query and the documents that answer it: id → grade, 1 or above. Not all of them need to be stored."""

    id: str
    text: str
    relevant: dict[str, int]


class JudgementsShape(Shape):
    """The judged queries of a collection, in the order in which they were given."""

    queries: list[JudgedQueryShape]


class StateShape(Shape):
    """The state of the service."""

    state: Literal["alive", "opening", "ready", "draining", "closed"]
