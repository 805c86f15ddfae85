"""Many texts: torch, sorted by length over a wide window, batches of a token budget."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from facetrail.models.text.bert import PackedBert, equal_runs
from facetrail.models.text.pooling import Pooling, pool, unit_rows

WINDOW = 8_192
"""Texts tokenised and sorted together; bounds memory while leaving little difference in length within a batch."""
TOKEN_BUDGET = {"cpu": 2_048, "cuda": 65_536}


def plan_batches(lengths: Sequence[int], budget: int) -> list[NDArray[np.int64]]:
    """Positions of texts in batches of at most `budget` tokens (a longer text stands alone), longest first."""
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batches, start, used = [], 0, 0
    for i, position in enumerate(order):
        if i > start and used + lengths[position] > budget:
            batches.append(order[start:i])
            start, used = i, 0
        used += lengths[position]
    return [*batches, order[start:]] if len(order) else []


class PackedRunner:
    """token ids → unit vectors through `PackedBert`."""

    def __init__(self, network: PackedBert, pooling: Pooling, *, normalise: bool, dim: int) -> None:
        self._network, self._pooling, self._normalise, self._dim = network, pooling, normalise, dim
        self._budget = TOKEN_BUDGET[network.device.type]

    def encode(self, tokens: Callable[[Sequence[str]], list[list[int]]], texts: Sequence[str],
               progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors of texts in their order, (n, dim). `progress` is told how many texts are done so far."""
        vectors = np.empty((len(texts), self._dim), np.float32)
        done = 0
        for start in range(0, len(texts), WINDOW):
            window = tokens(texts[start:start + WINDOW])
            for batch in plan_batches([len(ids) for ids in window], self._budget):
                vectors[start + batch] = self._vectors([window[i] for i in batch])
                done += len(batch)
                if progress is not None:
                    progress(done)
        return vectors

    @torch.inference_mode()
    def _vectors(self, texts: list[list[int]]) -> NDArray[np.float32]:
        states = self._network(texts)
        pooled, start = [], 0
        for n, length in equal_runs([len(text) for text in texts]):
            rows = states[start:start + n * length].view(n, length, -1).float()
            pooled.append(pool(rows, self._pooling))
            start += n * length
        vectors = torch.cat(pooled)
        return (unit_rows(vectors) if self._normalise else vectors).cpu().numpy()
