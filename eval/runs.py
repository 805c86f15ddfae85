"""Runs and judgements as files: TREC run, CSV, TREC and BEIR qrels (read by `facetrail.indexing.corpus.read_qrels`).

TREC lines are split at blanks, so a written id must hold none. Written scores decrease strictly, because trec_eval
re-sorts by score and breaks ties its own way; our order survives every round trip.
"""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from facetrail.eval.metrics import Ranking, ordered
from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.records import Qrels

RankedRun = dict[str, list[tuple[str, float]]]
"""Query id → (document id, score) in total order."""


def write_run(path: Path, run: Mapping[str, Ranking], *, tag: str = "facetrail") -> None:
    """Writes a TREC run: `query Q0 document rank score tag`, ranks from 1; `.csv` writes CSV with our own scores.

    Raises InvalidInput for an id that the TREC form cannot hold.
    """
    if path.name.endswith((".csv", ".csv.gz")):
        _write_csv(path, run)
        return
    with _writing(path) as file:
        for query_id, ranking in run.items():
            _refuse_blanks(query_id, tag)
            pairs = ordered(ranking, query_id=query_id)
            for rank, (document_id, score) in enumerate(_strict(pairs), start=1):
                _refuse_blanks(document_id)
                file.write(f"{query_id} Q0 {document_id} {rank} {float(score)!r} {tag}\n")


def read_run(path: Path) -> RankedRun:
    """Reads a TREC run, or CSV where the name ends in `.csv` (optionally `.gz`).

    Order is by score, then id; the rank column is not read, as in trec_eval. Raises NotFound, and InvalidInput with
    file and line for a malformed line, a document listed twice or a score that is not finite.
    """
    rows = _csv_rows(path) if path.name.endswith((".csv", ".csv.gz")) else _trec_run_rows(path)
    scores: dict[str, dict[str, float]] = {}
    for line, query_id, document_id, text in rows:
        ranking = scores.setdefault(query_id, {})
        if document_id in ranking:
            raise InvalidInput(
                f"{path}:{line}: document {document_id!r} stands twice for query {query_id!r}; list it once"
            )
        ranking[document_id] = _score(text, path, line)
    return {query_id: ordered(ranking, query_id=query_id) for query_id, ranking in scores.items()}


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Writes judgements: TREC (`query 0 document grade`), or BEIR's form with header where the name ends in `.tsv`."""
    beir = path.name.endswith((".tsv", ".tsv.gz"))
    with _writing(path) as file:
        if beir:
            file.write("query-id\tcorpus-id\tscore\n")
        for query_id, grades in qrels.items():
            for document_id, grade in grades.items():
                _refuse_blanks(query_id, document_id)
                file.write(f"{query_id}\t{document_id}\t{grade}\n" if beir else f"{query_id} 0 {document_id} {grade}\n")


def _strict(pairs: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Our own scores where they decrease strictly in single precision, as some tools read them; else n, n-1, …, 1."""
    import numpy as np

    with np.errstate(over="ignore"):
        scores = np.array([score for _, score in pairs], dtype=np.float32)
    if np.all(scores[1:] < scores[:-1]):
        return pairs
    return [(document_id, float(len(pairs) - place)) for place, (document_id, _) in enumerate(pairs)]


def _write_csv(path: Path, run: Mapping[str, Ranking]) -> None:
    with _writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query_id", "document_id", "rank", "score"])
        for query_id, ranking in run.items():
            for rank, (document_id, score) in enumerate(ordered(ranking, query_id=query_id), start=1):
                writer.writerow([query_id, document_id, rank, repr(float(score))])


def _csv_rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    with _reading(path) as file:
        reader = csv.DictReader(file)
        missing = {"query_id", "document_id", "score"} - set(reader.fieldnames or ())
        if missing:
            raise InvalidInput(f"{path}:1: a run in CSV needs the columns query_id, document_id and score")
        for row in reader:
            if not all(row[column] for column in ("query_id", "document_id", "score")):
                raise InvalidInput(f"{path}:{reader.line_num}: query_id, document_id or score is missing")
            yield reader.line_num, row["query_id"], row["document_id"], row["score"]


def _trec_run_rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    for line, parts in _trec_lines(path, 6, "query Q0 document rank score tag"):
        yield line, parts[0], parts[2], parts[4]


def _trec_lines(path: Path, n_columns: int, form: str) -> Iterator[tuple[int, list[str]]]:
    with _reading(path) as file:
        for line, text in enumerate(file, start=1):
            parts = text.split()
            if not parts:
                continue
            if len(parts) != n_columns:
                raise InvalidInput(f"{path}:{line}: {len(parts)} columns where `{form}` has {n_columns}")
            yield line, parts


def _score(text: str, path: Path, line: int) -> float:
    try:
        score = float(text)
    except ValueError as error:
        raise InvalidInput(f"{path}:{line}: the score {text!r} is not a number") from error
    if not math.isfinite(score):
        raise InvalidInput(f"{path}:{line}: the score {text!r} is not finite; ranks need finite scores")
    return score


def _refuse_blanks(*ids: str) -> None:
    for text in ids:
        if not text or any(character.isspace() for character in text):
            raise InvalidInput(f"the id {text!r} holds a blank, which TREC files cannot; write the run as .csv instead")


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    """The file as text, plain or gzip, lines ending at line feeds only."""
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="\n") as file:
            yield cast(TextIO, file)
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist; check the path") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text (byte {error.start}); convert it first") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"{path} is not a whole gzip file ({error}); fetch or write it again") from error


@contextmanager
def _writing(path: Path) -> Iterator[TextIO]:
    """A draft beside the file that replaces it only when everything was written."""
    draft = path.with_name(f".{path.name}.draft")
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with opener(draft, "wt", encoding="utf-8", newline="\n") as file:
                yield cast(TextIO, file)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}; choose another place") from error
