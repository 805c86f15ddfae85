"""What a search may ask for and what it answers; the command line, the service and Python share these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.records import Document

Mode = Literal["lexical", "dense", "facet", "hybrid"]
MAX_LIMIT = 1_000
MAX_DEPTH = 10_000


class Closed(BaseModel):
    """Base of every request part: unknown fields are refused, values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FusionConfig(Closed):
    """How the rankings of several sources become one; the formulas stand in `facetrail.indexing.fusion`."""

    method: Literal["z", "minmax", "rrf", "dbsf"] = "z"
    weights: dict[Literal["lexical", "dense"], float] | None = None
    """Share of each source, not negative, not all zero; normalised to sum 1. None: equal shares."""
    k: int = Field(default=60, ge=1, le=10_000)
    """Reciprocal rank fusion's constant; the other methods do not read it."""
    depth: int = Field(default=1_000, ge=1, le=MAX_DEPTH)
    """Documents taken from each source. Independent of limit and offset, so that pages agree with each other."""


class Examples(Closed):
    """Search by example: ids of documents to be near to and far from."""

    positive: list[str] = Field(min_length=1, max_length=100)
    negative: list[str] = Field(default_factory=list, max_length=100)
    strategy: Literal["average", "best", "sum"] = "average"


class SearchRequest(Closed):
    """One search. Exactly one of `query`, `like`, `vector` and `recommend` says what is looked for."""

    query: str | None = Field(default=None, max_length=100_000)
    like: str | None = None
    """A document id: finds documents similar to it; the document itself is left out."""
    vector: list[float] | None = None
    recommend: Examples | None = None
    mode: Mode | None = None
    """None: hybrid where the collection has both sources, else the one it has."""
    fusion: FusionConfig = FusionConfig()
    facets: dict[str, float] | Literal["auto"] | None = None
    """Weights of the facets, not negative, not all zero; "auto" and None in mode `facet`: the query's own intent.
    Weights compare each facet with the same facet alone; the query's intent lets another facet match, at a price.
    In mode `hybrid` they turn the dense source into the facet source; the other modes refuse them."""
    rescore_depth: int = Field(default=200, ge=1, le=1_000)
    """Mode `facet`: documents taken from the dense index and scored again by their facets."""
    filter: dict[str, Any] | None = None
    """A tree of must / should / must_not over metadata; see `facetrail.indexing.filters`."""
    limit: int = Field(default=10, ge=1, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0)
    cursor: str | None = None
    """`next_cursor` of the page before; replaces offset."""
    score_threshold: float | None = None
    with_payload: bool = True
    explain: bool = False
    force: bool = False
    """Allows `score_threshold` on reciprocal rank fusion, whose scores have no meaning of their own."""


@dataclass(frozen=True, slots=True)
class SourceScore:
    """What one source said of a hit. rank counts from 1; None where the source did not list the document."""

    name: str
    raw: float | None
    normalised: float
    rank: int | None
    weight: float


@dataclass(frozen=True, slots=True)
class TermContribution:
    """One query term's share of a BM25 score; the contributions of a hit sum to its lexical score."""

    term: str
    tf: int
    df: int
    idf: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Highlight:
    """A matched word: characters [start, end) of the named field (`title` or `text`)."""

    field: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FacetMatch:
    """One facet's share: its weight in this search, its score, and the facet of the document that matched it.

    `matched` is the facet itself wherever the request gave weights.
    """

    facet: str
    weight: float
    score: float
    matched: str


@dataclass(frozen=True, slots=True)
class FacetSentence:
    """The sentence a facet vector looked at most: characters [start, end) of the named field, attention in [0, 1]."""

    facet: str
    field: str
    start: int
    end: int
    weight: float
    role: str
    """The rhetorical role the encoder gives this sentence."""


@dataclass(frozen=True, slots=True)
class FacetExplanation:
    """Facet search, opened up: score = (1 - mixing) · s_1 + mixing · s_k, and s_k is the sum of weight · score."""

    s_1: float
    s_k: float
    mixing: float
    matches: Sequence[FacetMatch]
    sentences: Sequence[FacetSentence]
    prior_query: Mapping[str, float]
    prior_document: Mapping[str, float]
    gate: Mapping[str, float]
    """How much the document's vector took from each granularity: document, token, sentence, paragraph."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a hit stands where it stands; `sources` recompute its score."""

    sources: Sequence[SourceScore] = ()
    terms: Sequence[TermContribution] = ()
    highlights: Sequence[Highlight] = ()
    facets: FacetExplanation | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document."""

    id: str
    score: float
    payload: Document | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of hits, in total order: score descending, then id ascending in UTF-8 byte order."""

    hits: Sequence[Hit]
    mode: Mode
    generation: int
    warnings: Sequence[str] = ()
    next_cursor: str | None = None
    facets: Mapping[str, float] | None = None
    """The facet weights that were used, summing to 1; None where facets played no part."""
    task: Literal["question", "document"] | None = None
    """What a facet encoder took the query for."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
