"""Reading from many threads: a pool of read-only connections and the collection's read calls on top of it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from facetrail.indexing.collection_reading import Change, ReadView
from facetrail.indexing.collection_schema import DATABASE_FILE, CollectionSettings, connect, translated
from facetrail.indexing.index import Float32Array
from facetrail.models.errors import Conflict, NotFound
from facetrail.models.records import Document
from facetrail.models.text.facets import FacetBatch

_MAX_IDLE = 8


class CollectionReads:
    """Thread-safe. Every call lends a connection to one thread and reads committed states only."""

    def __init__(self, folder: Path, settings: CollectionSettings) -> None:
        self.folder = folder
        self.settings = settings
        self._database = folder / DATABASE_FILE
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def _require_open(self) -> None:
        if self._closed:
            raise Conflict(f"the collection in {self.folder} was closed; open it again")

    def _close_readers(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _view(self) -> Iterator[ReadView]:
        self._require_open()
        try:
            connection = self._idle.pop()  # atomic: a connection is lent to one thread
        except IndexError:
            with translated(self._database):
                connection = connect(self._database, writable=False)
        try:
            yield ReadView(connection, self._database, self.settings)
        finally:
            if self._closed or len(self._idle) >= _MAX_IDLE:
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

    def facets_for(self, ids: Sequence[str], fingerprint: str) -> FacetBatch:
        """Facet data of documents that have a vector, in the order of distinct ids."""
        with self._view() as view:
            return view.facets_for(ids, fingerprint)
