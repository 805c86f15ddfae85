"""Made-up tastes with known causes, for tests of preference hints."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.time_blocks import Ratings


def attributes_of(items: Sequence[Sequence[int]], n_attributes: int) -> Attributes:
    """Items' attributes as given, all of one relation, named a0, a1, ..."""
    lists = [sorted(set(one)) for one in items]
    flat = np.array([number for one in lists for number in one], np.int64)
    support = np.maximum(np.bincount(flat, minlength=n_attributes), 1)
    return Attributes(
        relations=np.zeros(n_attributes, np.int64),
        tails=np.arange(n_attributes, dtype=np.int64),
        idf=np.log(len(items) / support).astype(np.float32),
        starts=np.cumsum([0, *(len(one) for one in lists)]).astype(np.int64),
        rows=flat,
        relation_names=("trait",) * n_attributes,
        tail_names=tuple(f"a{number}" for number in range(n_attributes)),
    )


def random_ratings(n_users: int, n_items: int, n_rows: int, rng: np.random.Generator, *, start: int = 0) -> Ratings:
    """Labels by coin, every row at a time of its own."""
    return Ratings(
        rng.integers(n_users, size=n_rows),
        rng.integers(n_items, size=n_rows),
        rng.integers(2, size=n_rows).astype(np.float64),
        np.arange(start, start + n_rows, dtype=np.int64),
    )


def rated(users: NDArray[np.int64], items: NDArray[np.int64], labels: NDArray[np.float64], *, start: int) -> Ratings:
    """Rows at times of their own from `start` on."""
    return Ratings(users, items, labels, np.arange(start, start + len(users), dtype=np.int64))
