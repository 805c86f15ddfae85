"""Reads a corpus, whatever its form, as a stream of documents.

| path | what is read |
|---|---|
| a BEIR folder | `corpus.jsonl` or `corpus.jsonl.gz` in it |
| `.jsonl`, `.ndjson` | one JSON object a line, UTF-8 |
| `.csv`, `.tsv` | comma or tab between columns, `"` quotes doubled inside, a header of names; all cells are strings |
| `.parquet` | rows; the row number stands for the line |
| another folder | the one file of these kinds in it |

All but Parquet may be gzip (`.gz`). Fields: id (`_id`, `id`, `doc_id`, `docid`), `title`, text (`text`, `abstract`,
`body`, `contents`), `sections` (list of {name, text}), `metadata` (object); other columns become metadata. In a table
`sections` and `metadata` are JSON text; an empty CSV cell is an absent field.

Stated behaviour: a bad row is reported with file and line and left out. Of several rows with one id the first is kept.
A row without title and text is kept, with a warning: it is found by id and filter, not by words. A text above 16 MiB,
an id above 512 bytes, with control characters or empty, and bytes that are not UTF-8 make a bad row.
"""

from collections.abc import Iterator
from pathlib import Path

from facetrail.indexing.corpus_documents import MAX_TEXT_BYTES, Unusable, document_from
from facetrail.indexing.corpus_judgements import read_qrels, read_queries
from facetrail.indexing.corpus_report import WARNINGS, RowProblem, RowReport
from facetrail.indexing.corpus_rows import BadRow, Row, json_rows
from facetrail.indexing.corpus_tables import csv_rows, parquet_rows
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Document

__all__ = ["RowProblem", "RowReport", "find_corpus_file", "read_corpus", "read_qrels", "read_queries"]

KINDS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
ACCEPTED = "a BEIR folder, .jsonl, .ndjson, .csv, .tsv (each also with .gz) or .parquet"
MAX_ROW_BYTES = 64 * 1024 * 1024


def read_corpus(
    path: Path,
    *,
    strict: bool = False,
    report: RowReport | None = None,
    max_text_bytes: int = MAX_TEXT_BYTES,
    max_row_bytes: int = MAX_ROW_BYTES,
) -> Iterator[Document]:
    """Documents in the order of the file; `report` is filled as they are drawn.

    Raises NotFound (no such path) and InvalidInput (kind not known) at once; while reading InvalidInput for a table
    without the columns needed and, under `strict`, for the first bad row.
    """
    file = find_corpus_file(path)
    return _documents(file, RowReport() if report is None else report, strict, max_text_bytes, max_row_bytes)


def find_corpus_file(path: Path) -> Path:
    """The file a corpus path stands for. Raises NotFound, InvalidInput."""
    if not path.exists():
        raise NotFound(f"there is no corpus at {path}; check the path")
    if not path.is_dir():
        if not path.name.endswith(KINDS):
            raise InvalidInput(f"{path} is of no kind that can be read; give {ACCEPTED}")
        return path
    found = sorted(f for f in path.iterdir() if f.is_file() and f.name in ("corpus.jsonl", "corpus.jsonl.gz"))
    found = found or sorted(f for f in path.iterdir() if f.is_file() and f.name.endswith(KINDS))
    if len(found) != 1:
        names = ", ".join(f.name for f in found[:5]) or "none"
        raise InvalidInput(
            f"{path} must hold one corpus file and holds {len(found)} ({names}); name the file, or give {ACCEPTED}"
        )
    return found[0]


def _rows(file: Path, max_row_bytes: int) -> Iterator[Row]:
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        return parquet_rows(file)
    if kind in ("csv", "tsv"):
        return csv_rows(file, "," if kind == "csv" else "\t", max_row_bytes)
    return json_rows(file, max_row_bytes)


def _documents(
    file: Path, report: RowReport, strict: bool, max_text_bytes: int, max_row_bytes: int
) -> Iterator[Document]:
    first_line: dict[str, int] = {}
    for line, values in _rows(file, max_row_bytes):
        is_row = not isinstance(values, BadRow) or values.kind not in WARNINGS
        report.n_read += is_row
        try:
            if isinstance(values, BadRow):
                raise Unusable(values.kind, values.reason)
            document = document_from(values, max_text_bytes)
            if document.id in first_line:
                raise Unusable(
                    "duplicate", f"the id {document.id!r} was used on line {first_line[document.id]}; the first is kept"
                )
        except Unusable as error:
            report.add(RowProblem(str(file), line, error.bad_row.kind, error.bad_row.reason), strict=strict)
            continue
        first_line[document.id] = line
        if not document.content:
            report.add(RowProblem(str(file), line, "empty", f"document {document.id!r} has neither title nor text"))
        report.n_good += 1
        yield document
