"""From the values of a row to a document: names of fields, ids, sections, metadata."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from facetrail.indexing.corpus_report import Kind
from facetrail.indexing.corpus_rows import BadRow, json_type
from facetrail.models.records import MAX_ID_BYTES, Document, Section

ID_NAMES = ("_id", "id", "doc_id", "docid")
TITLE_NAMES = ("title",)
TEXT_NAMES = ("text", "abstract", "body", "contents")
MAX_TEXT_BYTES = 16 * 1024 * 1024

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_LARGEST_EXACT = 2.0**53


class Unusable(Exception):
    """Inside the readers: the row makes no document, for the reason given."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.bad_row = BadRow(kind, reason)


def document_from(values: Mapping[str, Any], max_text_bytes: int = MAX_TEXT_BYTES) -> Document:
    """The document of a row. Raises Unusable.

    Of several names for one field the first that is not null counts. What is not a field of the document becomes
    metadata, behind the keys of a `metadata` object. Text that is absent is put together from the sections.
    """
    rest = dict(values)
    document_id = id_from(_take(rest, ID_NAMES))
    title = _text(_take(rest, TITLE_NAMES), "title", max_text_bytes)
    text = _text(_take(rest, TEXT_NAMES), "text", max_text_bytes)
    sections = _sections(rest.pop("sections", None), max_text_bytes)
    if not text and sections:
        text = _text(" ".join(section.text for section in sections), "text", max_text_bytes)
    metadata = _object(rest.pop("metadata", None))
    return Document(document_id, text, title, sections, {**rest, **metadata} if rest else metadata)


def _take(values: dict[str, Any], names: Sequence[str]) -> Any:
    present = [name for name in names if name in values]
    chosen = next((name for name in present if values[name] is not None), None)
    taken = values.pop(chosen) if chosen else None
    for name in present:
        if name != chosen and values[name] is None:
            del values[name]  # an explicit null is an absent field, not metadata
    return taken


def id_from(value: object) -> str:
    """An id as text: strings as they are, whole numbers in decimals. Raises Unusable."""
    if value is None:
        raise Unusable("id", f"the row has no id; name it {' or '.join(ID_NAMES[:2])}")
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT:
        value = int(value)  # a table's column of whole numbers with gaps arrives as floats
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Unusable("id", f"the id is a {json_type(value)}, not a string or a whole number")
    if not value.strip():
        raise Unusable("id", "the id is empty")
    if len(value) * 4 > MAX_ID_BYTES and len(value.encode()) > MAX_ID_BYTES:
        raise Unusable("id", f"the id takes {len(value.encode()):,} bytes; {MAX_ID_BYTES} are allowed")
    if control := _CONTROL.search(value):
        raise Unusable("id", f"the id holds the control character U+{ord(control[0]):04X}")
    return value


def _text(value: object, name: str, max_bytes: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable("invalid", f"{name} is a {json_type(value)}, not a string")
    if len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
        raise Unusable("too_large", f"{name} takes {len(value.encode()):,} bytes; {max_bytes:,} are allowed")
    return value


def _sections(value: object, max_bytes: int) -> tuple[Section, ...]:
    value = _parsed(value, "sections")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Unusable("invalid", f"sections is a {json_type(value)}, not a list of {{name, text}}")
    sections = []
    for position, part in enumerate(value):
        if not isinstance(part, dict) or not isinstance(part.get("name"), str) or not isinstance(part.get("text"), str):
            raise Unusable("invalid", f"section {position + 1} is not an object with the strings name and text")
        sections.append(Section(part["name"], _text(part["text"], "section", max_bytes)))
    return tuple(sections)


def _object(value: object) -> dict[str, Any]:
    value = _parsed(value, "metadata")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unusable("invalid", f"metadata is a {json_type(value)}, not an object")
    return value


def _parsed(value: object, name: str) -> object:
    """Tables carry lists and objects as JSON text."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Unusable("invalid", f"{name} is text that is not JSON: {error.msg}") from error
