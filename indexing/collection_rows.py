"""A document as a row: checked before it is written, checked again whenever it is read."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetrail.indexing.collection_schema import CollectionSettings, checksum, damaged, shown
from facetrail.indexing.facet_codec import checked
from facetrail.models.errors import InvalidInput
from facetrail.models.records import MAX_ID_BYTES, Document, Section
from facetrail.models.text.facets import FacetBatch

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAX_DEPTH = 50
_INT64 = range(-(2**63), 2**63)
COLUMNS = "number, change, id, content_hash, checksum, title, text, sections, metadata"
"""The columns of `documents`, in the order in which `decode` takes them."""


class Row(NamedTuple):
    """A valid document, ready for its table. `digest` covers everything but the change number."""

    id: str
    content_hash: bytes
    digest: bytes
    title: str
    text: str
    sections: str
    metadata: str

    def checksum(self, number: int, change: int) -> bytes:
        """What is stored beside the row; equal for equal content, number and change."""
        return checksum(self.digest, number, change)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A checked row: the document, and the hash of what an encoder reads of it."""

    document: Document
    content_hash: bytes


def encode(position: int, document: Document, max_bytes: int) -> Row:
    """A document of a batch as a row. Raises InvalidInput naming position and id."""
    where = f"document {position} ({document.id!r:.80})"
    _require_types(document, where, position)
    problem = id_problem(document.id)
    if problem is not None:
        raise InvalidInput(f"{where}: {problem}", pointer=f"/documents/{position}/id")
    try:
        sections = json.dumps([[s.name, s.text] for s in document.sections], ensure_ascii=False)
        check_json(document.metadata, depth=0)
        metadata = json.dumps(
            dict(document.metadata), ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=dict
        )
        parts = [p.encode() for p in (document.id, document.title, document.text, sections, metadata)]
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}", pointer=f"/documents/{position}/metadata") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{where}: a text holds half of a surrogate pair, which is no character; read the source with its "
            "right encoding",
            pointer=f"/documents/{position}",
        ) from error
    n_bytes = sum(map(len, parts[1:]))
    if n_bytes > max_bytes:
        raise InvalidInput(
            f"{where} has {n_bytes:,} bytes of title, text, sections and metadata, the collection takes {max_bytes:,}; "
            "split it",
            pointer=f"/documents/{position}",
        )
    content_hash = checksum(parts[1], parts[2])
    digest = checksum(content_hash, *parts)
    return Row(document.id, content_hash, digest, document.title, document.text, sections, metadata)


def _require_types(document: Document, where: str, position: int) -> None:
    """Records do not check themselves: what a reader of JSON passes on may be of any type."""
    texts = [("id", document.id), ("title", document.title), ("text", document.text)]
    texts += [("sections", part) for s in document.sections for part in (s.name, s.text)]
    for name, text in texts:
        if not isinstance(text, str):
            raise InvalidInput(
                f"{where}: {name} is a {type(text).__name__}, not text; convert it",
                pointer=f"/documents/{position}/{name}",
            )
    if not isinstance(document.metadata, Mapping):
        kind = type(document.metadata).__name__
        raise InvalidInput(
            f"{where}: metadata is a {kind}, not a JSON object; name its parts",
            pointer=f"/documents/{position}/metadata",
        )


def can_live(document_id: str) -> bool:
    """Whether a collection could hold an id at all; SQLite cannot even be asked about half a surrogate pair."""
    return _SURROGATE.search(document_id) is None


def id_problem(document_id: str) -> str | None:
    """Why an id is not allowed, or None."""
    if not document_id:
        return "the id is empty; give every document an id of 1 to 512 bytes"
    if _SURROGATE.search(document_id):
        return "the id holds half of a surrogate pair, which is no character; use valid Unicode"
    if found := _CONTROL.search(document_id):
        return f"the id holds the control character {found.group()!r}; use printable characters"
    if (n := len(document_id.encode())) > MAX_ID_BYTES:
        return f"the id has {n} bytes of UTF-8, at most {MAX_ID_BYTES} are allowed; shorten it"
    return None


def check_json(value: Any, *, depth: int) -> None:
    """Raises InvalidInput unless a value is JSON as RFC 8259 has it, with 64-bit integers and finite numbers."""
    if depth > _MAX_DEPTH:
        raise InvalidInput(f"metadata is nested deeper than {_MAX_DEPTH} levels; flatten it")
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if value not in _INT64:
            raise InvalidInput(
                f"metadata holds the integer of {value.bit_length()} bits, beyond 64 bits; store it as a string"
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(
                f"metadata holds the number {value}, which JSON cannot say; leave the key out or use null"
            )
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"metadata has the key {key!r}, which is not a string; quote it")
            check_json(part, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            check_json(part, depth=depth + 1)
    else:
        raise InvalidInput(
            f"metadata holds a {type(value).__name__}, which JSON cannot say; convert it to text or a number"
        )


def decode(row: Sequence[Any], database: Path) -> StoredDocument:
    """A row (COLUMNS) as a document. Raises Damaged naming the row if one bit of it is not as it was written."""
    number, change, document_id, content_hash, stored, title, text, sections, metadata = row
    digest = checksum(content_hash, document_id, title, text, sections, metadata)
    if checksum(digest, number, change) != stored:
        raise damaged(
            database, f"row {number} (document {shown(document_id)}) of table documents is not as it was written"
        )
    document = Document(
        id=document_id.decode(),
        text=text.decode(),
        title=title.decode(),
        sections=tuple(Section(name, words) for name, words in json.loads(sections)) if sections != b"[]" else (),
        metadata=json.loads(metadata) if metadata != b"{}" else {},
    )
    return StoredDocument(document, content_hash)


def vector_checksum(document: int, fingerprint: bytes, content_hash: bytes, vector: bytes) -> bytes:
    """What is stored beside a vector: it covers whose it is, of which text and of which encoder."""
    return checksum(document, fingerprint, content_hash, vector)


def as_vectors(array: ArrayLike, n: int, dim: int) -> NDArray[np.float32]:
    """Checked (n, dim) little-endian float32. Raises InvalidInput for another shape, NaN or infinity."""
    vectors = np.ascontiguousarray(array, dtype="<f4")
    if vectors.shape != (n, dim):
        raise InvalidInput(f"{n} documents of this collection need vectors of shape ({n}, {dim}), not {vectors.shape}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InvalidInput(f"vector {int(bad[0])} holds a NaN or an infinity; check the encoder's input and precision")
    return vectors


def as_facets(batch: FacetBatch | None, n: int, settings: CollectionSettings) -> FacetBatch | None:
    """Checked facet data of n documents. Raises InvalidInput if they come without the collection's facets, or with
    facets that it has no place for: a vector and the facet data of its text are written together or not at all."""
    if (batch is None) != (settings.facets is None):
        raise InvalidInput(
            "this collection stores single vectors only; build a new one with an encoder that has facets"
            if batch is not None
            else "vectors of this collection come with facet data; use the encoder's encode_facets"
        )
    if batch is None or settings.facets is None:
        return None
    return checked(batch, n, len(settings.facets), settings.dim or 0)


def require_encoder(settings: CollectionSettings, fingerprint: str | None = None) -> tuple[str, int]:
    """(fingerprint, dim) of the collection. Raises InvalidInput if it has no encoder, or another one."""
    if settings.encoder_fingerprint is None or settings.dim is None:
        raise InvalidInput(
            "this collection was created without an encoder and stores no vectors; build one with --encoder"
        )
    if fingerprint is not None and fingerprint != settings.encoder_fingerprint:
        raise InvalidInput(
            f"vectors of encoder {fingerprint[:12]} do not belong into this collection, which is of encoder "
            f"{settings.encoder!r} ({settings.encoder_fingerprint[:12]}); encode with that one"
        )
    return settings.encoder_fingerprint, settings.dim
