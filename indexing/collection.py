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

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetrail.indexing import collection_writing as writing
from facetrail.indexing.collection_backup import backup, restore
from facetrail.indexing.collection_check import Seal, check_database
from facetrail.indexing.collection_log import log_problem
from facetrail.indexing.collection_readers import CollectionReads
from facetrail.indexing.collection_reading import Change, ReadView
from facetrail.indexing.collection_rows import as_facets, as_vectors, encode, require_encoder
from facetrail.indexing.collection_schema import (
    DATABASE_FILE,
    RESTORE_CURE,
    CollectionSettings,
    connect,
    create_database,
    read_settings,
    require_database,
    translated,
)
from facetrail.indexing.collection_writing import DeleteResult, PutResult, VectorResult
from facetrail.indexing.durable import rename_durably, sync_file, sync_folder
from facetrail.indexing.locking import LOCK_FILE, WriterLock
from facetrail.models.errors import Conflict, Damaged, InvalidInput
from facetrail.models.records import Document
from facetrail.models.text.facets import FacetBatch

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

_DRAFT_FILE = ".creating.sqlite"


class Collection(CollectionReads):
    """Thread-safe. Reads run beside each other and beside the writer; writes take turns."""

    def __init__(self, folder: Path, settings: CollectionSettings, lock: WriterLock | None) -> None:
        """Use `Collection.create` or `Collection.open`."""
        super().__init__(folder, settings)
        self._lock = lock
        self._writer: sqlite3.Connection | None = None
        self._writing = threading.RLock()
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _require_empty(folder)  # before the lock file is made in somebody else's folder
        except OSError as error:
            raise Conflict(f"{folder} cannot be made a folder ({error.strerror}); name another one") from error
        lock = WriterLock(folder)
        try:
            _require_empty(folder)
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
        if lock is not None and (problem := log_problem(database)) is not None:
            # Writing would fold in what is left of the log and drop the rest for good.
            raise Damaged(
                f"{problem[0]} {problem[1]}; nothing was changed, {RESTORE_CURE}, or remove the log to go on without "
                "the writes in it"
            )
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
            self._close_readers()
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
                writer.execute("PRAGMA busy_timeout = 1000")
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
    def transaction(self) -> Iterator[ReadView]:
        """A write transaction: on disk when the block ends, undone if it raises."""
        with self._writing:
            self._require_open()
            if self._writer is None:
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

    def put(
        self, documents: Sequence[Document], vectors: ArrayLike | None = None, facets: FacetBatch | None = None
    ) -> PutResult:
        """Adds or replaces documents in one transaction; on disk when it returns.

        Of several documents with one id the last counts. A document equal to the stored one in every field is
        unchanged: no change number is spent on it. vectors: (n, dim), row i of document i, of the collection's
        encoder; without them a changed text loses its vector until `store_vectors`. facets: in a collection that
        has them, in the same order as vectors. Raises InvalidInput naming position and id, before anything is written.
        """
        limit = self.settings.max_document_bytes
        encoded = {row.id: (i, row) for i, row in ((i, encode(i, d, limit)) for i, d in enumerate(documents))}
        rows = [row for _, row in encoded.values()]
        array, fingerprint = None, ""
        if vectors is not None:
            fingerprint, dim = require_encoder(self.settings)
            array = as_vectors(vectors, len(documents), dim)
            facets = as_facets(facets, len(documents), self.settings)
        with self.transaction() as view:
            has_facets = self.settings.facets is not None
            result, numbers = writing.put_rows(view.connection, rows, view.change, has_facets=has_facets)
            if array is not None:
                entries = [(numbers[row.id], row.content_hash) for row in rows]
                self._put_encoded(view, fingerprint, entries, array, facets, [i for i, _ in encoded.values()])
        return result

    def _put_encoded(
        self,
        view: ReadView,
        fingerprint: str,
        entries: Sequence[tuple[int, bytes]],
        vectors: NDArray[np.float32],
        facets: FacetBatch | None,
        positions: Sequence[int],
    ) -> None:
        """Writes what stands at some positions of a batch; entry i is of position i."""
        partial = len(positions) < len(vectors)
        writing.put_vectors(view.connection, fingerprint, entries, vectors[positions] if partial else vectors)
        if facets is not None:
            writing.put_facets(view.connection, fingerprint, entries, facets.take(positions) if partial else facets)

    def delete(self, ids: Sequence[str]) -> DeleteResult:
        """Deletes documents and their vectors in one transaction; on disk when it returns."""
        if isinstance(ids, str):
            raise InvalidInput("delete takes a list of ids, not one string; put it into a list")
        with self.transaction() as view:
            return writing.delete_ids(view.connection, list(dict.fromkeys(ids)), view.change)

    def store_vectors(
        self,
        ids: Sequence[str],
        content_hashes: Sequence[bytes],
        fingerprint: str,
        vectors: ArrayLike,
        facets: FacetBatch | None = None,
    ) -> VectorResult:
        """Stores vectors, and facet data where the collection has facets, of texts read earlier, in one transaction.

        What belongs to a document that changed or went since is dropped and counted.
        """
        _, dim = require_encoder(self.settings, fingerprint)
        array = as_vectors(vectors, len(ids), dim)
        facets = as_facets(facets, len(ids), self.settings)
        with self.transaction() as view:
            found = writing.current_entries(view, ids, content_hashes)
            entries = [entry for _, entry in found]
            self._put_encoded(view, fingerprint, entries, array, facets, [position for position, _ in found])
        return VectorResult(len(found), len(ids) - len(found))

    def backup(self, target: Path) -> None:
        """A snapshot in a folder that must not exist: database and generation in service, while writes go on."""
        backup(self.folder, target)

    def check(self) -> list[str]:
        """What is damaged in the database, in words; empty if every byte that was written is as it was."""
        return [f"{path} {what}" for path, what in check_database(self.folder)]


def _require_empty(folder: Path) -> None:
    """Refuses a folder with anything in it but the leftovers of a creation that was killed."""
    if Collection.exists(folder):
        raise Conflict(f"{folder} already holds a collection; open it, or name another folder")
    others = sorted(p.name for p in folder.iterdir() if p.name != LOCK_FILE and not p.name.startswith(_DRAFT_FILE))
    if others:
        raise Conflict(f"{folder} holds other files ({', '.join(others[:3])}); name a new folder for the collection")
