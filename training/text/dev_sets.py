"""Small retrieval tasks that choose between checkpoints; none of them is a test.

Their pools may hold documents that training has seen; a query never has, nor the document or the link it asks for.
"""

from dataclasses import dataclass
from pathlib import Path

from facetrail.indexing.corpus import read_qrels, read_queries
from facetrail.models.records import Qrels, Query
from facetrail.training.text import corpora
from facetrail.training.text.corpora import ACL, CACM, SCIFACT, document_id, drawn, normalised_title
from facetrail.training.text.records import Kind

N_DISTRACTORS = 1_300
"""Abstracts beside the 200 that the summaries belong to."""
N_CLAIMS, N_OTHER_ABSTRACTS = 150, 1_000


@dataclass(frozen=True)
class DevSet:
    """Queries, the pool they search, and what is relevant in it. A query that is in the pool never finds itself."""

    name: str
    kind: Kind
    queries: list[Query]
    documents: dict[str, str]
    """Id → text, title on the first line."""
    qrels: Qrels


def load_dev(data: Path) -> list[DevSet]:
    """The development sets, the same ones every time. Raises NotFound where a file is missing."""
    corpora.check_files(data)
    return [_summaries(data), _links(data), _claims(data)]


def _summaries(data: Path) -> DevSet:
    """SciTLDR's 200 held-back summaries → their papers, among other papers of the train split and ACL abstracts."""
    papers = corpora.summaries(data, "train")
    dev = corpora.scitldr_dev_ids(papers)
    held = [paper for paper in papers if paper.document.id in dev]
    titles = {normalised_title(paper.document.title) for paper in held}
    others = {
        document.id: document.content
        for document in [*(paper.document for paper in papers), *corpora.documents(data, ACL)]
        if document.id not in dev and document.text and normalised_title(document.title) not in titles
    }
    documents = {paper.document.id: paper.document.content for paper in held}
    documents |= {name: others[name] for name in drawn(others, N_DISTRACTORS, "scitldr pool")}
    queries = [Query(f"question:tldr:{paper.document.id}", paper.tldrs[0]) for paper in held]
    qrels = {query.id: {paper.document.id: 1} for query, paper in zip(queries, held, strict=True)}
    return DevSet("scitldr-dev200", "qd", queries, documents, qrels)


def _links(data: Path) -> DevSet:
    """CACM's development documents → the train documents they are linked with directly."""
    everything = {document.id: document.content for document in corpora.documents(data, CACM)}
    # Some texts stand there twice, once as a test's.
    tested = {text for name, text in everything.items() if corpora.cacm_split(name) == "test"}
    documents = {name: text for name, text in everything.items() if text and text not in tested}
    qrels: Qrels = {}
    for edge in corpora.links(data, "citation"):
        for left, right in (edge, edge[::-1]):
            known = left in documents and right in documents
            if known and corpora.cacm_split(left) == "dev" and corpora.cacm_split(right) == "train":
                qrels.setdefault(left, {})[right] = 1
    return DevSet("cacm-dev", "dd", [Query(name, documents[name]) for name in qrels], documents, qrels)


def _claims(data: Path) -> DevSet:
    """150 of SciFact's train claims → their abstracts, among others that no test claim is judged with."""
    train = read_qrels(data / SCIFACT / "qrels/train.tsv")
    tested = {name for names in read_qrels(data / SCIFACT / "qrels/test.tsv").values() for name in names}
    contents = {document.id: document.content for document in corpora.documents(data, SCIFACT)}
    text_of = {query.id: query.text for query in read_queries(data / SCIFACT / "queries.jsonl")}
    usable = [claim for claim, names in train.items() if not tested & names.keys()]
    queries = [Query(claim, text_of[claim]) for claim in drawn(usable, N_CLAIMS, "scifact claims")]
    qrels = {
        query.id: {document_id(SCIFACT, name): grade for name, grade in train[query.id].items()} for query in queries
    }
    relevant = {name for names in qrels.values() for name in names}
    others = contents.keys() - relevant - {document_id(SCIFACT, name) for name in tested}
    pool = [*sorted(relevant), *drawn(others, N_OTHER_ABSTRACTS, "scifact pool")]
    return DevSet("scifact-train", "qd", queries, {name: contents[name] for name in pool}, qrels)
