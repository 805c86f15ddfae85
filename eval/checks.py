"""Checks a folder of research collections: is everything there, whole, and consistent with itself?

A sub-folder with a `corpus.jsonl(.gz)` is checked as a BEIR collection: every row of corpus, queries and judgements is
read, and judgements are held against the ids. Of every other file the rows are counted; gzip files are read to their
end, so their checksums are verified, and the graphs of the experiments are read as graphs. `known_collections.toml`
lists what facetrail's own experiments use and how many rows each file has.
"""

import csv
import gzip
import json
import tomllib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from facetrail.eval.datasets import CORPUS_NAMES
from facetrail.eval.graph_data import KNOWN, load_known
from facetrail.models.errors import Damaged, InvalidInput, NotFound

MAX_PROBLEMS = 20
"""Problems kept for one collection; a broken file tends to have thousands."""

_HEADERS = (b"query-id\t", b"from\t", b"node label")
_IGNORED = ("README", "LICENSE", "LICENCE")


class _Broken(Exception):
    """A file or row that is not what it should be; the message names both."""


@dataclass
class CollectionCheck:
    """What was found in one collection."""

    name: str
    kind: str
    """`beir`, `graphs` or `files`."""
    rows: dict[str, int] = field(default_factory=dict)
    """File, relative to the collection → rows; header lines of tables are not counted."""
    counts: dict[str, int] = field(default_factory=dict)
    """documents, queries and judgements of a BEIR collection; nodes and links of every known graph."""
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """`damaged`, `missing` or `ok`."""
        return "damaged" if self.damaged else "missing" if self.missing else "ok"

    def damage(self, problem: str) -> None:
        """Keeps a problem, up to a limit."""
        if len(self.damaged) < MAX_PROBLEMS:
            self.damaged.append(problem)


def known_collections() -> dict[str, dict[str, Any]]:
    """Name → {about, licence, files: {file: rows}} of the collections that facetrail's experiments use."""
    text = resources.files("facetrail.eval").joinpath("known_collections.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def check_folder(folder: Path, *, only_present: bool = False) -> list[CollectionCheck]:
    """Checks every collection in the folder and names the known ones that are absent, unless `only_present`.

    A folder that is itself a collection is checked alone. Raises NotFound where the folder does not exist.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder; give the folder that holds the collections")
    known = known_collections()
    if _is_beir(folder) or folder.resolve().name in known:
        return [check_collection(folder, known.get(folder.resolve().name, {}).get("files", {}))]
    there = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not there and only_present:
        raise NotFound(f"{folder} holds no collection; each one is a sub-folder")
    checks = [check_collection(path, known.get(path.name, {}).get("files", {})) for path in there]
    absent = [] if only_present else sorted(set(known) - {path.name for path in there})
    return checks + [CollectionCheck(name, "files", missing=list(known[name]["files"])) for name in absent]


def check_collection(folder: Path, expected: dict[str, int]) -> CollectionCheck:
    """Checks one collection; expected: file → rows, of those files that must be there."""
    check = CollectionCheck(folder.resolve().name, "beir" if _is_beir(folder) else "files")
    corpus = next((folder / name for name in CORPUS_NAMES if (folder / name).is_file()), None)
    if corpus is not None:
        _check_beir(folder, corpus, check)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in check.rows or path.name.startswith((".", *_IGNORED)):
            continue
        try:
            check.rows[name] = count_rows(path)
        except _Broken as error:
            check.damage(str(error))
    damaged_files = {problem.split(":")[0] for problem in check.damaged}
    for name, rows in expected.items():
        if name not in check.rows and not (folder / name).is_file():
            check.missing.append(name)
        elif check.rows.get(name, rows) != rows and name not in damaged_files:
            check.damage(f"{name}: {check.rows[name]:,} rows where {rows:,} belong")
    _check_graphs(folder.resolve(), check)
    return check


def _check_graphs(folder: Path, check: CollectionCheck) -> None:
    """Known graphs of the folder: their checksums, and that they read as graphs."""
    for name, known in KNOWN.items():
        path = folder.parent / known.path
        if path.parent != folder or not path.is_file():
            continue
        check.kind = "graphs"
        try:
            graph = load_known(name, folder.parent)
        except (Damaged, InvalidInput, NotFound) as error:
            check.damage(f"{path.name}: {error}")
            continue
        check.counts |= {f"{name} nodes": len(graph.ids), f"{name} links": graph.n_edges}


def count_rows(path: Path) -> int:
    """Rows of a data file by its kind. Raises an error naming file and line where it is not readable."""
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".jsonl":
        return sum(1 for _ in _json_rows(path, path.name))
    if suffix == ".json":
        return len(_json(b"".join(_lines(path, path.name)), path.name, 1))
    if suffix == ".csv":
        return _count_csv(path)
    if suffix == ".mat":
        return _count_nodes(path)
    first = next(_lines(path, path.name), b"")
    has_header = first.startswith(_HEADERS) or b":token" in first
    return sum(1 for line in _lines(path, path.name) if line.strip()) - has_header


def _is_beir(folder: Path) -> bool:
    return any((folder / name).is_file() for name in CORPUS_NAMES)


def _check_beir(folder: Path, corpus: Path, check: CollectionCheck) -> None:
    documents = _check_ids(folder, corpus, check)
    query_files = sorted(folder.glob("queries*.jsonl*"))
    queries = {name: _check_ids(folder, name, check) for name in query_files}
    known = set().union(*queries.values()) if queries else set()
    n_judgements = 0
    for path in sorted((folder / "qrels").glob("*.tsv*")):
        n_judgements += _check_qrels(folder, path, known, documents, check)
    check.counts = {"documents": len(documents), "queries": len(known), "judgements": n_judgements}


def _check_ids(folder: Path, path: Path, check: CollectionCheck) -> set[str]:
    """Reads a corpus or query file; rows need a distinct `_id` and a `text` or `title`."""
    name, ids, n_rows = path.relative_to(folder).as_posix(), set[str](), 0
    try:
        for line, row in _json_rows(path, name):
            n_rows += 1
            row_id = row.get("_id") if isinstance(row, dict) else None
            if not isinstance(row_id, str) or not row_id:
                check.damage(f"{name}:{line}: the row has no _id that is a string")
            elif row_id in ids:
                check.damage(f"{name}:{line}: the id {row_id!r} was used before")
            elif not isinstance(row.get("text", row.get("title")), str):
                check.damage(f"{name}:{line}: {row_id!r} has no text")
            else:
                ids.add(row_id)
    except _Broken as error:
        check.damage(str(error))
    check.rows[name] = n_rows
    return ids


def _check_qrels(folder: Path, path: Path, queries: set[str], documents: set[str], check: CollectionCheck) -> int:
    name, n_rows, n_unknown = path.relative_to(folder).as_posix(), 0, 0
    try:
        for line, text in enumerate(_lines(path, name), start=1):
            parts = text.decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
            if parts == [""] or (line == 1 and parts[0] == "query-id"):
                continue
            n_rows += 1
            if len(parts) != 3 or not parts[2].strip().lstrip("-").isdigit():
                check.damage(f"{name}:{line}: not query, document and whole-number grade between tabs")
            elif parts[0] not in queries:
                check.damage(f"{name}:{line}: query {parts[0]!r} is in no query file")
            else:
                n_unknown += parts[1] not in documents
    except _Broken as error:
        check.damage(str(error))
    if n_unknown and n_unknown == n_rows:
        check.damage(f"{name}: not one judged document is in the corpus")
    elif n_unknown:
        check.notes.append(f"{name}: {n_unknown:,} judged documents are not in the corpus")
    check.rows[name] = n_rows
    return n_rows


def _json_rows(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    for line, text in enumerate(_lines(path, name), start=1):
        if text.strip():
            yield line, _json(text, name, line)


def _json(text: bytes, name: str, line: int) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text)  # reads NaN and large integers, which orjson refuses
    except ValueError as error:
        raise _Broken(f"{name}:{line}: not JSON in UTF-8 ({error})") from error


def _lines(path: Path, name: str) -> Iterator[bytes]:
    """Lines ending at line feeds; a gzip file is read to its end, where its checksum stands."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _Broken(f"{name}: not a whole gzip file ({error})") from error
    except OSError as error:
        raise _Broken(f"{name}: cannot be read ({error.strerror})") from error


def _count_csv(path: Path) -> int:
    texts = (line.decode("utf-8", errors="replace") for line in _lines(path, path.name))
    header = next(texts, "")
    delimiter = "\t" if "\t" in header else ","
    n_columns, n_rows = len(header.split(delimiter)), 0
    reader = csv.reader(texts, delimiter=delimiter)
    for row in reader:
        n_rows += 1
        if len(row) != n_columns:
            raise _Broken(f"{path.name}:{reader.line_num + 1}: {len(row)} columns where the header has {n_columns}")
    return n_rows


def _count_nodes(path: Path) -> int:
    """Nodes of a citation graph: rows of `network`, which `attrb` and `group` must share."""
    from scipy.io import loadmat  # type: ignore[import-untyped]
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

    try:
        content = loadmat(path)
        sizes = {content[key].shape[0] for key in ("network", "attrb", "group")}
    except (MatReadError, KeyError, ValueError, TypeError, OSError, EOFError, zlib.error) as error:
        raise _Broken(f"{path.name}: not a citation graph in MATLAB form ({error})") from error
    if len(sizes) != 1:
        raise _Broken(f"{path.name}: network, attrb and group have different numbers of rows {sorted(sizes)}")
    return int(sizes.pop())
