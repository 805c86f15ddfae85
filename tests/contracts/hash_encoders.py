"""Encoders without a network: equal text, equal vector."""

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetrail.models.text.encoder import EncoderCard
from facetrail.models.text.facets import FACETS, FacetBatch, FacetQuery, Task, quantise


class HashEncoder:
    """A deterministic encoder without a network: a text's vector is the sum of one random vector a word."""

    def __init__(self, dim: int = 32, salt: str = "") -> None:
        self.name, self.dim, self.salt = f"hash{salt}", dim, salt
        self.fingerprint = hashlib.sha256(f"hash encoder {dim} {salt}".encode()).hexdigest()
        self.n_encoded = 0

    @property
    def card(self) -> EncoderCard:
        return EncoderCard(
            name=self.name,
            source="tests",
            dim=self.dim,
            pooling="mean",
            normalise=True,
            query_prefix="",
            document_prefix="",
            max_query_tokens=256,
            max_document_tokens=256,
            weights_sha256=self.fingerprint,
            dtype_bulk="fp32",
            runtime_query="torch",
        )

    def encode_documents(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        self.n_encoded += len(texts)
        rows = np.stack([self._vector(text) for text in texts]) if texts else np.empty((0, self.dim))
        if progress is not None:
            progress(len(texts))
        return rows.astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode_documents(texts)

    def _vector(self, text: str) -> NDArray[np.float64]:
        total = np.zeros(self.dim)
        for word in [self.salt, *text.lower().split()]:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "replace")).digest()[:8], "big")
            total += np.random.default_rng(seed).standard_normal(self.dim)
        return np.asarray(total / np.linalg.norm(total))


class FacetHashEncoder(HashEncoder):
    """A `HashEncoder` with facets: the word `method:graph` says "graph" under the facet method.

    A facet's vector is that of the words with its prefix, and the single vector where there are none. Prefixes do not
    count in the single vector, so what facet search adds is exactly what the prefixes say. A sentence is a line, or
    ends with ". "; its attention and role follow its share of a facet's words.
    """

    facets = FACETS
    margin = 0.05
    mixing = 0.3

    def __init__(self, dim: int = 32, salt: str = "") -> None:
        super().__init__(dim, f"{salt} facets")

    def encode_facet_query(self, text: str, *, task: Task | Literal["auto"] = "auto") -> FacetQuery:
        single, facets, prior = self._parts(text)
        guessed: Task = "question" if text.endswith("?") or len(text.split()) < 40 else "document"
        gate = np.array([1, 0, 0, 0], np.float32)
        return FacetQuery(single, facets, prior, gate, guessed if task == "auto" else task)

    def encode_facets(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> tuple[NDArray[np.float32], FacetBatch]:
        vectors = self.encode_documents(texts, progress=progress)
        parts = [self._parts(text) for text in texts]
        counts = [self._counts(text[a:b]) for text in texts for a, b in self.sentences(text)]
        shares = np.array(counts, np.float64).reshape(-1, len(self.facets))
        first = np.cumsum([0, *(len(self.sentences(text)) for text in texts)]).astype(np.int64)
        attention = shares.copy()
        for a, b in pairwise(first.tolist()):
            attention[a:b] /= shares[a:b].sum(axis=0)
        facets = np.stack([part[1] for part in parts]) if parts else np.empty((0, len(self.facets), self.dim))
        batch = FacetBatch(
            *quantise(facets.astype(np.float32)),
            np.array([part[2] for part in parts], np.float32).reshape(-1, len(self.facets)),
            np.tile(np.array([0.4, 0.1, 0.3, 0.2], np.float32), (len(texts), 1)),
            first,
            np.rint(255 * attention).astype(np.uint8),
            np.rint(255 * shares / shares.sum(axis=1, keepdims=True)).astype(np.uint8),
        )
        return vectors, batch

    def sentences(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S(?:[^.\n]|\.(?!\s))*\.?", text)]

    def _parts(self, text: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        single = self._vector(text)
        said = {name: [w for w in text.lower().split() if w.startswith(f"{name}:")] for name in self.facets}
        facets = [self._vector(" ".join(words)) if words else single for words in said.values()]
        counts = np.array(self._counts(text))
        return (
            single.astype(np.float32),
            np.stack(facets).astype(np.float32),
            (counts / counts.sum()).astype(np.float32),
        )

    def _counts(self, text: str) -> list[float]:
        """Words of each facet, and a tenth, so that nothing is divided by zero."""
        return [0.1 + sum(word.startswith(f"{name}:") for word in text.lower().split()) for name in self.facets]

    def _vector(self, text: str) -> NDArray[np.float64]:
        return super()._vector(" ".join(word.rpartition(":")[2].rstrip(".?") for word in text.split()))
