"""Bytes in, checked values out; values out, bytes. Every body passes here, so every limit on bodies stands here."""

import asyncio
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Receive

from facetrail.app.errors import PROBLEM_TYPE, InvalidBody, Refused, problem_of
from facetrail.app.settings import Settings
from facetrail.models.errors import FacetrailError, InvalidInput

Model = TypeVar("Model", bound=BaseModel)
JSON_TYPE = "application/json"
WHOLE = "facetrail.whole"
"""Key of the ASGI scope, True once the protocol has read the whole body."""
MAX_REPORTED = 20


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body. Raises Refused 413 (too large), 408 (too slow), 415 (compressed)."""
    encoding = request.headers.get("content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise Refused(415, "send the body uncompressed, without Content-Encoding")
    if request.scope.get(WHOLE):  # nothing to wait for, so no timer is set
        return await _receive_all(request.receive, settings)
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _receive_all(request.receive, settings)
    except TimeoutError:
        raise Refused(
            408, f"the body did not arrive within {settings.body_timeout:g} seconds; send less or faster"
        ) from None


async def _receive_all(receive: Receive, settings: Settings) -> bytes:
    parts: list[bytes] = []
    size = 0
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > settings.max_body_bytes:
            raise too_large(settings)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise Refused(400, "the connection closed before the whole body had arrived")


def too_large(settings: Settings) -> Refused:
    """The refusal of a body above the limit."""
    return Refused(413, f"the body is larger than {settings.max_body_bytes:,} bytes; send it in smaller parts")


async def read_json(request: Request, model: type[Model], settings: Settings) -> tuple[Model, int]:
    """The body as a checked model, and its size in bytes.

    Raises Refused (see `read_body`; 415 for another content type) and InvalidBody with JSON pointers.
    """
    kind = request.headers.get("content-type")
    if kind != JSON_TYPE and (kind or "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise Refused(415, f"send the body as JSON with the header `Content-Type: {JSON_TYPE}`")
    body = await read_body(request, settings)
    try:
        return model.model_validate_json(body, strict=True), len(body)
    except ValidationError as error:
        raise invalid(_details(error), _parsed(body)) from error


def read_query(request: Request, model: type[Model], parse: Mapping[str, Callable[[str], Any]]) -> Model:
    """The query string as a checked model; `parse` reads the parameters that are not plain values."""
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            max_num_fields=64,
            errors="strict",
        )
    except ValueError as error:
        raise InvalidInput(f"the query string cannot be read ({error}); percent-encode it as UTF-8") from error
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise InvalidInput(f"the parameter {name!r} appears twice; send it once", pointer=f"/{name}")
        values[name] = parse[name](value) if name in parse else value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(_details(error), values) from error


def parse_json_parameter(name: str) -> Callable[[str], Any]:
    """A reader of a query parameter that carries JSON."""

    def parse(value: str) -> Any:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(
                f"the parameter {name!r} is not JSON ({error.msg}); send a percent-encoded JSON object",
                pointer=f"/{name}",
            ) from error

    return parse


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # then the complaint is about the whole body
        return None


def pointer_of(detail: ErrorDetails, value: Any) -> str:
    """A JSON pointer (RFC 6901) into `value`, or to what it lacks.

    A complaint's location also names the branches of unions that were tried; those are no fields.
    """
    parts = list(detail["loc"])
    missing = parts[-1:] if detail["type"] == "missing" else []
    found: list[int | str] = []
    for part in parts[: len(parts) - len(missing)]:
        if part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int):
            found.append(part)
            value = value[part]
    parts = [*found, *missing]
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def invalid(details: list[ErrorDetails], value: Any) -> InvalidBody:
    """One sentence and every pointer out of a schema's complaints about a value."""
    errors = [{"pointer": pointer_of(d, value), "detail": d["msg"]} for d in details[:MAX_REPORTED]]
    first = errors[0]
    where = f"at {first['pointer']}: " if first["pointer"] else ""
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return InvalidBody(
        f"the request cannot be used, {where}{first['detail']}{more}; see /openapi.json",
        pointer=first["pointer"],
        errors=errors,
    )


def check_tree(value: Any, max_depth: int, pointer: str) -> None:
    """Raises InvalidInput for a JSON tree that is too deep or has numbers that JSON text cannot carry back."""
    level, depth = [value], 0
    while level:
        if depth > max_depth:
            raise InvalidInput(f"JSON nested deeper than {max_depth} levels is refused; flatten it", pointer=pointer)
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float):
                if not math.isfinite(item):
                    raise InvalidInput("NaN and Infinity are not JSON; send null or leave it out", pointer=pointer)
            elif isinstance(item, int) and not -(2**63) <= item < 2**64:
                raise InvalidInput("an integer beyond 64 bits is refused; send it as a string", pointer=pointer)
        level, depth = below, depth + 1


def dumps(value: Any) -> bytes:
    """JSON bytes of dataclasses, models' dumps and plain values."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # integers beyond 64 bits in metadata that came in through a file
        return json.dumps(value, default=_plain, ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, orjson.Fragment):
        return json.loads(value.contents)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return list(value)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response, encoded once."""
    return Response(dumps(value), status, headers, JSON_TYPE)


def problem_response(error: FacetrailError, path: str) -> Response:
    """The problem document of an error."""
    status, document, headers = problem_of(error, path)
    return Response(dumps(document), status, headers, PROBLEM_TYPE)
