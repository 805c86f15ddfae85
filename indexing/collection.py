"""The durable collection: documents, their vectors and the change log, in one SQLite database.

An acknowledged write is on disk: WAL journal with `synchronous=FULL`, so a commit returns after the log's fsync. One
writer, held by a lock file; any number of readers, in any number of processes, each on a committed state.

The change log keeps the last change of every id (the documents' own change numbers, plus one row for a deleted id), so
that it never grows beyond the ids ever seen.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from numpy.typing import ArrayLike

from facetrail.indexing import collection_writing as writing
from facetrail.indexing.collection_backup import backup, restore
from facetrail.indexing.collection_check import Seal, check_database
from facetrail.indexing.collection_reading import Change, ReadView
from facetrail.indexing.collection_rows import as_vectors, encode, require_encoder
from facetrail.indexing.collection_schema import (
    DATABASE_FILE,
    CollectionSettings,
    connect,
    create_database,
    read_settings,
    require_database,
    translated,
)
from facetrail.indexing.collection_writing import DeleteResult, PutResult, VectorResult
from facetrail.indexing.durable import rename_durably, sync_file, sync_folder
from facetrail.indexing.index import Float32Array
from facetrail.indexing.locking import LOCK_FILE, WriterLock
from facetrail.models.errors import Conflict, InvalidInput, NotFound
from facetrail.models.records import Document

__all__ = [
    "Change",
    "Collection",
    "CollectionSettings",
    "DeleteResult",
    "PutResult",
    "ReadView",
    "VectorResult",
    "restore",
]

_MAX_IDLE_READERS = 8
_DRAFT_FILE = ".creating.sqlite"


class Collection:
    """Thread-safe. Reads run beside each other and beside the writer; writes take turns."""

    def __init__(self, folder: Path, settings: CollectionSettings, lock: WriterLock | None) -> None:
        """Use `Collection.create` or `Collection.open`."""
        self.folder = folder
        self.settings = settings
        self._database = folder / DATABASE_FILE
        self._lock = lock
        self._writer: sqlite3.Connection | None = None
        self._writing = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._seal = Seal(folder)
        self._sealed = False

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether a folder holds a collection."""
        return (folder / DATABASE_FILE).is_file()

    @classmethod
    def create(cls, folder: Path, settings: CollectionSettings) -> Self:
        """Makes an empty collection in a new or empty folder and opens it for writing.

        The database appears whole or not at all. Raises Conflict if the folder holds a collection, or anything else.
        """
        if folder.exists() and not folder.is_dir():
            raise Conflict(f"{folder} is a file; name a folder for the collection")
        folder.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(folder)
        try:
            if cls.exists(folder):
                raise Conflict(f"{folder} already holds a collection; open it, or name another folder")
            others = sorted(
                p.name for p in folder.iterdir() if p.name != LOCK_FILE and not p.name.startswith(_DRAFT_FILE)
            )
            if others:
                raise Conflict(
                    f"{folder} holds other files ({', '.join(others[:3])}); name a new folder for the collection"
                )
            draft = folder / _DRAFT_FILE
            for leftover in folder.glob(f"{_DRAFT_FILE}*"):
                leftover.unlink()  # of a creation that was killed; nothing in it was ever acknowledged
            with translated(draft):
                create_database(draft, settings)
            sync_file(draft)
            rename_durably(draft, folder / DATABASE_FILE)
            sync_folder(folder.parent)
            return cls._opened(folder, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: Path, *, writable: bool = False) -> Self:
        """Opens a collection. Raises NotFound, Damaged, or Conflict (second writer, newer schema)."""
        require_database(folder)
        lock = WriterLock(folder) if writable else None
        try:
            return cls._opened(folder, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @classmethod
    def _opened(cls, folder: Path, lock: WriterLock | None) -> Self:
        database = folder / DATABASE_FILE
        with translated(database):
            connection = connect(database, writable=lock is not None)
            try:
                settings = read_settings(connection, database)
            except BaseException:
                connection.close()
                raise
        collection = cls(folder, settings, lock)
        if lock is None:
            collection._idle.append(connection)
        else:
            collection._writer = connection
            collection._sealed = collection._seal.exists()
        return collection

    @property
    def writable(self) -> bool:
        """Whether this object holds the writer lock."""
        return self._lock is not None

    def close(self) -> None:
        """Folds the log into the database, seals it, and gives the writer lock back; a second call does nothing."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            if self._writer is not None:
                try:
                    self._close_writer(self._writer)
                finally:
                    assert self._lock is not None
                    self._lock.release()

    def _close_writer(self, writer: sqlite3.Connection) -> None:
        with translated(self._database):
            try:
                # A reader in another process may hold the log back; then the file stays unsealed until the next close.
                (busy, _, _) = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                writer.close()
        if not busy and not self._sealed:
            self._seal.write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[ReadView]:
        """A write transaction: on disk when the block ends, undone if it raises."""
        with self._writing:
            if self._writer is None or self._closed:
                raise Conflict(f"the collection in {self.folder} is open for reading only; open it with writable=True")
            if self._sealed:  # from here on the file's hash is out of date
                self._seal.remove()
                self._sealed = False
            with translated(self._database):
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield ReadView(self._writer, self._database, self.settings)
                    self._writer.execute("COMMIT")
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise

    def put(self, documents: Sequence[Document], vectors: ArrayLike | None = None) -> PutResult:
        """Adds or replaces documents in one transaction; on disk when it returns.

        Of several documents with one id the last counts. A document equal to the stored one in every field is
        unchanged: no change number is spent on it. vectors: (n, dim), row i of document i, of the collection's
        encoder; without them a changed text loses its vector until `store_vectors`. Raises InvalidInput naming
        position and id, before anything is written.
        """
        limit = self.settings.max_document_bytes
        encoded = {row.id: (i, row) for i, row in ((i, encode(i, d, limit)) for i, d in enumerate(documents))}
        rows = [row for _, row in encoded.values()]
        array, fingerprint = None, ""
        if vectors is not None:
            fingerprint, dim = require_encoder(self.settings)
            array = as_vectors(vectors, len(documents), dim)
        with self._transaction() as view:
            result, numbers = writing.put_rows(view.connection, rows, view.change)
            if array is not None:
                entries = [(numbers[row.id], row.content_hash) for row in rows]
                chosen = array[[i for i, _ in encoded.values()]] if len(rows) < len(array) else array
                writing.put_vectors(view.connection, fingerprint, entries, chosen)
        return result

    def delete(self, ids: Sequence[str]) -> DeleteResult:
        """Deletes documents and their vectors in one transaction; on disk when it returns."""
        if isinstance(ids, str):
            raise InvalidInput("delete takes a list of ids, not one string; put it into a list")
        with self._transaction() as view:
            return writing.delete_ids(view.connection, list(dict.fromkeys(ids)), view.change)

    def store_vectors(
        self, ids: Sequence[str], content_hashes: Sequence[bytes], fingerprint: str, vectors: ArrayLike
    ) -> VectorResult:
        """Stores vectors of texts read earlier; one whose document changed or went since is dropped and counted."""
        _, dim = require_encoder(self.settings, fingerprint)
        array = as_vectors(vectors, len(ids), dim)
        with self._transaction() as view:
            found = writing.current_entries(view, ids, content_hashes)
            positions = [position for position, _ in found]
            chosen = array if len(found) == len(ids) else array[positions]
            writing.put_vectors(view.connection, fingerprint, [entry for _, entry in found], chosen)
        return VectorResult(len(found), len(ids) - len(found))

    # -- reading -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _view(self) -> Iterator[ReadView]:
        if self._closed:
            raise Conflict(f"the collection in {self.folder} was closed; open it again")
        try:
            connection = self._idle.pop()  # atomic: a connection is lent to one thread
        except IndexError:
            with translated(self._database):
                connection = connect(self._database, writable=False)
        try:
            yield ReadView(connection, self._database, self.settings)
        finally:
            if self._closed or len(self._idle) >= _MAX_IDLE_READERS:
                connection.close()
            else:
                self._idle.append(connection)

    @contextmanager
    def snapshot(self) -> Iterator[ReadView]:
        """A view of one committed state, its `change`, for as long as the block lasts; writes go on beside it."""
        with self._view() as view, view.pinned():
            yield view

    @property
    def last_change(self) -> int:
        """Number of the last change; rises by one with every document put or deleted."""
        with self._view() as view:
            return view.change

    def count(self) -> int:
        """Documents that live."""
        with self._view() as view:
            return view.count()

    def get(self, document_id: str) -> Document:
        """One document; NotFound if it does not live."""
        (document,) = self.get_many([document_id])
        if document is None:
            raise NotFound(f"no document {document_id!r} in the collection {self.settings.name!r}; check the id")
        return document

    def get_many(self, ids: Sequence[str]) -> list[Document | None]:
        """Documents in the order of ids; None where an id does not live."""
        with self._view() as view:
            return view.get_many(ids)

    def ids_in_order(self) -> list[str]:
        """All ids, in UTF-8 byte order."""
        with self._view() as view:
            return view.ids_in_order()

    def documents(self, *, after: str | None = None, batch: int = 1_000) -> Iterator[list[Document]]:
        """Documents of one committed state in UTF-8 byte order of id, in lists of at most `batch`.

        The state stays pinned, and the log cannot shrink, until the iterator is exhausted or closed.
        """
        with self.snapshot() as view:
            yield from view.documents(after=after, batch=batch)

    def changes_since(self, number: int) -> list[Change]:
        """The last change of every id changed after `number`, ascending by number."""
        with self.snapshot() as view:
            return view.changes_since(number)

    def documents_without_vectors(self, fingerprint: str, batch: int = 1_000) -> list[tuple[Document, bytes]]:
        """The first `batch` documents that lack a vector of their present text, each with its content hash."""
        with self._view() as view:
            return view.documents_without_vectors(fingerprint, batch)

    def count_without_vectors(self, fingerprint: str) -> int:
        """How many documents lack a vector of their present text."""
        with self._view() as view:
            return view.count_without_vectors(fingerprint)

    def vectors_for(self, ids: Sequence[str], fingerprint: str) -> Float32Array:
        """(n, dim) float32 in the order of ids; NotFound if one has none."""
        with self._view() as view:
            return view.vectors_for(ids, fingerprint)

    def backup(self, target: Path) -> None:
        """A snapshot in a folder that must not exist: database and generation in service, while writes go on."""
        backup(self.folder, target)

    def check(self) -> list[str]:
        """What is damaged in the database, in words; empty if every byte that was written is as it was."""
        return check_database(self.folder)
