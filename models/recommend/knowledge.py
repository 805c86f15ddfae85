"""A knowledge graph around items, and the attributes that it gives them.

An attribute is a (relation, tail) that items share: (genre, Comedy). Those on too few items teach nothing, those on
very many tell nothing; both are left out. Choices of ours: every relation has a marked inverse; an inverse that says
what a given relation says already (the same tail on the same items) is dropped.

Letters: m items, t triples, a attributes. Ids are numbers inside, names outside.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Vocabulary

INVERSE = "~"
"""Stands before the id of a relation that was turned round."""


class Triple(NamedTuple):
    """head and tail: ids of entities; relation: id of a relation."""

    head: str
    relation: str
    tail: str


@dataclass(frozen=True)
class KnowledgeGraph:
    """Triples by number, the inverse of each included.

    triples: (t, 3) int32 head, relation, tail · links: (m,) int32 the entity of each item, -1 where it has none.
    names: readable, of entities and relations by id; what has none is never shown.
    """

    items: Vocabulary
    entities: Vocabulary
    relations: Vocabulary
    triples: NDArray[np.int32]
    links: NDArray[np.int32]
    names: Mapping[str, str]

    @property
    def linked_share(self) -> float:
        """Share of the items that the graph knows."""
        return float((self.links >= 0).mean())


def build_graph(
    triples: Iterable[Triple], links: Mapping[str, str], items: Vocabulary, *, names: Mapping[str, str]
) -> KnowledgeGraph:
    """Numbers triples and links. links: item id → entity id; items without one have no attributes.

    Raises InvalidInput where no item is linked to an entity of the triples.
    """
    given = sorted(set(triples))
    both_ways = given + [Triple(one.tail, INVERSE + one.relation, one.head) for one in given]
    entities = Vocabulary(tuple(sorted({name for one in given for name in (one.head, one.tail)})))
    forward = sorted({one.relation for one in given})
    relations = Vocabulary((*forward, *(INVERSE + name for name in forward)))
    numbered = [(entities.numbers[h], relations.numbers[r], entities.numbers[t]) for h, r, t in both_ways]
    linked = [entities.numbers.get(links.get(item, ""), -1) for item in items.ids]
    if max(linked, default=-1) < 0:
        raise InvalidInput(
            f"none of the {len(items):,} items is linked to one of the graph's {len(entities):,} entities, so it can "
            "hint at nothing; give links from item ids to entity ids"
        )
    table = np.array(numbered, np.int32).reshape(-1, 3)
    return KnowledgeGraph(items, entities, relations, table, np.array(linked, np.int32), dict(names))


class AttributeConfig(BaseModel):
    """Which attributes are worth looking at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_items: int = Field(default=4, ge=1)
    """Attributes on fewer items are left out."""
    max_share: float = Field(default=0.3, gt=0, le=1)
    """Attributes on a larger share of the items are left out."""
    per_item: int = Field(default=64, ge=1)
    """An item keeps so many, those on the fewest items first."""
    relations_deny: tuple[str, ...] = ()
    """Relations by id or readable name whose attributes are never looked at, in either direction."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of m items.

    relations, tails: (a,) by number of the graph · idf: (a,) log of items per item that has it · starts: (m + 1,) and
    rows: the attributes of each item, ascending · relation_names, tail_names: (a,) readable; None is never shown.
    """

    relations: NDArray[np.int64]
    tails: NDArray[np.int64]
    idf: NDArray[np.float32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    relation_names: tuple[str | None, ...]
    tail_names: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.idf)

    @property
    def n_items(self) -> int:
        """m."""
        return len(self.starts) - 1

    def of(self, item: int) -> NDArray[np.int64]:
        """Γ_v: one item's attributes, ascending."""
        return self.rows[self.starts[item] : self.starts[item + 1]]

    def regrouped(self, lists: Sequence[NDArray[np.int64]]) -> "Attributes":
        """Under the same numbers; items have those of these lists, one each."""
        starts = np.cumsum([0, *map(len, lists)]).astype(np.int64)
        return replace(self, starts=starts, rows=np.concatenate([*lists, np.empty(0, np.int64)]))

    def only(self, kept: NDArray[np.bool_]) -> "Attributes":
        """Under the same numbers; items have none but these. kept: (a,)."""
        there = kept[self.rows]
        starts = np.concatenate([[0], np.cumsum(there)]).astype(np.int64)[self.starts]
        return replace(self, starts=starts, rows=self.rows[there])

    def spread(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of several items at once: (which of the items, attribute) of every attribute they have, in their order."""
        counts = self.starts[items + 1] - self.starts[items]
        owners = np.repeat(np.arange(len(items)), counts)
        firsts = np.repeat(self.starts[items] - (np.cumsum(counts) - counts), counts)
        return owners, self.rows[firsts + np.arange(len(owners))]


def build_attributes(graph: KnowledgeGraph, config: AttributeConfig | None = None) -> Attributes:
    """The attributes that the config keeps; none is a valid answer, for which every item is `cold_attributes`."""
    config = config or AttributeConfig()
    holders = _holders(graph, _allowed(graph, config.relations_deny))
    most = config.max_share * len(graph.items)
    kept = [key for key in sorted(holders) if config.min_items <= len(holders[key]) <= most]
    kept = _without_echoes(kept, holders)
    idf = np.array([np.log(len(graph.items) / len(holders[key])) for key in kept], np.float32)
    of_items: list[list[int]] = [[] for _ in graph.items.ids]
    for number, key in enumerate(kept):
        for item in holders[key]:
            of_items[item].append(number)
    cut = [sorted(sorted(found, key=lambda a: (-idf[a], a))[: config.per_item]) for found in of_items]
    relation_ids = [graph.relations.ids[relation] for relation, _ in kept]
    return Attributes(
        relations=np.array([relation for relation, _ in kept], np.int64),
        tails=np.array([tail for _, tail in kept], np.int64),
        idf=idf,
        starts=np.cumsum([0, *(len(found) for found in cut)]).astype(np.int64),
        rows=np.array([number for found in cut for number in found], np.int64),
        relation_names=tuple(graph.names.get(name) for name in relation_ids),
        tail_names=tuple(graph.names.get(graph.entities.ids[tail]) for _, tail in kept),
    )


Key = tuple[int, int]
"""(relation, tail) by number."""


def _allowed(graph: KnowledgeGraph, denied: Collection[str]) -> NDArray[np.bool_]:
    """(relations,) whether its attributes may be looked at."""
    bare = [name.removeprefix(INVERSE) for name in graph.relations.ids]
    said = [{name, graph.names.get(name, name)} for name in bare]
    if unknown := sorted(set(denied) - set().union(*said)):
        raise InvalidInput(f"the graph has no relation {', '.join(unknown)} to deny; correct the name")
    return np.array([not names & set(denied) for names in said], np.bool_)


def _holders(graph: KnowledgeGraph, allowed: NDArray[np.bool_]) -> dict[Key, tuple[int, ...]]:
    """Attribute → the items that have it, ascending."""
    items_of: dict[int, list[int]] = {}
    for item, entity in enumerate(graph.links.tolist()):
        if entity >= 0:
            items_of.setdefault(entity, []).append(item)
    found: dict[Key, set[int]] = {}
    for head, relation, tail in graph.triples.tolist():
        if head in items_of and allowed[relation]:
            found.setdefault((relation, tail), set()).update(items_of[head])
    return {key: tuple(sorted(items)) for key, items in found.items()}


def _without_echoes(kept: Sequence[Key], holders: Mapping[Key, tuple[int, ...]]) -> list[Key]:
    """Leaves out what an attribute of a lower relation number, given ones first, says already."""
    said: set[tuple[int, tuple[int, ...]]] = set()
    fresh = []
    for relation, tail in kept:
        saying = (tail, holders[relation, tail])
        if saying not in said:
            said.add(saying)
            fresh.append((relation, tail))
    return fresh
