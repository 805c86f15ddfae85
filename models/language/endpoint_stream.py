"""A server's answer as it is written: the protocol's server-sent events, read so that the reader can stop at any time.

Ours throughout. The reading runs on an event loop of its own that stands still between two pieces, so the caller needs
none; closing the iterator cancels whatever is waited for, and the closed connection tells the server to stop.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import httpx

from facetrail.models.errors import NotFound, Unavailable
from facetrail.models.language.conversation import Piece
from facetrail.models.language.openai_server import BUSY, OpenAIServer

BREATH_SECONDS = 0.1
"""The longest time between two pieces, full or empty."""
END = "[DONE]"


class StreamingServer(OpenAIServer):
    """A server that can also be listened to while it writes."""

    async def chunks(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of the stream; one alone from a server that answers as a whole.

        Raises Unavailable (down, slow, busy, without this model or talking nonsense) and InvalidInput (refused).
        """
        try:
            async with (
                httpx.AsyncClient(timeout=self._timeout, headers=self._client.headers) as client,
                client.stream("POST", self.url + path, json=body) as response,
            ):
                if response.status_code in BUSY:
                    raise Unavailable(f"{self.url} is too busy (status {response.status_code}); try again later")
                if response.status_code >= 300 or not _is_stream(response):
                    await response.aread()
                    yield self._read(response)
                    return
                async for line in response.aiter_lines():
                    field, _, value = line.partition(":")
                    if field != "data":
                        continue
                    if value.strip() == END:
                        return
                    yield self._chunk(value)
        except NotFound as error:  # whoever asks here named no model: the server's address or model was set wrongly
            raise Unavailable(str(error)) from error
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"{self.url} said nothing for {self._timeout:g} s; raise the timeout or ask for fewer tokens"
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{self.url} does not answer to the end ({type(error).__name__}); start it or correct the URL"
            ) from error

    def _chunk(self, data: str) -> dict[str, Any]:
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise self.nonsense("a part of its stream is no JSON") from error
        if not isinstance(chunk, dict):
            raise self.nonsense("a part of its stream is no JSON object")
        if "error" in chunk:
            raise Unavailable(f"{self.url} gave up while it wrote: {str(chunk['error'])[:200]}")
        return chunk


def with_breaths(pieces: AsyncGenerator[Piece, None]) -> Iterator[Piece]:
    """The pieces, and an empty one wherever `BREATH_SECONDS` pass without any."""

    async def following() -> Piece | None:
        return await anext(pieces, None)

    async def waited(task: "asyncio.Task[Piece | None] | None") -> "asyncio.Task[Piece | None]":
        task = task or asyncio.create_task(following())
        await asyncio.wait({task}, timeout=BREATH_SECONDS)
        return task

    # The runner cancels the waiting task and closes the generator, and with it the connection, when the block is left.
    with asyncio.Runner() as runner:
        task = None
        while True:
            task = runner.run(waited(task))
            if not task.done():
                yield Piece()
                continue
            piece, task = task.result(), None
            if piece is None:
                return
            yield piece


def _is_stream(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")
