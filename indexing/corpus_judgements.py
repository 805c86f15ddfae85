"""Queries and judgements of a test collection. Here every row counts: the first bad one ends the reading."""

from collections.abc import Iterator
from pathlib import Path

from facetrail.indexing.corpus_documents import Unusable, id_from
from facetrail.indexing.corpus_rows import BadRow, json_rows, json_type, lines_of, wrong_byte
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Qrels, Query

MAX_LINE_BYTES = 16 * 1024 * 1024
ID_NAMES = ("_id", "id", "qid", "query_id")
TEXT_NAMES = ("text", "query")
BEIR_HEADER = ("query-id", "corpus-id", "score")


def read_queries(path: Path) -> list[Query]:
    """BEIR's `queries.jsonl`, plain or gzip, in the file's order; other fields than id and text are not read.

    Raises NotFound, and InvalidInput with file and line for a row without id or text and for an id that comes twice.
    """
    _must_exist(path, "queries")
    queries: dict[str, Query] = {}
    for line, values in json_rows(path, MAX_LINE_BYTES):
        if isinstance(values, BadRow):
            raise InvalidInput(f"{path}:{line}: {values.reason}")
        try:
            query_id = id_from(next((values[name] for name in ID_NAMES if values.get(name) is not None), None))
        except Unusable as error:
            raise InvalidInput(f"{path}:{line}: {error}") from error
        text = next((values[name] for name in TEXT_NAMES if name in values), None)
        if not isinstance(text, str) or not text.strip():
            what = "is empty" if isinstance(text, str) else f"is a {json_type(text)}, not a string"
            raise InvalidInput(
                f"{path}:{line}: the text of query {query_id!r} {what}; give every query words in `text`"
            )
        if query_id in queries:
            raise InvalidInput(f"{path}:{line}: the query id {query_id!r} comes twice; ids must differ")
        queries[query_id] = Query(query_id, text)
    return list(queries.values())


def read_qrels(path: Path) -> Qrels:
    """Judgements: BEIR (`query-id corpus-id score`, tabs, header) or TREC (`query 0 document grade`, white space).

    Grades are whole numbers; below 0, as TREC marks spam, they count as 0: judged, not relevant.
    Raises NotFound, and InvalidInput with file and line for a row of another form and for two grades of one pair.
    """
    _must_exist(path, "judgements")
    qrels: Qrels = {}
    order: list[int] | None = None
    for number, text in _text_lines(path):
        cells = text.split("\t") if "\t" in text else text.split()
        cells = [cell.strip() for cell in cells]
        if order is None:
            order = _columns(cells)
            if order is not None and not _is_grade(cells[order[2]]):
                continue
        if order is None or len(cells) <= max(order) or len(cells) not in (3, 4):
            raise InvalidInput(
                f"{path}:{number}: not a judgement; use `{' '.join(BEIR_HEADER)}` with tabs and that header, or TREC's "
                "`query 0 document grade`"
            )
        query_id, document_id, grade = (cells[i] for i in order)
        if not _is_grade(grade):
            raise InvalidInput(f"{path}:{number}: the grade {grade[:40]!r} is not a whole number")
        if not query_id or not document_id:
            raise InvalidInput(f"{path}:{number}: an id is empty")
        value = max(0, int(grade))
        if qrels.setdefault(query_id, {}).setdefault(document_id, value) != value:
            raise InvalidInput(
                f"{path}:{number}: query {query_id!r} and document {document_id!r} have two grades; keep one"
            )
    if not qrels:
        raise InvalidInput(f"{path} holds no judgement; use `{' '.join(BEIR_HEADER)}` with tabs and that header")
    return qrels


def _columns(first: list[str]) -> list[int] | None:
    """Where query, document and grade stand, told from the first line; None if it is of no known form."""
    names = [name.lower() for name in first]
    if set(BEIR_HEADER) <= set(names):
        return [names.index(name) for name in BEIR_HEADER]
    if len(first) == 4 and _is_grade(first[3]):
        return [0, 2, 3]
    return [0, 1, 2] if len(first) == 3 and (_is_grade(first[2]) or not any(map(_is_grade, first))) else None


def _is_grade(text: str) -> bool:
    digits = text[1:] if text[:1] in ("-", "+") else text
    return digits.isascii() and digits.isdigit() and len(digits) <= 9


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in lines_of(path, MAX_LINE_BYTES):
        reason = line.reason if isinstance(line, BadRow) else wrong_byte(line)
        if isinstance(line, BadRow) or reason:
            raise InvalidInput(f"{path}:{number}: {reason}")
        if not line.isspace():
            yield number, line.decode().rstrip("\r\n")


def _must_exist(path: Path, what: str) -> None:
    if not path.is_file():
        raise NotFound(f"there is no file of {what} at {path}; check the path")
