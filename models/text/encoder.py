"""From text to vector: the seam that indexes and the service see, and the one function that opens an encoder."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from facetrail.models.errors import InvalidInput
from facetrail.models.text.locate import DEFAULT_ENCODER, unifar_folder
from facetrail.models.text.pooling import Pooling
from facetrail.models.text.source import Overrides, find_source

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
    facets: tuple[str, ...] = ()
    """Names of the facets it has vectors for; empty for an encoder of one vector."""
    base: str | None = None
    """Name of the encoder that it differs from, whose other weights and whose tokeniser it uses."""
    base_source: str | None = None
    """The folder of the base."""
    base_sha256: str | None = None
    """sha256 of the base's weights."""


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


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    runtime: Runtime = "auto",
    bulk: Bulk = "auto",
    device: str = "auto",
    query_prefix: str | None = None,
    document_prefix: str | None = None,
    pooling: Pooling | None = None,
    normalise: bool | None = None,
    max_query_tokens: int | None = None,
    max_document_tokens: int | None = None,
    query_cache: int = 1_024,
    threads: int | None = None,
) -> TextEncoder:
    """Opens an encoder; networks are loaded when first needed, so opening is quick.

    name: "base" (all-MiniLM-L6-v2 from the package index, checked by sha256), "unifar" (a `FacetEncoder` trained on
    top of it, part of this package), a folder saved by sentence-transformers or transformers, the folder of a trained
    UniFAR model, or a hub name. The options from query_prefix to max_document_tokens are taken from the folder when
    None and are part of the fingerprint; normalise=False gives up unit rows.
    runtime: what encodes a few queries; "auto" takes ONNX Runtime where it equals torch, else torch with a warning.
    bulk: number format for many texts; "auto" takes bf16 where the processor has it and it ranks as fp32 does.
    device: "auto", "cpu", "cuda", "cuda:1"; for the bulk path. query_cache: query vectors kept, 0 for none.
    threads: threads of one query; None: OMP_NUM_THREADS, else up to 4 cores.
    Raises NotFound (no such encoder), Damaged (weights are not what they should be), InvalidInput (an option), Conflict
    (a UniFAR model of another base).
    """
    if query_cache < 0 or (threads is not None and threads < 1):
        raise InvalidInput("query_cache must be 0 or more and threads 1 or more; leave them out for the defaults")
    overrides = Overrides(
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        pooling=pooling,
        normalise=normalise,
        max_query_tokens=max_query_tokens,
        max_document_tokens=max_document_tokens,
    )
    folder = unifar_folder(name)
    if folder is not None:
        from facetrail.models.text.facet_encoder import UnifarEncoder
        from facetrail.models.text.unifar_checkpoint import find_unifar

        return UnifarEncoder(
            find_unifar(name, folder, overrides),
            runtime=runtime,
            bulk=bulk,
            device=device,
            query_cache=query_cache,
            threads=threads,
        )
    source = find_source(name, overrides)
    if source.pooling is None and (bulk == "bf16" or runtime == "onnx"):
        raise InvalidInput(
            f"the pipeline of {name!r} has modules of its own and runs in fp32 on torch only; leave runtime "
            f"and bulk at auto"
        )
    from facetrail.models.text.local import LocalEncoder

    return LocalEncoder(source, runtime=runtime, bulk=bulk, device=device, query_cache=query_cache, threads=threads)
