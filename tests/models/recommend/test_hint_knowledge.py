"""The graph, its attributes, and the public graphs around MovieLens."""

from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.recommend_dbpedia import FilmRow, align_dbpedia
from facetrail.eval.recommend_knowledge import load_ml100k_graph, load_pairs, pairs_graph
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Vocabulary
from facetrail.models.recommend.knowledge import AttributeConfig, Triple, build_attributes, build_graph

ITEMS = Vocabulary(("i0", "i1", "i2", "i3"))
LINKS = {"i0": "e0", "i1": "e1", "i2": "e2"}
TRIPLES = [
    Triple("e0", "genre", "war"),
    Triple("e1", "genre", "war"),
    Triple("e2", "genre", "fun"),
    Triple("war", "has_film", "e0"),
    Triple("war", "has_film", "e1"),
    Triple("ann", "directed", "e1"),
    Triple("ann", "directed", "e2"),
    Triple("ann", "born_in", "rome"),
]
NAMES = {"genre": "genre", "war": "War", "ann": "Ann", "directed": "director of"}


def _graph():
    return build_graph(TRIPLES, LINKS, ITEMS, names=NAMES)


def _said(attributes, graph) -> set[tuple[str, str]]:
    pairs = zip(attributes.relations, attributes.tails, strict=True)
    return {(graph.relations.ids[relation], graph.entities.ids[tail]) for relation, tail in pairs}


def test_every_relation_has_a_marked_inverse_and_echoes_are_dropped():
    graph = _graph()
    assert len(graph.triples) == 2 * len(TRIPLES)
    assert graph.links.tolist()[3] == -1
    assert graph.linked_share == 0.75
    attributes = build_attributes(graph, AttributeConfig(min_items=1, max_share=1.0))
    assert _said(attributes, graph) == {("genre", "war"), ("genre", "fun"), ("~directed", "ann")}
    assert [len(attributes.of(item)) for item in range(4)] == [1, 2, 2, 0]
    assert dict(zip(attributes.tail_names, attributes.idf.tolist(), strict=True))["War"] == pytest.approx(np.log(2))
    assert None in attributes.tail_names  # `fun` has no name


def test_support_range_cap_and_denied_relations():
    graph = _graph()
    assert _said(build_attributes(graph, AttributeConfig(min_items=2, max_share=1.0)), graph) == {
        ("genre", "war"),
        ("~directed", "ann"),
    }
    assert len(build_attributes(graph, AttributeConfig(min_items=1, max_share=0.3))) == 1
    capped = build_attributes(graph, AttributeConfig(min_items=1, max_share=1.0, per_item=1))
    assert [capped.tail_names[number] for number in capped.of(2)] == [None]  # the rarer one
    denied = AttributeConfig(min_items=1, max_share=1.0, relations_deny=("directed", "has_film"))
    assert ("~directed", "ann") not in _said(build_attributes(graph, denied), graph)
    with pytest.raises(InvalidInput, match="no relation religion to deny"):
        build_attributes(graph, AttributeConfig(relations_deny=("religion",)))


def test_attributes_of_several_items_at_once_are_those_of_each():
    attributes = build_attributes(_graph(), AttributeConfig(min_items=1, max_share=1.0))
    asked = np.array([2, 3, 1, 2])
    owners, found = attributes.spread(asked)
    assert [found[owners == place].tolist() for place in range(4)] == [attributes.of(item).tolist() for item in asked]


def test_a_graph_that_links_to_no_item_is_refused():
    with pytest.raises(InvalidInput, match=r"none of the 4 items is linked .* give links"):
        build_graph(TRIPLES, {"i0": "elsewhere"}, ITEMS, names={})


def test_the_alignment_leaves_out_films_without_categories():
    films = [FilmRow(f"F{n}", ("Comedy",) if n % 2 else ("War",), 1950 + n) for n in range(12)]
    kept = [n for n in range(12) if n not in (0, 4, 5, 9)]
    rows = [(f"{1950 + n} films", "comedy films" if n % 2 else "war films") for n in kept]
    alignment = align_dbpedia(films, rows)
    assert [n for n, row in enumerate(alignment.rows) if row >= 0] == kept
    assert (alignment.years_checked, alignment.years_agree) == (8, 8)
    with pytest.raises(InvalidInput, match="cannot belong"):
        align_dbpedia(films[:2], rows)


def test_the_public_graph_around_the_pairs(data_folder: Path):
    data = load_pairs(data_folder / "ml-1m-pairs")
    linked = pairs_graph(data, data_folder)
    assert (linked.years_checked, linked.years_agree) == (2_603, 2_587)
    assert linked.linked["freebase"] == pytest.approx(1_302 / 3_255)
    assert linked.linked["category"] == pytest.approx(0.9315, abs=0.001)
    attributes = build_attributes(linked.graph)
    film = data.titles.index("Shawshank Redemption, The (1994)")
    said = {(attributes.relation_names[number], attributes.tail_names[number]) for number in attributes.of(film)}
    assert {("category", "1994 films"), ("category", "Films set in Maine"), ("actor", None)} <= said
    support = np.bincount(attributes.rows, minlength=len(attributes))
    assert support.max() <= 0.3 * len(data.items)
    assert np.diff(attributes.starts).max() <= 64


def test_the_public_graph_around_ml_100k(data_folder: Path):
    items = Vocabulary(tuple(str(number) for number in range(1, 1_683)))
    linked = load_ml100k_graph(data_folder / "ml-100k", items)
    assert linked.linked["freebase"] == pytest.approx(1_598 / 1_682)
    attributes = build_attributes(linked.graph)
    assert {"actor", "director", "genre", "decade"} <= set(attributes.relation_names)
