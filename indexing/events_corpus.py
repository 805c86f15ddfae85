"""Reads events, whatever their form, as a stream; a row that is no event costs itself, not the rest of the file.

| path | what is read |
|---|---|
| `.jsonl`, `.ndjson` | one JSON object a line, UTF-8 |
| `.csv`, `.tsv` | a header of names, tabs or commas as the header has them, `"` quotes doubled inside |
| `.inter` | RecBole's atomic file: tabs, no quotes, a header of `name:type` |
| `.parquet` | rows; the row number stands for the line |

All but Parquet may be gzip (`.gz`). Fields: user (`user`, `user_id`, `userId`), item (`item`, `item_id`, `itemId`),
action (`action`, `event`, `event_type`), value (`value`, `rating`), time (`time`, `timestamp`), `request_id`.

Stated behaviour. A time is RFC 3339 (UTC where no offset stands) or a number: below 10^11 seconds, else milliseconds
since 1970. A time more than ten minutes ahead of now makes a bad row. Rows need no order. A row that names no action
has the one given; where none is given it is "rating" if the row has a value under that name. Other columns are left
out, each named once, with its first line.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facetrail.indexing.collection_events import event_problem
from facetrail.indexing.corpus_documents import Unusable, id_from
from facetrail.indexing.corpus_report import WARNINGS, RowProblem, RowReport
from facetrail.indexing.corpus_rows import BadRow, Row, json_rows, json_type, lines_of, wrong_byte
from facetrail.indexing.corpus_tables import Needs, csv_rows, parquet_rows
from facetrail.indexing.filters_tree import date_stamp
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.records import Event

MAX_ROW_BYTES = 1024 * 1024
AHEAD_MS = 10 * 60 * 1000
"""How far a time may lie ahead of now: clocks differ, but an event has happened."""
SECONDS_BELOW = 100_000_000_000
"""Numbers below are seconds (until the year 5138), others milliseconds (from 1973)."""
KINDS = (".jsonl", ".ndjson", ".csv", ".tsv", ".inter")
NAMES: Mapping[str, Sequence[str]] = {
    "user": ("user", "user_id", "userId"),
    "item": ("item", "item_id", "itemId"),
    "action": ("action", "event", "event_type"),
    "value": ("value", "rating"),
    "time": ("time", "timestamp"),
    "request_id": ("request_id",),
}
NEEDS: Needs = tuple((NAMES[field], f"the {field}") for field in ("user", "item", "time"))
_KNOWN = frozenset(name for names in NAMES.values() for name in names)


def read_events(
    path: Path,
    *,
    action: str | None = None,
    strict: bool = False,
    report: RowReport | None = None,
    now: int | None = None,
) -> Iterator[tuple[int, Event]]:
    """(line, event) in the order of the file; `report` is filled as they are drawn.

    action: of rows that name none. now: milliseconds in UTC, by default the clock's. Raises NotFound (no such file) and
    InvalidInput (kind not known) at once; while reading InvalidInput for a table without the columns needed and, under
    `strict`, for the first bad row.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}; check the path")
    kind = path.name.removesuffix(".gz")
    if not (path.name.endswith(".parquet") or kind.endswith(KINDS)):
        raise InvalidInput(
            f"{path} is of no kind that can be read; give {', '.join(KINDS)} (each also .gz) or .parquet"
        )
    latest = (time.time_ns() // 1_000_000 if now is None else now) + AHEAD_MS
    return _events(path, RowReport() if report is None else report, strict, action, latest)


def _rows(file: Path) -> Iterator[Row]:
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        return parquet_rows(file, NEEDS)
    if kind == "inter":
        return atomic_rows(file)
    if kind in ("csv", "tsv"):
        return csv_rows(file, _delimiter(file), MAX_ROW_BYTES, NEEDS)
    return json_rows(file, MAX_ROW_BYTES)


def _delimiter(file: Path) -> str:
    """Many tables of events are called .csv and hold tabs; ids may hold either, names of columns hold neither."""
    header = next(lines_of(file, MAX_ROW_BYTES), (0, b""))[1]
    return "\t" if isinstance(header, bytes) and b"\t" in header else ","


def _events(
    file: Path, report: RowReport, strict: bool, action: str | None, latest: int
) -> Iterator[tuple[int, Event]]:
    left_out: set[str] = set()
    for line, values in _rows(file):
        report.n_read += not isinstance(values, BadRow) or values.kind not in WARNINGS
        try:
            if isinstance(values, BadRow):
                raise Unusable(values.kind, values.reason)
            event = event_from(values, action, latest)
        except Unusable as error:
            report.add(RowProblem(str(file), line, error.bad_row.kind, error.bad_row.reason), strict=strict)
            continue
        for name in values.keys() - _KNOWN - left_out:
            left_out.add(name)
            report.add(RowProblem(str(file), line, "column", f"{name!r} is no field of an event and is left out"))
        report.n_good += 1
        yield line, event


def event_from(values: Mapping[str, Any], action: str | None, latest: int) -> Event:
    """The event of a row. Raises Unusable. latest: milliseconds in UTC, times beyond it are refused."""
    found = {
        field: next((values[n] for n in names if values.get(n) is not None), None) for field, names in NAMES.items()
    }
    chosen = found["action"] or action or ("rating" if values.get("rating") is not None else None)
    if chosen is None:
        raise Unusable("invalid", "the row names no action; say what these events are with --action")
    event = Event(
        _id(found["user"], "user"),
        _id(found["item"], "item"),
        _id(chosen, "action"),
        _time(found["time"], latest),
        None if found["value"] is None else _number(found["value"], "value"),
        None if found["request_id"] is None else _id(found["request_id"], "request_id"),
    )
    if (problem := event_problem(event)) is not None:
        raise Unusable("invalid", f"{problem[0]}: {problem[1]}")
    return event


def _id(value: object, field: str) -> str:
    if value is None:
        raise Unusable("id", f"the row has no {field}; name it {' or '.join(NAMES[field])}")
    try:
        return id_from(value)
    except Unusable as error:
        raise Unusable("id", f"{field}: {error.bad_row.reason}") from error


def _number(value: object, field: str) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    shown = repr(value)[:40] if isinstance(value, str | int | float) else f"a {json_type(value)}"
    raise Unusable("time" if field == "time" else "invalid", f"the {field} is {shown}, not a finite number")


def _time(value: object, latest: int) -> int:
    """Milliseconds in UTC."""
    if value is None:
        raise Unusable("time", "the row has no time; name it time or timestamp")
    stamp = date_stamp(value) if isinstance(value, str) else None
    if stamp is not None:
        moment = stamp // 1_000
    else:
        number = _number(value, "time")
        moment = int(number * 1_000 if abs(number) < SECONDS_BELOW else number)
    if moment > latest:
        raise Unusable("time", f"the time {value!r} lies in the future; check its unit and the clock that wrote it")
    if moment < 0:
        raise Unusable("time", f"the time {value!r} lies before 1970")
    return moment


def atomic_rows(path: Path) -> Iterator[Row]:
    """Rows of a RecBole atomic file; the first line names the columns, `user_id:token` for instance."""
    header: list[str] | None = None
    for number, line in lines_of(path, MAX_ROW_BYTES):
        if isinstance(line, BadRow):
            yield number, line
            continue
        if reason := wrong_byte(line):
            yield number, BadRow("encoding", reason)
            continue
        text = line.decode().rstrip("\r\n")
        cells = text.split("\t")
        if header is None:
            header = [cell.strip().partition(":")[0] for cell in cells]
            missing = [(wanted, what) for wanted, what in NEEDS if not set(wanted) & set(header)]
            if missing:
                wanted, what = missing[0]
                raise InvalidInput(
                    f"{path} has no column with {what} ({', '.join(wanted)}); its columns: {', '.join(header[:12])}"
                )
        elif len(cells) != len(header):
            if text:
                yield number, BadRow("ragged", f"the row has {len(cells)} columns, the header {len(header)}")
        else:
            yield number, {name: cell for name, cell in zip(header, cells, strict=True) if cell}
