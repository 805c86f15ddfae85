"""The filter language: JSON in, a tree with a meaning out.

A *group* is `{"must": [...], "should": [...], "must_not": [...], "min_should": n}`, each part optional; its clauses are
groups or leaves. `should` asks for at least one of its clauses, or for `min_should` of them. The leaves:

    {"key": "topic", "match": {"value": "graphs"}}             equal; or {"any": [...]} one of; or {"except": [...]},
                                                               which holds where the key has a value outside the list
    {"key": "year", "range": {"gte": 2015, "lt": 2020}}        gt, gte, lt, lte; numbers, or RFC 3339 dates
    {"is_empty": {"key": "venue"}}                             missing, null, [] or [null]
    {"is_null": {"key": "venue"}}                              there, and null
    {"has_id": ["a", "b"]}                                     the document's own id

The short form `{"topic": "graphs", "year": {"gte": 2015}, "venue": ["a", "b"]}` stands for a `must` of a match, a range
and a match of any. It is read where none of the words above is a key of the outermost object.
An array matches if one of its elements does; what each leaf means exactly stands in `facetrail.indexing.filters_tree`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from facetrail.indexing.filters_tree import (
    Filter,
    Group,
    HasId,
    IsEmpty,
    IsNull,
    Match,
    Number,
    Range,
    ScalarKey,
    date_stamp,
    scalar_key,
)
from facetrail.models.errors import InvalidInput

__all__ = ["Filter", "parse_filter"]

MAX_DEPTH = 16
MAX_NODES = 1_000
MAX_VALUES = 10_000
"""Values in one `any`, `except` or `has_id`."""

GROUP_WORDS = ("must", "should", "must_not", "min_should")
LEAF_WORDS = ("key", "is_empty", "is_null", "has_id")
MATCH_WORDS = ("value", "any", "except")
RANGE_WORDS = ("gt", "gte", "lt", "lte")


def parse_filter(tree: object, *, pointer: str = "/filter") -> Filter:
    """Reads a filter. `pointer` is where it stands in the request; errors point below it.

    Raises InvalidInput for what the language does not hold, above 16 levels, 1,000 clauses or 10,000 values in a list.
    """
    reader = _Reader()
    words = _object(tree, pointer, "a filter")
    if words and not any(word in words for word in GROUP_WORDS + LEAF_WORDS):
        return reader.short_form(words, pointer)
    return reader.clause(words, pointer, 1)


class _Reader:
    """One reading; counts the nodes."""

    def __init__(self) -> None:
        self.n_nodes = 0

    def clause(self, tree: object, pointer: str, depth: int) -> Filter:
        """A group or a leaf."""
        self.n_nodes += 1
        if self.n_nodes > MAX_NODES:
            raise InvalidInput(f"the filter has more than {MAX_NODES:,} clauses; use `any` for lists", pointer=pointer)
        if depth > MAX_DEPTH:
            raise InvalidInput(f"the filter nests deeper than {MAX_DEPTH} levels; flatten it", pointer=pointer)
        words = _object(tree, pointer, "a clause")
        kinds = [word for word in LEAF_WORDS if word in words]
        if not kinds:
            return self.group(words, pointer, depth)
        allowed = {kinds[0], "match", "range"} if kinds[0] == "key" else {kinds[0]}
        _only(words, tuple(sorted(allowed)), pointer)
        return LEAVES[kinds[0]](words, pointer)

    def group(self, words: Mapping[str, Any], pointer: str, depth: int) -> Group:
        """must, should, must_not, min_should."""
        if words and not any(word in words for word in GROUP_WORDS):
            raise InvalidInput(
                f"a clause has one of {', '.join(GROUP_WORDS + LEAF_WORDS)}, not {_shown(words)}", pointer=pointer
            )
        _only(words, GROUP_WORDS, pointer)
        parts: dict[str, tuple[Filter, ...]] = {}
        for word in ("must", "should", "must_not"):
            clauses = words.get(word, [])
            if isinstance(clauses, Mapping):
                parts[word] = (self.clause(clauses, f"{pointer}/{word}", depth + 1),)
            elif isinstance(clauses, list):
                parts[word] = tuple(self.clause(c, f"{pointer}/{word}/{i}", depth + 1) for i, c in enumerate(clauses))
            else:
                raise InvalidInput(f"{word} takes a list of clauses", pointer=f"{pointer}/{word}")
        n_should = len(parts["should"])
        min_should = words.get("min_should", min(1, n_should))
        if not isinstance(min_should, int) or isinstance(min_should, bool) or not 0 <= min_should <= n_should:
            raise InvalidInput(
                f"min_should is a whole number from 0 to the number of should clauses ({n_should})",
                pointer=f"{pointer}/min_should",
            )
        return Group(parts["must"], parts["should"], parts["must_not"], min_should)

    def short_form(self, words: Mapping[str, Any], pointer: str) -> Group:
        """Key → what it must be."""
        if len(words) > MAX_NODES:
            raise InvalidInput(f"the filter has more than {MAX_NODES:,} clauses", pointer=pointer)
        return Group(must=tuple(_short_leaf(key, value, _below(pointer, key)) for key, value in words.items()))


def _short_leaf(key: str, value: object, pointer: str) -> Filter:
    if isinstance(value, list):
        return Match(key, _values(value, pointer))
    if not isinstance(value, Mapping):
        return Match(key, frozenset([_scalar(value, pointer)]))
    if any(word in value for word in RANGE_WORDS):
        return _range(key, value, pointer)
    if any(word in value for word in MATCH_WORDS):
        return _match(key, value, pointer)
    raise InvalidInput(
        f"{key!r} is to be a value, a list of values, a range ({', '.join(RANGE_WORDS)}) or a match "
        f"({', '.join(MATCH_WORDS)}), not an object of {_shown(value)}",
        pointer=pointer,
    )


def _keyed(words: Mapping[str, Any], pointer: str) -> Filter:
    key = _key(words["key"], f"{pointer}/key")
    tests = [word for word in ("match", "range") if word in words]
    if len(tests) != 1:
        raise InvalidInput("a clause with a key has exactly one of match and range; use two clauses", pointer=pointer)
    below = f"{pointer}/{tests[0]}"
    inner = _object(words[tests[0]], below, tests[0])
    return _match(key, inner, below) if tests[0] == "match" else _range(key, inner, below)


def _match(key: str, words: Mapping[str, Any], pointer: str) -> Match:
    _only(words, MATCH_WORDS, pointer)
    if len(words) != 1:
        raise InvalidInput("match takes exactly one of value, any and except", pointer=pointer)
    (word, value), *_ = words.items()
    if word == "value":
        return Match(key, frozenset([_scalar(value, f"{pointer}/value")]))
    return Match(key, _values(value, f"{pointer}/{word}"), is_except=word == "except")


def _range(key: str, words: Mapping[str, Any], pointer: str) -> Range:
    _only(words, RANGE_WORDS, pointer)
    if not words:
        raise InvalidInput(f"range takes at least one of {', '.join(RANGE_WORDS)}", pointer=pointer)
    bounds = {word: _bound(value, f"{pointer}/{word}") for word, value in words.items()}
    are_dates = {isinstance(value, str) for value in words.values()}
    if len(are_dates) > 1:
        raise InvalidInput("the bounds of a range are all numbers or all dates, not both", pointer=pointer)
    return Range(key, **bounds, is_date=are_dates.pop())


def _bound(value: object, pointer: str) -> Number:
    if isinstance(value, str):
        stamp = date_stamp(value)
        if stamp is None:
            raise InvalidInput(
                f"the bound {value[:40]!r} is no date; write a number without quotes, or an RFC 3339 date such as "
                "2015-01-31 or 2015-01-31T12:00:00Z",
                pointer=pointer,
            )
        return stamp
    is_finite = isinstance(value, float) and math.isfinite(value)
    if isinstance(value, bool) or not (is_finite or isinstance(value, int)):
        raise InvalidInput("a bound is a number or an RFC 3339 date", pointer=pointer)
    assert isinstance(value, int | float)
    return value


def _of_key(kind: type[IsEmpty] | type[IsNull], word: str) -> Callable[[Mapping[str, Any], str], Filter]:
    def read(words: Mapping[str, Any], pointer: str) -> Filter:
        inner = _object(words[word], f"{pointer}/{word}", word)
        _only(inner, ("key",), f"{pointer}/{word}")
        return kind(_key(inner.get("key"), f"{pointer}/{word}/key"))

    return read


def _has_id(words: Mapping[str, Any], pointer: str) -> Filter:
    ids = words["has_id"]
    if not isinstance(ids, list) or not ids or not all(isinstance(i, str) for i in ids):
        raise InvalidInput("has_id takes a list of ids, each a string", pointer=f"{pointer}/has_id")
    _values(ids, f"{pointer}/has_id")
    return HasId(frozenset(ids))


LEAVES: dict[str, Callable[[Mapping[str, Any], str], Filter]] = {
    "key": _keyed,
    "is_empty": _of_key(IsEmpty, "is_empty"),
    "is_null": _of_key(IsNull, "is_null"),
    "has_id": _has_id,
}


def _object(value: object, pointer: str, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f'{what} is a JSON object, for instance {{"year": {{"gte": 2015}}}}', pointer=pointer)
    return value


def _key(value: object, pointer: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput("key is the name of a metadata field, a string that is not empty", pointer=pointer)
    return value


def _scalar(value: object, pointer: str) -> ScalarKey:
    key = scalar_key(value)
    if key is None or (isinstance(value, float) and not math.isfinite(value)):
        hint = "; use is_null to find nulls" if value is None else ""
        raise InvalidInput(f"a value to match is a string, a number or true or false{hint}", pointer=pointer)
    return key


def _values(values: object, pointer: str) -> frozenset[ScalarKey]:
    if not isinstance(values, list) or not values:
        raise InvalidInput("a list of at least one value goes here", pointer=pointer)
    if len(values) > MAX_VALUES:
        raise InvalidInput(f"the list has {len(values):,} values; {MAX_VALUES:,} are allowed", pointer=pointer)
    return frozenset(_scalar(value, f"{pointer}/{i}") for i, value in enumerate(values))


def _only(words: Mapping[str, Any], known: tuple[str, ...], pointer: str) -> None:
    for word in words:
        if word not in known:
            raise InvalidInput(
                f"{str(word)[:40]!r} does not belong here; known: {', '.join(known)}", pointer=_below(pointer, word)
            )


def _below(pointer: str, name: object) -> str:
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def _shown(words: Mapping[str, Any]) -> str:
    return ", ".join(repr(str(word)[:40]) for word in list(words)[:5]) or "nothing"
