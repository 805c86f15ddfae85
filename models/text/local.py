"""The encoder that runs in this process: ONNX Runtime for a few queries, torch for many texts."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.text.cache import cache_folder, replacing
from facetrail.models.text.encoder import Bulk, EncoderCard, Float32Array, Progress, Runtime
from facetrail.models.text.gate import PROBES, Verdict, judge
from facetrail.models.text.query import OnnxRunner, default_threads, open_onnx
from facetrail.models.text.runtime import (
    FEW,
    MIN_COSINE_BF16,
    TIE_BF16,
    QueryCache,
    checked,
    finite,
    graph_or_torch,
    number_format,
    torch_device,
)
from facetrail.models.text.source import EncoderSource
from facetrail.models.text.tokenise import Tokeniser

if TYPE_CHECKING:
    from facetrail.models.text.bulk import NetworkRunner, Runner


class LocalEncoder:
    """A `TextEncoder`; networks are loaded when first needed. Safe to share between threads."""

    def __init__(
        self, source: EncoderSource, *, runtime: Runtime, bulk: Bulk, device: str, query_cache: int, threads: int | None
    ) -> None:
        self.name, self.dim, self.fingerprint = source.name, source.dim, source.fingerprint
        self._source, self._runtime, self._bulk, self._device = source, runtime, bulk, device
        self._threads = threads
        self._cache: QueryCache[str, Float32Array] = QueryCache(query_cache)
        self._runner: Runner | None = None
        self._onnx: OnnxRunner | None = None
        self._dtype: Literal["fp32", "bf16", "undecided"] = "fp32" if source.pooling is None else "undecided"
        self._query_runtime: Literal["onnx", "torch", "undecided"] = "undecided"
        if runtime == "torch" or source.pooling is None:
            self._query_runtime = "torch"
        self._loading = threading.RLock()
        path = tokeniser_file(source)
        self._query_tokens = Tokeniser(
            path, prefix=source.query_prefix, max_tokens=source.max_query_tokens, lowercase=source.lowercase
        )
        self._document_tokens = self._query_tokens.with_prefix(source.document_prefix)
        if source.max_document_tokens != source.max_query_tokens:
            self._document_tokens = Tokeniser(
                path, prefix=source.document_prefix, max_tokens=source.max_document_tokens, lowercase=source.lowercase
            )

    @property
    def card(self) -> EncoderCard:
        """What this encoder is, as far as decided by now."""
        source = self._source
        return EncoderCard(
            name=source.name,
            source=str(source.folder),
            dim=source.dim,
            pooling=source.pooling or "pipeline",
            normalise=source.normalise,
            query_prefix=source.query_prefix,
            document_prefix=source.document_prefix,
            max_query_tokens=source.max_query_tokens,
            max_document_tokens=source.max_document_tokens,
            weights_sha256=source.weights_sha256,
            dtype_bulk=self._dtype,
            runtime_query=self._query_runtime,
        )

    def encode_queries(self, texts: Sequence[str]) -> Float32Array:
        """See `TextEncoder`."""
        texts = checked(texts)
        if not texts:
            return np.empty((0, self.dim), np.float32)
        if len(texts) > FEW and self._runtime != "onnx":
            return finite(self.name, self._bulk_runner().encode(self._query_tokens, texts))
        known = self._cache.known(texts)
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        if missing:
            fresh = dict(zip(missing, self._few(missing), strict=True))
            known |= fresh
            self._cache.remember({text: vector.copy() for text, vector in fresh.items()})
        return np.stack([known[text] for text in texts])

    def encode_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Float32Array:
        """See `TextEncoder`."""
        texts = checked(texts)
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return finite(self.name, self._bulk_runner().encode(self._document_tokens, texts, progress))

    def _few(self, texts: list[str]) -> Float32Array:
        onnx = self._onnx_runner()
        if onnx is None:
            return finite(self.name, self._bulk_runner().encode(self._query_tokens, texts))
        return finite(self.name, onnx.vectors(self._query_tokens(texts)))

    def _onnx_runner(self) -> OnnxRunner | None:
        with self._loading:
            if self._query_runtime == "undecided":
                self._onnx = graph_or_torch(
                    self.name,
                    self._runtime,
                    lambda: open_onnx(
                        self._source,
                        self._query_tokens,
                        lambda: self._network_runner("fp32"),
                        threads=self._threads or default_threads(),
                    ),
                )
                self._query_runtime = "torch" if self._onnx is None else "onnx"
            return self._onnx

    def _bulk_runner(self) -> "Runner":
        with self._loading:
            if self._runner is None:
                if self._source.pooling is None:
                    from facetrail.models.text.bulk import LibraryRunner
                    from facetrail.models.text.networks import Library

                    self._runner = LibraryRunner(Library(self._source, torch_device(self._device)), self.dim)
                else:
                    dtype = self._decide_dtype()
                    self._runner, self._dtype = self._network_runner(dtype), dtype
            return self._runner

    def _decide_dtype(self) -> Literal["fp32", "bf16"]:
        def gate() -> Verdict:
            ids = sorted(self._document_tokens(PROBES), key=len, reverse=True)
            exact = self._network_runner("fp32").vectors(ids)
            return judge(
                exact,
                self._network_runner("bf16").vectors(ids),
                min_cosine=MIN_COSINE_BF16,
                tie=TIE_BF16,
                whole_ranking=False,
            )

        return number_format(
            self._bulk, torch_device(self._device), name=self.name, graph_key=self._source.graph_key, gate=gate
        )

    def _network_runner(self, dtype: Literal["fp32", "bf16"]) -> "NetworkRunner":
        import torch

        from facetrail.models.text.bulk import NetworkRunner
        from facetrail.models.text.networks import open_network

        network = open_network(
            self._source, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32, device=torch_device(self._device)
        )
        return NetworkRunner(network, normalise=self._source.normalise, dim=self.dim)


def tokeniser_file(source: EncoderSource) -> Path | None:
    """tokenizer.json of the source, converted once where it has only older vocabulary files; None: not ours to run."""
    path = source.modules / "tokenizer.json"
    if source.pooling is None:
        return None
    if path.is_file():
        return path
    converted = cache_folder("tokenisers") / f"{source.tokeniser_sha256}.json"
    if not converted.is_file():
        from transformers import AutoTokenizer

        try:
            tokeniser = AutoTokenizer.from_pretrained(source.modules, local_files_only=True, use_fast=True)
            text = tokeniser.backend_tokenizer.to_str()
        except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
            raise InvalidInput(
                f"the tokeniser in {source.modules} has no fast form; save it again with transformers so "
                f"that tokenizer.json is written"
            ) from error
        with replacing(converted) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return converted
