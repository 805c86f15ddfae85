"""Columns on disk: one file per kind of array for all columns together, and a JSON table that says who owns what.

Opening maps the files and reads no column; a column is cut out of them when a filter asks for it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.fields_columns import Column, Spelled
from facetrail.models.errors import Damaged

FORMAT = 1
TABLE = "fields.json"
ARRAYS: dict[str, type[np.generic]] = {
    "numbers": np.float64,
    "strings": np.uint8,
    "starts": np.int64,
    "offsets": np.int64,
    "postings": np.uint32,
    "nulls": np.uint32,
    "objects": np.uint32,
    "spelled_numbers": np.float64,
    "spelled_number_positions": np.uint32,
    "spelled_dates": np.int64,
    "spelled_date_positions": np.uint32,
}
STATE = "state"
CURE = "rebuild it with `facetrail index build --out DIR`"


def _arrays_of(column: Column) -> dict[str, NDArray[Any]]:
    return {
        "numbers": column.numbers,
        "strings": column.strings,
        "starts": column.starts,
        "offsets": column.offsets,
        "postings": column.postings,
        "nulls": column.nulls,
        "objects": column.objects,
        "spelled_numbers": column.spelled_numbers.values,
        "spelled_number_positions": column.spelled_numbers.positions,
        "spelled_dates": column.spelled_dates.values,
        "spelled_date_positions": column.spelled_dates.positions,
    }


def write_columns(folder: Path, columns: Mapping[str | None, Column], state: NDArray[np.uint8]) -> None:
    """Writes columns (None: the ids) and the state of every ordinal into an existing folder."""
    parts = [(key, column, _arrays_of(column)) for key, column in columns.items()]
    for name, kind in ARRAYS.items():
        np.save(folder / f"{name}.npy", np.concatenate([np.empty(0, kind), *(a[name] for _, _, a in parts)]))
    np.save(folder / f"{STATE}.npy", state)
    table = [
        {
            "key": key,
            "lengths": [len(arrays[name]) for name in ARRAYS],
            "has_booleans": column.has_booleans,
            "exact": {str(position): str(value) for position, value in column.exact.items()},
        }
        for key, column, arrays in parts
    ]
    content = {"format": FORMAT, "n_ordinals": len(state), "columns": table}
    (folder / TABLE).write_text(json.dumps(content), encoding="utf-8")


class StoredColumns:
    """Columns written by `write_columns`, memory-mapped."""

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], table: list[Mapping[str, Any]], state: NDArray[np.uint8]
    ) -> None:
        """Use `StoredColumns.open`."""
        self.state = state
        self._arrays = arrays
        self._entries = {entry["key"]: (entry, starts) for entry, starts in zip(table, _starts(table), strict=True)}
        self._opened: dict[str | None, Column] = {}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises Damaged, naming the file, where one is missing or not as long as the table says."""
        path = folder / TABLE
        try:
            content = json.loads(path.read_bytes())
            number, table, n_ordinals = content["format"], content["columns"], content["n_ordinals"]
            totals = _starts(table)[-1] if table else [0] * len(ARRAYS)
            totals = [t + n for t, n in zip(totals, table[-1]["lengths"] if table else [0] * len(ARRAYS), strict=True)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{path} cannot be read ({error}); {CURE}") from error
        if number != FORMAT:
            raise Damaged(f"{path} has format {number}, this version reads {FORMAT}; {CURE}")
        arrays = {
            name: _mapped(folder / f"{name}.npy", kind, total)
            for (name, kind), total in zip(ARRAYS.items(), totals, strict=True)
        }
        return cls(arrays, table, _mapped(folder / f"{STATE}.npy", np.uint8, n_ordinals))

    def keys(self) -> list[str | None]:
        """Every key that has a column."""
        return list(self._entries)

    def column(self, key: str | None) -> Column | None:
        """The column of a key. Threads may ask at once: both cut the same slices."""
        if key not in self._opened and key in self._entries:
            entry, starts = self._entries[key]
            self._opened[key] = self._cut(entry, starts)
        return self._opened.get(key)

    def _cut(self, entry: Mapping[str, Any], starts: list[int]) -> Column:
        part = {
            name: self._arrays[name][start : start + length]
            for name, start, length in zip(ARRAYS, starts, entry["lengths"], strict=True)
        }
        return Column(
            numbers=part["numbers"],
            exact={int(position): int(value) for position, value in entry["exact"].items()},
            strings=part["strings"],
            starts=part["starts"],
            offsets=part["offsets"],
            postings=part["postings"],
            nulls=part["nulls"],
            objects=part["objects"],
            spelled_numbers=Spelled(part["spelled_numbers"], part["spelled_number_positions"]),
            spelled_dates=Spelled(part["spelled_dates"], part["spelled_date_positions"]),
            has_booleans=entry["has_booleans"],
        )


def _starts(table: list[Mapping[str, Any]]) -> list[list[int]]:
    """Where each column begins in each file."""
    starts, at = [], [0] * len(ARRAYS)
    for entry in table:
        starts.append(at)
        at = [a + n for a, n in zip(at, entry["lengths"], strict=True)]
    return starts


def _mapped(path: Path, kind: type[np.generic], length: int) -> NDArray[Any]:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Damaged(f"{path} cannot be read ({error}); {CURE}") from error
    if mapped.dtype != kind or mapped.shape != (length,):
        raise Damaged(
            f"{path} holds {mapped.dtype} {mapped.shape} where {np.dtype(kind)} ({length},) was written; {CURE}"
        )
    # A plain view on the map: slicing np.memmap objects costs microseconds each.
    return np.asarray(mapped)
