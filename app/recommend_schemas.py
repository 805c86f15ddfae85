"""What requests for events and recommendations bring, and the shapes of their answers."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.app.schemas import COLLECTION, Body
from facetrail.app.shapes import DocumentShape, Shape
from facetrail.indexing.recommend_request import MAX_DEPTH, MAX_LIMIT, RecommendRequest


class EventIn(Body):
    """One thing that a user did with an item."""

    user: str = Field(min_length=1, max_length=512, description="1 to 512 bytes of UTF-8, as item and action.")
    item: str = Field(min_length=1, max_length=512, description="A document's id; it may be added later.")
    action: str = Field(min_length=1, max_length=512, examples=["view", "order", "rating"])
    time: int = Field(description="Milliseconds since 1970 in UTC.")
    value: float | None = Field(default=None, description="For instance the stars of a rating.")
    request_id: str | None = Field(
        default=None, min_length=1, max_length=512, description="Of the recommendation that showed the item."
    )


class EventsBody(Body):
    """Events to add, all of them or, on an error, none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"events": [{"user": "ann", "item": "a-1", "action": "view", "time": 1750000000000}]}]
        }
    )

    events: list[EventIn] = Field(min_length=1)
    collection: str | None = Field(default=None, description=COLLECTION)


class RecommendBody(RecommendRequest):
    """One recommendation: for a stored `user`, for a `history` sent along, or for both, the stored events first."""

    model_config = ConfigDict(
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"user": "ann", "limit": 5, "explain": True},
                {"history": ["a-1", "a-7"], "exclude": ["a-9"], "filter": {"year": {"gte": 2020}}},
                {"history": [], "strategy": "popular"},
                {"strategy": "similar", "item": "a-1", "diversity": {"lambda": 0.3}},
                {"user": "ann", "strategy": "hints", "hints": {"mode": "discovery"}, "explain": True},
                {"user": "ann", "log_impression": True, "exclude_shown": {"window": 604800000, "max": 3}},
            ]
        },
    )

    with_payload: bool = Field(default=False, description="True: every item comes with its document.")
    collection: str | None = Field(default=None, description=COLLECTION)


class RecommendParameters(BaseModel):
    """The query string of `GET /v1/recommend`; values arrive as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    user: str | None = Field(default=None, min_length=1, max_length=512, description="Whose events to start from.")
    strategy: str = Field(default="blend", min_length=1, max_length=100)
    item: str | None = Field(
        default=None, min_length=1, max_length=512, description="Strategy `similar`: the document to be near to."
    )
    limit: int = Field(default=10, ge=1, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0, le=MAX_DEPTH - MAX_LIMIT)
    cursor: str | None = None
    filter: dict[str, Any] | None = Field(default=None, description="A filter tree as JSON.")
    filter_seen: bool = True
    explain: bool = False
    collection: str | None = Field(default=None, description=COLLECTION)


class EventsShape(Shape):
    """What a batch of events came to; all of them are on disk and part of the next recommendation.

    `known` has the places in the batch of events that were stored before. `unknown_items` are no documents yet.
    """

    created: int
    known: list[int]
    unknown_items: list[str]


class RecommendSourceShape(Shape):
    """Where an item came from: a scorer, and the item's place in that scorer's own ranking."""

    name: str
    rank: int
    score: float


class ReasonShape(Shape):
    """Why an item is proposed, made from measured fields alone."""

    type: Literal["because_you", "attribute", "role", "popular", "cold"]
    evidence: list[str]
    weight: float
    text: str


class ShownHintShape(Shape):
    """An attribute that speaks for or against an item. Similar users are a count, never who they are."""

    relation: str
    value: str
    polarity: Literal["likes", "dislikes"]
    provenance: Literal["own", "similar"]
    credibility: float
    own_items: list[str]
    own_liked: int
    similar_users: int


class ItemHintsShape(Shape):
    """Of strategy `hints`: `null_weight` is the share of credibility that says "no hint", `text` what a language model
    reads."""

    shown: list[ShownHintShape]
    null_weight: float
    text: str
    n_tokens: int
    flags: list[str]


class RecommendationShape(Shape):
    """One proposed item; `reasons` and `hints` are there where `explain` asked for them, `payload` where `with_payload`
    did."""

    id: str
    score: float
    rank: int
    sources: list[RecommendSourceShape]
    reasons: list[ReasonShape]
    flags: list[str]
    hints: ItemHintsShape | None
    payload: DocumentShape | None


class RecommendShape(Shape):
    """One page of items: score descending, then id ascending; with `diversity` in an order of their own.

    `model` is what scored, `fallback` true where nothing was known of the user; send `request_id` back with events.
    """

    items: list[RecommendationShape]
    request_id: str
    model: str
    generation: int
    fallback: bool
    warnings: list[str]
    next_cursor: str | None
