"""The filter language: what each leaf means, the short form, and what is refused where."""

import copy
from typing import Any

import pytest

from facetrail.indexing.filters import MAX_VALUES, parse_filter
from facetrail.indexing.filters_tree import date_stamp, flattened, leaves_at, number_in
from facetrail.models.errors import InvalidInput

METADATA = {
    "topic": "graphs",
    "year": "2016",
    "n": 2,
    "open": True,
    "tags": ["a", "b", None],
    "venue": None,
    "none": [],
    "authors": [{"name": "Ada", "roles": [{"code": 1}]}, {"name": "Bob"}],
    "place": {"city": "Bern", "at": {"lat": 46.9}},
    "dotted.name": 5,
    "posted": "2015-01-31T12:00:00+02:00",
}

HOLDS = [
    {},
    {"must": [], "should": [], "must_not": []},
    {"topic": "graphs"},
    {"topic": ["trees", "graphs"], "n": 2.0},
    {"year": {"gte": 2015, "lt": 2017}},
    {"tags": {"except": ["a"]}},
    {"authors.name": "Bob"},
    {"authors.roles.code": 1},
    {"place.at.lat": {"gt": 46}},
    {"dotted.name": 5},
    {"posted": {"gte": "2015-01-31T10:00:00Z", "lte": "2015-01-31T10:00:00.000Z"}},
    {"posted": {"lt": "2015-02-01"}},
    {"key": "open", "match": {"value": True}},
    {"is_null": {"key": "venue"}},
    {"is_null": {"key": "tags"}},
    {"is_empty": {"key": "venue"}},
    {"is_empty": {"key": "none"}},
    {"is_empty": {"key": "missing"}},
    {"is_empty": {"key": "place.missing"}},
    {"has_id": ["d1", "d2"]},
    {"must": {"has_id": ["d1"]}},
    {"should": [{"has_id": ["no"]}, {"key": "n", "match": {"any": [1, 2]}}]},
    {"should": [{"has_id": ["no"]}], "min_should": 0},
    {"must": [{"must_not": [{"has_id": ["no"]}]}]},
]
FAILS = [
    {"topic": "Graphs"},
    {"open": 1},
    {"n": True},
    {"year": 2016},
    {"year": {"gt": 2016}},
    {"missing": {"gte": 0}},
    {"missing": "x"},
    {"missing": {"except": ["x"]}},
    {"venue": {"except": ["x"]}},
    {"place": {"except": ["x"]}},
    {"topic": {"except": ["graphs"]}},
    {"open": {"gte": 0}},
    {"topic": {"gte": 0}},
    {"posted": {"gt": "2015-01-31T10:00:00Z"}},
    {"year": {"gte": "2015-01-01"}},
    {"is_null": {"key": "missing"}},
    {"is_null": {"key": "none"}},
    {"is_empty": {"key": "tags"}},
    {"is_empty": {"key": "place"}},
    {"has_id": ["d2"]},
    {"must_not": [{"has_id": ["d1"]}]},
    {"should": [{"has_id": ["d1"]}, {"has_id": ["no"]}], "min_should": 2},
]


@pytest.mark.parametrize("tree", HOLDS, ids=str)
def test_holds(tree: dict[str, Any]) -> None:
    assert parse_filter(tree).matches("d1", METADATA)


@pytest.mark.parametrize("tree", FAILS, ids=str)
def test_fails(tree: dict[str, Any]) -> None:
    assert not parse_filter(tree).matches("d1", METADATA)


def nested(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"has_id": ["a"]}
    for _ in range(levels - 1):
        tree = {"must": [tree]}
    return tree


REFUSED = [
    ([], "/filter"),
    ("year > 3", "/filter"),
    ({"must": 3}, "/filter/must"),
    ({"must": [{"topic": "graphs"}]}, "/filter/must/0"),
    ({"must": [], "year": 3}, "/filter/year"),
    ({"must": [3]}, "/filter/must/0"),
    ({"key": "a"}, "/filter"),
    ({"key": "a", "match": {"value": 1}, "range": {"gt": 1}}, "/filter"),
    ({"key": "", "match": {"value": 1}}, "/filter/key"),
    ({"key": "a", "match": 3}, "/filter/match"),
    ({"key": "a", "match": {}}, "/filter/match"),
    ({"key": "a", "match": {"value": 1, "any": [1]}}, "/filter/match"),
    ({"key": "a", "match": {"value": None}}, "/filter/match/value"),
    ({"key": "a", "match": {"value": [1]}}, "/filter/match/value"),
    ({"key": "a", "match": {"any": []}}, "/filter/match/any"),
    ({"key": "a", "match": {"any": [1, {}]}}, "/filter/match/any/1"),
    ({"key": "a", "match": {"text": "x"}}, "/filter/match/text"),
    ({"key": "a", "match": {"any": [1] * (MAX_VALUES + 1)}}, "/filter/match/any"),
    ({"key": "a", "range": {}}, "/filter/range"),
    ({"key": "a", "range": {"min": 3}}, "/filter/range/min"),
    ({"key": "a", "range": {"gt": "2015"}}, "/filter/range/gt"),
    ({"key": "a", "range": {"gt": True}}, "/filter/range/gt"),
    ({"key": "a", "range": {"gt": float("nan")}}, "/filter/range/gt"),
    ({"key": "a", "range": {"gt": "2015-02-30"}}, "/filter/range/gt"),
    ({"key": "a", "range": {"gt": 3, "lt": "2015-01-01"}}, "/filter/range"),
    ({"is_empty": "a"}, "/filter/is_empty"),
    ({"is_null": {"key": 3}}, "/filter/is_null/key"),
    ({"is_null": {"key": "a"}, "key": "b"}, "/filter/is_null"),
    ({"has_id": "a"}, "/filter/has_id"),
    ({"has_id": [1]}, "/filter/has_id"),
    ({"should": [{"has_id": ["a"]}], "min_should": 2}, "/filter/min_should"),
    ({"min_should": True, "should": [{"has_id": ["a"]}]}, "/filter/min_should"),
    ({"min_should": 1}, "/filter/min_should"),
    ({"a/b~c": {"gte": []}}, "/filter/a~1b~0c/gte"),
    ({"a": {"b": 1}}, "/filter/a"),
    ({"a": None}, "/filter/a"),
    ({"must": [{"has_id": ["a"]}] * 1_000}, "/filter/must/999"),
    (nested(17), "/filter" + "/must/0" * 16),
]


@pytest.mark.parametrize(("tree", "pointer"), REFUSED, ids=[pointer for _, pointer in REFUSED])
def test_what_is_not_the_language_is_refused_with_its_place(tree: object, pointer: str) -> None:
    before = copy.deepcopy(tree)
    with pytest.raises(InvalidInput) as caught:
        parse_filter(tree)
    if pointer == "/filter/is_null":  # which of the two words is superfluous is not ours to say
        pointer = caught.value.pointer
    assert caught.value.pointer == pointer
    assert str(caught.value).count("\n") == 0
    assert repr(tree) == repr(before)


def test_sixteen_levels_and_another_root_are_accepted() -> None:
    assert parse_filter(nested(16)).matches("a", {})
    with pytest.raises(InvalidInput) as caught:
        parse_filter({"must": 3}, pointer="")
    assert caught.value.pointer == "/must"


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01t00:00:00.1234567z", 123_456),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1969-12-31T23:59:60Z", 0),
        ("0001-01-01T00:00:00+23:59", -62135596800_000_000 - 86_340_000_000),
        ("1970-01-01T00:00:00", 0),
        ("1970-01-01T24:00:00Z", None),
        ("1970-01-01T00:00:00+24:00", None),
        ("1970-13-01", None),
        ("1970-1-1", None),
        ("19700101", None),
        ("1970-01-01T00:00Z", None),
        ("１９７０-01-01", None),
        ("1970-01-01T00:00:00." + "1" * 60, None),
    ],
)
def test_dates(text: str, stamp: int | None) -> None:
    assert date_stamp(text) == stamp


@pytest.mark.parametrize(
    ("text", "number"),
    [("2012", 2012.0), ("-3.5", -3.5), ("1e6", 1e6), ("007", 7.0), ("1e999", None), ("٣", None), ("", None),
     (" 1", None), ("1_000", None), ("0x1", None), ("nan", None), ("1.", None), ("1" * 65, None)],
)  # fmt: skip
def test_numbers_that_strings_spell(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_deep_metadata_does_not_exhaust_the_stack() -> None:
    deep: Any = 1
    for _ in range(5_000):
        deep = {"a": deep}
    assert next(leaves_at(deep, "a.a.a")) is not None
    lists: Any = 1
    for _ in range(5_000):
        lists = [lists]
    assert list(flattened({"a": lists})) == [("a", 1)]
