"""The one place where a dense score is computed.

score(q, x) = Σ_i x_i · q_i in float64, in eight interleaved sums that are added in a fixed order. The bits of a pair's
score therefore depend on the pair alone: not on the batch, on k, on how the candidate was found or on the processor.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F, *, reorder: bool = False) -> F:
    """Compiles on first call, free of the interpreter lock; keeps the machine code on disk where that is possible.

    reorder: sums may be added in any order, the same one at every call; that is what lets them use vector instructions.
    """
    fastmath: Any = {"reassoc", "contract"} if reorder else False
    try:
        return cast(F, numba.njit(nogil=True, cache=True, fastmath=fastmath)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return cast(F, numba.njit(nogil=True, fastmath=fastmath)(function))


@kernel
def score_rows(vectors: Any, rows: Any, query: Any, out: Any) -> None:
    """vectors: (n, dim) float32 or int8 · rows: (m,) int64 · query: (dim,) float64 → out: (m,) float64."""
    dim = query.shape[0]
    whole = dim - dim % 8
    for r in range(rows.shape[0]):
        row = rows[r]
        # Written out, because a loop over the eight sums is not turned into vector instructions.
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for i in range(0, whole, 8):
            s0 += np.float64(vectors[row, i]) * query[i]
            s1 += np.float64(vectors[row, i + 1]) * query[i + 1]
            s2 += np.float64(vectors[row, i + 2]) * query[i + 2]
            s3 += np.float64(vectors[row, i + 3]) * query[i + 3]
            s4 += np.float64(vectors[row, i + 4]) * query[i + 4]
            s5 += np.float64(vectors[row, i + 5]) * query[i + 5]
            s6 += np.float64(vectors[row, i + 6]) * query[i + 6]
            s7 += np.float64(vectors[row, i + 7]) * query[i + 7]
        for i in range(whole, dim):
            s0 += np.float64(vectors[row, i]) * query[i]
        out[r] = ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
