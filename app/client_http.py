"""The client's talk with the service: requests, waits where `Retry-After` says so, problems as exceptions, events."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from facetrail.models.errors import FacetrailError, InvalidInput, Unavailable


class ServiceProblem(FacetrailError):
    """What the service answered instead: an RFC 9457 problem document, whose `detail` is the message."""

    def __init__(self, status: int, title: str, detail: str, *, kind: str = "", pointer: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.kind = kind
        """Last part of the document's `type`: `invalid-input`, `not-found`, `gone`, `conflict`, `busy` and others."""
        self.pointer = pointer
        """JSON pointer to the field at fault, empty where there is none."""

    @classmethod
    def of(cls, status: int, document: Mapping[str, Any]) -> "ServiceProblem":
        """The problem that a document describes."""
        kind = str(document.get("type", "")).rpartition(":")[2]
        detail, pointer = str(document.get("detail", "")), str(document.get("pointer", ""))
        return cls(status, str(document.get("title", "")), detail, kind=kind, pointer=pointer)


class Connection:
    """One service over a pool of connections; thread-safe.

    timeout: seconds for connecting, and for each part of an answer to arrive. An answer of 429 or 503 that carries
    `Retry-After` is asked for again after so many seconds, up to `retries` times and for waits of up to `timeout`.
    """

    def __init__(self, url: str, *, key: str | None, timeout: float, retries: int) -> None:
        headers = {"accept": "application/json"} | ({"x-api-key": key} if key is not None else {})
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._url, self._retries, self._longest_wait = url, retries, timeout

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def ask(self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None) -> bytes:
        """The bytes of an answer. Raises ServiceProblem, Unavailable where nobody answers, InvalidInput for a body
        that JSON cannot carry."""
        response = self._send(self._request(method, path, body, query), stream=False)
        return response.content

    @contextmanager
    def events(self, path: str, body: Any) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
        """The server-sent events of an answer as they come: (name, data). Raises as `ask`."""
        request = self._request("POST", path, body, None)
        request.headers["accept"] = "text/event-stream"
        response = self._send(request, stream=True)
        try:
            yield parsed_events(self._parts(response))
        finally:
            response.close()

    def _request(self, method: str, path: str, body: Any, query: Mapping[str, str] | None) -> httpx.Request:
        try:
            return self._http.build_request(method, path, json=body, params=query)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"the request is no JSON ({error}); send text, finite numbers, lists and dicts"
            ) from error

    def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        for n_left in range(self._retries, -1, -1):
            try:
                response = self._http.send(request, stream=stream)
                if response.is_success:
                    return response
                response.read()
            except httpx.TransportError as error:
                raise self._silent(error) from error
            response.close()
            wait = seconds_to_wait(response)
            if not n_left or wait is None or wait > self._longest_wait:
                break
            time.sleep(wait)
        raise problem_of(response)

    def _parts(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise self._silent(error) from error

    def _silent(self, error: httpx.TransportError) -> Unavailable:
        reason = str(error) or type(error).__name__
        return Unavailable(f"no answer from {self._url} ({reason}); check the address and that the service runs there")


def seconds_to_wait(response: httpx.Response) -> float | None:
    """What `Retry-After` asks for on an answer of 429 or 503; None where it says nothing, or a date."""
    given = response.headers.get("retry-after", "")
    return float(given) if response.status_code in (429, 503) and given.isdecimal() else None


def problem_of(response: httpx.Response) -> ServiceProblem:
    """The problem that an answer carries; one that carries none (a proxy's page) still becomes one sentence."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and "detail" in document:
        return ServiceProblem.of(response.status_code, document)
    detail = f"{response.url} answered {response.status_code} without a reason; check that a facetrail service is there"
    return ServiceProblem(response.status_code, response.reason_phrase, detail)


def parsed_events(parts: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events out of bytes. Only line feeds end a line: JSON may hold every other line break as it is."""
    waiting, fields = b"", dict[str, str]()
    for part in parts:
        *lines, waiting = (waiting + part).split(b"\n")
        for line in (line.removesuffix(b"\r") for line in lines):
            if line:
                fields |= [_field(line)]
                continue
            if "data" in fields:
                yield fields.get("event", "message"), json.loads(fields["data"])
            fields = {}


def _field(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode().partition(":")
    return name, value.removeprefix(" ")
