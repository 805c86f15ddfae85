"""One table of error classes: what the service answers (RFC 9457 problem documents) and how the command line exits."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from facetrail.models.errors import (
    Conflict,
    Damaged,
    FacetrailError,
    Gone,
    InvalidInput,
    NotFound,
    Unavailable,
)

STATUS: dict[type[FacetrailError], int] = {
    InvalidInput: 422,
    NotFound: 404,
    Gone: 410,
    Conflict: 409,
    Damaged: 503,
    Unavailable: 503,
}
"""HTTP status of each error class; a subclass has its nearest ancestor's."""

EXIT_CODES: dict[type[FacetrailError], int] = {
    InvalidInput: 2,
    Damaged: 3,
    NotFound: 4,
    Conflict: 5,
    Unavailable: 6,
}
"""Exit code of each error class; a subclass has its nearest ancestor's."""

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER = "1"
"""Seconds after which a shed request may come again: queues here are shorter than that."""

Headers = Mapping[str, str]


class Refused(FacetrailError):
    """A request turned away for a reason of HTTP itself: size, type, key, host, timing."""

    def __init__(self, status: int, message: str, *, headers: Headers | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class Busy(Refused):
    """Shed: the service has more to do than it can finish in time."""

    def __init__(self, message: str, *, status: int = 503) -> None:
        super().__init__(status, message, headers={"retry-after": RETRY_AFTER})


def _nearest(table: Mapping[type[FacetrailError], int], error: FacetrailError, default: int) -> int:
    return next((table[kind] for kind in type(error).__mro__ if kind in table), default)


def exit_code(error: FacetrailError) -> int:
    """The command line's exit code: usage 2, damaged 3, not found 4, conflict 5, unavailable 6, any other 1."""
    return _nearest(EXIT_CODES, error, 1)


def status_of(error: FacetrailError) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, Refused) else _nearest(STATUS, error, 500)


def problem(
    status: int, detail: str, *, instance: str, kind: str = "", pointer: str = "", errors: Sequence[Any] = ()
) -> dict[str, Any]:
    """An RFC 9457 problem document. `pointer` (JSON pointer) and `errors` say which part of the body is meant."""
    document: dict[str, Any] = {
        "type": f"urn:facetrail:problem:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
    }
    if pointer:
        document["pointer"] = pointer
    if len(errors) > 1:
        document["errors"] = list(errors)
    return document


KINDS: dict[type[FacetrailError], str] = {
    InvalidInput: "invalid-input",
    NotFound: "not-found",
    Gone: "gone",
    Conflict: "conflict",
    Damaged: "damaged",
    Unavailable: "unavailable",
    Busy: "busy",
}


class InvalidBody(InvalidInput):
    """A body or query string that its schema refuses. `errors` has one {pointer, detail} for every field at fault."""

    def __init__(self, message: str, *, pointer: str = "", errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(message, pointer=pointer)
        self.errors = list(errors)


def problem_of(error: FacetrailError, instance: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, problem document and extra headers of an error."""
    status = status_of(error)
    kind = next((KINDS[c] for c in type(error).__mro__ if c in KINDS), "")
    document = problem(
        status,
        str(error),
        instance=instance,
        kind=kind,
        pointer=getattr(error, "pointer", ""),
        errors=getattr(error, "errors", ()),
    )
    headers = dict(error.headers) if isinstance(error, Refused) else {}
    if isinstance(error, Unavailable):
        headers["retry-after"] = RETRY_AFTER
    return status, document, headers
