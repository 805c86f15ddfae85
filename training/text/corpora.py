"""The research collections as records: documents with the name of their folder in their id, links, summaries, roles.

An id is `folder:id`, for instance `cacm:123`, so that documents of different collections never collide. Every choice
of a part (test, development) is a hash of the id: it needs no state and is the same wherever it is asked.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from facetrail.eval.experiments.unifar_sets import Split as Split
from facetrail.eval.experiments.unifar_sets import cacm_split as cacm_split
from facetrail.eval.experiments.unifar_sets import fraction_of as fraction_of
from facetrail.indexing.corpus import RowReport, read_corpus, read_qrels
from facetrail.indexing.corpus_judgements import MAX_LINE_BYTES
from facetrail.indexing.corpus_rows import BadRow, json_rows, lines_of
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Document
from facetrail.models.text.facets import FACETS
from facetrail.models.text.sentences import split_sentences

ACL, ACM, CACM, CSABSTRUCT, PUBMEDQA, SCIFACT, SCITLDR = (
    "acl_anthology_2019",
    "acm_cr",
    "cacm",
    "csabstruct",
    "pubmedqa",
    "scifact",
    "scitldr",
)
FILES = (
    *(f"{name}/corpus.jsonl.gz" for name in (ACL, ACM, CACM, PUBMEDQA, SCIFACT)),
    *(f"{ACM}/{name}" for name in ("queries.jsonl", "queries_papers.jsonl", "qrels/test.tsv", "qrels/test_papers.tsv")),
    *(f"{CACM}/{name}" for name in ("links.tsv", "queries.jsonl")),
    *(f"{CSABSTRUCT}/{split}.jsonl.gz" for split in ("train", "dev", "test")),
    *(f"{PUBMEDQA}/{name}" for name in ("queries.jsonl", "qrels/train.tsv")),
    *(f"{SCIFACT}/{name}" for name in ("queries.jsonl", "qrels/train.tsv", "qrels/test.tsv")),
    *(f"{SCITLDR}/{split}.jsonl.gz" for split in ("train", "dev")),
)
"""Every file that training reads: what is trained on and what must be kept out of it."""
N_SCITLDR_DEV = 200

LinkKind = Literal["citation", "cocitation", "coupling"]
LINK_KINDS: tuple[LinkKind, ...] = ("citation", "cocitation", "coupling")


@dataclass(frozen=True, slots=True)
class Summary:
    """A paper and the sentences that others summed it up with."""

    document: Document
    tldrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoleAbstract:
    """An abstract whose sentences carry a rhetorical role.

    targets: one row of probabilities over FACETS a sentence: its role has the annotators' confidence, the other facets
    share the rest. None for the role "other", which is no facet.
    """

    id: str
    sentences: tuple[str, ...]
    labels: tuple[str, ...]
    confidences: tuple[float, ...]
    targets: tuple[tuple[float, ...] | None, ...]

    @property
    def text(self) -> str:
        """The whole abstract; it has no title."""
        return " ".join(self.sentences)


def check_files(data: Path) -> None:
    """Raises NotFound where the data folder or one of its files is missing."""
    if not data.is_dir():
        raise NotFound(f"there is no data folder at {data}; give the folder that holds {CACM}, {ACM} and the others")
    missing = [name for name in FILES if not (data / name).is_file()]
    if missing:
        raise NotFound(f"{data} lacks {len(missing)} files that training needs, first {missing[0]}; put them there")


def document_id(collection: str, name: str) -> str:
    """`folder:id`."""
    return f"{collection}:{name}"


def collection_of(identifier: str) -> str:
    """The folder a document came from."""
    return identifier.partition(":")[0]


def normalised_title(title: str) -> str:
    """Lowercase words with single spaces: equal for titles that differ in case, punctuation and accents' encoding."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", title).lower()))


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, in order."""
    return [text[start:end] for start, end in split_sentences(text)]


def drawn(identifiers: Iterable[str], n: int, salt: str) -> list[str]:
    """n of the ids, the same ones in every process; all of them where there are fewer."""
    return sorted(identifiers, key=lambda identifier: fraction_of(identifier, salt))[:n]


def documents(data: Path, collection: str) -> list[Document]:
    """A collection's documents, ids with the folder's name. Raises NotFound, and InvalidInput for a bad row."""
    return [
        replace(document, id=document_id(collection, document.id))
        for document in read_corpus(data / collection, strict=False, report=RowReport())
    ]


def links(data: Path, kind: LinkKind) -> list[tuple[str, str]]:
    """CACM's links of one kind, each once, smaller id first, in order. Raises InvalidInput for a row of other form."""
    path, found = data / CACM / "links.tsv", set()
    for number, line in lines_of(path, MAX_LINE_BYTES):
        cells = [] if isinstance(line, BadRow) else line.decode().split()
        if len(cells) != 3:
            raise InvalidInput(f"{path}:{number}: not a link; a row is `from kind to` with tabs")
        if cells[1] == kind and cells[0] != cells[2]:
            left, right = sorted((document_id(CACM, cells[0]), document_id(CACM, cells[2])))
            found.add((left, right))
    return sorted(found)


def summaries(data: Path, split: Literal["train", "dev"]) -> list[Summary]:
    """SciTLDR's papers with their one-sentence summaries; the abstract is the sentences joined by a space."""
    return [
        Summary(
            Document(document_id(SCITLDR, row["_id"]), " ".join(row["sentences"]), row["title"]), tuple(row["tldr"])
        )
        for row in _objects(data / SCITLDR / f"{split}.jsonl.gz", ("_id", "title", "sentences", "tldr"))
    ]


def scitldr_dev_ids(papers: Iterable[Summary]) -> frozenset[str]:
    """The 200 of SciTLDR's train rows that are held back for development."""
    return frozenset(drawn((paper.document.id for paper in papers), N_SCITLDR_DEV, "scitldr dev"))


def load_roles(data: Path, split: Split) -> list[RoleAbstract]:
    """CSAbstruct's abstracts. Its own ids are all 0, so the position in the file stands for the id."""
    found = []
    for position, row in enumerate(
        _objects(data / CSABSTRUCT / f"{split}.jsonl.gz", ("sentences", "labels", "confs")), start=1
    ):
        labels, confidences = tuple(row["labels"]), tuple(float(c) for c in row["confs"])
        if not len(row["sentences"]) == len(labels) == len(confidences):
            raise InvalidInput(f"abstract {position} of CSAbstruct's {split} has not one role for every sentence")
        targets = tuple(role_target(label, c) for label, c in zip(labels, confidences, strict=True))
        name = document_id(CSABSTRUCT, f"{split}-{position}")
        found.append(RoleAbstract(name, tuple(row["sentences"]), labels, confidences, targets))
    return found


def role_target(label: str, confidence: float) -> tuple[float, ...] | None:
    """(facets,) probabilities with the label's confidence and the rest spread evenly; None for no facet."""
    if label not in FACETS:
        return None
    rest = (1.0 - confidence) / (len(FACETS) - 1)
    return tuple(confidence if facet == label else rest for facet in FACETS)


def judged_in_acm(data: Path) -> frozenset[str]:
    """Documents of ACM-CR that a test judges or asks with; nothing may train on them."""
    papers = read_qrels(data / ACM / "qrels/test_papers.tsv")
    judged = {name for qrels in (read_qrels(data / ACM / "qrels/test.tsv"), papers) for names in qrels.values()
              for name in names}  # fmt: skip
    asked = {row["_id"] for row in _objects(data / ACM / "queries_papers.jsonl", ("_id",))}
    return frozenset(document_id(ACM, name) for name in judged | papers.keys() | asked)


def query_rows(data: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a file of queries with everything that stands there, metadata too."""
    return list(_objects(data / name, ("_id", "text")))


def _objects(path: Path, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise NotFound(f"there is no file {path}; check the data folder")
    for number, values in json_rows(path, MAX_LINE_BYTES):
        if isinstance(values, BadRow):
            raise InvalidInput(f"{path}:{number}: {values.reason}")
        missing = [field for field in fields if field not in values]
        if missing:
            raise InvalidInput(f"{path}:{number}: the row has no `{missing[0]}`")
        yield values
