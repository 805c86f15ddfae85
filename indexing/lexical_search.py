"""Searching the parts of a lexical index: which kernel scores a segment, and how its answers become hits."""

import threading
from typing import NamedTuple

import numpy as np

from facetrail.indexing import lexical_kernels as kernels
from facetrail.indexing.index import BoolArray, Float64Array, Hits, Int64Array
from facetrail.indexing.lexical_segment import Forward, Segment

POSTINGS_PER_ROW = 400
"""A forward list takes about as long to score as this many postings."""
FEW = 48
"""Hits that are sorted by insertion."""

Found = tuple[Int64Array, Float64Array]
"""Ordinals and scores, in any order, a superset of the k best with their ties."""


class Weighted(NamedTuple):
    """A query ready for the kernels: known terms in byte order.

    term_ids, weights: (q,) · highest: the largest id · is_ordered: the ids ascend too · norm: (k1, b, avgdl) · table:
    impact by code
    """

    term_ids: Int64Array
    weights: Float64Array
    highest: int
    is_ordered: bool
    norm: Float64Array
    table: Float64Array


class Scratch(threading.local):
    """Buffers of one searching thread."""

    def __init__(self) -> None:
        self.acc = np.zeros(kernels.LARGEST_WINDOW, np.float64)
        self.docs = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float64)
        self.spare = np.empty(0, np.float64)
        self.slots = np.empty(0, np.int32)

    def fit(self, n_rows: int, n_terms: int) -> None:
        """Makes room for segments of n_rows documents and a dictionary of n_terms."""
        if len(self.docs) < n_rows + kernels.LARGEST_WINDOW:
            size = n_rows + n_rows // 4 + kernels.LARGEST_WINDOW
            self.docs, self.scores, self.spare = np.empty(size, np.int64), np.empty(size), np.empty(2 * size)
        if len(self.slots) < n_terms:
            self.slots = np.full(n_terms + n_terms // 4, -1, np.int32)


def search_segment(segment: Segment, query: Weighted, k: int, allowed: BoolArray | None, scratch: Scratch) -> Found:
    """The k best of a segment and their ties."""
    postings, forward, mask = segment.postings, segment.forward, segment.mask(allowed)
    ids, weights, n_terms = query.term_ids, query.weights, len(postings.offsets) - 1
    if query.highest >= n_terms:  # later terms do not occur in this segment
        within = ids < n_terms
        ids, weights = ids[within], weights[within]
    starts, ends = postings.offsets[ids], postings.offsets[ids + 1]
    if allowed is not None and np.count_nonzero(mask) * POSTINGS_PER_ROW < int((ends - starts).sum()):
        return score_rows(segment.ordinals, forward, np.flatnonzero(mask), query, scratch, is_ordered=query.is_ordered)
    n = kernels.search_postings(
        starts, ends, ids, weights, postings.docs, postings.codes, query.table, *forward, query.norm, mask, k,
        scratch.acc, scratch.docs, scratch.scores, scratch.spare,
    )  # fmt: skip
    return segment.ordinals[scratch.docs[:n]], scratch.scores[:n].copy()


def score_rows(
    ordinals: Int64Array, forward: Forward, rows: Int64Array, query: Weighted, scratch: Scratch, *, is_ordered: bool
) -> Found:
    """Scores given rows from their forward lists. is_ordered: the lists ascend in the order of the sum."""
    scores, shares = np.empty(len(rows)), np.empty(0 if is_ordered else len(query.weights))
    scratch.slots[query.term_ids] = np.arange(len(query.term_ids), dtype=np.int32)
    kernels.score_rows(rows, scratch.slots, query.weights, shares, *forward, query.norm, scores)
    scratch.slots[query.term_ids] = -1
    matched = scores > 0
    return ordinals[rows[matched]], scores[matched]


def ranked(found: list[Found], k: int) -> Hits:
    """`best_with_ties` for what the kernels leave: a few more than k. Sorts what it is given in place."""
    if len(found) == 1:
        ordinals, scores = found[0]
    else:
        ordinals, scores = (np.concatenate(each) for each in zip(*found, strict=True))
    if len(scores) <= FEW:
        n = kernels.rank_few(ordinals, scores, k)
        return Hits(ordinals[:n], scores[:n])
    order = np.argsort(scores)[::-1]
    ordinals, scores = ordinals[order], scores[order]
    if len(scores) > k:
        n = len(scores) - int(scores[::-1].searchsorted(scores[k - 1]))
        ordinals, scores = ordinals[:n], scores[:n]
    kernels.order_ties(ordinals, scores)
    return Hits(ordinals, scores)
