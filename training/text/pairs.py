"""Builds the pairs that a document encoder is trained on, from the research collections of the data folder.

Order matters: titles that a test uses leave first, then each title is kept once over all collections, pairs are drawn,
their negatives ranked, and `leaks.check` looks at the finished whole again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from facetrail.indexing.corpus import read_qrels
from facetrail.indexing.progress import Progress, no_progress
from facetrail.models.records import Document
from facetrail.models.text.cache import file_sha256
from facetrail.training.text import corpora, sources
from facetrail.training.text.corpora import (
    ACL,
    ACM,
    CACM,
    CSABSTRUCT,
    PUBMEDQA,
    SCIFACT,
    SCITLDR,
    LinkKind,
    normalised_title,
)
from facetrail.training.text.dev_sets import DevSet, load_dev
from facetrail.training.text.leaks import Guard, protected_texts
from facetrail.training.text.negatives import Ranker, with_negatives
from facetrail.training.text.records import UNTITLED, Kind, Pair, PairConfig, TrainingData
from facetrail.training.text.sources import Pool

__all__ = ["DevSet", "Kind", "Pair", "PairConfig", "TrainingData", "build_training_data", "load_dev", "permuted"]


def build_training_data(
    data: Path, config: PairConfig, *, rng: np.random.Generator, progress: Progress = no_progress
) -> TrainingData:
    """Pairs, texts and link graph of one training run; the same for the same files, config and generator.

    Raises NotFound where the folder or a file is missing, InvalidInput for a row of another form than documented.
    """
    corpora.check_files(data)
    n_steps = 4
    collections, papers = _read(data)
    progress("pairs", 1, n_steps)
    guard = Guard(protected_texts(data, collections))
    progress("pairs", 2, n_steps)
    pool = Pool(_usable(data, collections, papers, guard), guard, rng)
    rankers = _rankers(pool.documents, config)
    links = {kind: corpora.links(data, kind) for kind in corpora.LINK_KINDS}
    train = _pairs(data, pool, rankers, links, papers, config)
    progress("pairs", 3, n_steps)
    neighbours = _neighbours(train, links)
    whole = {name: document.content for name, document in pool.documents.items()}
    train = with_negatives(train, rankers, whole, neighbours, config, is_clean=pool.is_clean, rng=rng)
    dev_pairs = _dev_pairs(collections[CACM], links["citation"], papers)
    progress("pairs", n_steps, n_steps)
    return TrainingData(
        train=train,
        dev_pairs=dev_pairs,
        texts=_texts(train, pool.documents) | _dev_texts(dev_pairs),
        neighbours=_with_untitled(neighbours, train),
        hashes={name: file_sha256(data / name) for name in corpora.FILES},
        counts=dict(Counter(pair.source for pair in train)),
    )


def permuted(pairs: Sequence[Pair], rng: np.random.Generator) -> list[Pair]:
    """The control that must teach nothing: the right texts of each kind dealt out again at random, negatives kept.

    A pair may by chance get its own right text back.
    """
    dealt = list(pairs)
    for kind in ("dd", "qd"):
        rows = [i for i, pair in enumerate(pairs) if pair.kind == kind]
        for i, j in zip(rows, rng.permutation(np.array(rows, np.int64)), strict=True):
            dealt[i] = replace(pairs[i], right=pairs[j].right, right_id=pairs[j].right_id)
    return dealt


def _read(data: Path) -> tuple[dict[str, list[Document]], list[corpora.Summary]]:
    collections = {name: corpora.documents(data, name) for name in (CACM, ACL, ACM, PUBMEDQA, SCIFACT)}
    papers = corpora.summaries(data, "train")
    collections[SCITLDR] = [paper.document for paper in papers]
    collections[CSABSTRUCT] = [Document(a.id, a.text) for a in corpora.load_roles(data, "train")]
    return collections, papers


def _usable(
    data: Path, collections: Mapping[str, Sequence[Document]], papers: Sequence[corpora.Summary], guard: Guard
) -> dict[str, Document]:
    """Documents that may train: no test's, no test's title, each title once, the smallest collection first.

    Of PubMedQA only what the train questions ask for: its other half is somebody's test.
    """
    barred = corpora.judged_in_acm(data) | corpora.scitldr_dev_ids(papers)
    asked = {corpora.document_id(PUBMEDQA, name) for names in _expert_qrels(data).values() for name in names}
    usable: dict[str, Document] = {}
    titles: set[str] = set()
    for collection in (CACM, SCITLDR, CSABSTRUCT, PUBMEDQA, ACL, ACM):
        for document in collections[collection]:
            title = normalised_title(document.title)
            is_held_out = document.id in barred or (
                (collection == CACM and corpora.cacm_split(document.id) != "train")
                or (collection == PUBMEDQA and document.id not in asked)
            )
            if is_held_out or not document.content or (title and title in titles):
                continue
            if guard.title_leak(document.title) is None:
                usable[document.id] = document
                titles.add(title)
    return usable


def _rankers(documents: Mapping[str, Document], config: PairConfig) -> dict[str, Ranker]:
    by_collection: dict[str, dict[str, str]] = {name: {} for name in (CACM, SCITLDR, CSABSTRUCT, PUBMEDQA, ACL, ACM)}
    for name, document in documents.items():
        by_collection[corpora.collection_of(name)][name] = document.content
    return {collection: Ranker(texts, config.lexical) for collection, texts in by_collection.items()}


def _pairs(
    data: Path,
    pool: Pool,
    rankers: Mapping[str, Ranker],
    links: Mapping[LinkKind, Sequence[tuple[str, str]]],
    papers: Sequence[corpora.Summary],
    config: PairConfig,
) -> list[Pair]:
    cited = set(links["citation"])
    loose = sorted({*links["cocitation"], *links["coupling"]} - cited)
    asked = {row["_id"]: row["text"] for row in corpora.query_rows(data, f"{PUBMEDQA}/queries.jsonl")}
    questions = [
        (name, asked[name], corpora.document_id(PUBMEDQA, answer))
        for name, answers in _expert_qrels(data).items()
        for answer in answers
    ]
    return [
        *sources.citations(pool, links["citation"], config.n_citation, source="citation"),
        *sources.citations(pool, loose, config.n_cocitation, source="cocitation", weight=config.cocitation_weight),
        *sources.shared_keywords(pool, rankers[ACM], config),
        *sources.tldrs(pool, papers, config.n_tldr),
        *sources.titles(pool, config.n_title),
        *sources.keywords(pool, config.n_keywords),
        *sources.sentences(pool, config.n_sentence, config.removal_rate),
        *sources.roles(pool, corpora.load_roles(data, "train"), config),
        *sources.experts(pool, questions, config.n_expert),
    ]


def _expert_qrels(data: Path) -> dict[str, dict[str, int]]:
    return read_qrels(data / PUBMEDQA / "qrels/train.tsv")


def _neighbours(
    pairs: Sequence[Pair], links: Mapping[LinkKind, Sequence[tuple[str, str]]]
) -> dict[str, frozenset[str]]:
    """Both directions of every link between train documents of CACM, and of every pair that is trained on."""
    near: dict[str, set[str]] = {}
    edges = [edge for of_kind in links.values() for edge in of_kind]
    edges = [edge for edge in edges if all(corpora.cacm_split(end) == "train" for end in edge)]
    for left, right in [*edges, *((pair.left_id, pair.right_id) for pair in pairs)]:
        near.setdefault(left, set()).add(right)
        near.setdefault(right, set()).add(left)
    return {name: frozenset(names) for name, names in near.items()}


def _with_untitled(neighbours: Mapping[str, frozenset[str]], pairs: Sequence[Pair]) -> dict[str, frozenset[str]]:
    """A document and its form without title are neighbours of each other and share all others."""
    forms = {name for pair in pairs for name in pair.negatives if name.endswith(UNTITLED)}
    near = {name: set(names) for name, names in neighbours.items()}
    for form in sorted(forms):
        name = form.removesuffix(UNTITLED)
        around = set(neighbours.get(name, frozenset())) | {name}
        near.setdefault(form, set()).update(around)
        for other in around:
            near.setdefault(other, set()).add(form)
    return {name: frozenset(names) for name, names in near.items()}


def _texts(pairs: Sequence[Pair], documents: Mapping[str, Document]) -> dict[str, str]:
    names = {name for pair in pairs for name in (pair.left_id, pair.right_id, *pair.negatives)}
    texts = {name: documents[name].content for name in sorted(names) if name in documents}
    for name in sorted(name for name in names if name.endswith(UNTITLED)):
        texts[name] = documents[name.removesuffix(UNTITLED)].text
    return texts


def _dev_pairs(
    cacm: Sequence[Document], cited: Sequence[tuple[str, str]], papers: Sequence[corpora.Summary]
) -> list[Pair]:
    known, dev = {document.id: document.content for document in cacm}, corpora.scitldr_dev_ids(papers)
    found = [
        sources.question(paper.document, paper.tldrs[0], paper.document.content, "tldr")
        for paper in papers
        if paper.document.id in dev
    ]
    for edge in cited:
        for left, right in (edge, edge[::-1]):
            if corpora.cacm_split(left) == "dev" and corpora.cacm_split(right) == "train":
                found.append(Pair("dd", known[left], known[right], left, right, "citation"))
    return found


def _dev_texts(pairs: Sequence[Pair]) -> dict[str, str]:
    texts = {pair.right_id: pair.right for pair in pairs}
    return texts | {pair.left_id: pair.left for pair in pairs if pair.kind == "dd"}
