"""Rows of a file, one at a time: JSON Lines, CSV, TSV and Parquet, plain or gzip.

A row is (line, values) or (line, BadRow): one that cannot be read costs itself, not the rest of the file.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any

import orjson

from facetrail.indexing.corpus_report import Kind
from facetrail.models.errors import InvalidInput

GZIP_MAGIC = b"\x1f\x8b"
UTF8_BOM = b"\xef\xbb\xbf"
OTHER_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, and why."""

    kind: Kind
    reason: str


Row = tuple[int, dict[str, Any] | BadRow]
"""Line (from 1) and what stands there."""
Line = tuple[int, bytes | BadRow]


def lines_of(path: Path, max_row_bytes: int) -> Iterator[Line]:
    r"""Physical lines with their ends, split at `\n` only: abstracts hold other Unicode line separators.

    A byte-order mark of UTF-8 is dropped; one of UTF-16 or UTF-32 ends the reading with a BadRow, as does a gzip
    stream that breaks off. A line above `max_row_bytes` is skipped without being held in memory.
    Raises InvalidInput if the file cannot be opened.
    """
    with _open(path) as stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(max_row_bytes + 1)
                too_long = len(line) > max_row_bytes and not line.endswith(b"\n")
                end = line
                while too_long and end and not end.endswith(b"\n"):
                    end = stream.readline(BUFFER)
            except (EOFError, zlib.error) as error:
                yield number, BadRow("truncated", f"the gzip stream breaks off here ({error}); get the file again")
                return
            if not line:
                return
            if number == 1:
                line = line.removeprefix(UTF8_BOM)
                other = next((name for mark, name in OTHER_BOMS.items() if line.startswith(mark)), None)
                if other:
                    mark_hex = line[:2].hex(" ").upper()
                    yield (
                        1,
                        BadRow(
                            "encoding", f"the file is {other} (it starts with the bytes {mark_hex}); save it as UTF-8"
                        ),
                    )
                    return
            if too_long:
                yield number, BadRow("too_large", f"the row is longer than {max_row_bytes:,} bytes")
                continue
            yield number, line


def _open(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked if they are gzip, whatever the name says."""
    try:
        raw = path.open("rb", buffering=BUFFER)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be opened ({error.strerror}); check the path and its permissions") from error
    assert isinstance(raw, BufferedReader)  # what opening with a buffer gives
    is_gzip = raw.peek(2)[:2] == GZIP_MAGIC
    if is_gzip:
        return BufferedReader(_Unpacked(raw), BUFFER)
    if path.suffix == ".gz":
        raw.close()
        raise InvalidInput(f"{path} is named .gz but is not gzip; rename it or compress it again")
    return raw


class _Unpacked(RawIOBase):
    """The content of a gzip stream. Of a damaged one everything before the damage, then EOFError or zlib.error.

    The standard library's reader loses what it has unpacked but not handed out when the stream breaks off.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._member = zlib.decompressobj(wbits=31)
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = self._waiting or self._packed.read(BUFFER)
            if self._member.eof:
                data = data.lstrip(b"\0")  # some writers pad the end
                if not data:
                    return 0
                self._member = zlib.decompressobj(wbits=31)  # files of several members are allowed
            elif not data:
                raise EOFError("the end of the stream is missing")
            unpacked = self._member.decompress(data, len(buffer))
            self._waiting = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if unpacked:
                buffer[: len(unpacked)] = unpacked
                return len(unpacked)

    def close(self) -> None:
        self._packed.close()
        super().close()


def json_rows(path: Path, max_row_bytes: int) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in lines_of(path, max_row_bytes):
        if isinstance(line, BadRow):
            yield number, line
            continue
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if not line.isspace() and line:
                yield number, _why_not_json(line, error)
            continue
        if isinstance(values, dict):
            yield number, values
        else:
            yield number, BadRow("invalid", f"the row is a JSON {json_type(values)}, not an object")


def _why_not_json(line: bytes, error: orjson.JSONDecodeError) -> BadRow:
    bad_byte = wrong_byte(line)
    if bad_byte:
        return BadRow("encoding", bad_byte)
    return BadRow("invalid", f"the row is not JSON: {error.msg} at character {error.pos + 1}")


def wrong_byte(line: bytes) -> str:
    """What is not UTF-8 in a line, as a reason; empty if all is."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"byte 0x{line[error.start]:02X} at position {error.start + 1} is not UTF-8; save the file as UTF-8"
    return ""


def json_type(value: object) -> str:
    """A value's JSON name, for messages."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    return names.get(type(value), type(value).__name__)
