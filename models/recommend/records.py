"""The nouns of recommendation: what people did, and what is proposed to them."""

from dataclasses import dataclass
from typing import Literal

ReasonType = Literal["because_you", "attribute", "role", "popular", "cold"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a user did with an item. Two events of equal user, item, action and time are one."""

    user: str
    item: str
    action: str
    time: int
    """Milliseconds since 1970 in UTC."""
    value: float | None = None
    """For instance the stars of a rating."""
    request_id: str | None = None
    """The recommendation request that showed the item."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a recommendation came from: a scorer, and the item's place in its own ranking."""

    name: str
    rank: int
    """From 1."""
    score: float


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is proposed, from measured fields alone; `text` says no more than they do."""

    type: ReasonType
    evidence: tuple[str, ...]
    """Ids of the items, or names of the attributes, that carry it."""
    weight: float
    """Share of the score, or credibility, in the unit of its source."""
    text: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One proposed item; higher scores first, equal ones by id."""

    id: str
    score: float
    rank: int
    """From 1."""
    sources: tuple[Source, ...] = ()
    reasons: tuple[Reason, ...] = ()
    flags: tuple[str, ...] = ()
    """Among `cold` (the item was never seen in training) and `fallback` (nothing was known of the user)."""
