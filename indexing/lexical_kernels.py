"""BM25's search loops, compiled by numba.

score(q, d) = Σ_t w_t · tf / (tf + K_d) with w_t = qtf_t · idf(t) and K_d = k1 · (1 − b + b · |d| / avgdl), summed in
float64 in the order in which the query's terms are given. Nothing is pre-multiplied: `tf / (tf + K)` is looked up by a
posting's code in a table of 65,536 float64 that is remade when avgdl changes; what a code cannot hold is computed on
the spot with the same operations, so every path gives the same bits.

Scores accumulate in windows of documents that fit the cache; a document enters the selection only when it reaches the
k-th best score so far. Leaving out frequent terms (MaxScore) was tried on 109k abstracts and removed: scoring the few
documents that might still reach the k-th cost what the skipped postings saved.

Indices are unsigned throughout: numba would otherwise test each for being negative. No array value is trusted as an
index without a comparison, so a damaged file cannot make a kernel leave its arrays.
"""

from typing import Any

import numpy as np

from facetrail.indexing.lexical_inversion import LONG, MANY, kernel

U: Any = np.uintp
SIGNED: Any = np.int64
SMALLEST_WINDOW = 1024
LARGEST_WINDOW = 16384
BLOCK = 64
SMALLEST = 1e-300
"""Below every contribution: a document scores at least this if a query term occurs in it."""


@kernel
def kth_largest(values: Any, spare: Any, n: int, k: int) -> Any:
    """The k-th largest of values[:n]; both buffers are overwritten. Quickselect without branches in its inner loop."""
    while True:
        x, y, z = values[0], values[n >> 1], values[n - 1]
        pivot = max(min(x, y), min(max(x, y), z))
        above, below = 0, 0
        for i in range(U(n)):
            value = values[i]
            spare[U(above)] = value
            above += SIGNED(value > pivot)
            values[U(below)] = value
            below += SIGNED(value < pivot)
        if above >= k:
            values, spare = spare, values
            n = above
        elif n - below >= k:
            return pivot
        else:
            k -= n - below
            n = below


@kernel
def keep_best(docs: Any, scores: Any, n: int, k: int, spare: Any) -> Any:
    """Drops from the first n what is below the k-th best; keeps order and ties. → (how many are left, the k-th)"""
    if n < k:
        return n, SMALLEST
    half = len(spare) >> 1
    for i in range(U(n)):
        spare[i] = scores[i]
    kth = kth_largest(spare, spare[half:], n, k)
    m = 0
    for i in range(U(n)):
        score = scores[i]
        docs[U(m)] = docs[i]
        scores[U(m)] = score
        m += SIGNED(score >= kth)
    return m, kth


@kernel
def rare_impact(code: int, doc: int, term: int, lengths: Any, offsets: Any, terms: Any, tfs: Any, norm: Any) -> Any:
    """tf / (tf + K) where the code does not hold tf or the length. norm: (k1, b, avgdl)"""
    if doc >= len(lengths):
        return 0.0
    tf = code >> 10
    if tf == MANY:
        low, high = offsets[doc], offsets[doc + 1]
        while low < high:
            middle = (low + high) >> 1
            if terms[middle] < term:
                low = middle + 1
            else:
                high = middle
        if low < len(tfs):
            tf = SIGNED(tfs[low])
    return tf / (tf + norm[0] * ((1.0 - norm[1]) + norm[1] * (lengths[doc] / norm[2])))


@kernel
def accumulate(
    p: Any, end: Any, first: Any, width: Any, weight: float, term: Any, docs: Any, codes: Any, table: Any,
    lengths: Any, offsets: Any, terms: Any, tfs: Any, norm: Any, acc: Any,
) -> Any:  # fmt: skip
    """Adds one term's contributions to the documents [first, first + width); returns where its postings go on.

    width: a power of two, so that four offsets into the window are all below it where their bitwise or is.
    """
    while p + U(4) <= end:
        a, b = U(docs[p]) - first, U(docs[p + U(1)]) - first
        c, d = U(docs[p + U(2)]) - first, U(docs[p + U(3)]) - first
        if (a | b | c | d) >= width:
            break
        w, x, y, z = codes[p], codes[p + U(1)], codes[p + U(2)], codes[p + U(3)]
        if (w & LONG == LONG) | (x & LONG == LONG) | (y & LONG == LONG) | (z & LONG == LONG):
            break
        acc[a] += weight * table[w]
        acc[b] += weight * table[x]
        acc[c] += weight * table[y]
        acc[d] += weight * table[z]
        p += U(4)
    n_single = 0
    while p < end and n_single < 4:
        a, w = U(docs[p]) - first, codes[p]
        if a >= width:
            return p, True
        if w & LONG == LONG:
            impact = rare_impact(SIGNED(w), SIGNED(docs[p]), term, lengths, offsets, terms, tfs, norm)
            acc[a] += weight * impact
        else:
            acc[a] += weight * table[w]
        p += U(1)
        n_single += 1
    return p, p >= end


@kernel
def score_row(
    doc: int, slots: Any, weights: Any, shares: Any, offsets: Any, terms: Any, tfs: Any, lengths: Any, norm: Any
) -> float:
    """A document's score from its forward list.

    slots: (terms,) int32, the query position of a term or -1 · shares: (q,) float64 scratch where the forward list does
    not ascend in the query's order, else empty
    """
    scale = norm[0] * ((1.0 - norm[1]) + norm[1] * (lengths[doc] / norm[2]))
    n_slots, total, in_order = U(len(slots)), 0.0, len(shares) == 0
    shares[:] = 0.0
    for p in range(U(offsets[doc]), U(offsets[doc + 1])):
        term = U(terms[p])
        if term < n_slots:
            slot = slots[term]
            if slot >= 0:
                tf = SIGNED(tfs[p])
                share = weights[U(slot)] * (tf / (tf + scale))
                if in_order:
                    total += share
                else:
                    shares[U(slot)] = share
    for share in shares:
        total += share
    return total


@kernel
def score_rows(
    rows: Any, slots: Any, weights: Any, shares: Any, offsets: Any, terms: Any, tfs: Any, lengths: Any, norm: Any,
    out_scores: Any,
) -> None:  # fmt: skip
    """`score_row` for several documents. out_scores: (len(rows),)"""
    for i in range(len(rows)):
        out_scores[i] = score_row(rows[i], slots, weights, shares, offsets, terms, tfs, lengths, norm)


@kernel
def append(first: int, scores: Any, mask: Any, need: float, out_docs: Any, out_scores: Any, n: int) -> int:
    """Appends the visible documents of one block that score at least `need`; without branches, as half of them may."""
    last = len(mask) - 1
    for i in range(U(BLOCK)):
        doc, score = first + SIGNED(i), scores[i]
        out_docs[U(n)] = doc
        out_scores[U(n)] = score
        n += SIGNED((score >= need) & mask[U(doc if doc <= last else last)] & (doc <= last))
    return n


@kernel
def search_postings(
    starts: Any, ends: Any, term_ids: Any, weights: Any, docs: Any, codes: Any, table: Any, offsets: Any, terms: Any,
    tfs: Any, lengths: Any, norm: Any, mask: Any, k: int, acc: Any, out_docs: Any, out_scores: Any, spare: Any,
) -> Any:  # fmt: skip
    """Finds the k best documents and their ties; leaves them in out_docs, out_scores by document and returns how many.

    starts, ends: (q,) int64 ranges of the terms' postings, starts is used up · weights: (q,) · mask: (n,) bool, False
    hides · acc: (LARGEST_WINDOW,) zero on entry and exit · out_*: (n + LARGEST_WINDOW,) · spare: twice as long
    """
    n_docs, n, kth, limit = len(lengths), 0, SMALLEST, max(2 * k, BLOCK)
    first, width = 0, SMALLEST_WINDOW
    while first < n_docs:
        touched = False
        for q in range(len(starts)):
            p, is_done = U(starts[q]), starts[q] >= ends[q]
            while not is_done:
                p, is_done = accumulate(
                    p, U(ends[q]), U(first), U(width), weights[q], term_ids[q], docs, codes, table, lengths, offsets,
                    terms, tfs, norm, acc,
                )  # fmt: skip
            touched |= p > U(starts[q])
            starts[q] = SIGNED(p)
        for block in range(0, width if touched else 0, BLOCK):
            count = 0
            for i in range(BLOCK):
                if acc[U(block) + U(i)] >= kth:
                    count += 1
            if count > 0:
                n = append(first + block, acc[block : block + BLOCK], mask, kth, out_docs, out_scores, n)
                if n >= limit:
                    n, kth = keep_best(out_docs, out_scores, n, k, spare)
                    limit = max(2 * k, 2 * n, BLOCK)
            for i in range(BLOCK):
                acc[U(block) + U(i)] = 0.0
        first += width
        width = min(2 * width, LARGEST_WINDOW)
    n, kth = keep_best(out_docs, out_scores, n, k, spare)
    return n


@kernel
def order_ties(ordinals: Any, scores: Any) -> None:
    """Sorts ordinals ascending inside every run of equal scores."""
    first = 0
    for i in range(1, len(scores) + 1):
        if i == len(scores) or scores[i] != scores[first]:
            if i - first > 1:
                ordinals[first:i].sort()
            first = i


@kernel
def rank_few(ordinals: Any, scores: Any, k: int) -> Any:
    """Sorts a few hits by score descending, then ordinal ascending; returns how many are the k best with their ties."""
    n = len(scores)
    for i in range(1, n):
        ordinal, score, j = ordinals[i], scores[i], i - 1
        while j >= 0 and (scores[j] < score or (scores[j] == score and ordinals[j] > ordinal)):
            ordinals[j + 1], scores[j + 1] = ordinals[j], scores[j]
            j -= 1
        ordinals[j + 1], scores[j + 1] = ordinal, score
    last = min(k, n)
    while last < n and scores[last] == scores[last - 1]:
        last += 1
    return last
