"""The language model by itself, in OpenAI's shape."""

from fastapi import APIRouter, Request, Response

from facetrail.app.bodies import json_response, read_json
from facetrail.app.chatting import chunks, completion, said
from facetrail.app.deps import PlainRoute, answers, platform_of, takes
from facetrail.app.event_stream import EventStream, begun
from facetrail.app.reason_schemas import ChatBody, ChatShape
from facetrail.app.speaking import unless_gone
from facetrail.models.errors import NotFound

router = APIRouter(route_class=PlainRoute, tags=["reasoning"])


@router.post(
    "/v1/chat/completions",
    openapi_extra=takes(ChatBody),
    responses=answers(ChatShape, 400, 404, 408, 413, 415, 422),
)
async def chat(request: Request) -> Response:
    """The model's answer to messages, whole or, with `stream`, as server-sent events. Nothing is retrieved for it."""
    platform = platform_of(request)
    body, _ = await read_json(request, ChatBody, platform.settings)
    speaking = platform.speaking
    if body.model != speaking.name:
        raise NotFound(f"there is no model {body.model!r} here; GET /v1/models lists the one that answers")
    talk = speaking.begin(lambda: said(speaking.speaker(), body, timeout=platform.settings.language_timeout))
    number = request.scope["state"]["request_id"].decode()
    if body.stream:
        items = await begun(request, talk)
        has_usage = body.stream_options is not None and body.stream_options.include_usage
        events = chunks(items, speaking.name, number, path=request.scope["path"], has_usage=has_usage)
        return EventStream(events, talk, platform.settings)
    return json_response(await unless_gone(request, completion(talk.items(), speaking.name, number)))
