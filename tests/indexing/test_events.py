"""The events of a collection: each once, on disk when acknowledged, in order, checked bit by bit, forgotten whole."""

import math
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.first_schema import as_first_schema, as_second_schema

from facetrail.indexing import generation
from facetrail.indexing.collection import Collection, CollectionSettings, restore
from facetrail.indexing.collection_schema import SCHEMA_VERSION
from facetrail.indexing.events import Events
from facetrail.models.errors import Conflict, Damaged, InvalidInput
from facetrail.models.recommend.records import Event
from facetrail.models.records import Document

SETTINGS = CollectionSettings(name="shop", lexical={})
DAY = 86_400_000
BOUGHT = Event("ann", "tea", "order", 3 * DAY, 2.5, "r-1")


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "c", SETTINGS) as made:
        made.put([Document("tea", "green tea"), Document("cup", "a cup")])
        yield made


def test_events_come_back_equal_in_every_field_after_reopening(collection: Collection) -> None:
    given = [BOUGHT, Event("ann", "cup", "view", DAY), Event("ann", "cup", "view", 2 * DAY, -0.0)]
    result = Events(collection).put(given)
    assert (result.created, result.known, result.unknown_items) == (3, (), ())
    collection.close()
    with Collection.open(collection.folder) as reader:
        assert Events(reader).history("ann") == [given[1], given[2], given[0]]
        assert Events(reader).history("ann", last=2) == [given[2], given[0]]
        assert Events(reader).history("bob") == Events(reader).history("half \ud800") == []
        assert Events(reader).count() == 3


def test_an_event_is_one_by_user_item_action_and_time(collection: Collection) -> None:
    events = Events(collection)
    events.put([BOUGHT])
    others = [
        replace(BOUGHT, user="bob"),
        replace(BOUGHT, item="cup"),
        replace(BOUGHT, action="view"),
        replace(BOUGHT, time=BOUGHT.time + 1),
    ]
    result = events.put([others[0], replace(BOUGHT, value=1.0), *others[1:], others[3]])
    assert (result.created, result.known) == (4, (1, 5))
    assert events.put([BOUGHT, *others]).created == 0
    assert events.count() == 5
    assert BOUGHT in events.history("ann")


def test_events_out_of_order_are_read_in_order_and_ties_as_they_arrived(collection: Collection) -> None:
    events = Events(collection)
    events.put([Event("ann", item, "view", 5 * DAY) for item in ("z", "a", "m")])
    events.put([Event("ann", "early", "view", DAY), Event("ann", "b", "view", 5 * DAY)])
    assert [e.item for e in events.history("ann")] == ["early", "z", "a", "m", "b"]
    assert [e.item for e in events.history("ann", last=2)] == ["m", "b"]


def test_items_that_are_no_documents_are_kept_and_named(collection: Collection) -> None:
    result = Events(collection).put(
        [Event("ann", item, "view", n) for n, item in enumerate(("new", "tea", "x", "new"))]
    )
    assert (result.created, result.unknown_items) == (4, ("new", "x"))


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (replace(BOUGHT, user=""), "user"),
        (replace(BOUGHT, item="a\nb"), "item"),
        (replace(BOUGHT, action="x" * 513), "action"),
        (replace(BOUGHT, user="\ud800"), "user"),
        (replace(BOUGHT, user=7), "user"),  # type: ignore[arg-type]
        (replace(BOUGHT, time=-1), "time"),
        (replace(BOUGHT, time=2**60), "time"),
        (replace(BOUGHT, time=1.5), "time"),  # type: ignore[arg-type]
        (replace(BOUGHT, value=math.nan), "value"),
        (replace(BOUGHT, value=10**400), "value"),
        (replace(BOUGHT, request_id=""), "request_id"),
    ],
)
def test_a_bad_event_is_named_by_place_and_field_and_nothing_is_written(
    collection: Collection, bad: Event, field: str
) -> None:
    with pytest.raises(InvalidInput, match=f"event 1, {field}") as error:
        Events(collection).put([BOUGHT, bad])
    assert error.value.pointer == f"/events/1/{field}"
    assert Events(collection).count() == 0


def test_deleting_a_user_leaves_the_others_and_the_count_right(collection: Collection) -> None:
    events = Events(collection)
    events.put([BOUGHT, replace(BOUGHT, user="ann2"), replace(BOUGHT, item="cup")])
    assert events.delete_user("ann") == 2
    assert events.delete_user("ann") == events.delete_user("\ud800") == 0
    assert (events.count(), events.history("ann"), len(events.history("ann2"))) == (1, [], 1)
    assert events.put([BOUGHT]).created == 1
    assert collection.check() == []


def test_the_arrays_hold_every_users_events_oldest_first(collection: Collection) -> None:
    events = Events(collection)
    events.put(
        [
            Event("bob", "tea", "order", 9),
            Event("é", "cup", "rating", 4, 3.0),
            Event("bob", "cup", "rating", 2, 5.0),
            Event("ann", "tea", "view", 1),
        ]
    )
    found = events.interactions()
    assert (found.users.ids, found.vocabulary.ids) == (("ann", "bob", "é"), ("cup", "tea"))
    assert found.starts.tolist() == [0, 1, 3, 4]
    assert found.items.tolist() == [1, 0, 1, 0]
    assert found.times.tolist() == [1, 2, 9, 4]
    assert np.array_equal(found.values, np.array([np.nan, 5, np.nan, 3], np.float32), equal_nan=True)
    rated = events.interactions(lambda event: event.action == "rating")
    assert (rated.users.ids, rated.vocabulary.ids, rated.starts.tolist()) == (("bob", "é"), ("cup",), [0, 1, 2])
    nothing = events.interactions(lambda event: False)
    assert (nothing.n_users, nothing.n_items, nothing.starts.tolist()) == (0, 0, [0])


def test_a_reader_cannot_write_events(collection: Collection) -> None:
    collection.close()
    with Collection.open(collection.folder) as reader, pytest.raises(Conflict, match="reading only"):
        Events(reader).put([BOUGHT])


def test_what_is_acknowledged_survives_a_killed_writer(tmp_path: Path) -> None:
    Collection.create(tmp_path / "c", SETTINGS).close()
    child = os.fork()
    if child == 0:
        Events(Collection.open(tmp_path / "c", writable=True)).put([BOUGHT])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert generation.verify(tmp_path / "c") == []
    with Collection.open(tmp_path / "c", writable=True) as again:
        assert Events(again).history("ann") == [BOUGHT]


@pytest.mark.parametrize(
    "change",
    ["item = 'cup'", "time = time + 1", "value = 2.25", "value = NULL", "request_id = ''", "number = 9"],
)
def test_a_changed_row_is_found_and_never_read(collection: Collection, change: str) -> None:
    Events(collection).put([BOUGHT, replace(BOUGHT, user="bob", item="cup")])
    assert collection.check() == []
    with sqlite3.connect(collection.folder / "collection.sqlite") as database:
        database.execute(f"UPDATE events SET {change} WHERE user = 'ann'")
    database.close()
    assert any("of table events is not as it was written" in problem for problem in collection.check())
    with pytest.raises(Damaged, match="table events"):
        Events(collection).history("ann")
    with pytest.raises(Damaged, match="table events"):
        Events(collection).interactions()


def test_a_lost_row_is_found(collection: Collection) -> None:
    Events(collection).put([BOUGHT, replace(BOUGHT, user="bob")])
    with sqlite3.connect(collection.folder / "collection.sqlite") as database:
        database.execute("DELETE FROM events WHERE user = 'ann'")
    database.close()
    assert any("table events has 1 rows, 2 were written" in problem for problem in collection.check())


def test_a_snapshot_holds_the_events(collection: Collection, tmp_path: Path) -> None:
    Events(collection).put([BOUGHT])
    collection.backup(tmp_path / "snapshot")
    restore(tmp_path / "snapshot", tmp_path / "restored")
    with Collection.open(tmp_path / "restored") as again:
        assert Events(again).history("ann") == [BOUGHT]
        assert again.check() == []


@pytest.mark.parametrize("age", [as_first_schema, as_second_schema])
def test_an_older_collection_has_no_events_until_the_first_are_written(collection: Collection, age) -> None:  # type: ignore[no-untyped-def]
    collection.close()
    age(collection.folder)
    with Collection.open(collection.folder, writable=True) as old:
        events = Events(old)
        assert (events.count(), events.history("ann"), events.interactions().n_users) == (0, [], 0)
        assert events.delete_user("ann") == 0
        old.put([Document("tea", "changed")])
        assert old.check() == []
        assert events.put([BOUGHT]).created == 1
        assert (old.check(), old.count(), events.count()) == ([], 2, 1)
    assert generation.verify(collection.folder) == []
    with Collection.open(collection.folder, writable=True) as again:
        assert Events(again).history("ann") == [BOUGHT]
        assert Events(again).put([BOUGHT, replace(BOUGHT, user="bob")]).created == 1
    database = sqlite3.connect(collection.folder / "collection.sqlite")
    assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    database.close()
