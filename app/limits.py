"""The gate: one pure ASGI pass around the application for keys, hosts, sizes, load shedding, counting and logging.

Everything that can refuse a request does so here, from its header alone, before the body is read.
"""

import itertools
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping

from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facetrail.app.auth import HostGuard, Keys, scope_needed
from facetrail.app.bodies import problem_response, too_large
from facetrail.app.errors import Busy, Refused
from facetrail.app.logging import AccessLog, service_log
from facetrail.app.metrics import Metrics
from facetrail.app.settings import Settings
from facetrail.models.errors import FacetrailError

ARRIVED = "facetrail.arrived"
"""Key of the ASGI scope: `time.monotonic()` when the protocol had read the request's header."""
Routes = Mapping[tuple[str, str], APIRoute]
"""(method, path) → route, for the paths without parameters."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
API = "/v1/"
UNMATCHED = "unmatched"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes whose successes are not logged: probes ask every few seconds."""


class Load:
    """How many requests are under way, and whether another one can be answered in time."""

    def __init__(self, settings: Settings, checks: Callable[[], None], metrics: Metrics) -> None:
        self._max_in_flight = settings.max_in_flight
        self._max_wait = settings.max_wait_ms / 1e3
        self._check_workers = checks
        self._metrics = metrics
        self.in_flight = 0

    def admit(self, arrived: float) -> None:
        """Takes a place. Raises Busy: too many under way, waited too long already, or too long a queue ahead."""
        if self.in_flight >= self._max_in_flight:
            self._metrics.shed("in_flight")
            raise Busy(f"{self._max_in_flight} requests are under way already; try again in a moment")
        if time.monotonic() - arrived > self._max_wait:
            self._metrics.shed("waited")
            raise Busy("the service is busier than it can answer in time; try again in a moment")
        try:
            self._check_workers()
        except Busy:
            self._metrics.shed("queue")
            raise
        self.in_flight += 1

    def release(self) -> None:
        """Gives a place back."""
        self.in_flight -= 1


class Gate:
    """ASGI middleware. The order is cheapest first: host, size, key, load; then the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Routes,
        settings: Settings,
        keys: Keys,
        guard: HostGuard,
        load: Load,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._routes = routes
        self._settings = settings
        self._keys = keys
        self._guard = guard
        self._load = load
        self._metrics = metrics
        self._log = service_log()
        self._access = AccessLog(sys.stderr.buffer)
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = self._request_id(headers)
        scope["state"]["request_id"] = request_id
        status, placed, is_api = 0, False, scope["path"].startswith(API)
        route = scope["route"] = self._routes.get((scope["method"], scope["path"]))

        async def answer(message: Message) -> None:
            nonlocal status, placed
            if message["type"] == "http.response.start":
                status = message["status"]
                if placed:  # a client that reads its answer slowly must not keep a place
                    self._load.release()
                    placed = False
                message["headers"] += [(b"x-request-id", request_id), (b"x-content-type-options", b"nosniff")]
                if is_api:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            self._refuse(scope, headers)
            if is_api:
                self._load.admit(scope.get(ARRIVED, started))
                placed = True
            if route is None:
                await self._app(scope, receive, answer)
            else:  # errors are answered here, so a known path needs none of the layers in between
                await route.app(scope, receive, answer)
        except FacetrailError as error:
            if status:
                raise  # half an answer is out: only closing the connection tells the client
            await problem_response(error, scope["path"])(scope, receive, answer)
        except Exception as error:
            self._log.error("bug", request_id=request_id.decode(), exc_info=error)
            if status:
                raise
            bug = Refused(500, f"an unexpected error; report it with request id {request_id.decode()}")
            await problem_response(bug, scope["path"])(scope, receive, answer)
        finally:
            if placed:
                self._load.release()
            self._record(scope, status, time.monotonic() - started, request_id)

    def _refuse(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        method, path = scope["method"], scope["path"]
        self._guard.check(method, headers)
        length = headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length) > self._settings.max_body_bytes):
            raise too_large(self._settings)
        self._keys.check(scope_needed(method, path), headers)

    def _request_id(self, headers: Mapping[bytes, bytes]) -> bytes:
        given = headers.get(b"x-request-id")
        if given is not None and REQUEST_ID.fullmatch(given):
            return given
        return b"%s-%x" % (self._prefix, next(self._numbers))

    def _record(self, scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
        route = scope["route"]
        name: str = getattr(route, "path", UNMATCHED)
        self._metrics.answered(name, status, seconds)
        if not self._settings.log_requests or (status < 300 and name in QUIET):
            return
        self._access.write(
            event="request",
            level="error" if status == 500 else "info",
            method=scope["method"] if route is not None else "-",
            route=name,
            status=status,
            ms=round(seconds * 1e3, 2),
            request_id=request_id.decode(),
            **scope["state"].get("log", {}),
        )
