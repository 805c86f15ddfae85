"""Histories as sparse matrices. Letters: n users or b histories, m items."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import ItemRows

CsrArray: TypeAlias = Any
"""scipy.sparse.csr_array, which carries no types."""


def incidence(histories: Iterable[ItemRows], n_items: int) -> CsrArray:
    """(b, m) float32: 1 where the history holds the item, however often."""
    rows = [np.unique(history) for history in histories]
    ends = np.cumsum([0, *map(len, rows)])
    items = np.concatenate([np.empty(0, np.int64), *rows])
    return sparse.csr_array((np.ones(len(items), np.float32), items, ends), shape=(len(rows), n_items))


def co_occurrence(histories: Iterable[ItemRows], n_items: int) -> CsrArray:
    """(m, m) int32 XᵀX of the incidence X: users who had both items; on the diagonal, who had the one."""
    x = incidence(histories, n_items)
    return (x.T @ x).astype(np.int32).tocsr()  # float32 counts up to 2^24 users exactly, and multiplies faster


def changed_counts(counts: CsrArray, added: CsrArray, removed: CsrArray) -> CsrArray:
    """counts + added - removed, where `added` may be larger; no zero is stored, so equal counts are equal arrays.

    Raises InvalidInput where more is removed than was ever counted.
    """
    grown = counts.copy()
    grown.resize(added.shape)
    result = (grown + added - removed).tocsr()
    result.eliminate_zeros()
    result.sort_indices()
    if result.nnz and result.data.min() < 0:
        raise InvalidInput("events are removed that were never fitted; give the users' histories as they were fitted")
    return result.astype(counts.dtype)
