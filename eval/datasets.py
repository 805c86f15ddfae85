"""A judged collection: which corpus, which queries, which judgements, each with its hash."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Qrels, Query

CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz")
QUERY_NAMES = ("queries.jsonl", "queries.jsonl.gz")


@dataclass(frozen=True)
class RetrievalDataset:
    """Queries with at least one relevant document, and what is needed to say exactly which they were."""

    name: str
    split: str
    queries: tuple[Query, ...]
    qrels: Qrels
    """Judgements of exactly these queries."""
    folder: Path
    corpus: Path
    sha256: Mapping[str, str]
    """Of the files `corpus`, `queries` and `qrels`."""
    n_without_judgements: int = 0
    n_without_relevant: int = 0
    n_unknown_documents: int = 0
    """Judged documents that the corpus does not hold."""
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`scifact/test`."""
        return f"{self.name}/{self.split}"


def sha256_of(path: Path) -> str:
    """Hash of one file's bytes as hex; raises NotFound."""
    if not path.is_file():
        raise NotFound(f"{path} does not exist; check the path")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_file(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """The first of `names` in the folder; NotFound says what was looked for."""
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder; give the folder that holds {names[0]}")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise NotFound(f"{folder} holds no {what}: looked for {' and '.join(names)}")


def find_splits(folder: Path) -> list[str]:
    """The splits a BEIR folder has judgements for."""
    return sorted({path.name.split(".tsv")[0] for path in (folder / "qrels").glob("*.tsv*")})


def load_beir(
    folder: Path,
    split: str = "test",
    *,
    queries: Path | None = None,
    qrels: Path | None = None,
    check_corpus: bool = True,
) -> RetrievalDataset:
    """Reads a BEIR folder; `queries` and `qrels` replace its own files, for a second task over one corpus.

    Queries without judgements are dropped, queries without relevant documents skipped; both are counted. Judged ids
    that the corpus lacks are counted and warned of, for they can never be found; `check_corpus=False` saves reading it.
    Raises NotFound for a missing file or split, InvalidInput where judgements and queries do not belong together.
    """
    from facetrail.indexing.corpus import read_qrels, read_queries

    corpus = find_file(folder, CORPUS_NAMES, "corpus")
    queries_file = queries or find_file(folder, QUERY_NAMES, "queries")
    qrels_file = qrels or _qrels_file(folder, split)
    sha256 = {"corpus": sha256_of(corpus), "queries": sha256_of(queries_file), "qrels": sha256_of(qrels_file)}
    judged: Qrels = read_qrels(qrels_file)
    known = {query.id: query for query in read_queries(queries_file)}
    with_relevant = {query_id: grades for query_id, grades in judged.items() if any(g >= 1 for g in grades.values())}
    kept = {query_id: grades for query_id, grades in with_relevant.items() if query_id in known}
    if not kept:
        raise InvalidInput(
            f"none of the {len(with_relevant)} queries with relevant documents in {qrels_file} is in {queries_file}; "
            "give the queries that these judgements were made for"
        )
    warnings = []
    if len(kept) < len(with_relevant):
        warnings.append(
            f"{len(with_relevant) - len(kept)} judged queries have no text in {queries_file.name}; left out"
        )
    n_unknown = _count_unknown(corpus, kept) if check_corpus else 0
    if n_unknown:
        warnings.append(f"{n_unknown} judged documents are not in the corpus and can never be found")
    return RetrievalDataset(
        name=folder.resolve().name,
        split=_split_name(qrels_file) if qrels else split,
        queries=tuple(known[query_id] for query_id in kept),
        qrels=kept,
        folder=folder,
        corpus=corpus,
        sha256=sha256,
        n_without_judgements=len(known.keys() - judged.keys()),
        n_without_relevant=len(judged) - len(with_relevant),
        n_unknown_documents=n_unknown,
        warnings=tuple(warnings),
    )


def _qrels_file(folder: Path, split: str) -> Path:
    for name in (f"{split}.tsv", f"{split}.tsv.gz"):
        if (folder / "qrels" / name).is_file():
            return folder / "qrels" / name
    found = find_splits(folder)
    there = f"it has {', '.join(found)}" if found else "it has no qrels/*.tsv at all"
    raise NotFound(f"{folder} has no judgements for split {split!r}; {there}")


def _split_name(qrels_file: Path) -> str:
    return qrels_file.name.split(".")[0]


def _count_unknown(corpus: Path, qrels: Qrels) -> int:
    from facetrail.indexing.corpus import RowReport, read_corpus

    missing = {document_id for grades in qrels.values() for document_id in grades}
    for document in read_corpus(corpus, report=RowReport()):
        missing.discard(document.id)
        if not missing:
            break
    return len(missing)
