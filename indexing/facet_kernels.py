"""The one place where a facet cosine is computed: every facet of a query with every facet of some documents.

Document codes are turned into float32 once for all query facets, and sums are float32, in an order that the compiler
chooses once. A pair's bits therefore depend on the pair and on the machine, not on which documents stand beside it:
ties, pages and explanations are stable.
"""

from functools import partial
from typing import Any

import numpy as np

from facetrail.indexing.dense_kernels import kernel


@partial(kernel, reorder=True)
def facet_products(vectors: Any, rows: Any, query: Any, out: Any) -> None:
    """vectors: (n, k, d) int8 · rows: (m,) int64 · query: (q, d) float32 → out: (m, q, k) float32."""
    dim = query.shape[1]
    decoded = np.empty(dim, np.float32)
    for r in range(rows.shape[0]):
        for facet in range(vectors.shape[1]):
            for i in range(dim):
                decoded[i] = vectors[rows[r], facet, i]
            for asked in range(query.shape[0]):
                total = np.float32(0)
                for i in range(dim):
                    total += decoded[i] * query[asked, i]
                out[r, asked, facet] = total
