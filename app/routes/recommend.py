"""Events in, recommendations out."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from facetrail.app.auth import Keys
from facetrail.app.bodies import check_tree, json_response, parse_json_parameter, read_json, read_query
from facetrail.app.deps import PlainRoute, answers, platform_of, takes, takes_parameters
from facetrail.app.payloads import written_document
from facetrail.app.recommend_schemas import (
    EventIn,
    EventsBody,
    EventsShape,
    RecommendBody,
    RecommendParameters,
    RecommendShape,
)
from facetrail.indexing.events_corpus import AHEAD_MS, SECONDS_BELOW
from facetrail.indexing.recommend_request import RecommendResult
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.records import Event, Recommendation
from facetrail.models.records import Document

router = APIRouter(route_class=PlainRoute, tags=["recommendation"])
PARSE = {"filter": parse_json_parameter("filter")}


@router.post(
    "/v1/events",
    openapi_extra=takes(EventsBody),
    responses=answers(EventsShape, 400, 403, 404, 408, 409, 413, 415, 422),
)
async def post_events(request: Request) -> Response:
    """Adds events. They are on disk, and part of the next recommendation, when the answer comes; sending them again
    changes nothing."""
    platform = platform_of(request)
    body, _ = await read_json(request, EventsBody, platform.settings)
    n_allowed = platform.settings.max_events
    if len(body.events) > n_allowed:
        raise InvalidInput(
            f"{len(body.events):,} events in one request, at most {n_allowed:,} are taken; send several",
            pointer="/events",
        )
    latest = time.time_ns() // 1_000_000 + AHEAD_MS
    events = [_event(given, place, latest) for place, given in enumerate(body.events)]
    collection = platform.collection(body.collection)
    return json_response(await platform.write(collection, lambda _: collection.events.put(events)))


def _event(given: EventIn, place: int, latest: int) -> Event:
    pointer = f"/events/{place}/time"
    if 0 <= given.time < SECONDS_BELOW:
        raise InvalidInput(
            f"event {place}: the time {given.time} looks like seconds; send milliseconds since 1970", pointer=pointer
        )
    if given.time > latest:
        raise InvalidInput(
            f"event {place}: the time {given.time} lies in the future; check its unit and the clock that wrote it",
            pointer=pointer,
        )
    return Event(given.user, given.item, given.action, given.time, given.value, given.request_id)


@router.post(
    "/v1/recommend",
    openapi_extra=takes(RecommendBody),
    responses=answers(RecommendShape, 400, 403, 404, 408, 409, 410, 413, 415, 422),
)
async def recommend(request: Request) -> Response:
    """Recommends documents: to a stored user, or to whoever has the history that is sent along.

    `log_impression` writes, so it needs a key that may."""
    body, _ = await read_json(request, RecommendBody, platform_of(request).settings)
    return await _answer(request, body)


@router.get(
    "/v1/recommend",
    openapi_extra=takes_parameters(RecommendParameters, encoded=("filter",)),
    responses=answers(RecommendShape, 404, 409, 410, 422),
)
async def recommend_by_url(request: Request) -> Response:
    """The same in a URL: `/v1/recommend?user=ann&limit=5`."""
    asked = read_query(request, RecommendParameters, PARSE)
    return await _answer(request, RecommendBody.model_validate(asked.model_dump(exclude_unset=True)))


async def _answer(request: Request, body: RecommendBody) -> Response:
    platform = platform_of(request)
    if body.filter is not None:
        check_tree(body.filter, platform.settings.max_json_depth, "/filter")
    collection = platform.collection(body.collection)
    if body.log_impression:  # it writes, on a route that reading keys may use
        Keys.of(platform.settings).check("write", dict(request.scope["headers"]))
    recommending = collection.recommending

    def answer() -> tuple[RecommendResult, list[Document | None]]:
        result = recommending.recommend(body)
        ids = [item.id for item in result.items]
        return result, collection.searcher.collection.get_many(ids) if body.with_payload else [None] * len(ids)

    result, documents = await platform.searching.run(answer)
    if body.log_impression:
        await platform.write(collection, lambda _: recommending.log_impression(body, result))
    return json_response(written(result, documents))


def written(result: RecommendResult, documents: Sequence[Document | None]) -> dict[str, Any]:
    """A result as plain dictionaries; documents: the items', in their order, None for those not asked for."""
    items = [
        {**_fields(item), "payload": None if document is None else written_document(document)}
        for item, document in zip(result.items, documents, strict=True)
    ]
    return {**_fields(result), "items": items}


def _fields(record: Recommendation | RecommendResult) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
