"""The models by themselves: which there are and embeddings in OpenAI's shape, ranking in Cohere's."""

import base64
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from facetrail.app.bodies import json_response, read_json
from facetrail.app.deps import PlainRoute, answers, platform_of, takes
from facetrail.app.reason_schemas import ModelsShape
from facetrail.app.schemas import EmbeddingsBody, RerankBody
from facetrail.app.shapes import EmbeddingsShape, RerankShape
from facetrail.indexing.index import Float32Array, Float64Array, Hits
from facetrail.indexing.request import FusionConfig
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import InvalidInput
from facetrail.models.text.encoder import TextEncoder
from facetrail.models.text.facets import FacetEncoder

router = APIRouter(route_class=PlainRoute, tags=["models"])


@router.get("/v1/models", responses=answers(ModelsShape))
async def models(request: Request) -> Response:
    """The language model that answers here, by the name that `/v1/chat/completions` takes."""
    name = platform_of(request).speaking.name
    return json_response(
        {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "facetrail"}]}
    )


@router.post(
    "/v1/embeddings",
    openapi_extra=takes(EmbeddingsBody),
    responses=answers(EmbeddingsShape, 400, 404, 408, 413, 415, 422),
)
async def embeddings(request: Request) -> Response:
    """Unit vectors of texts, as the collection's encoder makes them."""
    platform = platform_of(request)
    body, _ = await read_json(request, EmbeddingsBody, platform.settings)
    texts = [body.input] if isinstance(body.input, str) else body.input
    _check_count(len(texts), platform.settings.max_texts, "/input")
    if any(not text.strip() for text in texts):
        raise InvalidInput("an empty text has no embedding; leave it out", pointer="/input")
    searcher = platform.collection(body.collection).searcher
    name, vectors, n_tokens = await platform.encode(lambda: _encode(searcher, texts, body))
    data = [
        {"object": "embedding", "index": n, "embedding": _written(row, body.encoding_format)}
        for n, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return json_response({"object": "list", "data": data, "model": name, "usage": usage})


def _encode(searcher: Searcher, texts: Sequence[str], body: EmbeddingsBody) -> tuple[str, Float32Array, int]:
    encoder = searcher.encoder
    if body.dimensions is not None and body.dimensions != encoder.dim:
        raise InvalidInput(
            f"this encoder has {encoder.dim} dimensions and no others; leave it out", pointer="/dimensions"
        )
    if body.facet is not None:
        rows = encode_facet(encoder, texts, body.facet, body.input_type)
    else:
        rows = (encoder.encode_queries if body.input_type == "query" else encoder.encode_documents)(texts)
    vectors = np.ascontiguousarray(rows, dtype="<f4")
    source = encoder.card.base_source or encoder.card.source  # a UniFAR folder leaves the tokeniser to its base
    return encoder.name, vectors, sum(_count_tokens(source, text) for text in texts)


def encode_facet(encoder: TextEncoder, texts: Sequence[str], facet: str, input_type: str) -> Float32Array:
    """One facet's unit vectors of texts. Returns (len(texts), dim). Raises InvalidInput for a facet there is not."""
    known = encoder.facets if isinstance(encoder, FacetEncoder) else ()
    if not isinstance(encoder, FacetEncoder) or facet not in known:
        have = f"has the facets {', '.join(known)}" if known else "has no facets; leave it out"
        raise InvalidInput(f"{facet!r} is no facet of this encoder, which {have}", pointer="/facet")
    k = known.index(facet)
    if input_type == "query":
        return np.stack([encoder.encode_facet_query(text).facets[k] for text in texts])
    batch = encoder.encode_facets(texts)[1]
    rows = batch.vectors[:, k] * batch.scales[:, k, None]
    unit: Float32Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)  # eight bits leave them a little off
    return unit


def _count_tokens(source: str, text: str) -> int:
    tokeniser = _tokeniser(source)
    return len(text.split()) if tokeniser is None else len(tokeniser.encode(text).ids)


@lru_cache(maxsize=8)
def _tokeniser(source: str) -> Any:
    path = Path(source) / "tokenizer.json"
    if not path.is_file():
        return None
    from tokenizers import Tokenizer

    tokeniser = Tokenizer.from_file(str(path))
    tokeniser.no_truncation()
    tokeniser.no_padding()
    return tokeniser


def _written(row: Float32Array, encoding_format: str) -> Any:
    return base64.b64encode(row.tobytes()).decode() if encoding_format == "base64" else row


@router.post(
    "/v1/rerank", openapi_extra=takes(RerankBody), responses=answers(RerankShape, 400, 404, 408, 413, 415, 422)
)
async def rerank(request: Request) -> Response:
    """Ranks given documents for a query; `meta.method` says how the scores were made."""
    platform = platform_of(request)
    body, _ = await read_json(request, RerankBody, platform.settings)
    texts = [d if isinstance(d, str) else d.text for d in body.documents]
    _check_count(len(texts), platform.settings.max_texts, "/documents")
    collection = platform.collection(body.collection)
    method = body.method or ("hybrid" if "dense" in collection.info.modes else "lexical")
    scores = await platform.encode(lambda: score_texts(collection.searcher, body.query, texts, method))
    order = np.lexsort((np.arange(len(scores)), -scores))[: body.top_n].tolist()
    results = [{"index": n, "relevance_score": float(scores[n])} for n in order]
    if body.return_documents:
        results = [{**r, "document": {"text": texts[n]}} for n, r in zip(order, results, strict=True)]
    return json_response(
        {"id": request.scope["state"]["request_id"].decode(), "results": results, "meta": {"method": method}}
    )


def score_texts(searcher: Searcher, query: str, texts: Sequence[str], method: str) -> Float64Array:
    """Scores of given texts for a query, higher is better. Returns (len(texts),) float64; see `RerankBody.method`."""
    from facetrail.indexing.fusion import fuse
    from facetrail.indexing.lexical import LexicalIndex

    everything = np.arange(len(texts), dtype=np.int64)
    sources: dict[str, Hits] = {}
    if method != "dense":
        index = LexicalIndex()
        index.add(everything.tolist(), list(texts))
        found = index.search(query, len(texts))
        raw = np.zeros(len(texts))
        raw[found.ordinals] = found.scores
        sources["lexical"] = Hits(everything, raw)  # without a query term: zero, not absent
    if method != "lexical":
        encoder = searcher.encoder
        cosines = encoder.encode_documents(texts) @ encoder.encode_queries([query])[0]
        sources["dense"] = Hits(everything, cosines.astype(np.float64))
    if len(sources) == 1:
        return next(iter(sources.values())).scores
    fused = fuse(sources, FusionConfig(depth=max(1, len(texts))))
    scores = np.empty(len(texts))
    scores[fused.ordinals] = fused.scores
    return scores


def _check_count(n: int, n_allowed: int, pointer: str) -> None:
    if n > n_allowed:
        raise InvalidInput(
            f"{n:,} texts in one request, at most {n_allowed:,} are taken; send several", pointer=pointer
        )
