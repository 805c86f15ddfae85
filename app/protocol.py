"""Uvicorn's HTTP protocol with the limits it lacks: header size, header and body deadlines, number of connections.

It also turns requests away right here when the event loop cannot answer them in time: that costs a tenth of running
them, so a service at several times its capacity still spends its time on answers.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from facetrail.app.bodies import WHOLE, dumps
from facetrail.app.errors import PROBLEM_TYPE, RETRY_AFTER, problem
from facetrail.app.limits import QUEUED, Load
from facetrail.app.settings import Settings

API = b"/v1/"


def canned(detail: str, *headers: str) -> bytes:
    """A whole 503 answer with Retry-After."""
    body = dumps(problem(503, detail, instance="/", kind="busy"))
    lines = ["HTTP/1.1 503 Service Unavailable", f"content-type: {PROBLEM_TYPE}", f"retry-after: {RETRY_AFTER}"]
    return "\r\n".join([*lines, *headers, f"content-length: {len(body)}", "", ""]).encode() + body


FULL = canned("too many connections; try again in a moment", "connection: close")
SHED = canned("the service is busier than it can answer in time; try again in a moment")


class Answered:
    """Stands for a request that was answered on arrival: the rest of it is read and dropped."""

    response_complete = True
    disconnected = False
    message_event = asyncio.Event()  # set by the protocol when the connection ends; nobody waits for it


class HeaderTooLarge(ValueError):
    """Ends the parsing of a request; httptools turns it into a 400."""


def limited_protocol(settings: Settings, load: Load) -> type[asyncio.Protocol]:
    """The protocol class for a service with these settings (uvicorn makes one object a connection)."""
    answered: Any = Answered()

    class LimitedProtocol(HttpToolsProtocol):
        deadline: asyncio.TimerHandle | None = None
        complete = True
        header_bytes = 0
        surplus = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > settings.max_connections:
                transport.write(FULL)
                transport.close()
                return
            self._arm(settings.header_timeout)

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.complete:
                self._disarm()
            elif self.deadline is None:
                self._arm(settings.header_timeout)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.complete = False
            self.header_bytes = self.surplus = 0

        def on_url(self, url: bytes) -> None:
            super().on_url(url)
            self._count_header(len(url))

        def on_header(self, name: bytes, value: bytes) -> None:
            super().on_header(name, value)
            self._count_header(len(name) + len(value) + 4)

        def on_headers_complete(self) -> None:
            if self.deadline is not None:  # the header came in pieces: now the body has its own time
                self._disarm()
                self._arm(settings.body_timeout + 1.0)
            if (self.cycle is None or self.cycle.response_complete) and self.url.startswith(API):
                if not load.arrive():
                    self._turn_away()
                    return
                self._mark(QUEUED)
            super().on_headers_complete()

        def _turn_away(self) -> None:
            self.cycle = answered
            self.transport.write(SHED)
            if self.parser.get_http_version() == "1.0" or not self.parser.should_keep_alive():
                self.transport.close()
            else:
                self.on_response_complete()

        def _mark(self, key: str) -> None:
            scope: dict[str, Any] = self.scope  # type: ignore[assignment]
            scope[key] = True

        def on_body(self, body: bytes) -> None:
            if self.cycle.response_complete:  # refused already: read a little on, so that the client sees the answer
                self.surplus += len(body)
                if self.surplus > 2 * settings.max_body_bytes:
                    self.transport.close()
            super().on_body(body)

        def on_message_complete(self) -> None:
            self.complete = True
            self._mark(WHOLE)
            super().on_message_complete()

        def _count_header(self, size: int) -> None:
            self.header_bytes += size
            if self.header_bytes > settings.max_header_bytes:
                raise HeaderTooLarge(f"header above {settings.max_header_bytes} bytes")

        def _arm(self, seconds: float) -> None:
            self.deadline = self.loop.call_later(seconds, self._expired)

        def _disarm(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def _expired(self) -> None:
            self.deadline = None
            if not self.transport.is_closing():
                self.transport.close()

    return LimitedProtocol
