"""Any server that speaks the OpenAI protocol: chat completions to write, echoed completions to score.

Each completion is a request of its own, because not every server knows `n`. Its seed is the first number of the row's
own stream, so a server that honours seeds repeats itself.
"""

import email.utils
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput, NotFound, Unavailable
from facetrail.models.language.policy import Kind
from facetrail.models.language.records import DrawKey, Finish, Prompt, Rollout, Sampling
from facetrail.models.language.sampling import check_sampling

BUSY = (429, 503)
FINISHES: dict[str, Finish] = {"stop": "eos", "length": "length"}
"""The protocol's reasons to end; any other (a filter, a tool) means that the server closed it."""
LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more patience is called busy at once."""


class EndpointModel:
    """A language model behind a URL."""

    kind: Kind = "endpoint"

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key: str = "",
        timeout: float = 60.0,
        retries: int = 3,
        parallel: int = 4,
    ) -> None:
        """base_url: up to and including `/v1` · timeout: seconds without a byte · retries: of a busy server.

        parallel: requests under way at a time. Raises InvalidInput for something that is no http(s) URL or no model.
        """
        url = base_url.rstrip("/")
        if not _is_http(url):
            raise InvalidInput(f"{base_url!r} is no http or https URL; give one like http://127.0.0.1:8000/v1")
        if not model:
            raise InvalidInput(f"which model of {url} shall answer is not said; give its name", pointer="/model")
        self.name, self._url, self._retries, self._parallel = model, url, retries, parallel
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client, self._timeout = httpx.Client(timeout=timeout, headers=headers), timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def generate(self, prompts: Sequence[Prompt], n: int, *, sampling: Sampling, key: DrawKey) -> list[Rollout]:
        """n completions of each prompt, those of the first prompt first; without token ids and log-probs.

        Raises Unavailable (down, slow, busy or talking nonsense), NotFound (no such model), InvalidInput (refused).
        """
        check_sampling(sampling)
        jobs = [(prompt, sample) for prompt in prompts for sample in range(n)]
        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            return list(pool.map(lambda job: self._written(job[0], job[1], sampling, key), jobs))

    def score(self, prompt: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        """Sum of the log-probs of each continuation after the prompt, as plain text without a chat template.

        A token that spans the border counts as the continuation's. → (len(continuations),). Raises Unavailable where
        the server does not give log-probs of a prompt, as vLLM does and most others do not.
        """
        return np.array([self._scored(prompt, text) if text else 0.0 for text in continuations], dtype=np.float64)

    def _written(self, prompt: Prompt, sample: int, sampling: Sampling, key: DrawKey) -> Rollout:
        answer = self._post(
            "/chat/completions",
            {
                "model": self.name,
                "messages": [{"role": "user", "content": prompt.text}],
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
                "seed": int(key.generator(prompt.prompt_id, sample).integers(2**31)),
            },
        )
        choice = _first_choice(answer)
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str):
            raise self._nonsense("its answer holds no text")
        return Rollout(
            prompt_id=prompt.prompt_id,
            sample=sample,
            completion_ids=(),
            text=text,
            finish=FINISHES.get(str(choice.get("finish_reason")), "forced"),
            source_id=key.agent or self.name,
            sampler="endpoint",
            temperature=sampling.temperature,
        )

    def _scored(self, prompt: str, continuation: str) -> float:
        request = {"model": self.name, "prompt": prompt + continuation, "max_tokens": 0, "echo": True, "logprobs": 1}
        refusal = f"{self._url} gives no log-probs of a prompt, which scoring needs; score with a local model"
        try:
            answer = self._post("/completions", request)
        except (InvalidInput, NotFound) as error:
            raise Unavailable(refusal) from error
        found: Any = _first_choice(answer).get("logprobs")
        try:
            rows = list(zip(found["tokens"], found["token_logprobs"], found["text_offset"], strict=True))
            values = [float(value) for token, value, start in rows if start + len(token) > len(prompt)]
        except (TypeError, KeyError, ValueError) as error:
            raise Unavailable(refusal) from error
        if not values:
            raise Unavailable(refusal)
        return sum(values)

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's JSON object."""
        for attempt in range(self._retries + 1):
            response = self._sent(path, body)
            if response.status_code not in BUSY:
                return self._read(response)
            wait = _retry_after(response, default=0.5 * 2**attempt)
            if attempt == self._retries or wait > LONGEST_WAIT:
                break
            time.sleep(wait)
        raise Unavailable(
            f"{self._url} is too busy (status {response.status_code} after {attempt + 1} tries); try again later"
        )

    def _sent(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            return self._client.post(self._url + path, json=body)
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"{self._url} did not answer within {self._timeout:g} s; raise the timeout or ask for fewer tokens"
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"no server answers at {self._url} ({type(error).__name__}); start it or correct the URL"
            ) from error

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if status in (401, 403):
            raise Unavailable(f"{self._url} refused the API key (status {status}); give a valid one")
        if status == 404:
            raise NotFound(f"{self._url} knows no model {self.name!r} or no such path; correct one of them")
        if status >= 500:
            raise Unavailable(f"{self._url} failed with status {status}; look at the server's own log")
        if status >= 400:
            raise InvalidInput(f"{self._url} refused the request (status {status}): {response.text.strip()[:200]}")
        try:
            answer = response.json()
        except ValueError as error:
            raise self._nonsense("its answer is no JSON") from error
        if not isinstance(answer, dict) or status >= 300:
            raise self._nonsense(f"status {status} without a JSON object")
        return answer

    def _nonsense(self, why: str) -> Unavailable:
        return Unavailable(f"{self._url} does not speak the OpenAI protocol: {why}; correct the URL")


def _is_http(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _first_choice(answer: Mapping[str, Any]) -> dict[str, Any]:
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
