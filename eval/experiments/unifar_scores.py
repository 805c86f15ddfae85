"""How a system's vectors become rankings: single vectors, facets, sentences, and their fusion with BM25.

Letters: q queries, n documents, k facets, d dimensions, s sentences, m ranks kept, r ranks re-scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.eval.metrics import QueryScores, evaluate_run
from facetrail.eval.runs import RankedRun
from facetrail.eval.tuning import fusion_of
from facetrail.indexing.fusion import fuse
from facetrail.indexing.index import Float32Array, Float64Array, Hits, Int64Array, best_with_ties
from facetrail.indexing.lexical import LexicalIndex
from facetrail.models.errors import InvalidInput

Prior = Literal["own", "uniform"]
_BLOCK = 256
"""Queries whose scores of all documents are held at once."""
_GAP = 1e-9
"""Between the last document that was re-scored and the next, so that no tie turns them round."""


@dataclass(frozen=True)
class Encoded:
    """Texts as an arm sees them. single: (n, d) unit rows · facets: (n, k, d) · prior: (n, k), rows sum to 1 ·
    sentences: (s, d), text i has the rows first[i] to first[i + 1], at least one."""

    single: Float32Array
    facets: Float32Array | None = None
    prior: Float32Array | None = None
    sentences: Float32Array | None = None
    first: Int64Array | None = None

    def __post_init__(self) -> None:
        n = len(self.single)
        if any(part is not None and len(part) != n for part in (self.facets, self.prior)):
            raise InvalidInput(f"facets or prior are not those of the {n} texts; give one row a text")
        if (self.sentences is None) != (self.first is None):
            raise InvalidInput("sentences and where each text's begin come together; give both or neither")
        if self.first is not None and (len(self.first) != n + 1 or (n and int(np.diff(self.first).min()) < 1)):
            raise InvalidInput("a text has no sentence vector; give its whole vector where it has one sentence")

    def take(self, rows: Int64Array) -> "Encoded":
        """The texts at these positions."""
        facets, prior = (None if part is None else part[rows] for part in (self.facets, self.prior))
        if self.sentences is None or self.first is None:
            return Encoded(self.single[rows], facets, prior)
        places, first = _spread(self.first, rows)
        return Encoded(self.single[rows], facets, prior, self.sentences[places], first)


@dataclass(frozen=True)
class EncodedTexts:
    """Everything one arm encoded: texts to rows, as documents and as questions."""

    document_rows: Mapping[str, int]
    documents: Encoded
    question_rows: Mapping[str, int]
    questions: Encoded

    def of(self, judged: JudgedSet) -> tuple[Encoded, Encoded]:
        """Queries in the set's order, and documents in the order of `document_ids`. KeyError for an unknown text."""
        asked, rows = (
            (self.questions, self.question_rows) if judged.task == "question" else (self.documents, self.document_rows)
        )
        queries = np.array([rows[text] for text in judged.queries.values()], np.int64)
        pool = np.array([self.document_rows[judged.documents[name]] for name in judged.document_ids], np.int64)
        return asked.take(queries), self.documents.take(pool)


@dataclass(frozen=True)
class Ranked:
    """The best documents of each query, best first. rows: (q, m) places in `document_ids`, -1 where there are fewer ·
    scores: (q, m), -inf there."""

    rows: Int64Array
    scores: Float64Array

    def hits(self, query: int) -> Hits:
        """One query's list, as the fusion takes it."""
        there = self.rows[query] >= 0
        return Hits(self.rows[query][there], self.scores[query][there])

    def measured(self, judged: JudgedSet, measures: Sequence[str], *, depth: int | None = None) -> QueryScores:
        """Per-query values, queries in the set's order."""
        ids, run = judged.document_ids, RankedRun()
        for place, query in enumerate(judged.queries):
            hits = self.hits(place)
            pairs = zip(hits.ordinals[:depth].tolist(), hits.scores[:depth].tolist(), strict=True)
            run[query] = [(ids[row], score) for row, score in pairs]
        ordered = {query: judged.qrels[query] for query in judged.queries}
        return evaluate_run(run, ordered, measures)


def role_facets(encoded: Encoded, roles: Int64Array, n_facets: int) -> Float32Array:
    """Arm B0: the mean vector of each role's sentences, the whole text's where the role does not occur. → (n, k, d).

    roles: (s,) facet of each sentence, -1 for none.
    """
    if encoded.sentences is None or encoded.first is None or len(roles) != len(encoded.sentences):
        raise InvalidInput("roles belong to sentences; give sentence vectors and one role for each")
    owner = np.repeat(np.arange(len(encoded.single)), np.diff(encoded.first))
    facets = np.repeat(encoded.single[:, None], n_facets, axis=1)
    for facet in range(n_facets):
        here = roles == facet
        has_role = np.bincount(owner[here], minlength=len(facets)) > 0
        facets[has_role, facet] = means_by(encoded.sentences[here], owner[here], len(facets))[has_role]
    return facets


def means_by(rows: Float32Array, owner: Int64Array, n_owners: int) -> Float32Array:
    """The mean direction of each owner's rows; zeros where there are none. → (n_owners, d)."""
    total = np.zeros((n_owners, rows.shape[1]), np.float32)
    np.add.at(total, owner, rows)
    return _unit(total)


def merged_sentences(sentences: Float32Array, first: Int64Array, most: int) -> tuple[Float32Array, Int64Array]:
    """At most `most` vectors a text, each the mean of neighbours: equal bytes for arm B3. → (s', d), (n + 1,)."""
    lengths = np.diff(first)
    inside = np.arange(len(sentences)) - np.repeat(first[:-1], lengths)
    per_text = np.minimum(lengths, most)
    group = inside * np.repeat(per_text, lengths) // np.repeat(lengths, lengths)
    new_first = np.concatenate([[0], np.cumsum(per_text)]).astype(np.int64)
    owner = group + np.repeat(new_first[:-1], lengths)
    return means_by(sentences, owner, int(new_first[-1])), new_first


def bytes_per_document(documents: Encoded, *, facets: bool, sentences: bool) -> float:
    """Mean size of what an index keeps: the single vector in float32; each further one in int8 with a float32 scale."""
    n, dim = documents.single.shape
    more = 0.0
    if facets and documents.facets is not None:
        more += documents.facets.shape[1]
    if sentences and documents.sentences is not None and n:
        more += len(documents.sentences) / n
    return float(4 * dim + more * (dim + 4))


def hidden_rows(judged: JudgedSet) -> Int64Array:
    """(q,) the row of each query's own document, -1 where nothing is hidden."""
    if not judged.exclude_self:
        return np.full(len(judged.queries), -1, np.int64)
    places = {name: row for row, name in enumerate(judged.document_ids)}
    return np.array([places.get(query, -1) for query in judged.queries], np.int64)


def lexical_ranking(judged: JudgedSet, *, depth: int) -> Ranked:
    """Arm A0: BM25 over title and text with the settings of the product."""
    index = LexicalIndex()
    index.add(range(len(judged.document_ids)), [judged.documents[name] for name in judged.document_ids])
    found = []
    for text, own in zip(judged.queries.values(), hidden_rows(judged).tolist(), strict=True):
        hits = index.search(text, depth + 1)
        keep = hits.ordinals != own
        found.append(Hits(hits.ordinals[keep][:depth], hits.scores[keep][:depth]))
    return _stacked(found, depth)


def single_ranking(queries: Encoded, documents: Encoded, hidden: Int64Array, *, depth: int) -> Ranked:
    """Cosines of single vectors, s_1."""
    everything = np.arange(len(documents.single))
    found = []
    for start in range(0, len(queries.single), _BLOCK):
        scores = (queries.single[start : start + _BLOCK] @ documents.single.T).astype(np.float64)
        for row, own in zip(scores, hidden[start : start + _BLOCK].tolist(), strict=True):
            keep = everything != own
            hits = best_with_ties(everything[keep], row[keep], depth)
            found.append(Hits(hits.ordinals[:depth], hits.scores[:depth]))
    return _stacked(found, depth)


def facet_matches(queries: Encoded, documents: Encoded, rows: Int64Array, *, margin: float) -> Float32Array:
    """max(z_k(q)·z_k(d), max_j z_k(q)·z_j(d) - margin) of each query's documents. rows: (q, r) → (q, r, k)."""
    if queries.facets is None or documents.facets is None:
        raise InvalidInput("this arm needs facet vectors; give them or score it by its single vectors")
    _, n_facets, dim = documents.facets.shape
    matches = np.empty((*rows.shape, n_facets), np.float32)
    for place, asked in enumerate(queries.facets):
        cosines = (documents.facets[rows[place]].reshape(-1, dim) @ asked.T).reshape(-1, n_facets, n_facets)  # r, j, k
        same = cosines.diagonal(axis1=1, axis2=2)
        matches[place] = np.maximum(same, cosines.max(axis=1) - margin)
    return matches


def weighted_matches(matches: Float32Array, queries: Encoded, prior: Prior) -> Float64Array:
    """s_K under the query's own prior or equal weights. matches: (q, r, k) → (q, r)."""
    if prior == "uniform":
        return np.asarray(matches.mean(axis=2, dtype=np.float64))
    if queries.prior is None:
        raise InvalidInput("these queries bring no prior over facets; give one or weigh facets equally")
    return np.asarray(np.einsum("qrk,qk->qr", matches, queries.prior, dtype=np.float64))


def sentence_matches(queries: Encoded, documents: Encoded, rows: Int64Array) -> Float64Array:
    """max_i cos(q, sentence i) of each query's documents. rows: (q, r) → (q, r); any number where a row is -1."""
    if documents.sentences is None or documents.first is None:
        raise InvalidInput("this arm needs sentence vectors; give them or score it by its single vectors")
    best = np.empty(rows.shape)
    for place, asked in enumerate(queries.single):
        places, first = _spread(documents.first, rows[place].clip(0))
        best[place] = np.maximum.reduceat(documents.sentences[places] @ asked, first[:-1])
    return best


def mixed(ranked: Ranked, second: Float64Array, share: float) -> Ranked:
    """(1 - share) s_1 + share · second on the first r ranks; the rest follows in the order of s_1. second: (q, r)."""
    r = second.shape[1]
    there = ranked.rows[:, :r] >= 0
    head = np.where(there, (1 - share) * np.where(there, ranked.scores[:, :r], 0) + share * second, -np.inf)
    order = np.lexsort((ranked.rows[:, :r], -head), axis=1)
    rows = np.concatenate([np.take_along_axis(ranked.rows[:, :r], order, 1), ranked.rows[:, r:]], 1)
    head, tail = np.take_along_axis(head, order, 1), ranked.scores[:, r:]
    if tail.shape[1] and r:
        # Lowered as a whole, never raised: its distances stay what they were for a later fusion.
        shift = np.minimum(0, np.where(there, head, np.inf).min(1) - tail[:, 0] - _GAP)
        tail = np.where(np.isfinite(tail), tail + np.where(np.isfinite(shift), shift, 0)[:, None], tail)
    return Ranked(rows, np.concatenate([head, tail], 1))


def fused(lexical: Ranked, dense: Ranked, weight: float, *, depth: int) -> Ranked:
    """The product's z-normalised sum; weight: the dense ranking's share."""
    config = fusion_of(weight)
    found = []
    for query in range(len(dense.rows)):
        result = fuse({"lexical": lexical.hits(query), "dense": dense.hits(query)}, config)
        found.append(Hits(result.ordinals[:depth], result.scores[:depth]))
    return _stacked(found, depth)


def _stacked(found: Sequence[Hits], depth: int) -> Ranked:
    rows, scores = np.full((len(found), depth), -1, np.int64), np.full((len(found), depth), -np.inf)
    for query, hits in enumerate(found):
        rows[query, : len(hits)], scores[query, : len(hits)] = hits.ordinals, hits.scores
    return Ranked(rows, scores)


def _spread(first: Int64Array, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Places of the sentences of texts `rows`, and where each text's begin among them."""
    lengths = np.diff(first)[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.repeat(first[rows], lengths) + np.arange(starts[-1]) - np.repeat(starts[:-1], lengths), starts


def _unit(rows: Float32Array) -> Float32Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12), np.float32)
