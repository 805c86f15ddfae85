"""The collection's database: tables, settings, connections, and what SQLite's errors mean to a caller."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facetrail.models.errors import Conflict, Damaged, FacetrailError, NotFound, Unavailable

DATABASE_FILE = "collection.sqlite"
SCHEMA_VERSION = 4
APPLICATION_ID = 0x46545243  # "FTRC", shown by file(1)
PAGE_SIZE = 8192  # five 384-dimensional float32 vectors fill a page to 97 %; of 4096 bytes a fifth would stay empty
MIN_SQLITE = (3, 37, 0)  # STRICT tables, which let the integrity check see a flipped column type
RESTORE_CURE = "restore a snapshot with `facetrail index restore` or build the collection anew from its corpus"
_BUSY_SECONDS = 10.0

# `properties` keeps its shape in every schema version: it is how a newer version is told from a damaged header.
# A document's `change` is the number of the change that wrote its present form; `deletions` holds the last change of
# ids that no longer live. Together they are the change log, bounded by the number of ids ever seen.
# `number` is the document's first change: never given out twice, so a vector cannot move to another document.
# An event's `number` tells in which order events arrived. Its unique key is both what makes it one event and the index
# that a user's history is read from; an item need not be a document, since events may come before it and stay after it.
TABLES: dict[str, str] = {
    "properties": "CREATE TABLE properties (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL) STRICT",
    "documents": (
        "CREATE TABLE documents (number INTEGER PRIMARY KEY, change INTEGER NOT NULL UNIQUE, id TEXT NOT NULL UNIQUE, "
        "content_hash BLOB NOT NULL, checksum BLOB NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, "
        "sections TEXT NOT NULL, metadata TEXT NOT NULL) STRICT"
    ),
    "deletions": (
        "CREATE TABLE deletions (change INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, checksum BLOB NOT NULL) STRICT"
    ),
    "encoders": (
        "CREATE TABLE encoders (number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, checksum BLOB NOT NULL) "
        "STRICT"
    ),
    "vectors": (
        "CREATE TABLE vectors (document INTEGER PRIMARY KEY REFERENCES documents (number) ON DELETE CASCADE, "
        "encoder INTEGER NOT NULL REFERENCES encoders (number), content_hash BLOB NOT NULL, checksum BLOB NOT NULL, "
        "vector BLOB NOT NULL) STRICT"
    ),
    "facets": (
        "CREATE TABLE facets (document INTEGER PRIMARY KEY REFERENCES documents (number) ON DELETE CASCADE, "
        "encoder INTEGER NOT NULL REFERENCES encoders (number), content_hash BLOB NOT NULL, checksum BLOB NOT NULL, "
        "data BLOB NOT NULL) STRICT"
    ),
    "events": (
        "CREATE TABLE events (number INTEGER PRIMARY KEY, user TEXT NOT NULL, time INTEGER NOT NULL, "
        "item TEXT NOT NULL, action TEXT NOT NULL, value REAL, request_id TEXT NOT NULL, checksum BLOB NOT NULL, "
        "UNIQUE (user, time, item, action)) STRICT"
    ),
    "judgements": (
        "CREATE TABLE judgements (number INTEGER PRIMARY KEY, query TEXT NOT NULL UNIQUE, text TEXT NOT NULL, "
        "relevant TEXT NOT NULL, checksum BLOB NOT NULL) STRICT"
    ),
}
ADDED_IN = {"facets": 2, "events": 3, "judgements": 4}
"""Schema version of the tables that came after the first. A collection stays in the version it was made in until events
or judgements are written, which bring it to the present one; no facets are ever asked of one made without them."""
COUNTED = ("events", "judgements")
"""Tables whose number of rows is a property: no checksum of a row can tell that another one is lost."""


def tables_of(schema: int) -> dict[str, str]:
    """The definitions of the tables that a schema version has."""
    return {name: sql for name, sql in TABLES.items() if ADDED_IN.get(name, 1) <= schema}


class CollectionSettings(BaseModel):
    """What a collection is, fixed when it is created. `encoder` None: lexical search only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    encoder: str | None = None
    """Name or folder that loads the encoder."""
    encoder_card: dict[str, Any] | None = None
    encoder_fingerprint: str | None = None
    """Weights, pooling, prefixes and lengths in one hash: vectors of another fingerprint do not mix with these."""
    dim: int | None = Field(default=None, ge=1, le=65_536)
    lexical: dict[str, Any] | None = None
    """Configuration of the lexical index; None: there is none."""
    dense: dict[str, Any] | None = None
    """Configuration of the dense index; None: there is none."""
    facets: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=255)
    """Names of the facets that every encoded document has a vector of; None: single vectors only."""
    facet_margin: float | None = Field(default=None, ge=0)
    """What a match of another facet of the document costs (cosine). Kept, so that `like` needs no encoder."""
    facet_mixing: float | None = Field(default=None, ge=0, le=1)
    """Share of the facet score in the final one."""
    max_document_bytes: int = Field(default=16 * 2**20, ge=1, le=2**29)
    """Largest document, in bytes of UTF-8 over title, text, sections and metadata."""
    created_with: str = Field(default_factory=lambda: _version())

    @model_validator(mode="after")
    def _encoder_is_complete(self) -> Self:
        parts = (self.encoder, self.encoder_fingerprint, self.dim)
        if any(p is None for p in parts) and any(p is not None for p in parts):
            raise ValueError("encoder, encoder_fingerprint and dim come together or not at all")
        return self

    @model_validator(mode="after")
    def _facets_are_complete(self) -> Self:
        parts = (self.facets, self.facet_margin, self.facet_mixing)
        if any(p is None for p in parts) and any(p is not None for p in parts):
            raise ValueError("facets, facet_margin and facet_mixing come together or not at all")
        if self.facets is not None and (self.dense is None or len(set(self.facets)) < len(self.facets)):
            raise ValueError("facets need a dense index and names that differ")
        return self


def _version() -> str:
    try:
        return metadata.version("facetrail")
    except metadata.PackageNotFoundError:
        return "unknown"


def checksum(*parts: Any) -> bytes:
    """16 bytes of BLAKE2b over parts, each with its length, so that no two lists of parts look alike.

    Parts are bytes, text and 64-bit integers. A damaged row may bring any other type: it counts as its `repr`.
    """
    pieces = []
    for part in parts:
        if isinstance(part, bytes):
            raw = part
        elif isinstance(part, str):
            raw = part.encode()
        elif isinstance(part, int):
            raw = part.to_bytes(8, "little", signed=True)
        else:
            raw = repr(part).encode()
        pieces.append(len(raw).to_bytes(8, "little"))
        pieces.append(raw)
    return hashlib.blake2b(b"".join(pieces), digest_size=16).digest()


def translate(error: sqlite3.Error, database: Path) -> FacetrailError:
    """The error a caller is told, by SQLite's result code."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return Conflict(f"{database} is locked by another process ({error}); try again when it has finished")
    if name.startswith("SQLITE_FULL"):
        return Unavailable(f"no space is left to write {database}; free some, nothing was changed")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_NOMEM")):
        return Unavailable(f"{database} cannot be read or written ({error}); check the disk and the permissions")
    return damaged(database, str(error))


def damaged(database: Path, what: str) -> Damaged:
    """The sentence for every damage of the database."""
    return Damaged(f"{database} is damaged: {what}; nothing was changed, {RESTORE_CURE}")


def shown(value: Any) -> str:
    """A stored id for a message, whatever damage made of it."""
    return repr(value.decode("utf-8", "replace")) if isinstance(value, bytes) else repr(value)


@contextmanager
def translated(database: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours; a misuse of the module (a closed connection) stays a bug."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except UnicodeDecodeError as error:  # names inside the file, quoted by SQLite's own message
        raise damaged(database, "names in it are not valid text") from error
    except sqlite3.Error as error:
        raise translate(error, database) from error


def connect(database: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection in autocommit mode. Text comes back as bytes: checksums are taken before anything is decoded."""
    mode = "rw" if writable else "ro"
    if not writable and not _folder_is_writable(database) and not _has_log(database):
        mode = "ro&immutable=1"  # a read-only medium: SQLite could not create its shared memory beside the file
    connection = sqlite3.connect(
        f"{database.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # lent to one thread at a time
        cached_statements=64,
    )
    try:
        connection.text_factory = bytes
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if writable:
            connection.execute("PRAGMA cache_size = -32768")  # KiB; ids arrive in any order, their index stays cached
            connection.execute("PRAGMA synchronous = FULL")  # the commit waits for the log's fsync
        else:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _folder_is_writable(database: Path) -> bool:
    return os.access(database.parent, os.W_OK)


def _has_log(database: Path) -> bool:
    log = database.with_name(database.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def create_database(database: Path, settings: CollectionSettings) -> None:
    """Writes an empty database file, its log folded in."""
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise Unavailable(
            f"SQLite {sqlite3.sqlite_version} is older than 3.37, which collections need; use a newer Python or SQLite"
        )
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in TABLES.values():
            connection.execute(statement)
        counts = [(name, "0") for name in COUNTED]
        for name, value in (("schema", str(SCHEMA_VERSION)), ("settings", settings.model_dump_json()), *counts):
            write_property(connection, name, value)
        connection.execute("COMMIT")
    finally:
        connection.close()


def upgrade(connection: sqlite3.Connection, database: Path) -> None:
    """Brings a database to the present schema version, inside the transaction of the caller."""
    schema = int(read_property(connection, database, "schema"))
    if schema == SCHEMA_VERSION:
        return
    for name, statement in TABLES.items():
        if ADDED_IN.get(name, 1) > schema:
            connection.execute(statement)
            if name in COUNTED:
                write_property(connection, name, "0")
    write_property(connection, "schema", str(SCHEMA_VERSION))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def read_settings(connection: sqlite3.Connection, database: Path) -> CollectionSettings:
    """Checks that the file is a collection of this schema version and reads its settings."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (header,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise damaged(database, "its header does not say that it is a collection")
    schema = int(read_property(connection, database, "schema"))
    if schema > SCHEMA_VERSION:
        raise Conflict(
            f"{database} has schema version {schema}, this facetrail knows {SCHEMA_VERSION}; upgrade facetrail"
        )
    if header != schema:
        raise damaged(database, f"its header says schema version {header}, its table {schema}")
    raw = read_property(connection, database, "settings")
    try:
        settings = CollectionSettings.model_validate_json(raw)
    except ValidationError as error:
        raise damaged(database, f"the settings do not fit their form ({error.errors()[0]['msg']})") from error
    if settings.facets is not None and schema < ADDED_IN["facets"]:
        raise damaged(database, f"its settings speak of facets, which schema version {schema} has no table for")
    return settings


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """False in a schema version that came before the table."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone() is not None


def read_property(connection: sqlite3.Connection, database: Path, name: str) -> str:
    """One checked value of the table `properties`."""
    row = connection.execute("SELECT value, checksum FROM properties WHERE name = ?", (name,)).fetchone()
    if row is None or checksum(name, row[0]) != row[1]:
        raise damaged(database, f"row {name!r} of table properties is missing or changed")
    return str(row[0], "utf-8")


def write_property(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Sets one value of the table `properties`."""
    connection.execute("INSERT OR REPLACE INTO properties VALUES (?, ?, ?)", (name, value, checksum(name, value)))


def require_database(folder: Path) -> Path:
    """The database of a collection's folder. Raises NotFound where there is none."""
    database = folder / DATABASE_FILE
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}; build a collection with `facetrail index build --out {folder}`")
    if not database.is_file():
        raise NotFound(f"{folder} holds no collection ({DATABASE_FILE} is missing); build one or name another folder")
    return database
