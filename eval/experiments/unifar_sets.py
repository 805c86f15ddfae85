"""The judged sets of UniFAR's experiment: what is asked, in which pool, and what counts as found.

Ids of documents are `folder:id`, texts are `Document.content`; a text that several sets share is encoded once.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from facetrail.models.errors import InvalidInput
from facetrail.models.records import Qrels
from facetrail.models.text.facets import Task

CACM_TEST, CACM_DEV = 0.2, 0.1
"""Share of CACM's documents that are test queries, and share of the others that are development queries."""
SMOKE_QUERIES, SMOKE_DOCUMENTS = 20, 300
Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class JudgedSet:
    """Queries of one kind over one pool. qrels: every query with its relevant documents, all of them in the pool."""

    name: str
    task: Task
    """How the queries are encoded. A query that is a document is encoded like any document."""
    queries: Mapping[str, str]
    documents: Mapping[str, str]
    qrels: Qrels
    exclude_self: bool = False
    """Drops the document whose id is the query's from its ranking."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Of the files it was made from."""
    notes: str = ""
    subsets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Queries that are also reported by themselves."""

    def __post_init__(self) -> None:
        lost = {name for grades in self.qrels.values() for name in grades} - self.documents.keys()
        if lost or self.qrels.keys() != self.queries.keys():
            raise InvalidInput(
                f"set {self.name!r} judges {len(lost)} documents that are not in its pool, or its queries are not "
                "those of its judgements; build it from files that belong together"
            )

    @cached_property
    def document_ids(self) -> tuple[str, ...]:
        """The pool in UTF-8 byte order, in which ties are broken."""
        return tuple(sorted(self.documents, key=str.encode))


def fraction_of(identifier: str, salt: str) -> float:
    """A number in [0, 1) that depends on the id and on what it is drawn for; the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{salt}|{identifier}".encode()).digest()[:8], "big") / 2.0**64


def cacm_split(document_id: str) -> Split:
    """Where a CACM document belongs; takes `123` and `cacm:123`. Test and development documents are queries."""
    fraction = fraction_of(document_id.removeprefix("cacm:"), "cacm split")
    if fraction < CACM_TEST:
        return "test"
    return "dev" if fraction < CACM_TEST + (1 - CACM_TEST) * CACM_DEV else "train"


def all_texts(sets: Iterable[JudgedSet]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Distinct texts to encode as documents (queries that are documents too), and those to encode as questions."""
    documents: dict[str, None] = {}
    questions: dict[str, None] = {}
    for judged in sets:
        documents.update(dict.fromkeys(judged.documents.values()))
        (questions if judged.task == "question" else documents).update(dict.fromkeys(judged.queries.values()))
    return tuple(documents), tuple(questions)


def smoke(judged: JudgedSet, *, n_queries: int = SMOKE_QUERIES, n_documents: int = SMOKE_DOCUMENTS) -> JudgedSet:
    """A small part of a set, the same one each time: a run that shows the machinery works and measures nothing."""
    order = sorted(judged.queries, key=lambda name: fraction_of(name, "smoke"))
    kept: dict[str, None] = {}
    qrels: Qrels = {}
    for name in order[:n_queries]:
        own = [name] if name in judged.documents else []
        wanted = dict.fromkeys([*own, *list(judged.qrels[name])[: n_documents // n_queries - 1]])
        kept.update(wanted)
        qrels[name] = {document: grade for document, grade in judged.qrels[name].items() if document in wanted}
    for document in sorted(judged.documents, key=lambda name: fraction_of(name, "smoke")):
        if len(kept) >= n_documents:
            break
        kept[document] = None
    return replace(
        judged,
        queries={name: judged.queries[name] for name in qrels},
        documents={name: judged.documents[name] for name in kept},
        qrels=qrels,
        notes=f"{judged.notes} Smoke run: {len(qrels)} queries, {len(kept)} documents; its figures mean nothing.",
        subsets={name: part & qrels.keys() for name, part in judged.subsets.items()},
    )
