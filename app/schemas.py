"""What requests bring: bodies and query strings. What answers look like stands in `facetrail.app.shapes`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.indexing.request import Mode, SearchRequest

COLLECTION = "Name of the collection; the first one of the service if left out."


class Body(BaseModel):
    """Base of every request body: unknown fields, NaN and Infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BatchSearch(SearchRequest):
    """What the searches of a batch have in common."""

    model_config = ConfigDict(allow_inf_nan=False)


class SearchBody(SearchRequest):
    """One search. Exactly one of `query`, `like`, `vector` and `recommend` says what is looked for."""

    model_config = ConfigDict(
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"query": "does aspirin lower the risk of colorectal cancer", "limit": 5},
                {"query": "graph neural networks", "mode": "lexical", "explain": True},
                {
                    "query": "how are citations predicted",
                    "mode": "facet",
                    "facets": {"method": 0.8, "result": 0.2},
                    "explain": True,
                },
                {"like": "paper-017", "mode": "facet", "facets": {"method": 1.0}},
                {"like": "paper-017", "filter": {"must": [{"key": "year", "range": {"gte": 2020}}]}},
            ]
        },
    )

    collection: str | None = Field(default=None, description=COLLECTION)


class BatchBody(Body):
    """The same search for many query texts."""

    queries: list[str] = Field(min_length=1, max_length=10_000, examples=[["first question", "second question"]])
    search: BatchSearch = Field(default=BatchSearch(), description="Everything but the query text.")
    collection: str | None = Field(default=None, description=COLLECTION)


class SectionIn(Body):
    """A named part of a document."""

    name: str
    text: str


class DocumentIn(Body):
    """A document to add, or to put in the place of the one with the same id."""

    id: str = Field(min_length=1, max_length=512, description="1 to 512 bytes of UTF-8.")
    text: str
    title: str = ""
    sections: list[SectionIn] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)


class DocumentsBody(Body):
    """Documents to add or replace, all of them or, on an error, none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"documents": [{"id": "a-1", "title": "On search", "text": "An abstract.", "metadata": {"year": 2024}}]}
            ]
        }
    )

    documents: list[DocumentIn] = Field(min_length=1)
    collection: str | None = Field(default=None, description=COLLECTION)


class DeleteBody(Body):
    """What to delete: either ids or a filter."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": ["a-1", "a-2"]}]})

    ids: list[str] | None = Field(default=None, min_length=1)
    filter: dict[str, Any] | None = Field(default=None, min_length=1)
    collection: str | None = Field(default=None, description=COLLECTION)


class EmbeddingsBody(Body):
    """The request of OpenAI's `/v1/embeddings`, with `input_type` for encoders that prefix queries."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": ["first text", "second text"]}]})

    input: str | list[str] = Field(min_length=1)
    model: str | None = Field(default=None, description="Read by nobody: a collection has one encoder.")
    encoding_format: Literal["float", "base64"] = "float"
    input_type: Literal["document", "query"] = "document"
    facet: str | None = Field(
        default=None, description="The vector of this facet, one of the collection's, in place of the whole text's."
    )
    dimensions: int | None = Field(default=None, ge=1, description="Must be the encoder's own, if given.")
    user: str | None = None
    collection: str | None = Field(default=None, description=COLLECTION)


class RerankDocument(Body):
    """A document to rank, as Cohere's API takes it."""

    text: str


class RerankBody(Body):
    """The request of Cohere's rerank, with `method`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "who won", "documents": ["A won.", "It rained."], "top_n": 1}]}
    )

    query: str = Field(min_length=1, max_length=100_000)
    documents: list[str | RerankDocument] = Field(min_length=1)
    top_n: int | None = Field(default=None, ge=1)
    method: Literal["dense", "lexical", "hybrid"] | None = Field(
        default=None,
        description="dense: cosine of the encoder. lexical: BM25 with the given documents as the corpus. hybrid: equal "
        "shares of both, each z-normalised over the given documents. Left out: hybrid, or lexical without an encoder.",
    )
    return_documents: bool = False
    model: str | None = Field(default=None, description="Read by nobody: a collection has one encoder.")
    collection: str | None = Field(default=None, description=COLLECTION)


class SearchParameters(BaseModel):
    """The query string of `GET /v1/search`; values arrive as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    q: str | None = Field(default=None, max_length=100_000, description="The query text.")
    like: str | None = Field(default=None, description="A document id: finds documents similar to it.")
    mode: Mode | None = None
    facets: dict[str, float] | Literal["auto"] | None = Field(
        default=None, description='Weights of the facets as a JSON object, or "auto".'
    )
    rescore_depth: int = Field(
        default=200, ge=1, le=1_000, description="Mode `facet`: how many documents are scored again by their facets."
    )
    filter: dict[str, Any] | None = Field(default=None, description="A filter tree as JSON.")
    limit: int = Field(default=10, ge=1, le=1_000)
    offset: int = Field(default=0, ge=0)
    cursor: str | None = None
    score_threshold: float | None = None
    with_payload: bool = True
    explain: bool = False
    collection: str | None = Field(default=None, description=COLLECTION)


class CollectionParameter(BaseModel):
    """The query string of routes that name one document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str | None = Field(default=None, description=COLLECTION)
