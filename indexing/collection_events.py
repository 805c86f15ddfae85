"""An event as a row: checked before it is written, checked again whenever it is read."""

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facetrail.indexing.collection_rows import id_problem
from facetrail.indexing.collection_schema import checksum, damaged, shown
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.records import Event

EVENT_COLUMNS = "number, user, time, item, action, value, request_id, checksum"
"""The columns of `events`, in the order in which `decode_event` takes them."""
MAX_TIME = 2**53
"""Milliseconds; beyond it JSON readers lose digits."""
_NAMES = ("user", "item", "action")


def encode_event(event: Event, number: int) -> tuple[Any, ...]:
    """An event that `require_event` let pass as a row (EVENT_COLUMNS)."""
    value = None if event.value is None else float(event.value) + 0.0  # SQLite keeps no -0.0
    request_id = event.request_id or ""
    sealed = checksum(number, event.user, event.time, event.item, event.action, _packed(value), request_id)
    return number, event.user, event.time, event.item, event.action, value, request_id, sealed


def require_event(position: int, event: Event) -> None:
    """Raises InvalidInput unless an event can be stored; `position` is its place in the batch."""
    problem = event_problem(event)
    if problem is not None:
        field, what = problem
        raise InvalidInput(f"event {position}, {field}: {what}", pointer=f"/events/{position}/{field}")


def event_problem(event: Event) -> tuple[str, str] | None:
    """(field, why it is not allowed) of an event that no collection can hold, or None."""
    for name in _NAMES:
        text = getattr(event, name)
        if not isinstance(text, str):
            return name, f"a {type(text).__name__} is no id; convert it to text"
        if (problem := id_problem(text)) is not None:
            return name, problem.replace("every document an id", "every event one")
    if not isinstance(event.time, int) or isinstance(event.time, bool) or not 0 <= event.time <= MAX_TIME:
        return "time", f"{event.time!r} is not a whole number of milliseconds since 1970; convert it"
    if event.value is not None and not _is_finite(event.value):
        return "value", f"{event.value!r} is not a finite number; leave it out where there is none"
    if event.request_id is not None:
        if not isinstance(event.request_id, str):
            return "request_id", f"a {type(event.request_id).__name__} is no id; convert it to text"
        if (problem := id_problem(event.request_id)) is not None:
            return "request_id", problem.replace("give every document an id", "leave it out, or give one")
    return None


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def decode_event(row: Sequence[Any], database: Path) -> Event:
    """A row (EVENT_COLUMNS) as an event. Raises Damaged naming the row if one bit of it is not as it was written."""
    require_intact(row, database)
    _, user, time, item, action, value, request_id, _ = row
    return Event(user.decode(), item.decode(), action.decode(), time, value, request_id.decode() or None)


def require_intact(row: Sequence[Any], database: Path) -> None:
    """Raises Damaged if a row (EVENT_COLUMNS) is not as it was written."""
    number, user, time, item, action, value, request_id, stored = row
    if checksum(number, user, time, item, action, _packed(value), request_id) != stored:
        raise damaged(database, f"row {number} (of user {shown(user)}) of table events is not as it was written")


def _packed(value: Any) -> bytes:
    """Eight bytes, none for no value; a damaged row may bring any type."""
    return b"" if value is None else struct.pack("<d", value) if isinstance(value, float) else repr(value).encode()
