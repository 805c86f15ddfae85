"""Keeps test documents out of training: by title, and by shared runs of eight words.

Two texts share too much where the Jaccard coefficient of their sets of 8-grams is .8 or more. The protected 8-grams
stand sorted in one array of 64-bit hashes, so a text costs one binary search a gram, not one comparison a document.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput
from facetrail.models.records import Document
from facetrail.training.text import corpora
from facetrail.training.text.corpora import ACM, CACM, SCIFACT, normalised_title
from facetrail.training.text.records import Pair, TrainingData

GRAM = 8
"""Words in a run."""
TOO_SIMILAR = 0.8
"""Jaccard coefficient from which two texts count as the same."""
UInt64Array = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Protected:
    """A text that training must not see; `name` says where it stands, `title` is empty where it has none."""

    name: str
    title: str
    text: str

    @classmethod
    def of(cls, document: Document) -> "Protected":
        """A whole document, title and text."""
        return cls(document.id, document.title, document.content)


@dataclass(frozen=True, slots=True)
class Leak:
    """What a text shares with a protected one. similarity: Jaccard coefficient, 1 for equal titles."""

    name: str
    reason: str
    similarity: float


class Guard:
    """Finds what a text has in common with protected texts. Not for several threads: it learns words as it reads."""

    def __init__(self, protected: Iterable[Protected]) -> None:
        self._words: dict[str, int] = {}
        powers = np.array([pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(GRAM)], np.uint64)
        self._powers = powers | np.uint64(1)
        self._titles: dict[str, str] = {}
        self._names: list[str] = []
        grams: list[UInt64Array] = []
        for text in protected:
            title = normalised_title(text.title)
            if title:
                self._titles.setdefault(title, text.name)
            self._names.append(text.name)
            grams.append(self._grams(text.text))
        self._sizes = np.array([len(found) for found in grams], np.int64)
        owners = np.repeat(np.arange(len(grams)), self._sizes)
        hashes = np.concatenate([np.empty(0, np.uint64), *grams])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]

    def __len__(self) -> int:
        return len(self._names)

    def title_leak(self, title: str) -> Leak | None:
        """A protected document with this title."""
        name = self._titles.get(normalised_title(title))
        return None if name is None else Leak(name, "the same title", 1.0)

    def leak(self, text: str) -> Leak | None:
        """A protected text with the title on this text's first line, or with .8 of the 8-grams in common."""
        found = self.title_leak(text.partition("\n")[0])
        if found is not None or not self._names:
            return found
        grams = self._grams(text)
        first = np.searchsorted(self._hashes, grams, "left")
        last = np.searchsorted(self._hashes, grams, "right")
        shared = np.flatnonzero(last > first)
        if not len(shared):
            return None
        owners = np.concatenate([self._owners[first[i] : last[i]] for i in shared])
        candidates, counts = np.unique(owners, return_counts=True)
        similarities = counts / (len(grams) + self._sizes[candidates] - counts)
        best = int(similarities.argmax())
        if similarities[best] < TOO_SIMILAR:
            return None
        similarity = float(similarities[best])
        return Leak(self._names[candidates[best]], f"8-grams with Jaccard {similarity:.2f}", similarity)

    def _grams(self, text: str) -> UInt64Array:
        """Hashes of the distinct runs of eight words; a shorter text is one run. None for a text without words."""
        words = self._words
        ids = np.array([words.setdefault(word, len(words) + 1) for word in re.findall(r"\w+", text.lower())], np.uint64)
        if not len(ids):
            return np.empty(0, np.uint64)
        ids = np.concatenate([ids, np.zeros(max(0, GRAM - len(ids)), np.uint64)])
        mixed = _mixed(ids)
        runs = np.lib.stride_tricks.sliding_window_view(mixed, GRAM)
        return np.unique((runs * self._powers).sum(axis=1, dtype=np.uint64))  # wraps modulo 2**64


def _mixed(ids: UInt64Array) -> UInt64Array:
    """Word numbers spread over 64 bits (the finaliser of splitmix64), so that sums of runs do not collide."""
    x = ids + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)


def protected_texts(data: Path, documents: Mapping[str, Sequence[Document]]) -> list[Protected]:
    """Every text that a test or a development set uses. documents: collections that are read already, by folder."""
    judged = corpora.judged_in_acm(data)
    found = [Protected.of(document) for document in documents[ACM] if document.id in judged]
    found += [Protected.of(document) for document in documents[SCIFACT]]
    found += [Protected.of(document) for document in documents[CACM] if corpora.cacm_split(document.id) != "train"]
    found += [Protected.of(paper.document) for paper in corpora.summaries(data, "dev")]
    papers = corpora.summaries(data, "train")
    dev = corpora.scitldr_dev_ids(papers)
    for paper in papers:
        if paper.document.id in dev:
            found += [Protected.of(paper.document), *(Protected(paper.document.id, "", text) for text in paper.tldrs)]
    found += [Protected(abstract.id, "", abstract.text) for abstract in corpora.load_roles(data, "test")]
    for name in (f"{ACM}/queries.jsonl", f"{ACM}/queries_papers.jsonl", f"{CACM}/queries.jsonl",
                 f"{SCIFACT}/queries.jsonl"):  # fmt: skip
        for row in corpora.query_rows(data, name):
            title = str((row.get("metadata") or {}).get("citing_title", ""))
            found.append(Protected(f"{name} {row['_id']}", title, row["text"]))
    return found


def check(data: Path, training: TrainingData) -> None:
    """`check_pairs` against everything the tests and development sets of the data folder use."""
    documents = {name: corpora.documents(data, name) for name in (ACM, SCIFACT, CACM)}
    check_pairs(training.train, training.texts, Guard(protected_texts(data, documents)))


def check_pairs(pairs: Sequence[Pair], texts: Mapping[str, str], guard: Guard) -> None:
    """Raises InvalidInput, naming the pair, where a text that would be trained on is a protected one."""
    known: dict[str, Leak | None] = {}
    for number, pair in enumerate(pairs):
        ends = [
            pair.left,
            pair.right,
            *(texts[i] for i in (pair.left_id, pair.right_id, *pair.negatives) if i in texts),
        ]
        for text in ends:
            if text not in known:
                known[text] = guard.leak(text)
            leak = known[text]
            if leak is not None:
                raise InvalidInput(
                    f"training pair {number} ({pair.source}: {pair.left_id} and {pair.right_id}) leaks the test text "
                    f"{leak.name} ({leak.reason}); leave the pair out"
                )
