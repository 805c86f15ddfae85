"""What a recommender by hints answers: items with signed hints and their support, and who decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from facetrail.models.language.records import Kind
from facetrail.models.recommend.hint_text import OPENINGS, Hint, Polarity, Provenance
from facetrail.models.recommend.records import Reason

Mode = Literal["discovery", "lm", "blend"]


@dataclass(frozen=True, slots=True)
class Reasoner:
    """What decided. kind: `none` where no language model was asked."""

    kind: Kind | Literal["none"]
    name: str
    pretrained: bool


@dataclass(frozen=True, slots=True)
class ShownHint:
    """A hint with its support: ids of own items, and a count of similar users, never who they are."""

    relation: str
    value: str
    polarity: Polarity
    provenance: Provenance
    credibility: float
    own_items: tuple[str, ...]
    similar_users: int


@dataclass(frozen=True, slots=True)
class HintedItem:
    """One item. null_weight: the item side's share of "no hint" · text: the hints as a prompt has them · n_tokens: of
    the text · flags: among `cold_user` and `cold_attributes`.
    """

    id: str
    score: float
    rank: int
    hints: tuple[ShownHint, ...]
    null_weight: float
    text: str
    n_tokens: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HintAnswer:
    """Items, higher scores first, and what decided."""

    mode: Mode
    reasoner: Reasoner
    items: tuple[HintedItem, ...]


def shown_hint(hint: Hint, ids: Sequence[str]) -> ShownHint:
    """ids: of every item, by number."""
    return ShownHint(
        hint.relation, hint.value, hint.polarity, hint.provenance, hint.credibility,
        tuple(ids[item] for item in hint.own_items), hint.n_similar,
    )  # fmt: skip


def as_reason(hint: ShownHint) -> Reason:
    """In the words that every recommender's reasons have."""
    attribute = f"{hint.relation}: {hint.value}"
    support = f"{len(hint.own_items)} items of the history, {hint.similar_users} similar users"
    said = f"{OPENINGS[hint.polarity, hint.provenance]} — {attribute} ({support}; credibility {hint.credibility:.2f})"
    return Reason("attribute", (attribute,), hint.credibility, said)
