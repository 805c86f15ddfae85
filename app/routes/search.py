"""Searching: one query (POST, or GET for curl and browsers) and batches."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from facetrail.app.bodies import check_tree, json_response, parse_json_parameter, read_json, read_query
from facetrail.app.deps import PlainRoute, answers, metrics_of, platform_of, takes, takes_parameters
from facetrail.app.payloads import written_document
from facetrail.app.schemas import BatchBody, SearchBody, SearchParameters
from facetrail.app.shapes import BatchShape, SearchShape
from facetrail.indexing.request import SearchResult
from facetrail.models.errors import InvalidInput


def parse_facets(value: str) -> Any:
    """`auto` as it stands, weights as a JSON object."""
    return value if value == "auto" else parse_json_parameter("facets")(value)


router = APIRouter(route_class=PlainRoute, tags=["search"])
PARSE = {"filter": parse_json_parameter("filter"), "facets": parse_facets}


@router.post(
    "/v1/search", openapi_extra=takes(SearchBody), responses=answers(SearchShape, 400, 404, 408, 410, 413, 415, 422)
)
async def search(request: Request) -> Response:
    """Searches a collection: by text, by a document's id (`like`), by a vector or by examples (`recommend`)."""
    body, size = await read_json(request, SearchBody, platform_of(request).settings)
    return await _answer(request, body, size)


@router.get(
    "/v1/search",
    openapi_extra=takes_parameters(SearchParameters, encoded=("filter", "facets")),
    responses=answers(SearchShape, 404, 410, 422),
)
async def search_by_url(request: Request) -> Response:
    """The same search in a URL: `/v1/search?q=words&limit=5`."""
    asked = read_query(request, SearchParameters, PARSE)
    given = asked.model_dump(exclude_unset=True)
    query = given.pop("q", None)
    body = SearchBody.model_validate({**given, "query": query} if query is not None else given)
    return await _answer(request, body, len(request.scope["query_string"]))


async def _answer(request: Request, body: SearchBody, size: int) -> Response:
    platform = platform_of(request)
    if body.filter is not None:
        check_tree(body.filter, platform.settings.max_json_depth, "/filter")
    if platform.settings.log_queries and body.query is not None:
        request.scope["state"]["log"] = {"query": body.query}
    collection = platform.collection(body.collection)
    payloads = None
    if platform.is_quick(collection, body, size):
        result, payloads = platform.search_now(collection, body)
    else:
        result = await platform.search(collection, body)
    metrics_of(request).staged(result.timings_ms)
    return json_response(written(result, payloads))


@router.post(
    "/v1/search/batch", openapi_extra=takes(BatchBody), responses=answers(BatchShape, 400, 404, 408, 413, 415, 422)
)
async def search_batch(request: Request) -> Response:
    """The same search for many query texts; encoding and scoring run in batches."""
    platform = platform_of(request)
    body, _ = await read_json(request, BatchBody, platform.settings)
    n_allowed = platform.settings.max_queries
    if len(body.queries) > n_allowed:
        raise InvalidInput(
            f"{len(body.queries)} queries in one batch, at most {n_allowed:,} are taken; send several batches",
            pointer="/queries",
        )
    asked = body.search
    if any(part is not None for part in (asked.query, asked.like, asked.vector, asked.recommend, asked.cursor)):
        raise InvalidInput(
            "a batch has its texts in `queries`; leave query, like, vector, recommend and cursor out", pointer="/search"
        )
    if asked.filter is not None:
        check_tree(asked.filter, platform.settings.max_json_depth, "/search/filter")
    searcher = platform.collection(body.collection).searcher
    try:
        results: list[SearchResult] = await platform.encode(lambda: searcher.search_many(body.queries, asked))
    except InvalidInput as error:
        raise InvalidInput(str(error), pointer=f"/search{error.pointer}") from error
    return json_response({"results": [written(r) for r in results]})


def written(result: SearchResult, payloads: Sequence[Any] | None = None) -> dict[str, Any]:
    """A result as plain dictionaries, which orjson writes at twice the speed of dataclasses.

    payloads: the hits' documents as JSON already, in the hits' order; None takes those in the hits.
    """
    if payloads is None:
        payloads = [None if hit.payload is None else written_document(hit.payload) for hit in result.hits]
    hits = [
        {"id": hit.id, "score": hit.score, "payload": payload, "explanation": hit.explanation}
        for hit, payload in zip(result.hits, payloads, strict=True)
    ]
    return {
        "hits": hits,
        "mode": result.mode,
        "generation": result.generation,
        "warnings": result.warnings,
        "next_cursor": result.next_cursor,
        "facets": result.facets,
        "task": result.task,
        "timings_ms": result.timings_ms,
    }
