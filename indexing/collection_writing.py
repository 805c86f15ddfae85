"""Writing the collection: the statements inside one transaction. The caller begins and commits."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from facetrail.indexing.collection_reading import ReadView, chunks
from facetrail.indexing.collection_rows import Row, vector_checksum
from facetrail.indexing.collection_schema import checksum
from facetrail.indexing.facet_codec import pack
from facetrail.indexing.index import Float32Array
from facetrail.models.text.facets import FacetBatch


@dataclass(frozen=True, slots=True)
class PutResult:
    """How many documents were new, changed and as they were. change: the collection's last change number."""

    created: int
    updated: int
    unchanged: int
    change: int


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """The ids that were deleted and those that did not live. change: the collection's last change number."""

    deleted: tuple[str, ...]
    missing: tuple[str, ...]
    change: int


@dataclass(frozen=True, slots=True)
class VectorResult:
    """Vectors stored, and vectors dropped because their document had changed or gone meanwhile."""

    stored: int
    outdated: int


class _Known:
    """What the tables hold of a batch's ids: id → (number, change, content hash, checksum)."""

    def __init__(self, connection: sqlite3.Connection, ids: Sequence[str]) -> None:
        self.rows: dict[str, tuple[int, int, bytes, bytes]] = {}
        for chunk in chunks(ids):
            marks = ", ".join("?" * len(chunk))
            statement = f"SELECT id, number, change, content_hash, checksum FROM documents WHERE id IN ({marks})"
            for document_id, *rest in connection.execute(statement, chunk):
                self.rows[document_id.decode()] = (rest[0], rest[1], rest[2], rest[3])


def put_rows(
    connection: sqlite3.Connection, rows: Sequence[Row], last_change: int, *, has_facets: bool = False
) -> tuple[PutResult, dict[str, int]]:
    """Writes rows with distinct ids. Returns the counts and id → number of every row.

    A changed text loses its vector and, in a collection that has_facets, its facet data.
    """
    known = _Known(connection, [row.id for row in rows]).rows
    numbers: dict[str, int] = {}
    created, updated, outdated = [], [], []
    change = last_change
    for row in rows:
        before = known.get(row.id)
        if before is None:
            change += 1
            numbers[row.id] = change
            created.append((change, change, row.id, row.content_hash, row.checksum(change, change), *row[3:]))
            continue
        number, old_change, old_content, old_checksum = before
        numbers[row.id] = number
        if row.checksum(number, old_change) == old_checksum:
            continue
        change += 1
        updated.append((change, row.content_hash, row.checksum(number, change), *row[3:], number))
        if row.content_hash != old_content:
            outdated.append((number,))
    connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", created)
    connection.executemany(
        "UPDATE documents SET change = ?, content_hash = ?, checksum = ?, title = ?, text = ?, sections = ?, "
        "metadata = ? WHERE number = ?",
        updated,
    )
    connection.executemany("DELETE FROM vectors WHERE document = ?", outdated)
    if has_facets:
        connection.executemany("DELETE FROM facets WHERE document = ?", outdated)
    connection.executemany("DELETE FROM deletions WHERE id = ?", [(c[2],) for c in created])
    return PutResult(len(created), len(updated), len(rows) - len(created) - len(updated), change), numbers


def delete_ids(connection: sqlite3.Connection, ids: Sequence[str], last_change: int) -> DeleteResult:
    """Deletes what lives among distinct ids; their vectors go with them."""
    known = _Known(connection, ids).rows
    deleted = [i for i in ids if i in known]
    entries = [(change, i, checksum(change, i)) for change, i in enumerate(deleted, last_change + 1)]
    connection.executemany("DELETE FROM documents WHERE number = ?", [(known[i][0],) for i in deleted])
    connection.executemany("INSERT INTO deletions VALUES (?, ?, ?)", entries)
    return DeleteResult(tuple(deleted), tuple(i for i in ids if i not in known), last_change + len(deleted))


def put_vectors(
    connection: sqlite3.Connection, fingerprint: str, entries: Sequence[tuple[int, bytes]], vectors: Float32Array
) -> None:
    """Stores one vector a document, replacing what it had. entries: (document number, content hash)."""
    _put_encoded(connection, "vectors", "vector", fingerprint, entries, [vector.tobytes() for vector in vectors])


def put_facets(
    connection: sqlite3.Connection, fingerprint: str, entries: Sequence[tuple[int, bytes]], batch: FacetBatch
) -> None:
    """Stores one document's facet data each, replacing what it had. entries: (document number, content hash)."""
    _put_encoded(connection, "facets", "data", fingerprint, entries, pack(batch))


def _put_encoded(
    connection: sqlite3.Connection,
    table: str,
    column: str,
    fingerprint: str,
    entries: Sequence[tuple[int, bytes]],
    blobs: Sequence[bytes],
) -> None:
    encoder = _encoder(connection, fingerprint)
    known = fingerprint.encode()
    rows = []
    for (number, content_hash), raw in zip(entries, blobs, strict=True):
        rows.append((number, encoder, content_hash, vector_checksum(number, known, content_hash, raw), raw))
    connection.executemany(
        f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?) ON CONFLICT (document) DO UPDATE SET encoder = excluded.encoder, "
        f"content_hash = excluded.content_hash, checksum = excluded.checksum, {column} = excluded.{column} "
        f"WHERE checksum <> excluded.checksum OR {column} <> excluded.{column}",
        rows,
    )


def current_entries(view: ReadView, ids: Sequence[str], hashes: Sequence[bytes]) -> list[tuple[int, tuple[int, bytes]]]:
    """(position, (document number, content hash)) of the ids whose text still has the given hash."""
    known = _Known(view.connection, ids).rows
    found = []
    for position, (document_id, content_hash) in enumerate(zip(ids, hashes, strict=True)):
        row = known.get(document_id)
        if row is not None and row[2] == content_hash:
            found.append((position, (row[0], content_hash)))
    return found


def _encoder(connection: sqlite3.Connection, fingerprint: str) -> int:
    row = connection.execute("SELECT number FROM encoders WHERE fingerprint = ?", (fingerprint,)).fetchone()
    if row is not None:
        return int(row[0])
    (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM encoders").fetchone()
    connection.execute("INSERT INTO encoders VALUES (?, ?, ?)", (number, fingerprint, checksum(number, fingerprint)))
    return int(number)
