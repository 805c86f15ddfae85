"""The events of a collection: what people did with its documents, appended, read as histories, forgotten on request.

An event is one by user, item, action and time; putting it again changes nothing, so a batch may be sent twice. What is
acknowledged is on disk. Events of one user at one time keep the order in which they arrived. Of a user's impressions
the newest are kept: they are read with every recommendation and grow with each.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facetrail.indexing.collection import Collection
from facetrail.indexing.collection_events import EVENT_COLUMNS, decode_event, encode_event, require_event
from facetrail.indexing.collection_reading import ReadView
from facetrail.indexing.collection_rows import can_live
from facetrail.indexing.collection_schema import read_property, translated, upgrade, write_property
from facetrail.indexing.recommend_request import IMPRESSION
from facetrail.models.recommend.interactions import Interactions, Vocabulary
from facetrail.models.recommend.records import Event

MAX_IMPRESSIONS = 1_000
"""Of a user; a hundred pages of ten."""
_BATCH = 10_000
Keep = Callable[[Event], bool]
"""Whether an event counts."""


@dataclass(frozen=True, slots=True)
class EventsResult:
    """What a batch of events came to."""

    created: int
    """Impressions that are already too old to be kept count here as well."""
    known: tuple[int, ...]
    """Places in the batch of the events that were stored already, or stand twice in the batch."""
    unknown_items: tuple[str, ...]
    """Items of the batch that are no documents of the collection: kept, and recommended once they are."""


class Events:
    """Thread-safe, as the collection is. Collections of an older schema have none, and get their table with the first.

    `user`, `item` and `action` are 1 to 512 bytes of UTF-8; `time` is in milliseconds since 1970 in UTC.
    """

    def __init__(self, collection: Collection, *, max_impressions: int = MAX_IMPRESSIONS) -> None:
        """max_impressions: of each user; a write of one deletes those that are older than the newest so many."""
        self._collection, self._max_impressions = collection, max_impressions

    def put(self, events: Sequence[Event]) -> EventsResult:
        """Adds events in one transaction, all or, on an error, none; on disk when it returns.

        Raises InvalidInput naming place and field of an event that cannot be stored, before anything is written.
        """
        for position, event in enumerate(events):
            require_event(position, event)
        known = []
        with self._collection.transaction() as view:
            upgrade(view.connection, view.database)
            ((last,),) = view.rows("SELECT max(number) FROM events")
            number = last or 0
            for position, event in enumerate(events):
                row = encode_event(event, number + 1)
                if view.connection.execute(_INSERT, row).rowcount:
                    number += 1
                else:
                    known.append(position)
            created = len(events) - len(known)
            shown_to = {event.user for event in events if event.action == IMPRESSION}
            _add_to_count(view, created - self._prune(view, shown_to))
            living = view.living({event.item for event in events})
        unknown = dict.fromkeys(event.item for event in events if event.item not in living)
        return EventsResult(created, tuple(known), tuple(unknown))

    def _prune(self, view: ReadView, users: set[str]) -> int:
        """Deletes old impressions of some users; returns how many."""
        return sum(
            view.connection.execute(_DELETE_SHOWN, (user, IMPRESSION, self._max_impressions)).rowcount
            for user in sorted(users)
        )

    def delete_user(self, user: str) -> int:
        """Deletes every event of a user, in one transaction; returns how many there were."""
        if not can_live(user):
            return 0
        with self._collection.transaction() as view:
            if not _has_events(view):
                return 0
            n_deleted = view.connection.execute("DELETE FROM events WHERE user = ?", (user,)).rowcount
            _add_to_count(view, -n_deleted)
        return n_deleted

    def count(self) -> int:
        """Events stored; cheap."""
        with self._collection.snapshot() as view:
            return int(read_property(view.connection, view.database, "events")) if _has_events(view) else 0

    def actions(self) -> list[str]:
        """The distinct actions of all events; reads every one."""
        with self._collection.snapshot() as view:
            return [row[0].decode() for row in view.rows(_ACTIONS)] if _has_events(view) else []

    def history(self, user: str, *, last: int | None = None) -> list[Event]:
        """A user's events, oldest first; empty for an unknown one. last: only so many of the newest."""
        if not can_live(user):
            return []
        with self._collection.snapshot() as view:
            if not _has_events(view):
                return []
            rows = view.rows(
                f"SELECT {EVENT_COLUMNS} FROM events WHERE user = ? ORDER BY time DESC, number DESC LIMIT ?",
                (user, -1 if last is None else last),
            )
            return [decode_event(row, view.database) for row in reversed(rows)]

    def interactions(self, keep: Keep | None = None) -> Interactions:
        """The events of one committed state as arrays; users and items in UTF-8 byte order of id.

        keep: which events count; None: all. 28 bytes an event are held, and the distinct ids.
        """
        gathered = _Gathered()
        with self._collection.snapshot() as view:
            if _has_events(view):
                with translated(view.database):
                    cursor = view.connection.execute(f"SELECT {EVENT_COLUMNS} FROM events ORDER BY user, time, number")
                    while rows := cursor.fetchmany(_BATCH):
                        for row in rows:
                            event = decode_event(row, view.database)
                            if keep is None or keep(event):
                                gathered.add(event)
        return gathered.interactions()


class _Gathered:
    """Events in the order of users, on their way into arrays."""

    def __init__(self) -> None:
        self._users: list[str] = []
        self._starts = array("q")
        self._numbers: dict[str, int] = {}
        self._items, self._times, self._values = array("q"), array("q"), array("f")

    def add(self, event: Event) -> None:
        """The next event: of the same user as the last one, or of a new one."""
        if not self._users or self._users[-1] != event.user:
            self._users.append(event.user)
            self._starts.append(len(self._items))
        self._items.append(self._numbers.setdefault(event.item, len(self._numbers)))
        self._times.append(event.time)
        self._values.append(float("nan") if event.value is None else event.value)

    def interactions(self) -> Interactions:
        """The arrays; items numbered by id instead of by first sight."""
        ids = sorted(self._numbers)  # code point order, which is UTF-8 byte order
        renumbered = np.empty(len(ids), np.int64)
        renumbered[np.array([self._numbers[i] for i in ids], np.int64)] = np.arange(len(ids))
        self._starts.append(len(self._items))
        return Interactions(
            Vocabulary(tuple(self._users)),
            Vocabulary(tuple(ids)),
            np.array(self._starts, np.int64),
            renumbered[np.array(self._items, np.int64)],
            np.array(self._times, np.int64),
            np.array(self._values, np.float32),
        )


_ACTIONS = "SELECT DISTINCT action FROM events ORDER BY action"
_INSERT = (
    f"INSERT INTO events ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (user, time, item, action) DO NOTHING"
)
_DELETE_SHOWN = (
    "DELETE FROM events WHERE number IN (SELECT number FROM events WHERE user = ? AND action = ? "
    "ORDER BY time DESC, number DESC LIMIT -1 OFFSET ?)"
)


def _has_events(view: ReadView) -> bool:
    """Whether the collection's schema version has the table."""
    return bool(view.rows("SELECT 1 FROM sqlite_schema WHERE name = 'events'"))


def _add_to_count(view: ReadView, n: int) -> None:
    """Keeps the number of events beside them: counting a large table takes long, and `verify` compares the two."""
    before = int(read_property(view.connection, view.database, "events"))
    write_property(view.connection, "events", str(before + n))
