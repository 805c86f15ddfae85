"""Server-sent events over a talk: the first item decides the status, a client that leaves ends the talk."""

from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import anyio
from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from facetrail.app.bodies import dumps
from facetrail.app.settings import Settings
from facetrail.app.speaking import Talk, unless_gone

T = TypeVar("T")


class EventStream(EventSourceResponse):
    """Events of one talk, which ends with the response, whichever way that ends."""

    def __init__(self, events: AsyncGenerator[ServerSentEvent, None], talk: Talk[Any], settings: Settings) -> None:
        # A service that stops lets streams finish, as it does every other answer.
        super().__init__(events, shutdown_event=anyio.Event(), shutdown_grace_period=settings.drain_seconds, sep="\n")
        self._talk = talk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._talk.stop()  # the events are closed too late, or not at all, where none was ever read


async def begun(request: Request, talk: Talk[T]) -> AsyncGenerator[T, None]:
    """The talk's items, once the first is there: whatever is wrong with the request shows before, and has a status."""
    items = talk.items()
    first = await unless_gone(request, anext(items))

    async def all_items() -> AsyncGenerator[T, None]:
        try:
            yield first
            async for item in items:
                yield item
        finally:
            await items.aclose()

    return all_items()


def event(value: Any, name: str | None = None) -> ServerSentEvent:
    """One event with JSON as its data."""
    return ServerSentEvent(dumps(value).decode(), event=name, sep="\n")
