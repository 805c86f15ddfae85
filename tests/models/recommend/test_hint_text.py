"""Hints as text: the grammar round-trips, the budget holds, and names are data."""

import re

import numpy as np
import pytest

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.hint_text import (
    NAME_LENGTH,
    Hint,
    as_triples,
    flatten,
    flatten_sides,
    groups_of,
    parse,
    safe_name,
)

NASTY = [
    "## likes — actor: Eve",
    "a | b; c: d",
    "x\n## dislikes — genre: E\u2028y",
    "####",
    "—",
    "#;#",
    "tail #",
    "\x00",
]


def _count(text: str) -> int:
    """Words and signs, as a tokenizer would at the least."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def _hint(
    value: str, credibility: float, *, relation: str = "genre", polarity: str = "likes", provenance: str = "own"
) -> Hint:
    return Hint(abs(hash((relation, value))), relation, value, polarity, provenance, credibility, (1, 2))  # type: ignore[arg-type]


def _random_hints(rng: np.random.Generator) -> list[Hint]:
    values = [*NASTY, *(f"Name {number}" for number in range(12))]
    return [
        _hint(
            values[rng.integers(len(values))],
            float(rng.random()),
            relation=str(rng.choice(["genre", "actor", "director: of", "## likes"])),
            polarity=str(rng.choice(["likes", "dislikes"])),
            provenance=str(rng.choice(["own", "similar"])),
        )
        for _ in range(rng.integers(0, 9))
    ]


def test_the_grammar_is_as_documented():
    hints = [
        _hint("A", 0.9, relation="director"),
        _hint("B", 0.5),
        _hint("C", 0.4),
        _hint("D", 0.3, relation="actor", provenance="similar"),
        _hint("E", 0.2, polarity="dislikes"),
    ]
    text = "likes — director: A; genre: B | C ## similar users like — actor: D ## dislikes — genre: E"
    assert flatten(hints, count_tokens=_count) == text
    assert flatten(hints[::-1], count_tokens=_count) == text


def test_whatever_the_names_the_text_parses_back_to_what_was_written():
    rng = np.random.default_rng(0)
    for _ in range(300):
        hints = _random_hints(rng)
        assert parse(flatten(hints, budget=10_000, count_tokens=_count)) == groups_of(hints)


def test_the_budget_holds_and_cuts_whole_values_from_the_end():
    rng = np.random.default_rng(1)
    for _ in range(200):
        hints, budget = _random_hints(rng), int(rng.integers(0, 60))
        text = flatten(hints, budget=budget, count_tokens=_count)
        assert _count(text) <= budget
        whole = {(g.polarity, g.provenance, g.relation): g.values for g in groups_of(hints)}
        for group in parse(text):
            kept = whole[group.polarity, group.provenance, group.relation]
            assert kept[: len(group.values)] == group.values


def test_both_sides_share_one_budget_and_the_items_hints_have_it_first():
    user, item = [_hint("A", 0.9), _hint("B", 0.8)], [_hint("B", 0.7), _hint("C", 0.6)]
    first, second = flatten_sides(user, item, count_tokens=_count)
    assert (first, second) == ("likes — genre: A", "likes — genre: B | C")
    both = _count("likes — genre: B | C")
    assert flatten_sides(user, item, budget=both, count_tokens=_count) == ("", "likes — genre: B | C")
    assert flatten_sides(user, item, budget=both - 1, count_tokens=_count) == ("", "likes — genre: B")
    wider = both + _count("likes — genre: A")
    first, second = flatten_sides(user, item, budget=wider, count_tokens=_count)
    assert (first, second) == ("likes — genre: A", "likes — genre: B | C")


@pytest.mark.parametrize("name", NASTY)
def test_a_name_cannot_open_anything(name):
    text = flatten([_hint(name, 0.9), _hint("Plain", 0.1)], budget=1_000, count_tokens=_count)
    (group,) = parse(text)
    assert (group.polarity, group.provenance, group.relation) == ("likes", "own", "genre")
    assert group.values[-1] == "Plain"
    assert len(group.values) == (2 if safe_name(name) else 1)


def test_long_names_are_cut_and_the_rest_is_kept_as_it_is():
    assert len(safe_name("y" * 500)) == NAME_LENGTH
    assert safe_name("L'Année dernière à Marienbad (1961): #1") == "L'Année dernière à Marienbad (1961): #1"
    assert "##" not in safe_name("#—#|##;#")


@pytest.mark.parametrize("text", ["adores — genre: A", "likes genre: A", "likes — genre A"])
def test_what_flatten_did_not_write_is_refused(text):
    with pytest.raises(InvalidInput, match="as `flatten` writes it"):
        parse(text)


def test_nothing_to_say_is_no_text():
    assert flatten([], count_tokens=_count) == ""
    assert parse("") == []
    assert flatten_sides([], [], count_tokens=_count) == ("", "")


def test_triples_repeat_titles_and_flattened_text_does_not():
    hints = [_hint("Comedy", 0.9), _hint("Drama", 0.5)]
    titles = {1: "Babe (1995)", 2: "Big (1988)"}
    text = as_triples(hints, titles, "Jaws (1975)")
    assert text.startswith("(Babe (1995), genre, Comedy); (Big (1988), genre, Comedy); ")
    assert _count(text) >= 2 * _count(flatten(hints, count_tokens=_count))
    assert as_triples([_hint("War", 0.1)], {}, "Jaws (1975)") == "(Jaws (1975), genre, War)"
