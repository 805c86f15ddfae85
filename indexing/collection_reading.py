"""Reading the collection: one view is one SQLite connection, and inside `pinned` one unchanging state."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facetrail.indexing.collection_rows import COLUMNS, StoredDocument, can_live, decode, vector_checksum
from facetrail.indexing.collection_schema import CollectionSettings, checksum, damaged, shown, translated
from facetrail.indexing.facet_codec import unpack
from facetrail.indexing.index import Float32Array
from facetrail.models.errors import Damaged, NotFound
from facetrail.models.records import Document
from facetrail.models.text.facets import FacetBatch

MAX_PARAMETERS = 500


@dataclass(frozen=True, slots=True)
class Change:
    """The last thing that happened to an id: `put` wrote its present form, `delete` removed it."""

    number: int
    kind: Literal["put", "delete"]
    id: str


class ReadView:
    """Reads through one connection. Used by one thread at a time; every row is checked against its checksum."""

    def __init__(self, connection: sqlite3.Connection, database: Path, settings: CollectionSettings) -> None:
        self.connection = connection
        self.database = database
        self.settings = settings

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Everything read inside sees the same committed state, whatever a writer commits meanwhile."""
        self.rows("BEGIN")
        try:
            self.rows("SELECT 1 FROM properties")  # BEGIN alone pins nothing
            yield
        finally:
            with translated(self.database):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows of one statement, unchecked: whoever reads a table knows its checksum."""
        with translated(self.database):
            return self.connection.execute(statement, parameters).fetchall()

    @property
    def change(self) -> int:
        """Number of the last change; 0 in an empty collection that never held anything."""
        ((put,),) = self.rows("SELECT max(change) FROM documents")
        ((deleted,),) = self.rows("SELECT max(change) FROM deletions")
        return max(put or 0, deleted or 0)

    def count(self) -> int:
        """Documents that live."""
        ((n,),) = self.rows("SELECT count(*) FROM documents")
        return int(n)

    def get_many(self, ids: Sequence[str]) -> list[Document | None]:
        """Documents in the order of ids; None where an id does not live."""
        found: dict[str, Document] = {}
        for chunk in chunks(ids):
            marks = ", ".join("?" * len(chunk))
            for row in self.rows(f"SELECT {COLUMNS} FROM documents WHERE id IN ({marks})", chunk):
                document = decode(row, self.database).document
                found[document.id] = document
        return [found.get(i) for i in ids]

    def living(self, ids: Iterable[str]) -> set[str]:
        """Those ids that are documents."""
        found: set[str] = set()
        for chunk in chunks(sorted(ids)):
            marks = ", ".join("?" * len(chunk))
            found.update(row[0].decode() for row in self.rows(f"SELECT id FROM documents WHERE id IN ({marks})", chunk))
        return found

    def ids_in_order(self) -> list[str]:
        """All ids, in UTF-8 byte order."""
        rows = self.rows("SELECT id FROM documents ORDER BY id")
        with translated(self.database):
            ids = [row[0] for row in rows]
            if not all(isinstance(i, bytes) for i in ids) or any(a >= b for a, b in pairwise(ids)):
                raise damaged(self.database, "the index on ids is out of order")
            return [i.decode() for i in ids]

    def ids_by_change(self) -> list[str]:
        """All ids, the last written first."""
        return [row[0].decode() for row in self.rows("SELECT id FROM documents ORDER BY change DESC")]

    def documents(self, *, after: str | None = None, batch: int = 1_000) -> Iterator[list[Document]]:
        """All documents behind an id (None: from the first) in UTF-8 byte order of id, in lists of at most `batch`."""
        while True:
            rows = self.rows(
                f"SELECT {COLUMNS} FROM documents WHERE id > ? ORDER BY id LIMIT ?",
                ("" if after is None else after, batch),
            )
            if not rows:
                return
            found = [decode(row, self.database).document for row in rows]
            yield found
            after = found[-1].id

    def changes_since(self, number: int) -> list[Change]:
        """The last change of every id changed after `number`, ascending; an id put and deleted since shows as deleted.

        Raises Damaged if the collection never came to that number: it was replaced by an older copy of itself.
        """
        if number > (last := self.change):
            raise Damaged(
                f"an index was built from change {number}, but {self.database} ends at change {last}: an older copy "
                f"took its place; rebuild the index with `facetrail index build --out {self.database.parent}`"
            )
        puts = self.rows(f"SELECT {COLUMNS} FROM documents WHERE change > ?", (number,))
        found = [Change(row[1], "put", decode(row, self.database).document.id) for row in puts]
        gone = self.rows("SELECT change, id, checksum FROM deletions WHERE change > ?", (number,))
        for change, document_id, stored in gone:
            if checksum(change, document_id) != stored:
                raise damaged(self.database, f"row {change} of table deletions is not as it was written")
            found.append(Change(change, "delete", document_id.decode()))
        return sorted(found, key=lambda c: c.number)

    # -- vectors -----------------------------------------------------------------------------------------------------

    def encoder_number(self, fingerprint: str) -> int:
        """The key of an encoder in `vectors`; -1 if no vector was ever stored for it."""
        rows = self.rows("SELECT number, checksum FROM encoders WHERE fingerprint = ?", (fingerprint,))
        if not rows:
            return -1
        number, stored = rows[0]
        if checksum(number, fingerprint) != stored:
            raise damaged(self.database, f"row {number} of table encoders is not as it was written")
        return int(number)

    def documents_without_vectors(self, fingerprint: str, batch: int = 1_000) -> list[tuple[Document, bytes]]:
        """The first `batch` documents in id order that lack a vector of their present text, with its content hash."""
        columns = ", ".join(f"d.{c}" for c in COLUMNS.split(", "))
        rows = self.rows(
            f"SELECT {columns} FROM {_WITHOUT_VECTOR} ORDER BY d.id LIMIT ?", (self.encoder_number(fingerprint), batch)
        )
        found: list[StoredDocument] = [decode(row, self.database) for row in rows]
        return [(f.document, f.content_hash) for f in found]

    def count_without_vectors(self, fingerprint: str) -> int:
        """How many documents lack a vector of their present text."""
        ((n,),) = self.rows(f"SELECT count(*) FROM {_WITHOUT_VECTOR}", (self.encoder_number(fingerprint),))
        return int(n)

    def vectors_for(self, ids: Sequence[str], fingerprint: str) -> Float32Array:
        """(n, dim) float32 in the order of ids. Raises NotFound if one has no vector of its present text."""
        encoder = self.encoder_number(fingerprint)
        vectors = np.empty((len(ids), self.settings.dim or 0), np.float32)
        positions = {document_id: position for position, document_id in enumerate(ids)}
        n_found = 0
        for chunk in chunks(list(positions)):
            marks = ", ".join("?" * len(chunk))
            rows = self.rows(f"SELECT {_VECTOR} WHERE d.id IN ({marks})", (encoder, *chunk))
            n_found += len(rows)
            self._fill(vectors, rows, fingerprint, lambda row: positions[row[4].decode()])
        if n_found < len(positions):
            raise self._no_vector(list(positions), fingerprint)
        if len(positions) < len(ids):  # repeated ids: each row above went to the last position only
            return vectors[[positions[document_id] for document_id in ids]]
        return vectors

    def all_vectors(self, fingerprint: str) -> tuple[list[str], Float32Array]:
        """(ids in UTF-8 byte order, their vectors (n, dim)), all at once; documents without a vector are left out."""
        encoder = self.encoder_number(fingerprint)
        ((n,),) = self.rows("SELECT count(*) FROM vectors WHERE encoder = ?", (encoder,))
        vectors = np.empty((n, self.settings.dim or 0), np.float32)
        ids: list[str] = []
        with translated(self.database):
            cursor = self.connection.execute(f"SELECT {_VECTOR} ORDER BY d.id", (encoder,))
            while rows := cursor.fetchmany(1_000):
                first = len(ids)
                self._fill(vectors[first:], rows, fingerprint, None)
                ids += [row[4].decode() for row in rows]
        return ids, vectors[: len(ids)]

    def _fill(
        self, vectors: Float32Array, rows: list[Any], fingerprint: str, position: Callable[[Any], int] | None
    ) -> None:
        """Checks the rows of _VECTOR and copies each into its position (None: in the order they come)."""
        known, n_bytes = fingerprint.encode(), 4 * vectors.shape[1]
        for i, row in enumerate(rows):
            document, content_hash, stored, vector, document_id = row
            if vector_checksum(document, known, content_hash, vector) != stored or len(vector) != n_bytes:
                what = f"row {document} (document {shown(document_id)}) of table vectors is not as it was written"
                raise damaged(self.database, what)
            vectors[position(row) if position else i] = np.frombuffer(vector, "<f4")

    def facets_for(self, ids: Sequence[str], fingerprint: str) -> FacetBatch:
        """Facet data of documents that have a vector, in the order of distinct ids. Raises Damaged for one without."""
        encoder, known = self.encoder_number(fingerprint), fingerprint.encode()
        found: dict[str, bytes] = {}
        for chunk in chunks(ids):
            marks = ", ".join("?" * len(chunk))
            for row in self.rows(f"SELECT {_FACETS} WHERE d.id IN ({marks})", (encoder, *chunk)):
                document, content_hash, stored, data, document_id = row
                if vector_checksum(document, known, content_hash, data) != stored:
                    what = f"row {document} (document {shown(document_id)}) of table facets is not as it was written"
                    raise damaged(self.database, what)
                found[document_id.decode()] = data
        if len(found) < len(ids):
            missing = next(i for i in ids if i not in found)
            raise damaged(self.database, f"document {missing!r} has a vector and no facet data in table facets")
        try:
            return unpack([found[i] for i in ids], len(self.settings.facets or ()), self.settings.dim or 0)
        except ValueError as error:
            raise damaged(self.database, f"table facets holds what nobody wrote ({error})") from error

    def _no_vector(self, ids: Sequence[str], fingerprint: str) -> NotFound:
        encoder = self.encoder_number(fingerprint)
        found = (can_live(i) and bool(self.rows(f"SELECT {_VECTOR} WHERE d.id = ?", (encoder, i))) for i in ids)
        missing = [i for i, there in zip(ids, found, strict=True) if not there]
        first = missing[0] if missing else ids[0]
        return NotFound(
            f"{len(missing)} of {len(ids)} documents have no vector of encoder {fingerprint[:12]}, the first is "
            f"{first!r}; encode them with `facetrail index build --out {self.database.parent}`"
        )


_VECTOR = (
    "v.document, v.content_hash, v.checksum, v.vector, d.id FROM documents d "
    "JOIN vectors v ON v.document = d.number AND v.encoder = ? AND v.content_hash = d.content_hash"
)
_FACETS = (
    "f.document, f.content_hash, f.checksum, f.data, d.id FROM documents d "
    "JOIN facets f ON f.document = d.number AND f.encoder = ? AND f.content_hash = d.content_hash"
)
_WITHOUT_VECTOR = (
    "documents d WHERE NOT EXISTS (SELECT 1 FROM vectors v WHERE v.document = d.number AND v.encoder = ? "
    "AND v.content_hash = d.content_hash)"
)


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids in runs that one statement takes as parameters; ids that no collection can hold are left out."""
    ids = [i for i in ids if can_live(i)]
    for start in range(0, len(ids), MAX_PARAMETERS):
        yield ids[start : start + MAX_PARAMETERS]
