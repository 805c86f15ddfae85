"""Hard negatives: documents that share the question's words and are not what it asks for.

BM25 rankings are kept in the cache folder under a hash of all that decides them: the corpus, the analyser, k1, b, the
questions and the depth. Which of the ranked documents become negatives is drawn afresh.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.analysis import Analyser
from facetrail.indexing.lexical import LexicalConfig, LexicalIndex
from facetrail.models.text.cache import cache_folder, replacing
from facetrail.training.text.corpora import collection_of, normalised_title
from facetrail.training.text.records import UNTITLED, Pair, PairConfig

Int32Array = NDArray[np.int32]
NONE = -1
"""Fills a ranking that is shorter than asked."""


class Ranks(Protocol):
    """What the choice of negatives needs of a `Ranker`."""

    ids: list[str]

    def rank(self, queries: Sequence[str], depth: int) -> Int32Array: ...


class Ranker:
    """BM25 rankings over one corpus. The index is built only when a ranking is not in the cache."""

    def __init__(self, texts: Mapping[str, str], config: LexicalConfig) -> None:
        self.ids = list(texts)
        self._texts = list(texts.values())
        self._config = config
        self._index: LexicalIndex | None = None
        self._corpus = _digest([*self.ids, *self._texts])

    def rank(self, queries: Sequence[str], depth: int) -> Int32Array:
        """(queries, depth) positions in `ids`, best first, -1 where nothing more was found."""
        path = self.cache_path(queries, depth)
        try:
            kept = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            kept = None  # not there, or cut off: ranked again
        if kept is not None and kept.shape == (len(queries), depth):
            return np.asarray(kept, np.int32)
        ranking = self._ranked(queries, depth)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, ranking, allow_pickle=False)
        return ranking

    def cache_path(self, queries: Sequence[str], depth: int) -> Path:
        """Where this ranking is kept."""
        analyser = Analyser(self._config.analyser).fingerprint
        key = [self._corpus, analyser, repr(self._config.k1), repr(self._config.b), str(depth), _digest(queries)]
        return cache_folder("negatives") / f"{_digest(key)}.npy"

    def _ranked(self, queries: Sequence[str], depth: int) -> Int32Array:
        if self._index is None:
            self._index = LexicalIndex(self._config)
            self._index.add(range(len(self._texts)), self._texts)
        ranking = np.full((len(queries), depth), NONE, np.int32)
        for row, query in enumerate(queries):
            ordinals = self._index.search(query, depth).ordinals[:depth]
            ranking[row, : len(ordinals)] = ordinals
        return ranking


def _digest(parts: Sequence[str]) -> str:
    """sha256 of strings with their lengths, so that no two lists share one."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(raw)}:".encode())
        digest.update(raw)
    return digest.hexdigest()


def with_negatives(
    pairs: Sequence[Pair],
    rankers: Mapping[str, Ranks],
    texts: Mapping[str, str],
    neighbours: Mapping[str, frozenset[str]],
    config: PairConfig,
    *,
    is_clean: Callable[[str], bool],
    rng: np.random.Generator,
) -> list[Pair]:
    """The pairs with hard negatives from the collection of their right document, so that style gives nothing away.

    texts: whole documents by id. A negative is never an end of the pair, its namesake or a neighbour of either end.
    A pair that asks with a title, where the right text has none, gets negatives without their title too.
    Pairs for which BM25 finds nothing in the ranks keep no negatives.
    """
    chosen = list(pairs)
    if not config.n_negatives:
        return chosen
    first, last = config.negative_ranks
    by_collection: dict[str, list[int]] = {}
    for number, pair in enumerate(pairs):
        by_collection.setdefault(collection_of(pair.right_id), []).append(number)
    for collection, numbers in by_collection.items():
        ranker = rankers[collection]
        ranking = ranker.rank([pairs[i].left.partition("\n")[0] for i in numbers], last)
        for number, row in zip(numbers, ranking, strict=True):
            pair = pairs[number]
            ends = {pair.left_id, pair.right_id}
            barred = ends.union(*(neighbours.get(end, frozenset()) for end in ends))
            titles = {normalised_title(texts[end].partition("\n")[0]) for end in ends if end in texts}
            found: list[str] = []
            candidates = row[first - 1 :]
            for ordinal in rng.permutation(candidates[candidates != NONE]):
                name = ranker.ids[ordinal]
                title = normalised_title(texts[name].partition("\n")[0])
                if name not in barred and title not in titles and is_clean(name):
                    found.append(name + UNTITLED if pair.source == "title" else name)
                if len(found) == config.n_negatives:
                    break
            chosen[number] = replace(pair, negatives=tuple(found))
    return chosen
