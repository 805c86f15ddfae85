"""The judged sets of UniFAR's experiment, read from the folder of research collections.

Pools of SciTLDR and ACM-CR are samples by default, which makes them easier than the whole corpora; every note says so.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from facetrail.eval.datasets import load_beir, sha256_of
from facetrail.eval.experiments.unifar_sets import JudgedSet, cacm_split, fraction_of
from facetrail.indexing.corpus import RowReport, read_corpus, read_qrels
from facetrail.indexing.corpus_judgements import MAX_LINE_BYTES
from facetrail.indexing.corpus_rows import BadRow, json_rows
from facetrail.models.errors import InvalidInput
from facetrail.models.records import Document, Qrels


def load_sets(data: Path, names: Sequence[str], *, distractors: int | Literal["all"] = 4_000) -> list[JudgedSet]:
    """The named sets in this order. distractors: documents of ACM-CR and the ACL Anthology in the shared pool.

    Raises NotFound for missing files, InvalidInput for a name that is no set.
    """
    unknown = [name for name in names if name not in SETS]
    if unknown:
        raise InvalidInput(f"there is no judged set {unknown[0]!r}; there are {', '.join(SETS)}")
    pools = _Pools(data, distractors)
    return [SETS[name](pools) for name in names]


class _Pools:
    """Reads each collection once."""

    def __init__(self, data: Path, distractors: int | Literal["all"]) -> None:
        self.data, self.n_distractors = data, distractors
        self._read: dict[str, dict[str, Document]] = {}

    def collection(self, folder: str) -> dict[str, Document]:
        if folder not in self._read:
            rows = read_corpus(self.data / folder, report=RowReport())
            self._read[folder] = {f"{folder}:{row.id}": row for row in rows}
        return self._read[folder]

    def hashes(self, *files: str) -> dict[str, str]:
        return {name: sha256_of(self.data / name) for name in files}

    def acm_qrels(self, split: str) -> Qrels:
        judged = read_qrels(self.data / "acm_cr" / "qrels" / f"{split}.tsv")
        asks = "" if split == "test" else "acm_cr:"  # citing papers are documents, citing paragraphs are not
        return {f"{asks}{q}": {f"acm_cr:{d}": g for d, g in grades.items() if g} for q, grades in judged.items()}

    @cached_property
    def acm_judged(self) -> dict[str, str]:
        """Documents that the two tests of ACM-CR judge or ask with."""
        papers = self.acm_qrels("test_papers")
        named = {d for qrels in (self.acm_qrels("test"), papers) for grades in qrels.values() for d in grades}
        corpus = self.collection("acm_cr")
        return {name: corpus[name].content for name in sorted(named | papers.keys()) if name in corpus}

    @cached_property
    def distractors(self) -> dict[str, str]:
        """Documents with an abstract that no test judges, the first by hash."""
        both = {**self.collection("acm_cr"), **self.collection("acl_anthology_2019")}
        names = [name for name, document in both.items() if document.text and name not in self.acm_judged]
        names.sort(key=lambda name: fraction_of(name, "unifar distractors"))
        kept = names if self.n_distractors == "all" else names[: self.n_distractors]
        return {name: both[name].content for name in kept}

    @property
    def pool_note(self) -> str:
        """What a reader must know of the shared pool."""
        if self.n_distractors == "all":
            return f"all {len(self.distractors):,} other documents with an abstract of ACM-CR and the ACL Anthology"
        return (
            f"{len(self.distractors):,} distractors with an abstract, a hash sample of ACM-CR and the ACL Anthology: "
            "easier than the whole corpora"
        )

    @property
    def acm_pool(self) -> tuple[dict[str, str], str]:
        """The documents in which ACM-CR is searched, and how they are called."""
        if self.n_distractors == "all":
            whole = self.collection("acm_cr")
            return {name: row.content for name, row in whole.items()}, f"all {len(whole):,} documents"
        return self.acm_judged | self.distractors, f"a pool of all judged documents and {self.pool_note}"


POOL_FILES = ("acm_cr/corpus.jsonl.gz", "acl_anthology_2019/corpus.jsonl.gz")


def _cacm(pools: _Pools, name: str, kind: str, *, test_only: bool = True) -> JudgedSet:
    """CACM's links of one kind: documents linked to the query are relevant, the query itself is left out."""
    documents = pools.collection("cacm")
    qrels: Qrels = {}
    for row in (pools.data / "cacm" / "links.tsv").read_text(encoding="utf-8").split("\n")[1:]:
        left, _, rest = row.partition("\t")
        what, _, right = rest.partition("\t")
        if what == kind and left != right and (not test_only or cacm_split(left) == "test"):
            qrels.setdefault(f"cacm:{left}", {})[f"cacm:{right}"] = 1
    abstracts = frozenset(query for query in qrels if documents[query].text)
    return JudgedSet(
        name,
        "document",
        {query: documents[query].content for query in qrels},
        {document: row.content for document, row in documents.items()},
        qrels,
        exclude_self=True,
        sha256=pools.hashes("cacm/corpus.jsonl.gz", "cacm/links.tsv"),
        notes=f"CACM {kind} links, {len(qrels)} queries, {len(abstracts)} of them with an abstract, all documents.",
        subsets={"abstract": abstracts},
    )


def _scitldr(pools: _Pools) -> JudgedSet:
    documents, queries, qrels = dict(pools.distractors), {}, {}
    for number, row in json_rows(pools.data / "scitldr" / "dev.jsonl.gz", MAX_LINE_BYTES):
        if isinstance(row, BadRow):
            raise InvalidInput(f"scitldr/dev.jsonl.gz:{number}: {row.reason}")
        name = f"scitldr:{row['_id']}"
        documents[name] = Document(name, " ".join(row["sentences"]), row["title"]).content
        queries[f"tldr:{row['_id']}"], qrels[f"tldr:{row['_id']}"] = row["tldr"][0], {name: 1}
    return JudgedSet(
        "scitldr", "question", queries, documents, qrels,
        sha256=pools.hashes("scitldr/dev.jsonl.gz", *POOL_FILES),
        notes=f"SciTLDR dev: the first summary asks for its abstract among {len(qrels)} and {pools.pool_note}.",
    )  # fmt: skip


def _acm_paragraphs(pools: _Pools) -> JudgedSet:
    qrels = pools.acm_qrels("test")
    asked = load_beir(pools.data / "acm_cr", check_corpus=False)
    queries = {query.id: query.text for query in asked.queries}
    files = (*POOL_FILES, "acm_cr/queries.jsonl", "acm_cr/qrels/test.tsv")
    pool, called = pools.acm_pool
    return JudgedSet(
        "acm_cr-paragraphs", "question", queries, pool, {query: qrels[query] for query in queries},
        sha256=pools.hashes(*files),
        notes=f"ACM-CR, citing paragraphs to cited papers in {called}.",
    )  # fmt: skip


def _acm_papers(pools: _Pools) -> JudgedSet:
    qrels = pools.acm_qrels("test_papers")
    pool, called = pools.acm_pool
    return JudgedSet(
        "acm_cr-papers", "document", {query: pools.acm_judged[query] for query in qrels},
        pool, qrels, exclude_self=True,
        sha256=pools.hashes(*POOL_FILES, "acm_cr/qrels/test_papers.tsv"),
        notes=f"ACM-CR, citing papers to cited papers in {called}.",
    )  # fmt: skip


def _scifact(pools: _Pools) -> JudgedSet:
    asked = load_beir(pools.data / "scifact")
    return JudgedSet(
        "scifact", "question", {query.id: query.text for query in asked.queries},
        {name: row.content for name, row in pools.collection("scifact").items()},
        {query: {f"scifact:{d}": g for d, g in grades.items() if g} for query, grades in asked.qrels.items()},
        sha256=pools.hashes("scifact/corpus.jsonl.gz", "scifact/queries.jsonl", "scifact/qrels/test.tsv"),
        notes="SciFact test, all documents.",
    )  # fmt: skip


SETS: Mapping[str, Callable[[_Pools], JudgedSet]] = {
    "cacm-direct": lambda pools: _cacm(pools, "cacm-direct", "citation"),
    "cacm-cocitation": lambda pools: _cacm(pools, "cacm-cocitation", "cocitation"),
    "cacm-all": lambda pools: _cacm(pools, "cacm-all", "citation", test_only=False),
    "cacm-all-cocitation": lambda pools: _cacm(pools, "cacm-all-cocitation", "cocitation", test_only=False),
    "scitldr": _scitldr,
    "acm_cr-paragraphs": _acm_paragraphs,
    "acm_cr-papers": _acm_papers,
    "scifact": _scifact,
}
"""`cacm-all…` hold training links: for systems that never saw CACM. PubMedQA is no set: its questions train, and
against their own abstracts BM25 is saturated, so it could show nothing."""
