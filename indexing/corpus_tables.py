"""Rows of tables: CSV, TSV and Parquet."""

import csv
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from facetrail.indexing.corpus_documents import ID_NAMES, TEXT_NAMES, TITLE_NAMES
from facetrail.indexing.corpus_rows import BadRow, Row, lines_of, wrong_byte
from facetrail.models.errors import InvalidInput

PARQUET_BATCH = 1_000
Needs = Sequence[tuple[Sequence[str], str]]
"""(names of which a table must have one, what they hold)."""
DOCUMENT_NEEDS: Needs = ((ID_NAMES, "an id"), ((*TEXT_NAMES, *TITLE_NAMES, "sections"), "a text or a title"))


def csv_rows(path: Path, delimiter: str, max_row_bytes: int, needs: Needs = DOCUMENT_NEEDS) -> Iterator[Row]:
    """One dictionary a record, cells as strings; the line is the one where the record starts.

    Dialect: `delimiter`, fields with delimiters, quotes or line ends in double quotes, quotes inside doubled. The first
    record names the columns. An empty cell is an absent field. Raises InvalidInput for a header without what
    it needs.
    """
    # The module's limit is one for the whole process and only ever raised here.
    csv.field_size_limit(max(csv.field_size_limit(), max_row_bytes))
    lines = _TextLines(path, max_row_bytes)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            # What the reader had begun is dropped; it goes on with the next line.
            yield start, lines.take_problem() or BadRow("invalid", _why_not_csv(error, start, lines.number))
            continue
        problem = lines.take_problem()
        if problem is None and not cells:
            continue
        if header is None:
            if problem is not None:
                raise InvalidInput(f"{path}:{start}: the header cannot be read: {problem.reason}")
            header = _checked_header([name.strip() for name in cells], path, needs)
            continue
        if problem is None and any("\0" in cell for cell in cells):
            problem = BadRow("invalid", "the row holds a NUL byte")
        if problem is None and len(cells) != len(header):
            problem = BadRow("ragged", f"the row has {len(cells)} columns, the header {len(header)}")
        yield start, problem or {n: cell for n, cell in zip(header, cells, strict=True) if cell}
    if problem := lines.take_problem():
        yield lines.number, problem
    elif header is None:
        raise InvalidInput(f"{path} is empty; a table starts with a row of column names")


class _TextLines:
    """Decoded lines for the csv module, which wants strings. A line that is not UTF-8 is remembered as a problem."""

    def __init__(self, path: Path, max_row_bytes: int) -> None:
        self._lines = lines_of(path, max_row_bytes)
        self._problem: BadRow | None = None
        self.number = 0

    def __iter__(self) -> "_TextLines":
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if isinstance(line, BadRow):
            self._problem = self._problem or line
            return "\n"
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._problem = self._problem or BadRow("encoding", wrong_byte(line))
            return line.decode(errors="replace")

    def take_problem(self) -> BadRow | None:
        """What was wrong with the lines of the last record."""
        problem, self._problem = self._problem, None
        return problem


def _why_not_csv(error: csv.Error, start: int, end: int) -> str:
    if "unexpected end of data" in str(error):
        return "a quote that opens in this record is never closed; the rest of the file is part of it"
    upto = f" (up to line {end})" if end > start else ""
    return f"the record cannot be read{upto}: {error}; quote fields and double the quotes inside"


def _checked_header(names: Sequence[str], path: Path, needs: Needs) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"{path} names the column {twice[0]!r} twice; columns need different names")
    for wanted, what in needs:
        if not set(wanted) & set(names):
            shown = ", ".join(names[:12])
            raise InvalidInput(f"{path} has no column with {what} ({', '.join(wanted)}); its columns: {shown}")
    return list(names)


def parquet_rows(path: Path, needs: Needs = DOCUMENT_NEEDS) -> Iterator[Row]:
    """One dictionary a row; the row number, from 1, stands for the line.

    Times become RFC 3339 strings (UTC where no zone is stored), decimals numbers. Columns of bytes are left out with a
    warning. Raises InvalidInput for a file that is not Parquet, or without a column that it needs.
    """
    from pyarrow import ArrowException, parquet, types

    try:
        file = parquet.ParquetFile(path, memory_map=True)
    except (ArrowException, OSError) as error:
        raise InvalidInput(f"{path} cannot be read as Parquet ({_first_line(error)}); write it again") from error
    with file:
        schema = file.schema_arrow
        _checked_header(schema.names, path, needs)
        left_out = [f.name for f in schema if types.is_binary(f.type) or types.is_large_binary(f.type)]
        if left_out:
            yield 0, BadRow("column", f"columns of bytes are left out: {', '.join(left_out)}")
        number = 0
        try:
            for batch in file.iter_batches(PARQUET_BATCH, columns=[n for n in schema.names if n not in left_out]):
                for values in batch.to_pylist():
                    number += 1
                    yield number, {name: _plain(value) for name, value in values.items()}
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            yield (
                number + 1,
                BadRow("truncated", f"the file is damaged from here on ({_first_line(error)}); get it again"),
            )


def _plain(value: Any) -> Any:
    """A value of a Parquet cell as JSON knows it."""
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).isoformat()  # noqa: UP017
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
