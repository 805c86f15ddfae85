"""A judged query as a row: checked before it is written, checked again whenever it is read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetrail.indexing.collection_rows import id_problem
from facetrail.indexing.collection_schema import checksum, damaged, shown
from facetrail.models.errors import InvalidInput

JUDGEMENT_COLUMNS = "number, query, text, relevant, checksum"
"""The columns of `judgements`, in the order in which `decode_judged` takes them."""


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What is asked, and what answers it."""

    id: str
    text: str
    relevant: Mapping[str, int]
    """Document id → grade, 1 or above. A document need not be in the collection."""


def encode_judged(judged: JudgedQuery, number: int) -> tuple[Any, ...]:
    """A judged query that `require_judged` let pass as a row (JUDGEMENT_COLUMNS)."""
    relevant = json.dumps(dict(judged.relevant), ensure_ascii=False, separators=(",", ":"))
    return number, judged.id, judged.text, relevant, judgement_checksum(number, judged.id, judged.text, relevant)


def judgement_checksum(number: Any, query: Any, text: Any, relevant: Any) -> bytes:
    """What a row's last column must hold; a damaged row may bring any type."""
    return checksum(number, query, text, relevant)


def decode_judged(row: Sequence[Any], database: Path) -> JudgedQuery:
    """A row (JUDGEMENT_COLUMNS) as a judged query. Raises Damaged naming the row if it is not as it was written."""
    number, query, text, relevant, stored = row
    if judgement_checksum(number, query, text, relevant) != stored:
        raise damaged(database, f"row {number} (query {shown(query)}) of table judgements is not as it was written")
    return JudgedQuery(query.decode(), text.decode(), json.loads(relevant))


def require_judged(judged: JudgedQuery) -> None:
    """Raises InvalidInput naming the query unless it can be stored."""
    if (problem := id_problem(judged.id)) is not None:
        raise InvalidInput(f"query {judged.id!r}: {problem.replace('every document', 'every query')}")
    if not judged.text.strip():
        raise InvalidInput(f"the query {judged.id!r} has no words; give every query a text")
    if not judged.relevant:
        raise InvalidInput(f"the query {judged.id!r} has no relevant document; leave it out")
    for document_id, grade in judged.relevant.items():
        if (problem := id_problem(document_id)) is not None:
            raise InvalidInput(f"query {judged.id!r}, document {document_id[:40]!r}: {problem}")
        if grade < 1:
            raise InvalidInput(
                f"query {judged.id!r}, document {document_id!r}: grade {grade} is not relevant; leave it out"
            )
