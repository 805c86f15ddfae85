"""Where pairs come from: one function a source, each drawing up to a number of pairs from the documents it may use."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from facetrail.models.records import Document
from facetrail.models.text.facets import FACETS
from facetrail.training.text.corpora import (
    ACL,
    ACM,
    RoleAbstract,
    Summary,
    collection_of,
    normalised_title,
    sentences_of,
)
from facetrail.training.text.leaks import Guard
from facetrail.training.text.negatives import Ranks
from facetrail.training.text.records import Pair, PairConfig

MIN_TITLE_WORDS, MIN_ABSTRACT_WORDS = 4, 30
"""Shorter ones ask nothing, or hold nothing to find."""
SENTENCE_WORDS = (6, 60)
"""Words of a sentence that can stand alone as a question."""
MAX_KEYWORDS = 6
SECTION_FACETS = {
    "background": ("BACKGROUND", "INTRODUCTION", "CONTEXT"),
    "objective": ("OBJECTIVE", "OBJECTIVES", "PURPOSE", "AIM", "AIMS", "STUDY OBJECTIVE"),
    "method": ("METHODS", "METHOD", "MATERIALS AND METHODS", "MATERIAL AND METHODS", "PATIENTS AND METHODS", "DESIGN",
               "STUDY DESIGN", "METHODOLOGY"),
    "result": ("RESULTS", "RESULT", "FINDINGS", "MAIN RESULTS"),
}  # fmt: skip
"""PubMedQA's section names that mean a facet and nothing beside it."""


@dataclass
class Pool:
    """The documents that training may use, each title once. What a text leaks is found out when it is first drawn."""

    documents: Mapping[str, Document]
    guard: Guard
    rng: np.random.Generator
    _clean: dict[str, bool] = field(default_factory=dict)

    def is_clean(self, name: str) -> bool:
        """Whether this document is in the pool and shares no more with a protected text than words do."""
        if name not in self._clean:
            document = self.documents.get(name)
            # The abstract alone can be nearer to a protected abstract without title than the whole document is.
            forms = () if document is None else (document.content, document.text)
            self._clean[name] = document is not None and all(self.guard.leak(form) is None for form in forms)
        return self._clean[name]

    def shuffled(self, names: Iterable[str]) -> list[str]:
        """The names in random order, whatever order a set gave them in."""
        ordered = sorted(names)
        return [ordered[i] for i in self.rng.permutation(len(ordered))]

    def of(self, collection: str) -> list[str]:
        """Names of one collection's documents with a usable title and abstract."""
        return [
            name
            for name, document in self.documents.items()
            if collection_of(name) == collection
            and len(document.title.split()) >= MIN_TITLE_WORDS
            and len(document.text.split()) >= MIN_ABSTRACT_WORDS
        ]


def citations(pool: Pool, links: Sequence[tuple[str, str]], n: int, *, source: str, weight: float = 1.0) -> list[Pair]:
    """Linked documents; both ends must be in the pool."""
    found: list[Pair] = []
    for i in pool.rng.permutation(len(links)):
        left, right = links[i]
        if len(found) == n:
            break
        if pool.is_clean(left) and pool.is_clean(right):
            ends = pool.documents[left].content, pool.documents[right].content
            found.append(Pair("dd", *ends, left, right, source, weight))
    return found


def shared_keywords(pool: Pool, ranker: Ranks, config: PairConfig) -> list[Pair]:
    """Documents of one venue family with a rare author keyword in common, one high in BM25 for the other's title."""
    by_keyword: dict[str, list[str]] = {}
    for name in pool.of(ACM):
        for keyword in keywords_of(pool.documents[name]):
            by_keyword.setdefault(keyword, []).append(name)
    candidates: set[tuple[str, str]] = set()
    for names in by_keyword.values():
        if 2 <= len(names) <= config.max_keyword_df:
            left, right = (names[i] for i in pool.rng.choice(len(names), 2, replace=False))
            if venue_family(pool.documents[left]) == venue_family(pool.documents[right]):
                candidates.add((left, right))
    ordered = sorted(candidates)
    drawn = [ordered[i] for i in pool.rng.permutation(len(ordered))[: 4 * config.n_shared_keywords]]
    ranking = ranker.rank([pool.documents[left].title for left, _ in drawn], config.max_keyword_rank)
    kept = [pair for pair, row in zip(drawn, ranking, strict=True) if pair[1] in {ranker.ids[i] for i in row if i >= 0}]
    return citations(pool, kept, config.n_shared_keywords, source="shared_keywords")


def keywords_of(document: Document) -> list[str]:
    """The authors' keywords in lower case, in their order."""
    parts = re.split(r"[,;]", str(document.metadata.get("keywords") or "").lower())
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def venue_family(document: Document) -> str:
    """What stays of a venue over the years: `chi` of `chi-ea-2019`."""
    return str(document.metadata.get("venue") or "").partition("-")[0]


def tldrs(pool: Pool, papers: Sequence[Summary], n: int) -> list[Pair]:
    """A summary in one sentence → its paper."""
    by_name = {paper.document.id: paper for paper in papers if paper.tldrs}

    def ask(document: Document) -> Pair:
        return question(document, by_name[document.id].tldrs[0], document.content, "tldr")

    return _drawn(pool, by_name, n, ask)


def titles(pool: Pool, n: int) -> list[Pair]:
    """A title → the abstract without it, half of them of each collection that has both."""

    def ask(document: Document) -> Pair | None:
        if normalised_title(document.title) in normalised_title(document.text):
            return None  # the abstract repeats its title, so the question would be answered by copying
        return question(document, document.title, document.text, "title")

    first = _drawn(pool, pool.of(ACL), n // 2, ask)
    return first + _drawn(pool, pool.of(ACM), n - len(first), ask)


def keywords(pool: Pool, n: int) -> list[Pair]:
    """The authors' keywords, joined by commas → their paper."""

    def ask(document: Document) -> Pair | None:
        words = keywords_of(document)[:MAX_KEYWORDS]
        return question(document, ", ".join(words), document.content, "keywords") if len(words) > 1 else None

    return _drawn(pool, pool.of(ACM), n, ask)


def sentences(pool: Pool, n: int, removal_rate: float) -> list[Pair]:
    """A sentence of an abstract → the document, mostly without it."""

    def ask(document: Document) -> Pair | None:
        parts = sentences_of(document.text)
        usable = [i for i, part in enumerate(parts) if _is_askable(part)]
        if len(parts) < 3 or not usable:
            return None
        i = int(pool.rng.choice(usable))
        return _without(document, parts, i, parts[i], "sentence", is_removed=pool.rng.random() < removal_rate)

    first = _drawn(pool, pool.of(ACL), n // 2, ask)
    return first + _drawn(pool, pool.of(ACM), n - len(first), ask)


def roles(pool: Pool, abstracts: Sequence[RoleAbstract], config: PairConfig) -> list[Pair]:
    """`method: <a sentence that says the method>` → its abstract without the sentence; as many of each facet.

    Sentences come from CSAbstruct's annotators and from sections that PubMedQA's authors named themselves.
    """
    sources: dict[str, dict[str, tuple[list[str], list[int]]]] = {facet: {} for facet in FACETS}
    for abstract in abstracts:
        parts = list(abstract.sentences)
        for i, (label, sure) in enumerate(zip(abstract.labels, abstract.confidences, strict=True)):
            if label in sources and sure >= config.min_role_confidence and _is_askable(parts[i]) and len(parts) > 2:
                sources[label].setdefault(abstract.id, (parts, []))[1].append(i)
    for name, document in pool.documents.items():
        parts, facets = _sectioned(document)
        for i, facet in enumerate(facets):
            if facet is not None and _is_askable(parts[i]) and len(parts) > 2:
                sources[facet].setdefault(name, (parts, []))[1].append(i)
    found: list[Pair] = []
    for k, facet in enumerate(FACETS):
        share = config.n_role * (k + 1) // len(FACETS) - config.n_role * k // len(FACETS)
        found += _drawn(pool, sources[facet], share, _role_question(pool, sources[facet], facet))
    return found


def experts(pool: Pool, questions: Sequence[tuple[str, str, str]], n: int) -> list[Pair]:
    """An expert's question → the abstract that answers it. questions: (id, text, document id)."""
    by_document = {document: (name, text) for name, text, document in questions}

    def ask(document: Document) -> Pair:
        name, text = by_document[document.id]
        return Pair("qd", text, document.content, f"question:expert:{name}", document.id, "expert")

    return _drawn(pool, by_document, n, ask)


def question(document: Document, left: str, right: str, source: str, facet: str | None = None) -> Pair:
    """A question made from the document itself, named after both."""
    name = f"question:{source}:{facet + ':' if facet else ''}{document.id}"
    return Pair("qd", left, right, name, document.id, source, facet=facet)


def _drawn(pool: Pool, names: Iterable[str], n: int, ask: Callable[[Document], Pair | None]) -> list[Pair]:
    found: list[Pair] = []
    for name in pool.shuffled(names):
        if len(found) == n:
            break
        if not pool.is_clean(name):
            continue
        pair = ask(pool.documents[name])
        if pair is not None and pool.guard.leak(pair.left) is None and pool.guard.leak(pair.right) is None:
            found.append(pair)
    return found


def _role_question(
    pool: Pool, source: Mapping[str, tuple[list[str], list[int]]], facet: str
) -> Callable[[Document], Pair | None]:
    def ask(document: Document) -> Pair | None:
        parts, usable = source[document.id]
        i = int(pool.rng.choice(usable))
        return _without(document, parts, i, f"{facet}: {parts[i]}", "role", is_removed=True, facet=facet)

    return ask


def _is_askable(sentence: str) -> bool:
    return SENTENCE_WORDS[0] <= len(sentence.split()) <= SENTENCE_WORDS[1]


def _without(
    document: Document,
    parts: Sequence[str],
    i: int,
    left: str,
    source: str,
    *,
    is_removed: bool,
    facet: str | None = None,
) -> Pair | None:
    """The document without its sentence i as the right text; None where the sentence still stands somewhere in it."""
    if not is_removed:
        return question(document, left, document.content, source, facet)
    rest = " ".join([*parts[:i], *parts[i + 1 :]])
    right = f"{document.title}\n{rest}".strip()
    if not rest or normalised_title(parts[i]) in normalised_title(right):
        return None
    return question(document, left, right, source, facet)


def _sectioned(document: Document) -> tuple[list[str], list[str | None]]:
    """Sentences of a document whose authors named its sections, and the facet that each section's name means."""
    sections = document.metadata.get("sections")
    if not isinstance(sections, dict):
        return [], []
    parts: list[str] = []
    facets: list[str | None] = []
    for heading, text in sections.items():
        facet = next((facet for facet, names in SECTION_FACETS.items() if heading in names), None)
        own = sentences_of(text)
        parts += own
        facets += [facet] * len(own)
    return parts, facets
