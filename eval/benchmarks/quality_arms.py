"""Rankings that only the quality benchmark needs: other BM25 settings, and controls that must lose."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from facetrail.eval.datasets import RetrievalDataset
from facetrail.eval.metrics import ordered
from facetrail.eval.runs import RankedRun
from facetrail.indexing.analysis import AnalyserConfig
from facetrail.indexing.corpus import read_corpus
from facetrail.indexing.index import Float32Array
from facetrail.indexing.lexical import LexicalConfig, LexicalIndex
from facetrail.models.text.encoder import TextEncoder

DEPTH = 1_000


class RememberingEncoder:
    """An encoder that encodes each query once: every arm asks the same ones."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Float32Array] = {}
        self.name, self.dim, self.fingerprint, self.card = (
            encoder.name,
            encoder.dim,
            encoder.fingerprint,
            encoder.card,
        )

    def encode_queries(self, texts: Sequence[str]) -> Float32Array:
        """(n, dim) unit rows."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode_queries(new), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.empty((0, self.dim), np.float32)

    def encode_documents(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> Float32Array:
        """(n, dim) unit rows; not remembered."""
        return self._encoder.encode_documents(texts, progress=progress)


def bm25_run(
    data: RetrievalDataset, *, k1: float = 0.9, b: float = 0.4, stemmer: Literal["porter", "none"] = "porter"
) -> RankedRun:
    """A run of another BM25 setting over title and text, through the same index code."""
    documents = sorted(read_corpus(data.corpus), key=lambda document: document.id.encode())
    index = LexicalIndex(LexicalConfig(k1=k1, b=b, analyser=AnalyserConfig(stemmer=stemmer)))
    index.add(range(len(documents)), [document.content for document in documents])
    run: RankedRun = {}
    for query in data.queries:
        hits = index.search(query.text, DEPTH)
        pairs = zip(hits.ordinals.tolist(), hits.scores.tolist(), strict=True)
        run[query.id] = ordered([(documents[ordinal].id, score) for ordinal, score in pairs])[:DEPTH]
    return run


def naive_sum(runs: Mapping[str, RankedRun], *, clamp: bool) -> RankedRun:
    """Two known mistakes: adding raw scores, or (clamp) adding z / 6 + ½ clamped to 0..1; missing documents add 0."""
    fused: RankedRun = {}
    for query_id in dict.fromkeys(query_id for run in runs.values() for query_id in run):
        totals: dict[str, float] = {}
        for run in runs.values():
            ranking = run.get(query_id, [])
            scores = np.array([score for _, score in ranking])
            if clamp and len(scores):
                spread = float(scores.std())
                scores = (
                    np.clip((scores - scores.mean()) / (6 * spread) + 0.5, 0, 1) if spread > 0 else scores * 0 + 0.5
                )
            for (document_id, _), score in zip(ranking, scores.tolist(), strict=True):
                totals[document_id] = totals.get(document_id, 0.0) + score
        fused[query_id] = ordered(totals)[:DEPTH]
    return fused


def random_run(data: RetrievalDataset, *, seed: int) -> RankedRun:
    """A ranker that knows nothing: for every query a random sample of the corpus with normal scores."""
    rng = np.random.default_rng(seed)
    ids = sorted(document.id for document in read_corpus(data.corpus))
    run: RankedRun = {}
    for query in data.queries:
        drawn = rng.choice(len(ids), size=min(DEPTH, len(ids)), replace=False)
        scores = rng.standard_normal(len(drawn))
        run[query.id] = ordered([(ids[place], float(score)) for place, score in zip(drawn, scores, strict=True)])
    return run
