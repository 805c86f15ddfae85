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
from facetrail.app.work import OUTLIER, SMOOTHING
from facetrail.models.errors import FacetrailError

QUEUED = "facetrail.queued"
"""Key of the ASGI scope: True for a request that the protocol has counted with `Load.arrive`."""
FIRST_COST = 0.0003
"""Seconds that a request is expected to occupy the event loop, before any has been measured."""
Routes = Mapping[tuple[str, str], APIRoute]
"""(method, path) → route, for the paths without parameters."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
API = "/v1/"
UNMATCHED = "unmatched"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes whose successes are not logged: probes ask every few seconds."""


class Load:
    """How many requests are under way, and whether another one can be answered in time.

    The event loop reads many sockets before it runs what it read. `arrive` is asked when a header has been read and
    predicts the wait from the backlog and the measured cost of one request, so that what comes too late in a batch is
    turned away at once and does not delay what came before; `start` is told when a request's turn has come.
    """

    def __init__(self, settings: Settings, checks: Callable[[], None], metrics: Metrics) -> None:
        self._max_in_flight = settings.max_in_flight
        self._max_wait = settings.max_wait_ms / 2e3  # a request may wait as long again unread, in the socket
        self._check_workers = checks
        self._metrics = metrics
        self._backlog = 0
        self._cost = FIRST_COST
        self._previous: float | None = None
        self.in_flight = 0

    def arrive(self) -> bool:
        """Whether a request whose header was just read may queue for the event loop."""
        if self._backlog * self._cost > self._max_wait:
            self._metrics.shed("loop")
            return False
        self._backlog += 1
        return True

    def start(self) -> None:
        """A queued request's turn has come."""
        now = time.perf_counter()
        self._backlog -= 1
        if self._previous is not None:  # it ran straight on from the one before: the gap is what one costs
            self._cost += SMOOTHING * (min(now - self._previous, OUTLIER * self._cost) - self._cost)
        self._previous = now if self._backlog else None

    def admit(self) -> None:
        """Takes a place. Raises Busy: too many under way, or too long a queue for the workers."""
        if self.in_flight >= self._max_in_flight:
            self._metrics.shed("in_flight")
            raise Busy(f"{self._max_in_flight} requests are under way already; try again in a moment")
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
        if QUEUED in scope:
            self._load.start()
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
                self._load.admit()
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
