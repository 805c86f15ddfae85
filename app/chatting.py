"""OpenAI's chat completions out of what a speaker says: pieces to choices, whole or in chunks."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sse_starlette import ServerSentEvent

from facetrail.app.errors import problem_of
from facetrail.app.event_stream import event
from facetrail.app.reason_schemas import ChatBody
from facetrail.app.speaking import Items
from facetrail.models.errors import FacetrailError, InvalidInput, Unavailable
from facetrail.models.language.conversation import Message, Piece, Speaker, Usage
from facetrail.models.language.records import DrawKey, Sampling

MAX_TOKENS = 512
"""Written at most where a request does not say."""
MAX_STOPS = 4


@dataclass(frozen=True, slots=True)
class Said:
    """The next part of an answer; the last one has the reason why it ended."""

    text: str
    finish: Literal["stop", "length"] | None = None
    usage: Usage | None = None


class UntilStop:
    """Lets text through until one of the stops, which may come in pieces itself."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.is_over = False

    def feed(self, text: str, *, is_last: bool = False) -> str:
        """What can be said by now: nothing that may be the beginning of a stop."""
        text = self._held + text
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.is_over, self._held = True, ""
            return text[: min(places)]
        held = 0 if is_last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def said(speaker: Speaker, body: ChatBody, *, timeout: float) -> Items[Said]:
    """What the speaker answers to the messages; None where it may be stopped. Raises Unavailable after the timeout."""
    stops = [body.stop] if isinstance(body.stop, str) else list(body.stop or ())
    if len(stops) > MAX_STOPS or not all(stops):
        raise InvalidInput(f"give at most {MAX_STOPS} stops, none of them empty", pointer="/stop")
    sampling = Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_new_tokens=body.max_completion_tokens or body.max_tokens or MAX_TOKENS,
    )
    messages = [Message("system" if m.role == "developer" else m.role, m.text) for m in body.messages]
    started = time.monotonic()
    until = UntilStop(stops)
    yield None
    for piece in speaker.stream(messages, sampling=sampling, key=DrawKey(body.seed or 0, stream="chat")):
        text = until.feed(piece.text, is_last=piece.finish is not None)
        if until.is_over or piece.finish is not None:
            yield Said(text, "length" if piece.finish == "length" and not until.is_over else "stop", piece.usage)
            return
        yield Said(text) if text else None
        _check_time(piece, started, timeout)


def _check_time(piece: Piece, started: float, timeout: float) -> None:
    if time.monotonic() - started > timeout:
        raise Unavailable(f"the answer took longer than {timeout:g} seconds and was given up; ask for fewer tokens")


def _overlap(text: str, stop: str) -> int:
    """The most characters at the end of a text that begin a stop."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


async def completion(items: AsyncIterator[Said], name: str, number: str) -> dict[str, Any]:
    """The whole answer. name: the model's · number: the completion's own."""
    parts = [item async for item in items]
    last = parts[-1]
    message = {"role": "assistant", "content": "".join(part.text for part in parts)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": last.finish}
    return {**_head("chat.completion", name, number), "choices": [choice], "usage": _counted(last.usage)}


async def chunks(
    items: AsyncGenerator[Said, None], name: str, number: str, *, path: str, has_usage: bool
) -> AsyncGenerator[ServerSentEvent, None]:
    """The same as server-sent events, ended by `[DONE]`; where it fails, an `error` instead."""
    head = _head("chat.completion.chunk", name, number)

    def chunk(delta: dict[str, str], finish: str | None = None) -> ServerSentEvent:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice]})

    try:
        yield chunk({"role": "assistant", "content": ""})
        async for item in items:
            if item.text:
                yield chunk({"content": item.text})
            if item.finish is not None:
                yield chunk({}, item.finish)
                if has_usage:
                    yield event({**head, "choices": [], "usage": _counted(item.usage)})
        yield ServerSentEvent("[DONE]", sep="\n")
    except FacetrailError as error:
        document = problem_of(error, path)[1]
        yield event({"error": {"message": document["detail"], "type": document["type"], "code": document["status"]}})
    finally:
        await items.aclose()


def _head(kind: str, name: str, number: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": int(time.time()), "model": name}


def _counted(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }
