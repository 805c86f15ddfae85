"""What a language model may ask of a collection: search, similar, recommend. Free of the protocol that carries it.

Every tool has a closed schema for its arguments and one for its answer, whose items all carry an id and a passage.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.app.passages import passage_of
from facetrail.indexing.recommend_request import RecommendRequest
from facetrail.indexing.recommending import Recommending
from facetrail.indexing.request import Hit, SearchRequest
from facetrail.indexing.searcher import Searcher
from facetrail.models.recommend.records import Recommendation
from facetrail.models.records import Document

Limit = Field(default=5, ge=1, le=50, description="How many to return.")
Condition = Field(
    default=None,
    description='Only documents whose metadata fit: {"year": {"gte": 2020}, "topic": "graph learning"}, or a tree of '
    "must, should and must_not. The server's instructions name the fields.",
)
Weights = Field(
    default=None,
    description='How much each facet of the documents counts, for instance {"method": 0.8, "result": 0.2}. '
    "The server's instructions name the facets, if the collection has any.",
)


class Arguments(BaseModel):
    """Base of every tool's arguments: unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchArguments(Arguments):
    """Of `search`."""

    query: str = Field(min_length=1, max_length=10_000, description="A question, or words.")
    limit: int = Limit
    mode: Literal["lexical", "dense", "hybrid", "facet"] | None = Field(
        default=None,
        description="lexical: by words; dense: by meaning; hybrid: both, the default where there are both.",
    )
    facets: dict[str, float] | None = Weights
    filter: dict[str, Any] | None = Condition


class SimilarArguments(Arguments):
    """Of `similar`."""

    id: str = Field(min_length=1, max_length=512, description="Id of the document to be near to.")
    limit: int = Limit
    facets: dict[str, float] | None = Weights
    filter: dict[str, Any] | None = Condition


class RecommendArguments(Arguments):
    """Of `recommend`."""

    user: str | None = Field(default=None, min_length=1, max_length=512, description="A user whose events are stored.")
    history: list[str] | None = Field(
        default=None,
        max_length=1_000,
        description="Ids of documents that somebody liked, oldest first; an empty list asks for what is popular.",
    )
    limit: int = Limit
    exclude: list[str] = Field(default_factory=list, max_length=1_000, description="Ids that may not be returned.")
    filter: dict[str, Any] | None = Condition


class Found(BaseModel):
    """One document; higher scores come first and compare only within one answer."""

    id: str
    title: str
    score: float
    passage: str = Field(description="A part of the document's text, word for word.")
    metadata: dict[str, Any]


class FoundAnswer(BaseModel):
    """Of `search` and `similar`."""

    hits: list[Found]
    warnings: list[str]


class Recommended(Found):
    """One recommended document."""

    reasons: list[str] = Field(description="Why, from measured fields alone.")


class RecommendAnswer(BaseModel):
    """Of `recommend`."""

    items: list[Recommended]
    fallback: bool = Field(description="True: nothing was known of the user, so these are what is popular.")
    warnings: list[str]


@dataclass(frozen=True)
class Tool:
    """Something a model may call."""

    name: str
    description: str
    arguments: type[BaseModel]
    answer: type[BaseModel]
    run: Callable[[Any], BaseModel]
    """Takes checked `arguments`, returns an `answer`, raises errors of `facetrail.models.errors`."""


def tools_of(searcher: Searcher) -> tuple[Tool, ...]:
    """The tools that need no language model, over an open collection."""
    recommending = Recommending(searcher)
    return (
        Tool(
            "search",
            "Finds documents of the collection by a question or by words, best first. Each hit has its id, title, "
            "metadata and the passage that fits the query best. Use it before saying what the collection holds.",
            SearchArguments,
            FoundAnswer,
            lambda given: _search(searcher, given),
        ),
        Tool(
            "similar",
            "Finds documents that are similar to one document, named by an id from another answer; best first. With "
            "`facets`, similar in some of their aspects only.",
            SimilarArguments,
            FoundAnswer,
            lambda given: _similar(searcher, given),
        ),
        Tool(
            "recommend",
            "Recommends documents to a stored user, or to somebody whose `history` of document ids is sent along, with "
            "the reasons; what the user has seen is left out. Give `user`, `history` or both.",
            RecommendArguments,
            RecommendAnswer,
            lambda given: _recommend(searcher, recommending, given),
        ),
    )


def instructions_of(searcher: Searcher) -> str:
    """What a model should know of the collection before it calls a tool."""
    info = searcher.info()
    fields = [f"{key} ({'/'.join(field['kinds'])}{_values(field)})" for key, field in searcher.field_counts(5).items()]
    parts = [
        f"The collection {info.name!r} holds {info.n_documents:,} documents and {info.n_events:,} events of users.",
        f"Facets: {', '.join(info.facets)}." if info.facets else "",
        f"Fields for filters: {'; '.join(fields)}." if fields else "",
        "Name the ids of the documents that an answer rests on.",
    ]
    return " ".join(part for part in parts if part)


def _values(field: Mapping[str, Any]) -> str:
    shown = [str(one["value"])[:40] for one in field["values"]]
    return f", for instance {', '.join(shown)}" if shown else ""


def _search(searcher: Searcher, given: SearchArguments) -> FoundAnswer:
    return _found(searcher, SearchRequest(**given.model_dump(exclude_unset=True), explain=True))


def _similar(searcher: Searcher, given: SimilarArguments) -> FoundAnswer:
    asked = given.model_dump(exclude_unset=True, exclude={"id"})
    return _found(searcher, SearchRequest(**asked, like=given.id, mode="facet" if given.facets is not None else None))


def _found(searcher: Searcher, request: SearchRequest) -> FoundAnswer:
    result = searcher.search(request)
    return FoundAnswer(hits=[_hit(hit) for hit in result.hits], warnings=list(result.warnings))


def _hit(hit: Hit) -> Found:
    document = hit.payload or Document(hit.id, "")
    highlights = hit.explanation.highlights if hit.explanation is not None else ()
    return Found(**_described(document, passage_of(document.text, highlights)), score=hit.score)


def _recommend(searcher: Searcher, recommending: Recommending, given: RecommendArguments) -> RecommendAnswer:
    result = recommending.recommend(RecommendRequest(**given.model_dump(exclude_unset=True), explain=True))
    documents = searcher.collection.get_many([item.id for item in result.items])
    items = [_item(*pair) for pair in zip(result.items, documents, strict=True)]
    return RecommendAnswer(items=items, fallback=result.fallback, warnings=list(result.warnings))


def _item(item: Recommendation, document: Document | None) -> Recommended:
    found = document or Document(item.id, "")
    reasons = [reason.text for reason in item.reasons]
    return Recommended(**_described(found, passage_of(found.text)), score=item.score, reasons=reasons)


def _described(document: Document, passage: str) -> dict[str, Any]:
    return {"id": document.id, "title": document.title, "passage": passage, "metadata": dict(document.metadata)}
