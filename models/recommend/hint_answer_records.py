"""What a recommender by hints answers: items with signed hints and their support, and who decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from facetrail.models.language.records import Kind
from facetrail.models.recommend.hint_text import OPENINGS, Hint
from facetrail.models.recommend.records import ItemHints, Reason, ShownHint

Mode = Literal["discovery", "lm", "blend"]


@dataclass(frozen=True, slots=True)
class Reasoner:
    """What decided. kind: `none` where no language model was asked."""

    kind: Kind | Literal["none"]
    name: str
    pretrained: bool


@dataclass(frozen=True, slots=True)
class HintedItem:
    """One item. rank: from 1."""

    id: str
    score: float
    rank: int
    hints: ItemHints


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
        tuple(ids[item] for item in hint.own_items), hint.n_liked, hint.n_similar,
    )  # fmt: skip


def as_reason(hint: ShownHint) -> Reason:
    """In the words that every recommender's reasons have."""
    attribute = f"{hint.relation}: {hint.value}"
    own = f"{_counted(len(hint.own_items), 'item')} of the history"
    own += f", {hint.own_liked} of them liked" if hint.own_items else ""
    support = f"{own}, {_counted(hint.similar_users, 'similar user')}"
    said = f"{OPENINGS[hint.polarity, hint.provenance]} — {attribute} ({support}; credibility {hint.credibility:.2f})"
    return Reason("attribute", (attribute,), hint.credibility, said)


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
