"""Structured logs: one JSON object a line on standard error. No key, no body and, unless asked for, no query text."""

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson
import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
DELAY = 0.1
LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


def _dumps(event: MutableMapping[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=repr)


def configure_logging(level: str) -> None:
    """Sends the log of facetrail, and of the libraries it runs on, to standard error as JSON lines."""
    shared: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(serializer=lambda event, **_: _dumps(event).decode()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))  # libraries only speak when something is wrong
    logging.getLogger("uvicorn").setLevel(max(LEVELS[level], logging.WARNING))


class AccessLog:
    """One line a request. It runs once a request on the event loop, so it skips structlog's chain of processors.

    Lines go out together, at most `DELAY` seconds late: a write to the system for each would cost more than the rest.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._waiting = False

    def write(self, **fields: Any) -> None:
        """Writes one event as a JSON line; only inside a running event loop."""
        fields["timestamp"] = datetime.now(UTC)
        self._out.write(orjson.dumps(fields, default=repr, option=LINE))
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(DELAY, self._flush)

    def _flush(self) -> None:
        self._waiting = False
        self._out.flush()


def service_log() -> Any:
    """The service's logger, bound at call time, so that a test's configuration counts."""
    return structlog.get_logger("facetrail.app")
