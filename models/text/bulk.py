"""Many texts: torch, sorted by length over a wide window, batches of a token budget."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from facetrail.models.text.networks import Library, Network
from facetrail.models.text.pooling import unit_rows
from facetrail.models.text.tokenise import Tokeniser

WINDOW = 8_192
"""Texts tokenised and sorted together; bounds memory while leaving little difference in length within a batch."""
CPU_TOKENS = 2_048
"""Tokens of a batch: its widest activation (2,048 × 1,536 float32) fits the last-level cache."""
GPU_TOKENS = 65_536

Progress = Callable[[int], None]


class Runner(Protocol):
    """Texts → (n, dim) float32 in the texts' order."""

    def encode(
        self, tokens: Tokeniser, texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]: ...


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


class NetworkRunner:
    """Texts through a network of ours."""

    def __init__(self, network: Network, *, normalise: bool, dim: int) -> None:
        self._network, self._normalise, self._dim = network, normalise, dim
        self._budget = CPU_TOKENS if network.device.type == "cpu" else GPU_TOKENS

    def encode(self, tokens: Tokeniser, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """See `Runner`."""
        vectors = np.empty((len(texts), self._dim), np.float32)
        done = 0
        for start in range(0, len(texts), WINDOW):
            window = tokens(texts[start : start + WINDOW])
            for batch in plan_batches([len(ids) for ids in window], self._budget):
                vectors[start + batch] = self.vectors([window[i] for i in batch])
                done += len(batch)
                if progress is not None:
                    progress(done)
        return vectors

    @torch.inference_mode()
    def vectors(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Vectors of one batch of token ids, best sorted by length: (n, dim)."""
        pooled = self._network(ids)
        vectors: NDArray[np.float32] = (unit_rows(pooled) if self._normalise else pooled).cpu().numpy()
        return vectors


class LibraryRunner:
    """Texts through the sentence-transformers library."""

    CHUNK = 256

    def __init__(self, library: Library, dim: int) -> None:
        self._library, self._dim = library, dim

    def encode(self, tokens: Tokeniser, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """See `Runner`."""
        vectors = np.empty((len(texts), self._dim), np.float32)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), self.CHUNK):
            chunk = order[start : start + self.CHUNK]
            vectors[chunk] = self._library.encode([tokens.prepare(texts[i]) for i in chunk], tokens.max_tokens)
            if progress is not None:
                progress(start + len(chunk))
        return vectors
