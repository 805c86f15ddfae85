"""UniFAR as people use it: ONNX Runtime for a few queries, torch for many texts, facets for both."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput
from facetrail.models.text.encoder import Bulk, EncoderCard, Float32Array, Progress, Runtime
from facetrail.models.text.facet_query import LAYOUT_PROBES, UnifarSession, layout_tokeniser, open_unifar
from facetrail.models.text.facets import FacetBatch, FacetQuery, Task, UInt8Array, quantise
from facetrail.models.text.gate import Verdict, judge
from facetrail.models.text.layout import TokenisedText
from facetrail.models.text.query import default_threads
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
from facetrail.models.text.task import is_question
from facetrail.models.text.unifar_checkpoint import UnifarSource

if TYPE_CHECKING:
    from facetrail.models.text.facet_bulk import Encoded, UnifarNetwork

TaskOrAuto = Task | Literal["auto"]
LaidOut = tuple[TokenisedText, bool]


class UnifarEncoder:
    """A `FacetEncoder`; networks are loaded when first needed. Safe to share between threads."""

    def __init__(
        self, source: UnifarSource, *, runtime: Runtime, bulk: Bulk, device: str, query_cache: int, threads: int | None
    ) -> None:
        self.name, self.dim, self.fingerprint = source.name, source.config.dim, source.fingerprint
        self.facets, self.margin, self.mixing = source.config.facets, source.config.margin, source.mixing
        self._source, self._runtime, self._bulk, self._device = source, runtime, bulk, device
        self._threads = threads
        self._cache: QueryCache[tuple[str, TaskOrAuto], FacetQuery] = QueryCache(query_cache)
        self._network: UnifarNetwork | None = None
        self._session: UnifarSession | None = None
        self._dtype: Literal["fp32", "bf16", "undecided"] = "undecided"
        self._query_runtime: Literal["onnx", "torch", "undecided"] = "torch" if runtime == "torch" else "undecided"
        self._loading = threading.RLock()
        self._documents = layout_tokeniser(source, "document")
        self._questions = layout_tokeniser(source, "question")

    @property
    def card(self) -> EncoderCard:
        """What this encoder is, as far as decided by now."""
        base = self._source.base
        return EncoderCard(
            name=self.name,
            source=str(self._source.folder),
            dim=self.dim,
            pooling="mean",
            normalise=True,
            query_prefix=base.query_prefix,
            document_prefix=base.document_prefix,
            max_query_tokens=base.max_query_tokens,
            max_document_tokens=base.max_document_tokens,
            weights_sha256=self._source.weights_sha256,
            dtype_bulk=self._dtype,
            runtime_query=self._query_runtime,
            facets=self.facets,
            base=base.name,
            base_source=str(base.modules),
            base_sha256=base.weights_sha256,
        )

    def encode_queries(self, texts: Sequence[str]) -> Float32Array:
        """See `TextEncoder`; each text is taken for a question or a document by itself."""
        texts = checked(texts)
        vectors = np.empty((len(texts), self.dim), np.float32)
        if len(texts) <= FEW or self._runtime == "onnx":
            for row, query in enumerate(self._queries(texts, "auto")):
                vectors[row] = query.single
            return vectors
        for positions, encoded in self._batches(texts, "auto"):
            vectors[positions] = encoded.single
        return vectors

    def encode_facet_query(self, text: str, *, task: TaskOrAuto = "auto") -> FacetQuery:
        """See `FacetEncoder`."""
        if task not in ("auto", "question", "document"):
            raise InvalidInput(f"the task {task!r} is not known; use auto, question or document", pointer="/task")
        (query,) = self._queries(checked([text]), task)
        # What is remembered must not change with what the caller does to it.
        return replace(
            query,
            single=query.single.copy(),
            facets=query.facets.copy(),
            prior=query.prior.copy(),
            gate=query.gate.copy(),
        )

    def encode_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Float32Array:
        """See `TextEncoder`."""
        texts = checked(texts)
        vectors = np.empty((len(texts), self.dim), np.float32)
        for positions, encoded in self._batches(texts, "document", progress):
            vectors[positions] = encoded.single
        return vectors

    def encode_facets(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> tuple[Float32Array, FacetBatch]:
        """See `FacetEncoder`."""
        texts, k = checked(texts), len(self.facets)
        n = len(texts)
        single, vectors = np.empty((n, self.dim), np.float32), np.empty((n, k, self.dim), np.int8)
        scales, prior, gate = (np.empty((n, width), np.float32) for width in (k, k, 4))
        none = np.empty((0, k), np.uint8)
        attention, roles = [none] * n, [none] * n
        for positions, encoded in self._batches(texts, "document", progress):
            single[positions], prior[positions], gate[positions] = encoded.single, encoded.prior, encoded.gate
            vectors[positions], scales[positions] = quantise(encoded.facets)
            for row, position in enumerate(positions):
                attention[position] = _eight_bits(encoded.attention[row])
                roles[position] = _eight_bits(encoded.roles[row])
        first = np.cumsum([0, *(len(rows) for rows in roles)], dtype=np.int64)
        joined = (np.concatenate([none, *rows]) for rows in (attention, roles))
        return single, FacetBatch(vectors, scales, prior, gate, first, *joined)

    def sentences(self, text: str) -> list[tuple[int, int]]:
        """See `FacetEncoder`; what lies behind the last token that counts has no sentence."""
        return self._documents(checked([text]))[0].spans

    def _queries(self, texts: list[str], task: TaskOrAuto) -> list[FacetQuery]:
        known = self._cache.known((text, task) for text in texts)
        missing = list(dict.fromkeys(text for text in texts if (text, task) not in known))
        if missing:
            fresh = {(text, task): query for text, query in zip(missing, self._few(missing, task), strict=True)}
            known |= fresh
            self._cache.remember(fresh)
        return [known[text, task] for text in texts]

    def _few(self, texts: list[str], task: TaskOrAuto) -> Iterator[FacetQuery]:
        session = self._onnx_session()
        for text, asks in self._lay_out(texts, task):
            if session is not None:
                query = session(text, asks)
            else:
                made = self._bulk_network().encode([(text, asks)])
                kind: Task = "question" if asks else "document"
                query = FacetQuery(made.single[0], made.facets[0], made.prior[0], made.gate[0], kind)
            finite(self.name, query.single)
            finite(self.name, query.facets)
            yield query

    def _batches(
        self, texts: list[str], task: TaskOrAuto, progress: Progress | None = None
    ) -> Iterator[tuple[NDArray[np.int64], "Encoded"]]:
        if not texts:
            return
        done = 0
        for positions, encoded in self._bulk_network().batches(texts, lambda window: self._lay_out(window, task)):
            finite(self.name, encoded.single)
            finite(self.name, encoded.facets)
            yield positions, encoded
            done += len(positions)
            if progress is not None:
                progress(done)

    def _lay_out(self, texts: Sequence[str], task: TaskOrAuto) -> list[LaidOut]:
        if task == "document":
            return [(text, False) for text in self._documents(texts)]
        questions = self._questions(texts)
        if task == "question":
            return [(text, True) for text in questions]
        asks = [is_question(text, len(laid_out.ids)) for text, laid_out in zip(texts, questions, strict=True)]
        others = iter(self._documents([text for text, asked in zip(texts, asks, strict=True) if not asked]))
        return [
            (laid_out, True) if asked else (next(others), False)
            for laid_out, asked in zip(questions, asks, strict=True)
        ]

    def _onnx_session(self) -> UnifarSession | None:
        with self._loading:
            if self._query_runtime == "undecided":
                threads = self._threads or default_threads()
                self._session = graph_or_torch(
                    self.name,
                    self._runtime,
                    lambda: open_unifar(self._source, self._documents, lambda: self._opened("fp32"), threads=threads),
                )
                self._query_runtime = "torch" if self._session is None else "onnx"
            return self._session

    def _bulk_network(self) -> "UnifarNetwork":
        with self._loading:
            if self._network is None:
                dtype = number_format(
                    self._bulk,
                    torch_device(self._device),
                    name=self.name,
                    graph_key=self._source.graph_key,
                    gate=self._bf16_verdict,
                )
                self._network, self._dtype = self._opened(dtype), dtype
            return self._network

    def _bf16_verdict(self) -> Verdict:
        probes = sorted(self._lay_out(LAYOUT_PROBES, "document"), key=lambda probe: -len(probe[0].ids))
        exact, made = (self._opened(dtype).encode(probes) for dtype in ("fp32", "bf16"))
        verdict = judge(exact.single, made.single, min_cosine=MIN_COSINE_BF16, tie=TIE_BF16, whole_ranking=False)
        if not verdict.passed:
            return verdict
        rows = (encoded.facets.reshape(-1, self.dim) for encoded in (exact, made))
        return judge(*rows, min_cosine=MIN_COSINE_BF16, tie=np.inf, whole_ranking=False)

    def _opened(self, dtype: Literal["fp32", "bf16"]) -> "UnifarNetwork":
        import torch

        from facetrail.models.text.facet_bulk import UnifarNetwork

        wanted = torch.bfloat16 if dtype == "bf16" else torch.float32
        return UnifarNetwork(self._source, dtype=wanted, device=torch_device(self._device))


def _eight_bits(probabilities: Float32Array) -> UInt8Array:
    """0 to 1 as 0 to 255."""
    return np.rint(probabilities * 255).astype(np.uint8)
