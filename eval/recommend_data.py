"""Public recommendation collections, and anybody's event files, as arrays with what is known of the items.

| loader | time of an event | item information |
|---|---|---|
| `load_ml100k` | stored, to the second | title, year, genres |
| `load_ml1m_sequences` | its place in the user's line | title, genres |
| `load_beauty` | its place in the user's line | attribute numbers |
| `load_grocery` | stored, to the day | category, complements, substitutes |
| `load_events` | stored | none |
"""

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.recommend_cleaning import interactions_of
from facetrail.indexing.corpus_report import RowReport
from facetrail.indexing.events_corpus import read_events
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.interactions import Interactions, Vocabulary
from facetrail.models.recommend.records import Event


@dataclass(frozen=True)
class ItemInformation:
    """What is known of an item beside its events."""

    title: str = ""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → values, for instance genre → (Comedy, Drama)."""


@dataclass(frozen=True)
class RecommendationData:
    """One collection."""

    name: str
    interactions: Interactions
    items: Mapping[str, ItemInformation]
    """By id; items without events may be among them, items with events missing."""
    report: RowReport
    """Rows read, and those that could not be."""
    n_duplicates: int = 0
    """Events of equal user, item and time left out."""
    n_unwanted: int = 0
    """Events whose action was not asked for."""


_CONDITION = re.compile(r"^(?P<action>.+?)(?:(?P<sign>>=|<=|>|<)(?P<value>-?\d+(?:\.\d+)?))?$")


def load_events(
    path: Path, *, keep: Sequence[str] = (), ignore: Sequence[str] = (), action: str | None = None, strict: bool = False
) -> RecommendationData:
    """Reads JSON Lines, CSV, TSV, Parquet or RecBole's `.inter`; broken rows are reported with their lines.

    keep: actions that count, such as `order` or `rating>=4`; none: all · ignore: actions that are known and do not ·
    action: of rows that name none. Raises InvalidInput for an action that is in neither list, for a condition that
    cannot be read, and as `read_events` does.
    """
    conditions = [_condition(text) for text in keep]
    report, events, n_unwanted = RowReport(), list[Event](), 0
    for line, event in read_events(path, action=action, strict=strict, report=report):
        of_action = [condition for condition in conditions if condition[0] == event.action]
        if conditions and not of_action and event.action not in ignore:
            raise InvalidInput(
                f"{path}:{line}: the action {event.action!r} is not known; name it among those to keep or to ignore"
            )
        if (not conditions and event.action not in ignore) or any(_holds(event, *c) for c in of_action):
            events.append(event)
        else:
            n_unwanted += 1
    interactions = interactions_of(
        [event.user for event in events],
        [event.item for event in events],
        [event.time for event in events],
        [float("nan") if event.value is None else event.value for event in events],
    )
    n_duplicates = len(events) - len(interactions.items)
    return RecommendationData(path.name, interactions, {}, report, n_duplicates, n_unwanted)


def load_ml100k(folder: Path) -> RecommendationData:
    """MovieLens 100k from RecBole's atomic files; titles, release years and genres of the items."""
    rows = list(_cells(folder / "ml-100k.inter.gz", 4))
    users, rated, ratings, seconds = zip(*rows, strict=True)
    interactions = interactions_of(users, rated, [int(float(s) * 1_000) for s in seconds], [float(r) for r in ratings])
    items = {}
    for item, title, year, genres in _cells(folder / "ml-100k.item.gz", 4):
        items[item] = ItemInformation(title, {"year": (year,) if year else (), "genre": tuple(genres.split())})
    return _read("ml-100k", interactions, items, len(rows))


def load_ml1m_sequences(folder: Path) -> RecommendationData:
    """The 987,019 public training events of MovieLens 1M, ids as MovieLens gives them.

    The folder's published targets are left out: the event before them is missing for 5,528 of 6,040 users, so that the
    last event listed here is the one whose predecessor is known. Times are places, therefore `Ties("file")`.
    """
    users, items = (
        dict(line.split() for line in _lines(folder / f"sas_to_original_{what}.txt.gz")) for what in ("users", "items")
    )
    histories = [
        (users[str(number)], [items[item] for item in line.split()])
        for number, line in enumerate(_lines(folder / "train_input.txt.gz"), start=1)
    ]
    information = {}
    for item, title, genres in _cells(folder / "ml1m_items.dat.gz", 3, header=False):
        information[item] = ItemInformation(title, {"genre": tuple(genres.split("|"))})
    return _of_histories("ml-1m-sequences", histories, information)


def load_beauty(folder: Path) -> RecommendationData:
    """Amazon Beauty, 5-core: 198,502 purchases in order, without times; numbers of attributes."""
    import orjson

    histories = []
    for line in _lines(folder / "Beauty.txt.gz"):
        user, *items = line.split()
        histories.append((user, items))
    listed = orjson.loads("\n".join(_lines(folder / "Beauty_item2attributes.json.gz")))
    return _of_histories(
        "amazon-beauty",
        histories,
        {item: ItemInformation(attributes={"attribute": tuple(map(str, values))}) for item, values in listed.items()},
    )


def load_grocery(folder: Path) -> RecommendationData:
    """Grocery purchases by the day, with category, complements and substitutes of the items."""
    import orjson

    rows = list(_cells(folder / "train.csv.gz", 3))
    users, bought, seconds = zip(*rows, strict=True)
    interactions = interactions_of(users, bought, [int(s) * 1_000 for s in seconds])
    items = {}
    for item, category, *related in _cells(folder / "item_meta.csv.gz", 4):
        complements, substitutes = (tuple(map(str, orjson.loads(cell or "[]"))) for cell in related)
        items[item] = ItemInformation(
            attributes={"category": (category,), "complement": complements, "substitute": substitutes}
        )
    return _read("grocery", interactions, items, len(rows))


def attribute_matrix(
    items: Mapping[str, ItemInformation], vocabulary: Vocabulary, name: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """(m, values) 1 where the item has the value, and the values in sorted order; a row of 0 for unknown items."""
    per_item = [items[item].attributes.get(name, ()) if item in items else () for item in vocabulary.ids]
    values = tuple(sorted({value for row in per_item for value in row}))
    columns = {value: column for column, value in enumerate(values)}
    matrix = np.zeros((len(vocabulary), len(values)))
    for row, present in enumerate(per_item):
        matrix[row, [columns[value] for value in present]] = 1
    return matrix, values


def _of_histories(
    name: str, histories: Sequence[tuple[str, Sequence[str]]], items: Mapping[str, ItemInformation]
) -> RecommendationData:
    """Lists without times: an event's time is its place."""
    listed = [(user, item, place) for user, history in histories for place, item in enumerate(history)]
    interactions = interactions_of(
        [user for user, _, _ in listed], [item for _, item, _ in listed], [place for _, _, place in listed]
    )
    return _read(name, interactions, items, len(listed))


def _read(
    name: str, interactions: Interactions, items: Mapping[str, ItemInformation], n_rows: int
) -> RecommendationData:
    """A collection of which every row could be read."""
    report = RowReport(n_read=n_rows, n_good=n_rows)
    return RecommendationData(name, interactions, items, report, n_rows - len(interactions.items))


def _condition(text: str) -> tuple[str, str, float]:
    found = _CONDITION.match(text.replace(" ", ""))
    if found is None or found["action"][-1] in "<>=":
        raise InvalidInput(f"{text!r} is no condition on an action; write for instance order or rating>=4")
    return found["action"], found["sign"] or "", float(found["value"] or 0)


def _holds(event: Event, _: str, sign: str, bound: float) -> bool:
    if not sign:
        return True
    value = float("nan") if event.value is None else event.value  # without a value no bound is met
    return {">=": value >= bound, "<=": value <= bound, ">": value > bound, "<": value < bound}[sign]


def _lines(file: Path) -> Iterator[str]:
    if not file.is_file():
        raise NotFound(f"{file} does not exist; give the folder of the collection")
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line.rstrip("\r\n")


def _cells(file: Path, n_columns: int, *, header: bool = True) -> Iterator[list[str]]:
    """The rows of a tab-separated file; raises InvalidInput for one of another width."""
    for number, line in enumerate(_lines(file), start=1):
        cells = line.split("\t")
        if len(cells) != n_columns:
            raise InvalidInput(f"{file}:{number} has {len(cells)} columns, not {n_columns}; get the file again")
        if number > 1 or not header:
            yield cells
