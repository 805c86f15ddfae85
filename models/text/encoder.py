"""From text to vector: the seam that indexes and the service see, and the one function that opens an encoder."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from facetrail.models.errors import Damaged
from facetrail.models.text.pooling import Pooling
from facetrail.models.text.source import EncoderSource, Overrides, find_source
from facetrail.models.text.tokenise import Tokeniser

if TYPE_CHECKING:
    from facetrail.models.text.bulk import PackedRunner

Float32Array = NDArray[np.float32]
Progress = Callable[[int], None]
Runtime = Literal["auto", "torch", "onnx"]
Bulk = Literal["auto", "fp32", "bf16"]


class EncoderCard(BaseModel):
    """What an encoder is. Lengths are in tokens, special tokens included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    """The folder it was read from."""
    dim: int
    pooling: Pooling | Literal["pipeline"]
    """`pipeline`: modules of its own, run by the sentence-transformers library."""
    normalise: bool
    query_prefix: str
    document_prefix: str
    max_query_tokens: int
    max_document_tokens: int
    weights_sha256: str
    dtype_bulk: Literal["fp32", "bf16", "undecided"]
    """Number format of the bulk path; undecided until it is first loaded."""
    runtime_query: Literal["onnx", "torch", "undecided"]
    """What runs a few texts at a time; undecided until it is first loaded."""


class TextEncoder(Protocol):
    """From text to unit vectors. Equal fingerprints mean comparable vectors."""

    name: str
    dim: int
    fingerprint: str

    @property
    def card(self) -> EncoderCard: ...

    def encode_queries(self, texts: Sequence[str]) -> Float32Array:
        """(len(texts), dim) float32 unit rows, in the texts' order."""

    def encode_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Float32Array:
        """(len(texts), dim) float32 unit rows, in the texts' order. `progress` hears how many texts are done so far."""


class LocalEncoder:
    """An encoder that runs in this process; networks are loaded when first needed. Safe to share between threads."""

    def __init__(self, source: EncoderSource, *, runtime: Runtime, bulk: Bulk, device: str) -> None:
        self.name, self.dim, self.fingerprint = source.name, source.dim, source.fingerprint
        self._source, self._runtime, self._bulk, self._device = source, runtime, bulk, device
        self._runner: PackedRunner | None = None
        self._dtype: Literal["fp32", "bf16", "undecided"] = "undecided"
        self._lock = threading.Lock()
        path = source.modules / "tokenizer.json"
        self._query_tokens = Tokeniser(path, prefix=source.query_prefix, max_tokens=source.max_query_tokens,
                                       lowercase=source.lowercase)
        self._document_tokens = Tokeniser(path, prefix=source.document_prefix, max_tokens=source.max_document_tokens,
                                          lowercase=source.lowercase)

    @property
    def card(self) -> EncoderCard:
        """What this encoder is, as far as decided by now."""
        source = self._source
        return EncoderCard(
            name=source.name, source=str(source.folder), dim=source.dim, pooling=source.pooling or "pipeline",
            normalise=source.normalise, query_prefix=source.query_prefix, document_prefix=source.document_prefix,
            max_query_tokens=source.max_query_tokens, max_document_tokens=source.max_document_tokens,
            weights_sha256=source.weights_sha256, dtype_bulk=self._dtype, runtime_query="torch")

    def encode_queries(self, texts: Sequence[str]) -> Float32Array:
        """See `TextEncoder`."""
        return self._encode(self._query_tokens, texts, None)

    def encode_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Float32Array:
        """See `TextEncoder`."""
        return self._encode(self._document_tokens, texts, progress)

    def _encode(self, tokens: Tokeniser, texts: Sequence[str], progress: Progress | None) -> Float32Array:
        vectors = self._loaded().encode(tokens, texts, progress)
        if not np.isfinite(vectors).all():
            raise Damaged(f"the encoder {self.name!r} gave vectors that are not finite; its weights are unusable, "
                          f"install it again or choose another")
        return vectors

    def _loaded(self) -> "PackedRunner":
        with self._lock:
            if self._runner is None:
                import torch
                from safetensors.torch import load_file

                from facetrail.models.text.bert import PackedBert
                from facetrail.models.text.bulk import PackedRunner

                source = self._source
                assert source.pooling is not None
                self._dtype = "bf16" if self._bulk == "bf16" else "fp32"
                dtype = torch.bfloat16 if self._dtype == "bf16" else torch.float32
                device = "cpu" if self._device == "auto" else self._device
                network = PackedBert(load_file(source.weights[0]), source.config, dtype=dtype, device=torch.device(device))
                self._runner = PackedRunner(network, source.pooling, normalise=source.normalise, dim=source.dim)
            return self._runner


def load_encoder(name: str = "base", *, runtime: Runtime = "auto", bulk: Bulk = "auto", device: str = "auto",
                 query_prefix: str | None = None, document_prefix: str | None = None, pooling: Pooling | None = None,
                 normalise: bool | None = None, max_query_tokens: int | None = None,
                 max_document_tokens: int | None = None) -> TextEncoder:
    """Opens an encoder.

    name: "base" (all-MiniLM-L6-v2 from the package index, checked by sha256), a folder saved by sentence-transformers or
    transformers, or a hub name. The options left None are taken from the folder.
    Raises NotFound (no such encoder), Damaged (weights are not what they should be), InvalidInput (an option).
    """
    overrides = Overrides(query_prefix=query_prefix, document_prefix=document_prefix, pooling=pooling, normalise=normalise,
                          max_query_tokens=max_query_tokens, max_document_tokens=max_document_tokens)
    return LocalEncoder(find_source(name, overrides), runtime=runtime, bulk=bulk, device=device)
