"""Maximal marginal relevance: the best items in an order in which neighbours of one another do not stand together.

Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing summaries"
(SIGIR 1998): the next item is the one with the largest (1 - lambda) x relevance - lambda x similarity to the nearest
item chosen before. Two choices are ours: lambda is the share of diversity, where the paper's is that of relevance, and
relevance is the score, brought to [0, 1] over the pool.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from facetrail.indexing.index import Float64Array
from facetrail.models.recommend.records import Recommendation

POOL = 200
"""Items that change places with each other, the best by score. Independent of limit and offset, so pages agree."""

Similarities = Callable[[str], Mapping[str, float]]
"""An item's id -> the cosines of others to it; what is missing counts as 0."""


def diversified(
    items: Sequence[Recommendation], share: float, n: int, similarities: Similarities
) -> list[Recommendation]:
    """The first n in their new order, ranked anew. items: by score; share: lambda, in [0, 1]."""
    pool = list(items[:POOL])
    relevance = _unit([item.score for item in pool])
    nearest = np.full(len(pool), -1.0)  # no cosine is less
    left = np.ones(len(pool), bool)
    chosen: list[Recommendation] = []
    while len(chosen) < min(n, len(pool)):
        worth = np.where(left, (1 - share) * relevance - share * nearest, -np.inf)
        best = int(np.argmax(worth))  # of equal ones the first, which is the better by score
        left[best] = False
        chosen.append(pool[best])
        if share > 0 and len(chosen) < n:
            near = similarities(pool[best].id)
            nearest = np.maximum(nearest, [near.get(item.id, 0.0) for item in pool])
    chosen += items[len(pool) : n]
    return [replace(item, rank=rank) for rank, item in enumerate(chosen, start=1)]


def _unit(scores: Sequence[float]) -> Float64Array:
    values = np.array(scores, np.float64)
    spread = np.ptp(values) if len(values) else 0.0
    return (values - values.min()) / spread if spread > 0 else np.ones(len(values))
