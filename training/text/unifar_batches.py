"""From pairs to batches of rows: a batch is a function of its step's number, so that a resumed run sees the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facetrail.models.text.facets import FACETS
from facetrail.training.loop import step_rng
from facetrail.training.text.records import Pair
from facetrail.training.text.unifar_step import PairBatch


@dataclass(frozen=True)
class PairTable:
    """Pairs with their texts as rows of the stores. negatives: (n, up to 4), -1 where there is none."""

    pairs: Sequence[Pair]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    negatives: NDArray[np.int64]
    negative_ids: Sequence[Sequence[str]]
    split: Mapping[int, NDArray[np.float32]]
    """Row of a right text → (k, d) base vectors of its facets."""

    def of_kinds(self, kinds: Sequence[str]) -> "PairTable":
        """The pairs of some kinds alone."""
        kept = [i for i, pair in enumerate(self.pairs) if pair.kind in kinds]
        return replace(
            self,
            pairs=[self.pairs[i] for i in kept],
            left=self.left[kept],
            right=self.right[kept],
            negatives=self.negatives[kept],
            negative_ids=[self.negative_ids[i] for i in kept],
        )


class Batches:
    """`batches(step)`: pairs of one kind, each left and right text once, one hard negative for each that has one."""

    def __init__(
        self,
        table: PairTable,
        neighbours: Mapping[str, frozenset[str]],
        n_labelled: int,
        *,
        size: int,
        n_roles: int,
        steps: int,
        seed: int,
    ) -> None:
        """n_labelled: texts in the role store, of which n_roles join each batch."""
        self._table, self._neighbours, self._size, self._steps, self._seed = table, neighbours, size, steps, seed
        self._n_labelled, self._n_roles = n_labelled, min(n_roles, n_labelled)
        self._by_kind = {
            kind: np.array([i for i, pair in enumerate(table.pairs) if pair.kind == kind], np.int64)
            for kind in ("dd", "qd")
        }
        self._kinds = [kind for kind, rows in self._by_kind.items() if len(rows)]
        # The square root keeps the smaller kind from drowning.
        counts = np.array([len(self._by_kind[kind]) for kind in self._kinds], np.float64) ** 0.5
        self._share = counts / counts.sum()

    def __call__(self, step: int) -> PairBatch:
        """The batch of one step."""
        rng = step_rng(self._seed, step)
        kind = str(rng.choice(self._kinds, p=self._share))
        chosen = self._draw(rng, self._by_kind[kind])
        table = self._table
        pairs = [table.pairs[i] for i in chosen]
        picked = self._negatives(rng, chosen)
        right_ids = [pair.right_id for pair in pairs] + list(picked.values())
        return PairBatch(
            kind=kind,
            left=table.left[chosen],
            right=table.right[chosen],
            negatives=np.array(list(picked), np.int64),
            related=self._related(pairs, right_ids),
            weights=np.array([pair.weight for pair in pairs], np.float32),
            facet=np.array([FACETS.index(p.facet) if p.facet else -1 for p in pairs], np.int64),
            split=self._split(table.right[chosen]),
            labelled=rng.choice(self._n_labelled, self._n_roles, replace=False).astype(np.int64),
            progress=step / self._steps,
        )

    def _draw(self, rng: np.random.Generator, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Up to `size` pairs, no text twice on either side: a duplicate would be its own false negative."""
        left_seen: set[int] = set()
        right_seen: set[int] = set()
        kept: list[int] = []
        for i in rng.permutation(rows)[: 4 * self._size].tolist():
            left, right = int(self._table.left[i]), int(self._table.right[i])
            if left in left_seen or right in right_seen:
                continue
            left_seen.add(left)
            right_seen.add(right)
            kept.append(i)
            if len(kept) == self._size:
                break
        return np.array(kept, np.int64)

    def _negatives(self, rng: np.random.Generator, chosen: NDArray[np.int64]) -> dict[int, str]:
        """Row → id of one hard negative a pair; a text that is a column already would count twice."""
        taken, picked = set(self._table.right[chosen].tolist()), dict[int, str]()
        for i in chosen:
            n = int((self._table.negatives[i] >= 0).sum())
            if n:
                j = int(rng.integers(n))
                row = int(self._table.negatives[i, j])
                if row not in taken:
                    picked[row] = self._table.negative_ids[i][j]
        return picked

    def _related(self, pairs: Sequence[Pair], right_ids: Sequence[str]) -> NDArray[np.bool_]:
        related = np.zeros((len(pairs), len(right_ids)), bool)
        for row, pair in enumerate(pairs):
            near = self._neighbours.get(pair.left_id, frozenset()) | self._neighbours.get(pair.right_id, frozenset())
            own = {pair.left_id, pair.right_id}
            related[row] = [document_id in own or document_id in near for document_id in right_ids]
            related[row, row] = False
        return related

    def _split(self, right: NDArray[np.int64]) -> NDArray[np.float32] | None:
        known = self._table.split
        found = [known.get(int(row)) for row in right]
        some = next((vectors for vectors in found if vectors is not None), None)
        if some is None:
            return None
        return np.stack([np.zeros_like(some) if vectors is None else vectors for vectors in found])
