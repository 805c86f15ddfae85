"""Questions in, answers with checked citations out: whole, or as they are written."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from sse_starlette import ServerSentEvent

from facetrail.app.bodies import check_tree, json_response, read_json
from facetrail.app.deps import PlainRoute, answers, platform_of, takes
from facetrail.app.errors import problem_of
from facetrail.app.event_stream import EventStream, begun, event
from facetrail.app.reason_schemas import AnswerShape, ReasonBody
from facetrail.app.speaking import unless_gone
from facetrail.indexing.reason_request import Answer, Retrieved, Token
from facetrail.models.errors import FacetrailError

if TYPE_CHECKING:
    from facetrail.indexing.reason_request import AnswerEvent

router = APIRouter(route_class=PlainRoute, tags=["reasoning"])


@router.post(
    "/v1/reason",
    openapi_extra=takes(ReasonBody),
    responses=answers(AnswerShape, 400, 404, 408, 409, 413, 415, 422),
)
async def reason(request: Request) -> Response:
    """Answers a question from the collection, or says that it does not know. With `stream` as server-sent events."""
    platform = platform_of(request)
    body, _ = await read_json(request, ReasonBody, platform.settings)
    if body.filter is not None:
        check_tree(body.filter, platform.settings.max_json_depth, "/filter")
    if platform.settings.log_queries:
        request.scope["state"]["log"] = {"query": body.question}
    talk = platform.reason(platform.collection(body.collection), body)
    if body.stream:
        items = await begun(request, talk)
        return EventStream(_told(items, request.scope["path"]), talk, platform.settings)
    return json_response(await unless_gone(request, _answer(talk.items())))


async def _answer(items: "AsyncIterator[AnswerEvent]") -> Answer:
    last: Any = None
    async for item in items:
        last = item
    assert isinstance(last, Answer)
    return last


async def _told(items: "AsyncGenerator[AnswerEvent, None]", path: str) -> AsyncGenerator[ServerSentEvent, None]:
    try:
        async for item in items:
            if isinstance(item, Retrieved):
                yield event({"citations": item.citations}, "retrieved")
            elif isinstance(item, Token):
                yield event({"text": item.text}, "token")
            else:
                yield event(item, "done")
    except FacetrailError as error:
        yield event(problem_of(error, path)[1], "error")
    finally:
        await items.aclose()
