"""BM25's inner loops, compiled by numba.

score(q, d) = Σ_t w_t · tf / (tf + K_d) with w_t = qtf_t · idf(t) and K_d = k1 · (1 − b + b · |d| / avgdl), summed in
float64 in the order in which the query's terms are given. Nothing is pre-multiplied: a posting stores a 16-bit *code* of
(tf, |d|), and `tf / (tf + K)` is looked up in a table of 65,536 float64 that is remade when avgdl changes. Codes whose
length part is 1023 stand for long documents (length read from `lengths`), the code 65535 also for tf ≥ 63 (tf read from
the forward list); both are computed on the spot with the same operations, so every path gives the same bits.

Scores are accumulated in windows of 4,096 documents, which fit the first-level cache.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

WINDOW = 4096
BLOCK = 64
LONG = 1023
MANY = 63
SMALLEST = 1e-300
"""Below every BM25 contribution: a document scores at least this if a query term occurs in it."""


def kernel(function: F) -> F:
    """Compiles on first call, free of the interpreter lock; keeps the machine code on disk where that is possible."""
    try:
        compiled: F = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


@kernel
def impact_table(k1: float, b: float, avgdl: float) -> Any:
    """tf / (tf + K) for every code. → (65536,) float64"""
    table = np.zeros(65536, np.float64)
    for tf in range(1, MANY):
        for length in range(LONG):
            table[tf << 10 | length] = tf / (tf + k1 * ((1.0 - b) + b * (length / avgdl)))
    return table


@kernel
def count_terms(ids: Any, starts: Any, n_terms: int) -> Any:
    """Token ids of consecutive documents to forward lists. A negative id is skipped and does not count as length.

    ids: (tokens,) int32 · starts: (n + 1,) int64 → terms (m,) uint32, tfs (m,) uint16, offsets (n + 1,), lengths (n,)
    """
    n = len(starts) - 1
    terms, tfs = np.empty(len(ids), np.uint32), np.empty(len(ids), np.uint16)
    offsets, lengths = np.zeros(n + 1, np.int64), np.zeros(n, np.uint32)
    position = np.full(n_terms, -1, np.int64)
    m = 0
    for d in range(n):
        first = m
        for p in range(starts[d], starts[d + 1]):
            t = ids[p]
            if t < 0:
                continue
            lengths[d] += 1
            at = position[t]
            if at < first:
                position[t] = m
                terms[m] = t
                tfs[m] = 1
                m += 1
            elif tfs[at] < 65535:
                tfs[at] += 1
        offsets[d + 1] = m
    return terms[:m].copy(), tfs[:m].copy(), offsets, lengths


@kernel
def gather_forward(rows: Any, offsets: Any, terms: Any, tfs: Any, new_ids: Any, out_terms: Any, out_tfs: Any) -> int:
    """Copies the forward lists of `rows` one after the other, with new term ids; returns how many entries."""
    m = 0
    for r in rows:
        for p in range(offsets[r], offsets[r + 1]):
            out_terms[m] = new_ids[terms[p]]
            out_tfs[m] = tfs[p]
            m += 1
    return m


@kernel
def invert(offsets: Any, terms: Any, tfs: Any, lengths: Any, n_terms: int) -> Any:
    """Forward lists to postings, and the forward lists again with each document's terms ascending.

    → posting_offsets (n_terms + 1,) int64, docs (m,) uint32 ascending per term, codes (m,) uint16, terms (m,), tfs (m,)
    """
    n, m = len(lengths), len(terms)
    starts = np.zeros(n_terms + 1, np.int64)
    for p in range(m):
        starts[terms[p] + 1] += 1
    for t in range(n_terms):
        starts[t + 1] += starts[t]
    cursor = starts[:-1].copy()
    docs, codes, counts = np.empty(m, np.uint32), np.empty(m, np.uint16), np.empty(m, np.uint16)
    for d in range(n):
        length = min(np.int64(lengths[d]), LONG)
        for p in range(offsets[d], offsets[d + 1]):
            t, tf = terms[p], np.int64(tfs[p])
            at = cursor[t]
            cursor[t] += 1
            docs[at] = d
            counts[at] = tf
            codes[at] = 65535 if tf >= MANY else tf << 10 | length
    forward_terms, forward_tfs = np.empty(m, np.uint32), np.empty(m, np.uint16)
    filled = offsets[:-1].copy()
    for t in range(n_terms):
        for p in range(starts[t], starts[t + 1]):
            d = docs[p]
            forward_terms[filled[d]] = t
            forward_tfs[filled[d]] = counts[p]
            filled[d] += 1
    return starts, docs, codes, forward_terms, forward_tfs


@kernel
def rare_impact(code: int, doc: int, term: int, lengths: Any, offsets: Any, terms: Any, tfs: Any, norm: Any) -> float:
    """tf / (tf + K) where the code does not hold tf or the length. norm: (k1, b, avgdl)"""
    tf = code >> 10
    if tf == MANY:
        low, high = offsets[doc], offsets[doc + 1]
        while low < high:
            middle = (low + high) >> 1
            if terms[middle] < term:
                low = middle + 1
            else:
                high = middle
        tf = np.int64(tfs[low])
    return tf / (tf + norm[0] * ((1.0 - norm[1]) + norm[1] * (lengths[doc] / norm[2])))


@kernel
def kth_largest(values: Any, n: int, k: int) -> float:
    """The k-th largest of values[:n], which it reorders (quickselect)."""
    left, right, target = 0, n - 1, k - 1
    while left < right:
        pivot = values[(left + right) >> 1]
        i, j = left, right
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            right = j
        elif target >= i:
            left = i
        else:
            return values[target]
    return values[target]


@kernel
def keep_best(docs: Any, scores: Any, n: int, k: int, scratch: Any) -> Any:
    """Drops from the first n what is below the k-th best; keeps order and ties. → (how many are left, the k-th)"""
    if n <= k:
        return n, SMALLEST
    scratch[:n] = scores[:n]
    kth = kth_largest(scratch, n, k)
    m = 0
    for i in range(n):
        if scores[i] >= kth:
            docs[m], scores[m] = docs[i], scores[i]
            m += 1
    return m, kth


@kernel
def search_postings(
    starts: Any, ends: Any, term_ids: Any, weights: Any, docs: Any, codes: Any, table: Any, lengths: Any,
    offsets: Any, terms: Any, tfs: Any, norm: Any, mask: Any, k: int, acc: Any, out_docs: Any, out_scores: Any,
    scratch: Any,
) -> int:  # fmt: skip
    """Scores every document that holds a query term; leaves the k best and their ties in out_docs, out_scores.

    starts, ends: (q,) int64 ranges of the terms' postings, starts is used up · weights: (q,) float64 · mask: (n,) bool,
    False hides · acc: (WINDOW,) float64, zero on entry and exit. Returns how many hits, ordered by document.
    """
    n_docs, kth, n = len(lengths), SMALLEST, 0
    limit = max(4 * k, 256)
    for first in range(0, n_docs, WINDOW):
        last = min(first + WINDOW, n_docs)
        touched = False
        for q in range(len(starts)):
            p, end, w = starts[q], ends[q], weights[q]
            if p >= end or docs[p] >= last:
                continue
            touched = True
            while p < end and docs[p] < last:
                code, doc = np.int64(codes[p]), np.int64(docs[p])
                if code & LONG == LONG:
                    x = rare_impact(code, doc, term_ids[q], lengths, offsets, terms, tfs, norm)
                else:
                    x = table[code]
                acc[doc - first] += w * x
                p += 1
            starts[q] = p
        if not touched:
            continue
        for block in range(0, last - first, BLOCK):
            stop = min(block + BLOCK, last - first)
            count = 0
            for i in range(block, stop):
                count += acc[i] >= kth
            if count > 0:
                for i in range(block, stop):
                    if acc[i] >= kth and mask[first + i]:
                        out_docs[n] = first + i
                        out_scores[n] = acc[i]
                        n += 1
                if n >= limit:
                    n, kth = keep_best(out_docs, out_scores, n, k, scratch)
                    limit = max(4 * k, 2 * n, 256)
            acc[block:stop] = 0.0
    n, kth = keep_best(out_docs, out_scores, n, k, scratch)
    return n


@kernel
def score_rows(
    rows: Any, slots: Any, weights: Any, offsets: Any, terms: Any, tfs: Any, lengths: Any, norm: Any, share: Any,
    out_scores: Any,
) -> None:  # fmt: skip
    """Scores of given documents from their forward lists.

    slots: (terms,) int32, the query position of a term or -1 · share: (q,) float64 scratch · out_scores: (len(rows),)
    """
    for i in range(len(rows)):
        d = rows[i]
        scale = norm[0] * ((1.0 - norm[1]) + norm[1] * (lengths[d] / norm[2]))
        share[:] = 0.0
        found = False
        for p in range(offsets[d], offsets[d + 1]):
            slot = slots[terms[p]]
            if slot >= 0:
                tf = np.int64(tfs[p])
                share[slot] = weights[slot] * (tf / (tf + scale))
                found = True
        total = 0.0
        if found:
            for s in range(len(share)):
                total += share[s]
        out_scores[i] = total
