"""Asking a server that speaks the OpenAI protocol: connection, patience, a sentence for all that goes wrong."""

import email.utils
import time
from collections.abc import Mapping
from typing import Any

import httpx

from facetrail.models.errors import InvalidInput, NotFound, Unavailable

BUSY = (429, 503)
LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more patience is called busy at once."""


class OpenAIServer:
    """One model of one server."""

    def __init__(self, base_url: str, *, model: str, api_key: str, timeout: float, retries: int) -> None:
        """base_url: up to and including `/v1` · timeout: seconds without a byte · retries: of a busy server.

        Raises InvalidInput for something that is no http(s) URL or no model.
        """
        url = base_url.rstrip("/")
        if not _is_http(url):
            raise InvalidInput(f"{base_url!r} is no http or https URL; give one like http://127.0.0.1:8000/v1")
        if not model:
            raise InvalidInput(f"which model of {url} shall answer is not said; give its name", pointer="/model")
        self.model, self.url, self._retries = model, url, retries
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client, self._timeout = httpx.Client(timeout=timeout, headers=headers), timeout

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's JSON object. Raises Unavailable, NotFound or InvalidInput."""
        for attempt in range(self._retries + 1):
            response = self._sent(path, body)
            if response.status_code not in BUSY:
                return self._read(response)
            wait = _retry_after(response, default=0.5 * 2**attempt)
            if attempt == self._retries or wait > LONGEST_WAIT:
                break
            time.sleep(wait)
        raise Unavailable(
            f"{self.url} is too busy (status {response.status_code} after {attempt + 1} tries); try again later"
        )

    def _sent(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            return self._client.post(self.url + path, json=body)
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"{self.url} did not answer within {self._timeout:g} s; raise the timeout or ask for fewer tokens"
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"no server answers at {self.url} ({type(error).__name__}); start it or correct the URL"
            ) from error

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if status in (401, 403):
            raise Unavailable(f"{self.url} refused the API key (status {status}); give a valid one")
        if status == 404:
            raise NotFound(f"{self.url} knows no model {self.model!r} or no such path; correct one of them")
        if status >= 500:
            raise Unavailable(f"{self.url} failed with status {status}; look at the server's own log")
        if status >= 400:
            raise InvalidInput(f"{self.url} refused the request (status {status}): {response.text.strip()[:200]}")
        try:
            answer = response.json()
        except ValueError as error:
            raise self.nonsense("its answer is no JSON") from error
        if not isinstance(answer, dict) or status >= 300:
            raise self.nonsense(f"status {status} without a JSON object")
        return answer

    def nonsense(self, why: str) -> Unavailable:
        """What to raise where an answer is not of the protocol."""
        return Unavailable(f"{self.url} does not speak the OpenAI protocol: {why}; correct the URL")


def _is_http(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def first_choice(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The first choice, empty where there is none."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _retry_after(response: httpx.Response, *, default: float) -> float:
    """Seconds that the server asks to wait, said as a number or as a date."""
    said = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return default
