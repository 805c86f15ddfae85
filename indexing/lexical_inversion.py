"""Making postings, compiled by numba: token ids → forward lists → postings with codes.

A posting's *code* is 16 bits of (tf, length): tf in the upper 6, the document's length in the lower 10. Lengths from
1023 on share the lower part 1023 (then the length is read from the document), and tf from 63 on gives the code 65535
(then tf is read from the forward list).
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

LONG = 1023
MANY = 63
SIGNED: Any = np.int64


def kernel(function: F) -> F:
    """Compiles on first call, free of the interpreter lock; keeps the machine code on disk where that is possible."""
    try:
        compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(F, compiled)


@kernel
def impact_table(k1: float, b: float, avgdl: float) -> Any:
    """tf / (tf + K) for every code that holds both. → (65536,) float64"""
    table = np.zeros(65536, np.float64)
    for tf in range(1, MANY):
        for length in range(LONG):
            table[tf << 10 | length] = tf / (tf + k1 * ((1.0 - b) + b * (length / avgdl)))
    return table


@kernel
def count_terms(ids: Any, starts: Any, n_terms: int) -> Any:
    """Token ids of consecutive documents to forward lists; a negative id is no token. tf saturates at 65,535.

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
        length = min(SIGNED(lengths[d]), LONG)
        for p in range(offsets[d], offsets[d + 1]):
            t, tf = terms[p], SIGNED(tfs[p])
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
