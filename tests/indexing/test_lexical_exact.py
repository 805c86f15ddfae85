"""Lexical scores against a naive scorer and against a fresh index, bit for bit."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing.analysis import Analyser, AnalyserConfig
from facetrail.indexing.index import BoolArray, Hits, best_with_ties
from facetrail.indexing.lexical import LexicalConfig, LexicalIndex
from facetrail.indexing.lexical_search import ranked

WORDS = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}x" for i in range(300)]
CHANCE = 1.0 / np.arange(1, len(WORDS) + 1)
CHANCE /= CHANCE.sum()


def random_text(rng: np.random.Generator, longest: int = 40) -> str:
    """Words drawn with unequal probabilities; may be empty."""
    return " ".join(rng.choice(WORDS, rng.integers(0, longest), p=CHANCE))


def naive(documents: dict[int, str], query: str, k: int, config: LexicalConfig, allowed: BoolArray | None) -> Hits:
    """The formula, document by document, in plain Python."""
    analyser = Analyser(config.analyser)
    bags = {ordinal: Counter(analyser.terms(text)) for ordinal, text in documents.items()}
    df = Counter(term for bag in bags.values() for term in bag)
    total = sum(bag.total() for bag in bags.values())
    avgdl = total / len(bags) if total else 1.0
    wanted = sorted(Counter(analyser.query_terms(query)).items(), key=lambda pair: pair[0].encode())
    scores = {}
    for ordinal, bag in bags.items():
        if allowed is not None and not (ordinal < len(allowed) and allowed[ordinal]):
            continue
        scale = config.k1 * ((1.0 - config.b) + config.b * (bag.total() / avgdl))
        score = 0.0
        for term, count in wanted:
            if bag[term]:
                idf = math.log(1.0 + (len(bags) - df[term] + 0.5) / (df[term] + 0.5))
                score += count * idf * (bag[term] / (bag[term] + scale))
        if score > 0:
            scores[ordinal] = score
    return best_with_ties(np.array(list(scores), np.int64), np.array(list(scores.values())), k)


def assert_same(left: Hits, right: Hits) -> None:
    """Same ordinals, same bits."""
    np.testing.assert_array_equal(left.ordinals, right.ordinals)
    np.testing.assert_array_equal(left.scores, right.scores)


@pytest.mark.parametrize("config", [LexicalConfig(), LexicalConfig(k1=1.5, b=0.75), LexicalConfig(k1=0.0, b=1.0)])
def test_scores_equal_the_formula(config: LexicalConfig) -> None:
    """Small corpora of every kind: plain, with long documents, with many repetitions, filtered; huge queries."""
    rng = np.random.default_rng(7)
    for longest in (6, 40, 3000):
        n = 600 if longest < 1000 else 40
        documents = {ordinal: random_text(rng, longest) for ordinal in range(n)}
        index = LexicalIndex(config)
        index.add(list(documents), list(documents.values()))
        queries = [random_text(rng, 12) for _ in range(12)] + [" ".join(WORDS), "waax " * 500, "nowhere", ""]
        for query in queries:
            allowed = rng.random(n - 5) < rng.choice([0.02, 0.5])
            for k, mask in ((1, None), (10, None), (n, None), (7, allowed)):
                assert_same(index.search(query, k, allowed=mask), naive(documents, query, k, config, mask))


def test_partial_selection_equals_a_full_sort_over_many_windows(tmp_path: Path) -> None:
    """On 30,000 documents, before and after removals and additions."""
    rng = np.random.default_rng(3)
    index = LexicalIndex()
    index.add(range(30_000), [random_text(rng, 30) for _ in range(30_000)])
    index.save(tmp_path)
    index = LexicalIndex.open(tmp_path)
    allowed = rng.random(40_000) < 0.3
    for step in range(3):
        for _ in range(15):
            query = random_text(rng, 60)
            for mask in (None, allowed):
                complete = index.search(query, len(index), allowed=mask)
                for k in (1, 10, 100):
                    assert_same(index.search(query, k, allowed=mask), best_with_ties(*_pair(complete), k))
        gone = [o for o in rng.choice(10_000, 700, replace=False).tolist() if o // 1000 % 3 == step]
        index.remove(gone)
        first = 30_000 + 1000 * step
        index.add(range(first, first + 400), [random_text(rng, 200 if step else 5) for _ in range(400)])


def _pair(hits: Hits) -> tuple[np.ndarray, np.ndarray]:
    return hits.ordinals, hits.scores


class Mirror:
    """An index and the documents that should be in it, changed together."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng, self.folder = np.random.default_rng(seed), folder
        self.index, self.documents, self.next, self.saved = LexicalIndex(), dict[int, str](), 0, 0

    def add(self, n: int) -> None:
        texts = [random_text(self.rng) for _ in range(n)]
        ordinals = range(self.next, self.next + n)
        self.index.add(ordinals, texts)
        self.documents.update(zip(ordinals, texts, strict=True))
        self.next += n

    def remove(self, n: int) -> None:
        gone = self.rng.choice(list(self.documents), min(n, len(self.documents)), replace=False).tolist()
        self.index.remove(gone)
        for ordinal in gone:
            del self.documents[ordinal]

    def update(self) -> None:
        self.remove(1)
        self.add(1)

    def reopen(self) -> None:
        self.saved += 1
        target = self.folder / str(self.saved)
        target.mkdir()
        self.index.save(target)
        self.index = LexicalIndex.open(target)

    def check(self, n_queries: int = 5) -> None:
        fresh = LexicalIndex()
        fresh.add(list(self.documents), list(self.documents.values()))
        assert len(self.index) == len(self.documents)
        for _ in range(n_queries):
            query = random_text(self.rng, 10)
            for k in (5, max(1, len(self.documents))):
                assert_same(self.index.search(query, k), fresh.search(query, k))
        statistics, used = self.index.document_frequencies(), Counter[str]()
        for text in self.documents.values():
            used.update(set(self.index.analyser.terms(text)))
        assert min(statistics.values(), default=1) > 0
        assert statistics == used


@pytest.mark.parametrize("seed", range(4))
def test_two_thousand_changes_leave_a_fresh_index(seed: int, tmp_path: Path) -> None:
    mirror = Mirror(seed, tmp_path)
    mirror.add(50)
    for step in range(2000):
        match mirror.rng.choice(6, p=[0.44, 0.3, 0.23, 0.01, 0.01, 0.01]):
            case 0:
                mirror.add(1)
            case 1:
                mirror.remove(1)
            case 2:
                mirror.update()
            case 3:
                mirror.index.compact()
                assert mirror.index.n_dead == 0
            case 4:
                mirror.reopen()
            case _:
                mirror.add(300)
                mirror.remove(280)
        if step % 250 == 249:
            mirror.check()


def test_delete_save_open_add_search(tmp_path: Path) -> None:
    """200 small histories."""
    for seed in range(200):
        mirror = Mirror(seed, tmp_path / str(seed))
        mirror.folder.mkdir()
        mirror.add(int(mirror.rng.integers(1, 12)))
        mirror.remove(int(mirror.rng.integers(0, 6)))
        mirror.reopen()
        mirror.add(int(mirror.rng.integers(0, 4)))
        mirror.remove(1)
        mirror.check(2)


def test_ties_survive_partial_selection() -> None:
    """10,000 random cases with five distinct scores: the same as a full sort."""
    rng = np.random.default_rng(11)
    for _ in range(10_000):
        n = int(rng.choice([rng.integers(1, 30), rng.integers(30, 120)]))
        ordinals, scores = rng.permutation(n).astype(np.int64), rng.choice([0.5, 1.0, 1.5, 2.0, 2.5], n)
        k = int(rng.integers(1, 12))
        order = np.lexsort((ordinals, -scores))
        keep = order[: np.count_nonzero(scores >= scores[order[min(k, n) - 1]])]
        expected = Hits(ordinals[keep], scores[keep])
        assert_same(ranked([(ordinals, scores)], k), expected)


def test_ties_in_the_index_are_kept_across_segments_and_windows(tmp_path: Path) -> None:
    index = LexicalIndex()
    index.add(range(40_000), ["same words here"] * 40_000)
    index.save(tmp_path)
    index = LexicalIndex.open(tmp_path)
    index.add([50_000, 40_001], ["same words here"] * 2)
    assert index.search("same words", 3).ordinals.tolist() == [*range(40_000), 40_001, 50_000]


@pytest.mark.parametrize("stemmer", ["porter", "none"])
def test_explanations_add_up_to_the_score(stemmer: str) -> None:
    config = LexicalConfig(analyser=AnalyserConfig.model_validate({"stemmer": stemmer}))
    rng = np.random.default_rng(5)
    index = LexicalIndex(config)
    index.add(range(400), [random_text(rng) for _ in range(400)])
    for ordinal in range(0, 400, 7):
        index.remove([ordinal])
    for _ in range(20):
        query = random_text(rng, 15) + " unheard"
        hits = index.search(query, 50)
        for ordinal, score in zip(hits.ordinals.tolist(), hits.scores.tolist(), strict=True):
            total = 0.0
            for share in index.explain(query, ordinal):
                assert share.tf > 0
                assert 0 < share.df <= len(index)
                total += share.contribution
            assert total == score
    with pytest.raises(KeyError):
        index.explain("waax", 0)


def test_scores_agree_with_bm25s() -> None:
    import bm25s

    rng = np.random.default_rng(9)
    texts = [random_text(rng) + " waax" for _ in range(300)]
    index = LexicalIndex(LexicalConfig(k1=1.2, b=0.75))
    index.add(range(300), texts)
    terms = [index.analyser.terms(text) for text in texts]
    peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    peer.index(terms, show_progress=False)
    for _ in range(20):
        query = random_text(rng, 8) + " waax"
        hits = index.search(query, 300)
        theirs = peer.get_scores(index.analyser.terms(query))
        np.testing.assert_allclose(hits.scores, theirs[hits.ordinals], rtol=1e-4)
        assert len(hits) == np.count_nonzero(theirs > 0)


def test_parallel_searches_agree() -> None:
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(1)
    index = LexicalIndex()
    index.add(range(3000), [random_text(rng) for _ in range(3000)])
    queries = [random_text(rng, 10) for _ in range(60)]
    alone = index.search_many(queries, 10)
    for left, right in zip(alone, index.search_many(queries, 10, n_threads=4), strict=True):
        assert_same(left, right)
    with ThreadPoolExecutor(4) as pool:
        for left, right in zip(alone, pool.map(lambda query: index.search(query, 10), queries), strict=True):
            assert_same(left, right)
