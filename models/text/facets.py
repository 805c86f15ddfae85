"""Facets: the seam between an encoder that knows them and the index that searches them.

A facet vector is stored in eight bits: the row's largest absolute value becomes 127. Attention and roles, which are
probabilities, become 0 to 255. All of a document's facet data is about 1.6 kB at four facets of 384 dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facetrail.models.text.encoder import Float32Array, TextEncoder

FACETS = ("background", "objective", "method", "result")
GRANULARITIES = ("document", "token", "sentence", "paragraph")
Task = Literal["question", "document"]
Int8Array = NDArray[np.int8]
UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FacetQuery:
    """One query as a facet search needs it. single: (d,) unit · facets: (k, d) unit rows · prior: (k,) · gate: (4,)."""

    single: Float32Array
    facets: Float32Array
    prior: Float32Array
    gate: Float32Array
    task: Task


@dataclass(frozen=True, slots=True)
class FacetBatch:
    """Facet data of n documents with s sentences altogether.

    vectors: (n, k, d) int8, times scales: (n, k) float32, give unit vectors · prior: (n, k) · gate: (n, 4) ·
    first: (n + 1,) int64, document i has the sentences first[i] to first[i + 1] · attention, roles: (s, k) uint8.
    """

    vectors: Int8Array
    scales: Float32Array
    prior: Float32Array
    gate: Float32Array
    first: NDArray[np.int64]
    attention: UInt8Array
    roles: UInt8Array

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def concatenate(cls, batches: Sequence["FacetBatch"]) -> Self:
        """Several batches as one, in order; at least one."""
        starts = np.cumsum([0, *(batch.first[-1] for batch in batches)])
        first = [batch.first[:-1] + start for batch, start in zip(batches, starts, strict=False)]
        return cls(
            vectors=np.concatenate([batch.vectors for batch in batches]),
            scales=np.concatenate([batch.scales for batch in batches]),
            prior=np.concatenate([batch.prior for batch in batches]),
            gate=np.concatenate([batch.gate for batch in batches]),
            first=np.concatenate([*first, starts[-1:]]).astype(np.int64),
            attention=np.concatenate([batch.attention for batch in batches]),
            roles=np.concatenate([batch.roles for batch in batches]),
        )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """The documents at these positions, in this order."""
        rows = np.asarray(rows, np.int64)
        lengths = np.diff(self.first)[rows]
        first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        inside = np.arange(first[-1]) - np.repeat(first[:-1], lengths)
        sentences = np.repeat(self.first[rows], lengths) + inside
        return type(self)(
            self.vectors[rows],
            self.scales[rows],
            self.prior[rows],
            self.gate[rows],
            first,
            self.attention[sentences],
            self.roles[sentences],
        )


def quantise(vectors: Float32Array) -> tuple[Int8Array, Float32Array]:
    """Rows to eight bits. (..., d) → int8 of the same shape and (...) float32 scales; a row of zeros keeps scale 0."""
    scales = np.abs(vectors).max(axis=-1) / np.float32(127)
    safe = np.where(scales > 0, scales, 1)[..., None]
    return np.rint(vectors / safe).astype(np.int8), scales.astype(np.float32)


@runtime_checkable
class FacetEncoder(TextEncoder, Protocol):
    """A `TextEncoder` that also gives one vector per facet. `encode_documents` gives the same single vectors."""

    facets: tuple[str, ...]
    margin: float
    """What a match of another facet of the document costs (cosine)."""
    mixing: float
    """Share of the facet score in the final one."""

    def encode_facet_query(self, text: str, *, task: Task | Literal["auto"] = "auto") -> FacetQuery:
        """One query; "auto" takes short texts and those that end with a question mark for questions."""

    def encode_facets(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> tuple[Float32Array, FacetBatch]:
        """Single vectors (n, d) and facet data of documents, in the texts' order, in one pass."""

    def sentences(self, text: str) -> list[tuple[int, int]]:
        """Characters [start, end) of the sentences that attention and roles of this text speak of."""
