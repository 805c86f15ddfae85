"""What the client's calls may be given by name: the fields of the request bodies, which describe them."""

from typing import Any, Literal, TypedDict

from facetrail.indexing.request import Mode


class SearchOptions(TypedDict, total=False):
    """Of `facetrail.app.schemas.SearchBody`, beside the query."""

    like: str
    vector: list[float]
    recommend: dict[str, Any]
    mode: Mode
    fusion: dict[str, Any]
    facets: dict[str, float] | Literal["auto"]
    rescore_depth: int
    filter: dict[str, Any]
    limit: int
    offset: int
    cursor: str
    score_threshold: float
    with_payload: bool
    explain: bool
    force: bool
    collection: str


class ReasonOptions(TypedDict, total=False):
    """Of `facetrail.app.reason_schemas.ReasonBody`, beside the question and `stream`."""

    mode: Mode
    facets: dict[str, float] | Literal["auto"]
    filter: dict[str, Any]
    limit: int
    max_tokens: int
    temperature: float
    about: Literal["documents", "recommendations"]
    user: str
    history: list[str | dict[str, Any]]
    collection: str


class RecommendOptions(TypedDict, total=False):
    """Of `facetrail.app.recommend_schemas.RecommendBody`, beside the user."""

    history: list[str | dict[str, Any]]
    strategy: str
    hints: dict[str, Any]
    item: str
    limit: int
    offset: int
    cursor: str
    filter: dict[str, Any]
    allow: list[str]
    exclude: list[str]
    filter_seen: bool
    exclude_shown: dict[str, int]
    diversity: dict[str, float]
    explain: bool
    log_impression: bool
    with_payload: bool
    collection: str
