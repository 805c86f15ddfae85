"""Finding damage in the database: seal, SQLite's own structure check, and every row against its checksum.

What is covered. A database whose writer closed it carries a seal, the sha256 of the whole file: any changed byte is
found, used or not. Between the first write and the close (or after a kill) there is no seal; then every stored value is
still covered by its row's checksum and the b-trees, indexes, types and header by the integrity check, and only bytes
that hold nothing (free pages, gaps between rows) are not. The log that a killed writer leaves is covered but for its
last transaction, which cannot be told from one that the crash cut short.
"""

import hashlib
import re
import sqlite3
from pathlib import Path

from facetrail.indexing.collection_events import EVENT_COLUMNS, require_intact
from facetrail.indexing.collection_judgements import JUDGEMENT_COLUMNS, judgement_checksum
from facetrail.indexing.collection_log import log_problem
from facetrail.indexing.collection_rows import COLUMNS, decode, vector_checksum
from facetrail.indexing.collection_schema import (
    DATABASE_FILE,
    checksum,
    connect,
    has_table,
    read_property,
    read_settings,
    shown,
    tables_of,
    translate,
)
from facetrail.indexing.durable import file_sha256, remove_durably, write_durably
from facetrail.models.errors import Damaged

SEAL_FILE = "collection.seal"
_SEAL = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,20}) ([0-9a-f]{32})\n")
_MAX_PROBLEMS = 20


class Seal:
    """`collection.seal`: sha256 and size of the database file as its writer left it, and a checksum of both."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SEAL_FILE
        self._database = folder / DATABASE_FILE

    def exists(self) -> bool:
        """Whether the database was sealed and not written since."""
        return self._path.exists()

    def write(self) -> None:
        """Seals the database as it is now; its log must be empty."""
        write_durably(self._path, _seal_line(file_sha256(self._database), self._database.stat().st_size))

    def remove(self) -> None:
        """Breaks the seal, on disk before the first byte of the database changes."""
        remove_durably(self._path)

    def problem(self) -> tuple[Path, str] | None:
        """(file, what does not fit), None if all does or there is no seal."""
        line = self._read()
        if line is None:
            return None
        found = _SEAL.fullmatch(line)
        if found is None or _seal_line(found[1].decode(), int(found[2])) != line:
            return self._path, "is not as it was written"
        size = self._database.stat().st_size
        if size == int(found[2]) and file_sha256(self._database).encode() == found[1]:
            return None
        if self._read() != line:  # a writer started meanwhile
            return None
        if size != int(found[2]):
            return self._database, f"has {size:,} bytes, its seal says {int(found[2]):,}"
        return self._database, "is not byte for byte what its writer sealed"

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None


def _seal_line(sha256: str, size: int) -> bytes:
    content = f"{sha256} {size}"
    return f"{content} {hashlib.sha256(content.encode()).hexdigest()[:32]}\n".encode()


def check_database(folder: Path) -> list[tuple[Path, str]]:
    """(file, what is wrong) of every problem in a collection's database; at most 20 rows a table are listed by name."""
    database = folder / DATABASE_FILE
    if not database.is_file():
        return [(database, "is missing")]
    files = [problem for problem in (Seal(folder).problem(), log_problem(database)) if problem is not None]
    found: list[str] = []
    try:
        connection = connect(database, writable=False)
        try:
            read_settings(connection, database)
            connection.execute("BEGIN")
            for step in (_structure, _documents, _deletions, _encoders, _vectors, _facets, _events, _judgements):
                found += step(connection, database)
        finally:
            connection.close()
    except Damaged as error:
        found.append(str(error).removeprefix(f"{database} is damaged: ").partition("; nothing was changed")[0])
    except sqlite3.ProgrammingError:
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        problem = translate(error, database) if isinstance(error, sqlite3.Error) else None
        if problem is not None and not isinstance(problem, Damaged):
            raise problem from error
        found.append(str(error))
    return files + [(database, what) for what in found]


def _structure(connection: sqlite3.Connection, database: Path) -> list[str]:
    problems = []
    stored = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall())
    schema = int(read_property(connection, database, "schema"))
    expected = {name.encode(): sql.encode() for name, sql in tables_of(schema).items()}
    if stored != expected:
        problems.append("its table definitions are not as they were written")
    rows = connection.execute(f"PRAGMA integrity_check({_MAX_PROBLEMS})").fetchall()
    messages = [row[0].decode("utf-8", "replace") for row in rows]
    if messages != ["ok"]:
        problems += messages
    violations = connection.execute("PRAGMA foreign_key_check").fetchall()
    problems += [f"row {row[1]} of table {row[0].decode()} points nowhere" for row in violations[:_MAX_PROBLEMS]]
    return problems


def _documents(connection: sqlite3.Connection, database: Path) -> list[str]:
    problems = []
    for row in connection.execute(f"SELECT {COLUMNS} FROM documents"):
        try:
            decode(row, database)
        except Damaged:
            problems.append(f"row {row[0]} (document {shown(row[2])}) of table documents is not as it was written")
            if len(problems) == _MAX_PROBLEMS:
                break
    return problems


def _deletions(connection: sqlite3.Connection, database: Path) -> list[str]:
    rows = connection.execute("SELECT change, id, checksum FROM deletions")
    bad = [row[0] for row in rows if checksum(row[0], row[1]) != row[2]]
    return [f"row {number} of table deletions is not as it was written" for number in bad[:_MAX_PROBLEMS]]


def _encoders(connection: sqlite3.Connection, database: Path) -> list[str]:
    rows = connection.execute("SELECT number, fingerprint, checksum FROM encoders")
    bad = [row[0] for row in rows if checksum(row[0], row[1]) != row[2]]
    return [f"row {number} of table encoders is not as it was written" for number in bad]


def _vectors(connection: sqlite3.Connection, database: Path) -> list[str]:
    return _encoded(connection, "vectors", "vector")


def _facets(connection: sqlite3.Connection, database: Path) -> list[str]:
    if not has_table(connection, "facets"):
        return []
    problems = _encoded(connection, "facets", "data")
    if read_settings(connection, database).facets is not None:
        # Vector and facet data of a text are written together; one without the other is a lost row.
        lonely = connection.execute(
            "SELECT document FROM (SELECT document FROM vectors UNION ALL SELECT document FROM facets) "
            "GROUP BY document HAVING count(*) = 1"
        ).fetchmany(_MAX_PROBLEMS)
        problems += [f"document {row[0]} has a vector or facet data, but not both" for row in lonely]
    return problems


def _events(connection: sqlite3.Connection, database: Path) -> list[str]:
    if not has_table(connection, "events"):
        return []
    problems = []
    n_rows = 0
    for row in connection.execute(f"SELECT {EVENT_COLUMNS} FROM events"):
        n_rows += 1
        try:
            require_intact(row, database)
        except Damaged:
            problems.append(f"row {row[0]} (of user {shown(row[1])}) of table events is not as it was written")
            if len(problems) == _MAX_PROBLEMS:
                return problems
    return problems + _lost(connection, database, "events", n_rows)


def _judgements(connection: sqlite3.Connection, database: Path) -> list[str]:
    if not has_table(connection, "judgements"):
        return []
    rows = connection.execute(f"SELECT {JUDGEMENT_COLUMNS} FROM judgements").fetchall()
    bad = [row for row in rows if judgement_checksum(*row[:-1]) != row[-1]]
    what = "table judgements is not as it was written"
    problems = [f"row {row[0]} (query {shown(row[1])}) of {what}" for row in bad[:_MAX_PROBLEMS]]
    return problems + _lost(connection, database, "judgements", len(rows))


def _lost(connection: sqlite3.Connection, database: Path, table: str, n_rows: int) -> list[str]:
    n_written = int(read_property(connection, database, table))
    return [] if n_written == n_rows else [f"table {table} has {n_rows:,} rows, {n_written:,} were written"]


def _encoded(connection: sqlite3.Connection, table: str, column: str) -> list[str]:
    """Rows of `vectors` or `facets` whose checksum does not fit."""
    rows = connection.execute(
        f"SELECT v.document, e.fingerprint, v.content_hash, v.{column}, v.checksum, d.id FROM {table} v "
        "LEFT JOIN encoders e ON e.number = v.encoder LEFT JOIN documents d ON d.number = v.document"
    )
    problems = []
    for document, fingerprint, content_hash, data, stored, document_id in rows:
        if vector_checksum(document, fingerprint or b"", content_hash, data) != stored:
            problems.append(f"row {document} (document {shown(document_id)}) of table {table} is not as it was written")
            if len(problems) == _MAX_PROBLEMS:
                break
    return problems
