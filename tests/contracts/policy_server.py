"""A server on this machine that speaks the OpenAI protocol and answers with one of our policies as it is."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, Response

from facetrail.models.language.policy import Policy
from facetrail.models.language.records import DrawKey, Prompt, Rollout, Sampling

Tells = Literal["ids", "tokens", "nothing"]


class PolicyServer:
    """tells: what it says of a completion's tokens. `answer` replaces every reply once it is set."""

    def __init__(self, policy: Policy, *, tells: Tells = "ids") -> None:
        self.policy, self.tells = policy, tells
        self.answer: Response | None = None
        self.release: threading.Event | None = None
        """Where it is set, no answer comes before it is."""
        self.n_asked, self.breaks_after = 0, 10**9
        self.url = ""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/completions")
        def completions(body: dict[str, Any]) -> Any:
            if (reply := self._broken()) is not None:
                return reply
            found = self._written(body["prompt"], body)
            return self._choice(found, body, text=found.text)

        @app.post("/v1/chat/completions")
        def chat(body: dict[str, Any]) -> Any:
            if (reply := self._broken()) is not None:
                return reply
            found = self._written(body["messages"][-1]["content"], body)
            return self._choice(found, body, message={"role": "assistant", "content": found.text})

        return app

    def _broken(self) -> Response | None:
        self.n_asked += 1
        if self.n_asked <= self.breaks_after:
            return None
        if self.release is not None:
            self.release.wait(10)
        return self.answer

    def _written(self, asked: str | list[int], body: dict[str, Any]) -> Rollout:
        text = asked if isinstance(asked, str) else self.policy.tokenizer.decode(asked)
        sampling = Sampling(body["temperature"], body["top_p"], body["max_tokens"])
        return self.policy.generate([Prompt("asked", text, "")], 1, sampling=sampling, key=DrawKey(body["seed"]))[0]

    def _choice(self, found: Rollout, body: dict[str, Any], **content: Any) -> dict[str, Any]:
        choice = {**content, "finish_reason": "stop" if found.finish == "eos" else "length"}
        if body.get("logprobs") is not None and self.tells != "nothing" and found.log_probs:
            words = [self.policy.tokenizer.decode((one,)) or "<eos>" for one in found.completion_ids]
            tokens = [" " * (place > 0) + word for place, word in enumerate(words)]
            if "message" in content:
                rows = [{"token": t, "logprob": v} for t, v in zip(tokens, found.log_probs, strict=True)]
                choice["logprobs"] = {"content": rows}
            else:
                choice["logprobs"] = {"tokens": tokens, "token_logprobs": list(found.log_probs)}
            if self.tells == "ids":
                choice["token_ids"] = list(found.completion_ids)
        return {"choices": [choice]}


@contextmanager
def serving(server: PolicyServer) -> Iterator[PolicyServer]:
    """The server at work inside the block, on a free port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()  # who asks before the thread has begun waits instead of being refused
        server.url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        running = uvicorn.Server(uvicorn.Config(server.app(), log_level="error", lifespan="off"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join()
