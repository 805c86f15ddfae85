"""Random facet data, and what it means for two batches to be the same."""

from dataclasses import fields

import numpy as np

from facetrail.models.text.facets import FacetBatch, quantise


def make_batch(n: int, *, k: int = 4, dim: int = 16, seed: int = 0, sentences: int | None = None) -> FacetBatch:
    """Random facet data; sentences None: 0 to 5 a document."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, k, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    lengths = rng.integers(0, 6, n) if sentences is None else np.full(n, sentences)
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return FacetBatch(
        *quantise(vectors),
        rng.dirichlet(np.ones(k), n).astype(np.float32).reshape(n, k),
        rng.dirichlet(np.ones(4), n).astype(np.float32).reshape(n, 4),
        first,
        rng.integers(0, 256, (first[-1], k), np.uint8),
        rng.integers(0, 256, (first[-1], k), np.uint8),
    )


def assert_same(left: FacetBatch, right: FacetBatch) -> None:
    for field in fields(FacetBatch):
        a, b = getattr(left, field.name), getattr(right, field.name)
        assert a.dtype == b.dtype, field.name
        np.testing.assert_array_equal(a, b, err_msg=field.name)
