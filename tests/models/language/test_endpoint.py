"""The client of OpenAI-compatible servers, against a real server on this machine that can misbehave in every way."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from facetrail.models.errors import FacetrailError, InvalidInput, NotFound, Unavailable
from facetrail.models.language.endpoint import EndpointModel
from facetrail.models.language.opening import open_language_model
from facetrail.models.language.records import DrawKey, Prompt, Rollout, Sampling

Reply = tuple[int, dict[str, str], bytes]
PROMPTS = [Prompt("a", "one", ""), Prompt("b", "two", "")]


class Server:
    """Answers what `reply` says to (path, body), and keeps what it was asked."""

    def __init__(self) -> None:
        self.reply: Callable[[str, dict[str, Any]], Reply] = chat
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, body, dict(self.headers)))
                status, headers, content = outer.reply(self.path, body)
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return status, {name.replace("_", "-"): said for name, said in headers.items()}, json.dumps(value).encode()


def chat(path: str, body: dict[str, Any]) -> Reply:
    """Repeats the question; `two` is cut."""
    text = body["messages"][-1]["content"]
    finish = "length" if text == "two" else "stop"
    return as_json({"choices": [{"message": {"role": "assistant", "content": f"{text}!"}, "finish_reason": finish}]})


def echoed(path: str, body: dict[str, Any]) -> Reply:
    """One token for each word with the blank before it; each costs its own length."""
    tokens = [" " * (i > 0) + word for i, word in enumerate(body["prompt"].split(" "))]
    starts = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    log_probs = [None, *(-float(len(token)) for token in tokens[1:])]
    return as_json({"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": log_probs, "text_offset": starts}}]})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Server()
    yield found
    found.stop()


def asked(url: str, **options: Any) -> list[Rollout]:
    with EndpointModel(url, **{"model": "m", "timeout": 5.0} | options) as model:
        return model.generate(PROMPTS[:1], 1, sampling=Sampling(), key=DrawKey(0))


def test_completions_come_in_order_and_say_how_they_ended(server: Server) -> None:
    model = open_language_model(server.url + "/", model="m", api_key="secret")
    found = model.generate(PROMPTS, 3, sampling=Sampling(temperature=0.5, max_new_tokens=7), key=DrawKey(4))
    assert [(one.prompt_id, one.sample) for one in found] == [(p, i) for p in "ab" for i in range(3)]
    assert [(one.text, one.finish) for one in found] == [("one!", "eos")] * 3 + [("two!", "length")] * 3
    assert {(one.completion_ids, one.log_probs, one.sampler, one.source_id) for one in found} == {
        ((), (), "endpoint", "m")
    }
    assert (model.kind, model.name) == ("endpoint", "m")
    path, body, headers = server.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert {body[name] for name in ("model", "temperature", "top_p", "max_tokens")} == {"m", 0.5, 1.0, 7}
    assert len({body["seed"] for _, body, _ in server.asked}) == 6


def test_equal_keys_ask_with_equal_seeds_and_no_key_sends_none(server: Server) -> None:
    for _ in range(2):
        asked(server.url)
    assert server.asked[0][1] == server.asked[1][1]
    assert "Authorization" not in server.asked[0][2]


def test_a_server_that_closes_an_answer_itself_forced_it(server: Server) -> None:
    choice = {"message": {"content": ""}, "finish_reason": "content_filter"}
    server.reply = lambda path, body: as_json({"choices": [choice]})
    assert asked(server.url)[0].finish == "forced"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("said", ["0.05", formatdate(0, usegmt=True)], ids=["seconds", "a date gone by"])
def test_a_busy_server_is_asked_again_when_it_says(server: Server, status: int, said: str) -> None:
    replies = iter([as_json({}, status, Retry_After=said)] * 2)
    server.reply = lambda path, body: next(replies, None) or chat(path, body)
    assert asked(server.url)[0].text == "one!"
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    server.reply = lambda path, body: as_json({}, 503, Retry_After="0")
    with pytest.raises(Unavailable, match=r"too busy \(status 503 after 3 tries\); try again later"):
        asked(server.url, retries=2)
    server.reply = lambda path, body: as_json({}, 429, Retry_After="3600")
    with pytest.raises(Unavailable, match="after 1 tries"):
        asked(server.url)


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer here
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        with pytest.raises(
            Unavailable, match=r"no server answers at http://127\.0\.0\.1:\d+/v1 \(ConnectError\); start"
        ):
            asked(url)


def test_a_slow_server_is_not_waited_for(server: Server) -> None:
    release = threading.Event()
    server.reply = lambda path, body: (release.wait(10), chat(path, body))[1]
    try:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s; raise the timeout"):
            asked(server.url, timeout=0.2)
    finally:
        release.set()


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        ((200, {}, b"<html>hello</html>"), Unavailable, "no JSON"),
        (as_json([1, 2]), Unavailable, "without a JSON object"),
        (as_json({"choices": []}), Unavailable, "holds no text"),
        (as_json({"choices": [{"message": {"content": None}}]}), Unavailable, "holds no text"),
        (as_json({"choices": "all of them"}), Unavailable, "holds no text"),
        ((302, {"Location": "/login"}, b"{}"), Unavailable, "status 302"),
        (as_json({}, 401), Unavailable, "refused the API key"),
        (as_json({}, 404), NotFound, "knows no model 'm'"),
        (as_json({"error": "max_tokens is too large"}, 400), InvalidInput, "max_tokens is too large"),
        (as_json({}, 500), Unavailable, "failed with status 500"),
    ],
)
def test_every_bad_answer_has_its_sentence(server: Server, reply: Reply, kind: type[FacetrailError], said: str) -> None:
    server.reply = lambda path, body: reply
    with pytest.raises(kind, match=said) as caught:
        asked(server.url, api_key="secret")
    assert "secret" not in str(caught.value)
    assert len(server.asked) == 1


def test_scores_sum_the_tokens_behind_the_prompt(server: Server) -> None:
    server.reply = echoed
    with EndpointModel(server.url, model="m") as model:
        assert model.score("two plus two is", [" four", "", " four or so"]).tolist() == [-5.0, 0.0, -11.0]
    path, body, _ = server.asked[0]
    assert path == "/v1/completions"
    assert (body["prompt"], body["echo"], body["max_tokens"]) == ("two plus two is four", True, 0)


@pytest.mark.parametrize(
    "reply",
    [
        as_json({"choices": [{"text": "4", "logprobs": None}]}),
        as_json({"choices": [{"logprobs": {"tokens": ["4"], "token_logprobs": [-1.0], "text_offset": [0]}}]}),
        as_json({"error": "echo is not supported"}, 400),
        as_json({}, 404),
    ],
)
def test_a_server_without_log_probs_of_prompts_cannot_score(server: Server, reply: Reply) -> None:
    server.reply = lambda path, body: reply
    with EndpointModel(server.url, model="m") as model, pytest.raises(Unavailable, match="score with a local model"):
        model.score("two plus two is", [" four"])


@pytest.mark.parametrize("url", ["ftp://host/v1", "host:80", "http://", "http://host:port/v1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="no http or https URL"):
        EndpointModel(url, model="m")
