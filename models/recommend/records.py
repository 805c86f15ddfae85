"""The nouns of recommendation: what people did, and what is proposed to them."""

from dataclasses import dataclass
from typing import Literal

from facetrail.models.recommend.hint_text import Polarity, Provenance

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
class ShownHint:
    """A hint with its support: ids of own items, and a count of similar users, never who they are."""

    relation: str
    value: str
    polarity: Polarity
    provenance: Provenance
    credibility: float
    """In [0, 1], relative to the other candidates of the item."""
    own_items: tuple[str, ...]
    """Items of the history that have the attribute."""
    own_liked: int
    """How many of them were liked."""
    similar_users: int
    """Whose history has it."""


@dataclass(frozen=True, slots=True)
class ItemHints:
    """What a model of hints has to say of one item for one user."""

    shown: tuple[ShownHint, ...]
    null_weight: float
    """Share of the credibility among the item's attributes that says: no hint."""
    text: str
    """The hints as a prompt has them."""
    n_tokens: int
    """Of the text, as the reasoner counts them."""
    flags: tuple[str, ...]
    """Among `cold_user` (no event of the user is known) and `cold_attributes` (the item has none)."""


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
    hints: ItemHints | None = None
    """Of strategy `hints`, where reasons are asked for."""
