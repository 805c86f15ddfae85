"""Runs the service: opens collections behind a listening socket, drains on SIGTERM, exits 0."""

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from facetrail.app.auth import Keys, check_exposure
from facetrail.app.logging import configure_logging, service_log
from facetrail.app.main import create_app
from facetrail.app.platform import Platform
from facetrail.app.protocol import limited_protocol
from facetrail.app.settings import Settings, read_settings
from facetrail.models.errors import InvalidInput, NotFound, Unavailable

SWITCH_INTERVAL = 0.001
"""Seconds a thread may keep the interpreter: searches in pools must not hold up the event loop's answers for longer."""


class Server(uvicorn.Server):
    """Uvicorn's server with a drain: /readyz turns 503 first, accepting ends after a notice, the exit code is 0."""

    def __init__(self, config: uvicorn.Config, platform: Platform, settings: Settings) -> None:
        super().__init__(config)
        self._platform = platform
        self._settings = settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second SIGINT: stop waiting."""
        if self._platform.state == "draining":
            self.force_exit = self.force_exit or sig == signal.SIGINT
            self.should_exit = True
            return
        self._platform.state = "draining"
        if self._settings.drain_delay > 0:
            asyncio.get_running_loop().call_later(self._settings.drain_delay, self._stop_accepting)
        else:
            self.should_exit = True

    def _stop_accepting(self) -> None:
        self.should_exit = True


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the application: uvloop and httptools, our limits, no logging of its own."""
    return uvicorn.Config(
        app,
        http=limited_protocol(settings, app.state.load),
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=1_024,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises InvalidInput for a host that is none, Unavailable for a port that is taken."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"cannot listen on host {host!r} ({error}); give an address of this machine") from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise Unavailable(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --port"
        ) from error
    return bound


def run(
    folders: Sequence[Path],
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings | None = None,
    *,
    read_only: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves collections until SIGTERM or SIGINT, then finishes what is under way and closes them.

    The socket listens at once and /readyz says 503 until the collections are open; `ready` is then called with the
    service's address. Raises what keeps the service from running: InvalidInput (host beyond loopback without a key),
    NotFound, Conflict, Damaged, Unavailable (port taken).
    """
    settings = settings or read_settings()
    if read_only:
        settings = settings.model_copy(update={"read_only": True})
    for folder in folders:
        if not folder.is_dir():
            raise NotFound(f"there is no collection in {folder}; build one with `facetrail index build --out {folder}`")
    check_exposure(host, Keys.of(settings))
    platform = Platform(settings)
    app = create_app(settings, platform, host=host)
    bound = listen(host, port)
    configure_logging(settings.log_level)
    server = Server(server_config(app, settings), platform, settings)
    failure: list[BaseException] = []

    def open_collections() -> None:
        try:
            platform.open(folders)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread, which is waiting in the server
            failure.append(error)
            server.should_exit = True
            return
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection walks over it again
        address = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"
        service_log().info("ready", address=address, collections=list(platform.collections))
        if ready is not None:
            ready(address)

    opening = threading.Thread(target=open_collections, name="facetrail-open")
    sys.setswitchinterval(SWITCH_INTERVAL)
    opening.start()
    try:
        server.run(sockets=[bound])
    finally:
        opening.join()
        platform.close()
        bound.close()
    if failure:
        raise failure[0]
