"""What a filter means, document by document. `facetrail.indexing.fields` evaluates the same trees over whole indexes.

A key names a place in the metadata; `a.b` reaches into objects, and through arrays of objects. The *leaves* at a key
are the strings, numbers, booleans, nulls and objects there, arrays opened at every depth. Numbers are compared by value
(2 = 2.0), `true` is not 1, strings are compared character by character.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

Scalar = str | int | float | bool
Number = int | float
ScalarKey = tuple[Literal["boolean", "number", "string"], Scalar]

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}:)([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))?)?"
)
MAX_SPELLED = 64
"""Characters of a string that is read as a number or a date; longer ones are text."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
_MICROSECOND = timedelta(microseconds=1)


class Filter(ABC):
    """A node of a filter tree."""

    @abstractmethod
    def matches(self, document_id: str, metadata: Mapping[str, Any]) -> bool:
        """Whether the document passes."""


@dataclass(frozen=True, slots=True)
class Group(Filter):
    """All of `must`, none of `must_not`, at least `min_should` of `should`. Without parts it passes every document."""

    must: tuple[Filter, ...] = ()
    should: tuple[Filter, ...] = ()
    must_not: tuple[Filter, ...] = ()
    min_should: int = 0

    def matches(self, document_id: str, metadata: Mapping[str, Any]) -> bool:
        """See `Filter.matches`."""
        return (
            all(part.matches(document_id, metadata) for part in self.must)
            and not any(part.matches(document_id, metadata) for part in self.must_not)
            and (
                self.min_should == 0
                or sum(part.matches(document_id, metadata) for part in self.should) >= self.min_should
            )
        )


@dataclass(frozen=True, slots=True)
class Match(Filter):
    """Some scalar at `key` is among `values`; with `is_except`, some scalar is there that is not among them.

    A missing key, nulls and objects fail both.
    """

    key: str
    values: frozenset[ScalarKey]
    is_except: bool = False

    def matches(self, document_id: str, metadata: Mapping[str, Any]) -> bool:
        """See `Filter.matches`."""
        found = (scalar_key(leaf) for leaf in leaves_at(metadata, self.key))
        return any(key is not None and (key in self.values) != self.is_except for key in found)


@dataclass(frozen=True, slots=True)
class Range(Filter):
    """Some scalar at `key` lies within all bounds; a missing key fails.

    Bounds are numbers, and then numbers and strings that spell a decimal number are compared (CSV cells and the years
    of many corpora are strings); or they are dates (microseconds since 1970), and then strings that spell one.
    """

    key: str
    gt: Number | None = None
    gte: Number | None = None
    lt: Number | None = None
    lte: Number | None = None
    is_date: bool = False

    def matches(self, document_id: str, metadata: Mapping[str, Any]) -> bool:
        """See `Filter.matches`."""
        return any(self._holds_leaf(leaf) for leaf in leaves_at(metadata, self.key))

    def _holds_leaf(self, leaf: object) -> bool:
        if isinstance(leaf, str):
            value = date_stamp(leaf) if self.is_date else number_in(leaf)
            return value is not None and self.holds(value)
        return not self.is_date and isinstance(leaf, int | float) and not isinstance(leaf, bool) and self.holds(leaf)

    def holds(self, value: Number) -> bool:
        """Whether a number, or a date's stamp, lies within the bounds. Integers and floats compare exactly."""
        return (
            (self.gt is None or value > self.gt)
            and (self.gte is None or value >= self.gte)
            and (self.lt is None or value < self.lt)
            and (self.lte is None or value <= self.lte)
        )


@dataclass(frozen=True, slots=True)
class IsEmpty(Filter):
    """The key is missing, or holds nothing but nulls and empty arrays."""

    key: str

    def matches(self, document_id: str, metadata: Mapping[str, Any]) -> bool:
        """See `Filter.matches`."""
        return all(leaf is None for leaf in leaves_at(metadata, self.key))


@dataclass(frozen=True, slots=True)
class IsNull(Filter):
    """The key is there and holds a null, itself or in an array; a missing key fails."""

    key: str

    def matches(self, document_id: str, metadata: Mapping[str, Any]) -> bool:
        """See `Filter.matches`."""
        return any(leaf is None for leaf in leaves_at(metadata, self.key))


@dataclass(frozen=True, slots=True)
class HasId(Filter):
    """The document's id is among `ids`."""

    ids: frozenset[str]

    def matches(self, document_id: str, metadata: Mapping[str, Any]) -> bool:
        """See `Filter.matches`."""
        return document_id in self.ids


def leaves_at(metadata: Mapping[str, Any], key: str) -> Iterator[object]:
    """The leaves at a key; nothing where it is missing. A name that itself holds a dot is found too."""
    places: list[tuple[object, str]] = [(metadata, key)]
    while places:
        value, path = places.pop()
        if isinstance(value, list | tuple):
            places.extend((part, path) for part in value)
        elif isinstance(value, Mapping):
            if path in value:
                yield from leaves(value[path])
            if "." in path:
                places.extend(
                    (part, path[len(name) + 1 :]) for name, part in value.items() if path.startswith(name + ".")
                )


def leaves(value: object) -> Iterator[object]:
    """A value itself, or of an array the leaves of its parts. Floats that JSON cannot hold (NaN, ∞) are nulls."""
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, list | tuple):
            rest.extend(part)
        elif isinstance(part, float) and not math.isfinite(part):
            yield None
        else:
            yield part


def flattened(metadata: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """(key, leaf) for every key of the metadata at every depth; an object is a leaf of its own key as well."""
    rest: list[tuple[str, object]] = list(metadata.items())
    while rest:
        key, value = rest.pop()
        for leaf in leaves(value) if isinstance(value, list | tuple | float) else (value,):
            yield key, leaf
            if isinstance(leaf, Mapping):
                rest.extend((f"{key}.{name}", part) for name, part in leaf.items())


def scalar_key(leaf: object) -> ScalarKey | None:
    """What equal scalars share and others do not; None for nulls and objects."""
    if isinstance(leaf, str):
        return ("string", leaf)
    if isinstance(leaf, bool):
        return ("boolean", leaf)
    if isinstance(leaf, int | float):
        return ("number", leaf)
    return None


def number_in(text: str) -> float | None:
    """The number a string of at most 64 characters spells in plain decimals (`2012`, `-3.5`, `1e6`), else None."""
    if len(text) > MAX_SPELLED or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def date_stamp(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 date or date and time, else None.

    A date alone is its midnight, a time without offset is UTC; digits beyond microseconds are dropped.
    """
    found = _DATE.fullmatch(text) if 10 <= len(text) <= MAX_SPELLED and text[4] == "-" else None
    if not found:
        return None
    day, clock, seconds, fraction, sign, hours, minutes = found.groups()
    is_leap = seconds == "60"
    try:
        moment = datetime.fromisoformat(
            f"{day}T{clock}{'59' if is_leap else seconds}+00:00" if clock else f"{day}T00:00+00:00"
        )
    except ValueError:
        return None
    if sign and (int(hours) > 23 or int(minutes) > 59):
        return None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    stamp = (moment - _EPOCH - offset + timedelta(seconds=int(is_leap))) // _MICROSECOND
    return stamp + int((fraction or "0")[:6].ljust(6, "0"))
