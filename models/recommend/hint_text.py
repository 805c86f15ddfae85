"""Hints as text: flattened for a prompt, and the same hints as triples for comparison.

    likes — director: A; genre: B | C ## similar users like — actor: D ## dislikes — genre: E

The flattened organisation is the paper's idea, the grammar ours. Names are data: nothing in a name can open a clause,
a group or a value, so what is parsed back is what was written.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from facetrail.models.errors import InvalidInput

Polarity = Literal["likes", "dislikes"]
Provenance = Literal["own", "similar"]
CountTokens = Callable[[str], int]

NAME_LENGTH = 60
"""Characters of a name that are shown."""
BUDGET = 48
"""Tokens of the hints of one item."""
OPENINGS: dict[tuple[Polarity, Provenance], str] = {
    ("likes", "own"): "likes",
    ("likes", "similar"): "similar users like",
    ("dislikes", "own"): "dislikes",
    ("dislikes", "similar"): "similar users dislike",
}
_CLAUSE, _OPENING, _GROUP, _RELATION, _VALUE = " ## ", " — ", "; ", ": ", " | "
_SEPARATORS = re.compile(r"[—;|]|#{2,}")


@dataclass(frozen=True, slots=True)
class Hint:
    """An attribute that speaks for or against an item."""

    attribute: int
    """By number of the graph's attributes."""
    relation: str
    value: str
    polarity: Polarity
    provenance: Provenance
    credibility: float
    """In [0, 1], relative to the other candidates of the same row."""
    own_items: tuple[int, ...] = ()
    """Items of the user's history that have it."""
    n_liked: int = 0
    """How many of them were liked."""
    n_similar: int = 0
    """Similar users whose history has it; never who they are."""


@dataclass(frozen=True, slots=True)
class Group:
    """What a flattened text says of one relation."""

    polarity: Polarity
    provenance: Provenance
    relation: str
    values: tuple[str, ...]


def safe_name(name: str) -> str:
    """A name on one line without the grammar's signs, at most NAME_LENGTH characters; empty if nothing is left."""
    printable = "".join(sign if sign.isprintable() else " " for sign in name)
    # A space each, not nothing: what stood around a sign must not grow together into another one.
    return " ".join(_SEPARATORS.sub(" ", printable).split())[:NAME_LENGTH].strip()


def flatten(hints: Sequence[Hint], *, budget: int = BUDGET, count_tokens: CountTokens) -> str:
    """One line of text within the budget, empty where there is nothing to say.

    Clauses, groups in a clause and values in a group stand in the order of their best credibility. What does not fit
    is left out from the end, a whole value at a time.
    """
    text = ""
    kept: list[Hint] = []
    for hint in _in_order(hints):
        longer = _written([*kept, hint])
        if count_tokens(longer) > budget:
            break
        kept.append(hint)
        text = longer
    return text


def flatten_sides(
    user: Sequence[Hint], item: Sequence[Hint], *, budget: int = BUDGET, count_tokens: CountTokens
) -> tuple[str, str]:
    """Both sides' texts within one budget, the user's for what the item's leave of it: they say less of this item.

    An attribute of both is said once, of the item.
    """
    of_item = {hint.attribute for hint in item}
    last = flatten(item, budget=budget, count_tokens=count_tokens)
    left = budget - (count_tokens(last) if last else 0)
    first = flatten([hint for hint in user if hint.attribute not in of_item], budget=left, count_tokens=count_tokens)
    return first, last


def parse(text: str) -> list[Group]:
    """The groups of a flattened text, in order. Raises InvalidInput where it is none."""
    groups = []
    openings = {said: key for key, said in OPENINGS.items()}
    for clause in text.split(_CLAUSE) if text else []:
        opening, dash, body = clause.partition(_OPENING)
        if not dash or opening not in openings:
            raise InvalidInput(f"{clause!r} opens with none of {', '.join(openings)}; give text as `flatten` writes it")
        for group in body.split(_GROUP):
            relation, colon, values = group.partition(_RELATION)
            if not colon:
                raise InvalidInput(f"{group!r} names no relation; give text as `flatten` writes it")
            groups.append(Group(*openings[opening], relation, tuple(values.split(_VALUE))))
    return groups


def groups_of(hints: Sequence[Hint]) -> list[Group]:
    """What `parse` gives back of the flattened hints, if all fit."""
    found: dict[tuple[Polarity, Provenance, str], list[str]] = {}
    for hint in _in_order(hints):
        found.setdefault((hint.polarity, hint.provenance, _relation(hint)), []).append(safe_name(hint.value))
    return [Group(*key, tuple(dict.fromkeys(values))) for key, values in found.items()]


def as_triples(hints: Iterable[Hint], titles: Mapping[int, str], candidate: str) -> str:
    """`(title, relation, tail)` of every item that carries a hint: the form that flattening is measured against.

    titles: of the user's own items; a hint that none of them has stands at the candidate's title.
    """
    said = []
    for hint in hints:
        heads = [titles[item] for item in hint.own_items if item in titles] or [candidate]
        said += [f"({safe_name(head)}, {_relation(hint)}, {safe_name(hint.value)})" for head in heads]
    return "; ".join(dict.fromkeys(said))


def _written(hints: Sequence[Hint]) -> str:
    clauses: dict[str, list[str]] = {}
    for group in groups_of(hints):
        said = f"{group.relation}{_RELATION}{_VALUE.join(group.values)}"
        clauses.setdefault(OPENINGS[group.polarity, group.provenance], []).append(said)
    return _CLAUSE.join(f"{opening}{_OPENING}{_GROUP.join(groups)}" for opening, groups in clauses.items())


def _in_order(hints: Sequence[Hint]) -> list[Hint]:
    """Clause by clause, group by group, by best credibility; equal ones by what they say. Nameless ones are dropped."""
    named = [hint for hint in hints if safe_name(hint.value) and _relation(hint)]

    def best(*fields: str) -> dict[tuple[object, ...], float]:
        found: dict[tuple[object, ...], float] = {}
        for hint in named:
            key = tuple(getattr(hint, name) for name in fields)
            found[key] = max(found.get(key, 0.0), hint.credibility)
        return found

    clause, group = best("polarity", "provenance"), best("polarity", "provenance", "relation")

    def place(hint: Hint) -> tuple[object, ...]:
        key = (hint.polarity, hint.provenance)
        return (-clause[key], key, -group[(*key, hint.relation)], hint.relation, -hint.credibility, hint.value)

    return sorted(named, key=place)


def _relation(hint: Hint) -> str:
    """A relation's name; unlike a value it may hold no colon."""
    return safe_name(hint.relation.replace(":", " "))
