"""Any server that speaks the OpenAI protocol: completions to read or to train on, echoed completions to score.

Each completion is a request of its own, because not every server knows `n`. Its seed is the first number of the row's
own stream, so a server that honours seeds repeats itself.
"""

import math
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput, NotFound, Unavailable
from facetrail.models.language.conversation import Message, Piece, Usage
from facetrail.models.language.endpoint_stream import StreamingServer, with_breaths
from facetrail.models.language.openai_server import first_choice
from facetrail.models.language.records import DrawKey, Finish, Kind, Prompt, Rollout, Sampling
from facetrail.models.language.sampling import check_sampling

FINISHES: dict[str, Finish] = {"stop": "eos", "length": "length"}
"""The protocol's reasons to end; any other (a filter, a tool) means that the server closed it."""
BYTES_A_TOKEN = 3
"""Of English text tokenizers make a token of about four, of other scripts of fewer."""


@dataclass(frozen=True, slots=True)
class Written:
    """One completion as the server gave it; what it does not tell of the tokens is empty."""

    text: str
    finish: Finish
    tokens: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    """Of each of `tokens`, before any temperature."""


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
        context: int = 4_096,
    ) -> None:
        """base_url: up to and including `/v1` · timeout: seconds without a byte · retries: of a busy server.

        parallel: requests under way at a time · context: tokens of prompt and completion together, which the protocol
        does not tell. Raises InvalidInput for something that is no http(s) URL or no model.
        """
        self._server = StreamingServer(base_url, model=model, api_key=api_key, timeout=timeout, retries=retries)
        self.name, self.url, self._parallel, self.context = model, self._server.url, parallel, context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()

    def generate(self, prompts: Sequence[Prompt], n: int, *, sampling: Sampling, key: DrawKey) -> list[Rollout]:
        """n completions of each prompt, those of the first prompt first; without token ids and log-probs.

        Raises Unavailable (down, slow, busy or talking nonsense), NotFound (no such model), InvalidInput (refused).
        """
        written = self.write(prompts, n, sampling=sampling, key=key)
        return [
            Rollout(
                prompt_id=prompts[place // n].prompt_id,
                sample=place % n,
                completion_ids=(),
                text=one.text,
                finish=one.finish,
                source_id=key.agent or self.name,
                sampler="endpoint",
                temperature=sampling.temperature,
            )
            for place, one in enumerate(written)
        ]

    def write(
        self,
        prompts: Sequence[Prompt],
        n: int,
        *,
        sampling: Sampling,
        key: DrawKey,
        prompt_ids: Sequence[Sequence[int]] | None = None,
        asks_log_probs: bool = False,
    ) -> list[Written]:
        """n completions of each prompt, those of the first prompt first, with what the server tells of their tokens.

        prompt_ids: of each prompt, for a server that has the same tokenizer: it then reads these very tokens; None: the
        text, as a user's message in the server's chat template. Raises what `generate` does.
        """
        check_sampling(sampling)
        jobs = [(place, sample) for place in range(len(prompts)) for sample in range(n)]

        def written(job: tuple[int, int]) -> Written:
            place, sample = job
            request = {
                "model": self.name,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_new_tokens,
                "seed": int(key.generator(prompts[place].prompt_id, sample).integers(2**31)),
            }
            if prompt_ids is not None:
                return self._completed(request, prompt_ids[place], asks_log_probs=asks_log_probs)
            return self._chatted(request, prompts[place].text, asks_log_probs=asks_log_probs)

        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            return list(pool.map(written, jobs))

    def count(self, messages: Sequence[Message]) -> int:
        """An estimate from above: a token for every three bytes, and four for each message's frame."""
        return sum(math.ceil(len(message.content.encode()) / BYTES_A_TOKEN) + 4 for message in messages)

    def stream(self, messages: Sequence[Message], *, sampling: Sampling, key: DrawKey) -> Iterator[Piece]:
        """The answer as the server writes it; Unavailable without another try where it is busy or has no such model."""
        check_sampling(sampling)
        body = {
            "model": self.name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": int(key.generator("chat", 0).integers(2**31)),
            "stream": True,
        }
        return with_breaths(self._pieces(body))

    async def _pieces(self, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        finish: Finish | None = None
        usage = None
        has_choice = False
        async for chunk in self._server.chunks("/chat/completions", body):
            usage = _usage(chunk) or usage
            choice = first_choice(chunk)
            part = choice.get("delta", choice.get("message"))
            has_choice = has_choice or isinstance(part, dict)
            text = part.get("content") if isinstance(part, dict) else None
            if isinstance(text, str) and text:
                yield Piece(text)
            if choice.get("finish_reason") is not None:
                finish = FINISHES.get(str(choice["finish_reason"]), "forced")
        if not has_choice:
            raise self._server.nonsense("its answer holds no text")
        yield Piece(finish=finish or "forced", usage=usage)

    def score(self, prompt: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        """Sum of the log-probs of each continuation after the prompt, as plain text without a chat template.

        A token that spans the border counts as the continuation's. → (len(continuations),). Raises Unavailable where
        the server does not give log-probs of a prompt, as vLLM does and most others do not.
        """
        return np.array([self._scored(prompt, text) if text else 0.0 for text in continuations], dtype=np.float64)

    def _chatted(self, request: Mapping[str, Any], text: str, *, asks_log_probs: bool) -> Written:
        body = {**request, "messages": [{"role": "user", "content": text}]}
        # Not of the protocol, known to vLLM, passed over by others.
        body |= {"logprobs": True, "return_token_ids": True} if asks_log_probs else {}
        choice = first_choice(self._server.post("/chat/completions", body))
        message = choice.get("message")
        return self._read(choice, message.get("content") if isinstance(message, dict) else None)

    def _completed(self, request: Mapping[str, Any], ids: Sequence[int], *, asks_log_probs: bool) -> Written:
        body = {**request, "prompt": list(ids)}
        body |= {"logprobs": 1, "return_token_ids": True} if asks_log_probs else {}
        choice = first_choice(self._server.post("/completions", body))
        return self._read(choice, choice.get("text"))

    def _read(self, choice: Mapping[str, Any], text: object) -> Written:
        """The choice, its text found where its kind of answer has it."""
        if not isinstance(text, str):
            raise self._server.nonsense("its answer holds no text")
        tokens, log_probs = self._tokens(choice.get("logprobs"))
        ids = choice.get("token_ids") or ()
        return Written(
            text=text,
            finish=FINISHES.get(str(choice.get("finish_reason")), "forced"),
            tokens=tokens,
            token_ids=tuple(ids) if isinstance(ids, list) and all(isinstance(one, int) for one in ids) else (),
            log_probs=log_probs,
        )

    def _tokens(self, told: Any) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Tokens as text and their log-probs, in either of the protocol's two forms."""
        if told is None:
            return (), ()
        try:
            if "content" in told:
                rows = [(str(row["token"]), float(row["logprob"])) for row in told["content"] or ()]
            else:
                pairs = zip(told["tokens"], told["token_logprobs"], strict=True)
                rows = [(str(token), float(value)) for token, value in pairs]
        except (TypeError, KeyError, ValueError) as error:
            raise self._server.nonsense("its log-probs are not of the protocol's form") from error
        for token, value in rows:
            if not -math.inf < value < 1e-3:
                raise self._server.nonsense(f"its log-prob of {token!r} is {value}")
        return tuple(token for token, _ in rows), tuple(value for _, value in rows)

    def _scored(self, prompt: str, continuation: str) -> float:
        request = {"model": self.name, "prompt": prompt + continuation, "max_tokens": 0, "echo": True, "logprobs": 1}
        refusal = f"{self.url} gives no log-probs of a prompt, which scoring needs; score with a local model"
        try:
            answer = self._server.post("/completions", request)
        except (InvalidInput, NotFound) as error:
            raise Unavailable(refusal) from error
        found: Any = first_choice(answer).get("logprobs")
        try:
            rows = list(zip(found["tokens"], found["token_logprobs"], found["text_offset"], strict=True))
            values = [float(value) for token, value, start in rows if start + len(token) > len(prompt)]
        except (TypeError, KeyError, ValueError) as error:
            raise Unavailable(refusal) from error
        if not values:
            raise Unavailable(refusal)
        return sum(values)


def _usage(chunk: Mapping[str, Any]) -> Usage | None:
    told = chunk.get("usage")
    if not isinstance(told, dict):
        return None
    read, written = told.get("prompt_tokens"), told.get("completion_tokens")
    return Usage(read, written) if isinstance(read, int) and isinstance(written, int) else None
