"""Uvicorn's HTTP protocol with the limits it lacks: header size, header and body deadlines, number of connections.

It also stamps each request with its time of arrival, so that the gate can tell how long a request has waited already.
"""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from facetrail.app.bodies import WHOLE
from facetrail.app.errors import RETRY_AFTER
from facetrail.app.limits import ARRIVED
from facetrail.app.settings import Settings

BODY = (
    b'{"type":"urn:facetrail:problem:busy","title":"Service Unavailable","status":503,'
    b'"detail":"too many connections; try again in a moment","instance":"/"}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: "
    + RETRY_AFTER.encode()
    + b"\r\nconnection: close\r\ncontent-length: "
    + str(len(BODY)).encode()
    + b"\r\n\r\n"
    + BODY
)


class HeaderTooLarge(ValueError):
    """Ends the parsing of a request; httptools turns it into a 400."""


def limited_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """The protocol class for a service with these settings (uvicorn makes one object a connection)."""

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
            scope: dict[str, Any] = self.scope  # type: ignore[assignment]
            scope[ARRIVED] = time.monotonic()
            if self.deadline is not None:  # the header came in pieces: now the body has its own time
                self._disarm()
                self._arm(settings.body_timeout + 1.0)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if self.cycle.response_complete:  # refused already: read a little on, so that the client sees the answer
                self.surplus += len(body)
                if self.surplus > 2 * settings.max_body_bytes:
                    self.transport.close()
            super().on_body(body)

        def on_message_complete(self) -> None:
            self.complete = True
            scope: dict[str, Any] = self.scope  # type: ignore[assignment]
            scope[WHOLE] = True
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


def protocol_option(settings: Settings) -> Any:
    """The protocol class as uvicorn's `http` option."""
    return limited_protocol(settings)
