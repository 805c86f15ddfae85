"""Labels from outside become metadata of documents: a field, its confidence and the run that gave it.

A second annotation of a field replaces the first one whole: documents that it leaves out lose their label.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from facetrail.indexing.collection import Collection
from facetrail.indexing.corpus_documents import Unusable, id_from
from facetrail.indexing.corpus_report import RowProblem, RowReport
from facetrail.indexing.corpus_rows import BadRow, Row, json_rows
from facetrail.indexing.corpus_tables import Needs, csv_rows, parquet_rows
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Document

MAX_ROW_BYTES = 1024 * 1024
BATCH = 1_000
NEEDS: Needs = ((("id", "_id"), "an id"), (("label",), "the label"))


@dataclass(frozen=True, slots=True)
class Label:
    """What a run says of one document. confidence: in [0, 1], None where the file has none."""

    value: str
    confidence: float | None
    run: str


@dataclass(frozen=True, slots=True)
class Annotated:
    """What an annotation changed: documents that now carry a label, that lost theirs, labels below the confidence
    asked for, and labels whose id is no document."""

    n_labelled: int
    n_cleared: int
    n_below: int
    unknown: tuple[str, ...]


def read_labels(path: Path, *, strict: bool = False, report: RowReport | None = None) -> dict[str, Label]:
    """Id → label, from JSON Lines, CSV, TSV or Parquet with `id`, `label` and, if it has them, `confidence` and `run`.

    Bad rows, and all but the first of an id, are reported by line and left out. Raises NotFound and InvalidInput (kind
    not known, columns missing, no label at all; under `strict` the first bad row).
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}; check the path")
    report = RowReport() if report is None else report
    found: dict[str, Label] = {}
    for line, values in _rows(path):
        report.n_read += 1
        try:
            if isinstance(values, BadRow):
                raise Unusable(values.kind, values.reason)
            name = id_from(values.get("id", values.get("_id")))
            if name in found:
                raise Unusable("duplicate", f"the id {name!r} has a label already; the first one is kept")
            found[name] = _label(values)
        except Unusable as error:
            report.add(RowProblem(str(path), line, error.bad_row.kind, error.bad_row.reason), strict=strict)
            continue
        report.n_good += 1
    if not found:
        raise InvalidInput(f"{path} holds no label ({report.summary()}); give rows with `id` and `label`")
    return found


def annotate(
    collection: Collection, labels: Mapping[str, Label], *, field: str, min_confidence: float = 0.0
) -> Annotated:
    """Writes `field`, `field_confidence` and `field_run` of every document, in batches; vectors stay as they are.

    Raises InvalidInput for a field's name or a confidence that cannot be, before anything is written. An annotation
    that is interrupted is finished by running it again.
    """
    if not field.isidentifier():
        raise InvalidInput(f"the field {field!r} is no name; give letters, digits and underscores, for instance topic")
    if not 0 <= min_confidence <= 1:
        raise InvalidInput(f"a confidence of {min_confidence:g} cannot be; give one between 0 and 1")
    kept = {
        name: label for name, label in labels.items() if label.confidence is None or label.confidence >= min_confidence
    }
    ids, n_labelled, n_cleared = collection.ids_in_order(), 0, 0
    known = set(ids)
    for batch in _batches(iter(ids)):
        changed = []
        for document in collection.get_many(batch):
            if document is None:  # deleted since the ids were read
                continue
            label = kept.get(document.id)
            n_labelled += label is not None
            n_cleared += label is None and field in document.metadata
            changed.append(_annotated(document, field, label))
        collection.put(changed)
    unknown = tuple(sorted(name for name in labels if name not in known))
    return Annotated(n_labelled, n_cleared, len(labels) - len(kept), unknown)


def _annotated(document: Document, field: str, label: Label | None) -> Document:
    ours = (field, f"{field}_confidence", f"{field}_run")
    metadata = {name: value for name, value in document.metadata.items() if name not in ours}
    if label is not None:
        metadata[field] = label.value
        if label.confidence is not None:
            metadata[f"{field}_confidence"] = label.confidence
        if label.run:
            metadata[f"{field}_run"] = label.run
    return Document(document.id, document.text, document.title, document.sections, metadata)


def _label(values: Mapping[str, Any]) -> Label:
    value = values.get("label")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise Unusable("invalid", f"the label {value!r} is no text")
    confidence = values.get("confidence")
    if confidence is not None:
        try:
            confidence = float(confidence)
        except (TypeError, ValueError):
            raise Unusable("invalid", f"the confidence {confidence!r} is no number") from None
        if not (math.isfinite(confidence) and 0 <= confidence <= 1):
            raise Unusable("invalid", f"the confidence {confidence:g} is not between 0 and 1")
        confidence = round(confidence, 6)
    return Label(value.strip(), confidence, str(values.get("run") or ""))


def _rows(path: Path) -> Iterator[Row]:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        return parquet_rows(path, NEEDS)
    if kind in ("csv", "tsv"):
        return csv_rows(path, "\t" if kind == "tsv" else ",", MAX_ROW_BYTES, NEEDS)
    if kind in ("jsonl", "ndjson"):
        return json_rows(path, MAX_ROW_BYTES)
    raise InvalidInput(f"{path} is of no kind that can be read; give .jsonl, .csv, .tsv (each also .gz) or .parquet")


def _batches(ids: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(ids, BATCH)):
        yield batch
