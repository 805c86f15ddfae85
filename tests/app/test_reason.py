"""Answers over HTTP: whole and as events, with what clients and servers do by mistake; the service goes on."""

import asyncio
import gc
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from contracts.scripted_server import ScriptedServer

from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.recommenders import fit_closed_forms
from facetrail.models.recommend.records import Event

pytestmark = pytest.mark.usefixtures("imported")
QUESTION = {"question": "graph neural citation retrieval", "mode": "lexical"}
THEN = 1_700_000_000_000


def options(server: ScriptedServer, **more: Any) -> dict[str, Any]:
    return {"language_model": server.url, "language_model_name": "scripted", **more}


@pytest.fixture
def service(start: Any, server: ScriptedServer) -> Any:
    return start(("lexical",), **options(server, language_timeout=3.0))


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def is_idle(service: Any, server: ScriptedServer, seconds: float = 1.0) -> bool:
    deadline = time.monotonic() + seconds
    while service.platform.speaking.n_talks or server.open:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["detail"])


def test_an_answer_comes_whole_or_as_events_and_is_the_same(service: Any, server: ScriptedServer) -> None:
    server.says = ["It is about graph", " citation [1]. It is about whales [9]."]
    response = service.client.post("/v1/reason", json=QUESTION)
    assert response.status_code == 200, response.text
    whole = response.json()
    assert whole["answer"] == "It is about graph citation [1]. It is about whales [?]."
    assert [s["is_supported"] for s in whole["sentences"]] == [True, False]
    assert whole["sentences"][0]["attributed"] == "model"
    assert whole["is_answered"] is True
    assert whole["model"] == {**whole["model"], "name": "scripted", "kind": "endpoint", "context": 4_096}
    [cited] = whole["citations"]
    text = service.client.get(f"/v1/documents/{cited['id']}").json()["text"]
    assert text[cited["start"] : cited["end"]] == cited["quote"] != ""

    streamed = service.client.post("/v1/reason", json={**QUESTION, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = events_of(streamed.text)
    assert [name for name, _ in events] == ["retrieved", *["token"] * (len(events) - 2), "done"]
    assert all(c["quote"] == "" for c in events[0][1]["citations"])
    assert {cited["id"]} <= {c["id"] for c in events[0][1]["citations"]}
    assert "".join(data["text"] for name, data in events if name == "token") == whole["answer"]
    done = events[-1][1]
    assert {**done, "took_ms": 0} == {**whole, "took_ms": 0}


def test_nothing_relevant_is_said_and_no_model_is_asked(service: Any, server: ScriptedServer) -> None:
    found = service.client.post("/v1/reason", json={"question": "who won the chess game?"}).json()
    assert (found["answer"], found["is_answered"], found["citations"]) == ("I don't know.", False, [])
    assert server.asked == []


def test_recommendations_are_explained_from_measured_reasons(service: Any, server: ScriptedServer) -> None:
    ids = [f"d{i:03d}" for i in range(60)]
    searcher = service.platform.collection(None).searcher
    events = [Event(f"u{u}", ids[(u + n) % 20], "view", THEN + n) for u in range(30) for n in range(12)]
    Events(searcher.collection).put(events)
    fit_closed_forms(searcher.collection, actions=Actions())
    server.says = ["It is recommended at rank 1 [1]. Critics loved it."]
    body = {"question": "why these?", "about": "recommendations", "user": "u0", "limit": 2}
    found = service.client.post("/v1/reason", json=body).json()
    assert [s["is_supported"] for s in found["sentences"]] == [True, False]
    assert found["citations"][0]["id"] == ids[12]
    assert found["citations"][0]["quote"].startswith("It is recommended at rank 1 with score")
    told = server.asked[0]["messages"][-1]["content"]
    assert "in the history (" in told
    assert problem(service.client.post("/v1/reason", json={**body, "user": "nobody"}), 404).startswith("user 'nobody'")


# -- bad days ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manner", "sentence"),
    [
        ("nonsense", "does not speak the OpenAI protocol"),
        ("no json", "does not speak the OpenAI protocol"),
        ("busy", "is too busy"),
        ("unknown", "knows no model 'scripted'"),
        ("breaks off", "gave up while it wrote"),
    ],
)
def test_a_server_that_misbehaves_is_one_sentence_and_the_service_goes_on(
    service: Any, server: ScriptedServer, manner: str, sentence: str
) -> None:
    server.manner = manner  # type: ignore[assignment]
    response = service.client.post("/v1/reason", json=QUESTION)
    assert sentence in problem(response, 503)
    assert response.headers["retry-after"] == "1"
    name, document = events_of(service.client.post("/v1/reason", json={**QUESTION, "stream": True}).text)[-1]
    assert (name, document["status"]) == ("error", 503)
    assert sentence in document["detail"]
    server.manner = "stream"
    assert service.client.post("/v1/reason", json=QUESTION).status_code == 200


def test_a_silent_server_is_given_up_in_time(start: Any, server: ScriptedServer) -> None:
    service = start(("lexical",), **options(server, language_timeout=0.5))
    server.manner = "silent"
    assert "said nothing" in problem(service.client.post("/v1/reason", json=QUESTION), 503)
    assert service.platform.speaking.n_talks == 0


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("http://127.0.0.1:9/v1", "does not answer to the end"), ("no/such/folder", "there is no language model")],
)
def test_a_model_that_is_not_there_is_unavailable(start: Any, model: str, sentence: str) -> None:
    service = start(("lexical",), language_model=model, language_model_name="scripted")
    assert sentence in problem(service.client.post("/v1/reason", json=QUESTION), 503)
    assert service.client.post("/v1/search", json={"query": "graph"}).status_code == 200


def test_bad_questions_are_named_before_anything_is_streamed(service: Any) -> None:
    for body, pointer in (
        ({"question": "graph " * 3_000}, "/question"),
        ({"question": ""}, "/question"),
        ({"question": "graph", "limit": 21}, "/limit"),
        ({"question": "graph", "user": "ann"}, "/user"),
        ({"question": "graph", "depth": 3}, "/depth"),
    ):
        for stream in (False, True):
            response = service.client.post("/v1/reason", json={**body, "stream": stream})
            problem(response, 422)
            assert response.json()["pointer"] == pointer


def test_half_a_request_leaves_nothing_behind(service: Any, server: ScriptedServer) -> None:
    head = (
        b"POST /v1/reason HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(head + b'{"question": "gr')
    assert service.client.post("/v1/reason", json=QUESTION).status_code == 200
    assert is_idle(service, server)


# -- leaving, waiting ----------------------------------------------------------------------------------------------


def leave(service: Any, *, stream: bool, wait: float = 0.0) -> None:
    """Asks, and hangs up."""
    body = json.dumps({**QUESTION, "stream": stream}).encode()
    head = (
        f"POST /v1/reason HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        time.sleep(wait)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("manner", ["stream", "silent"])
def test_a_client_who_leaves_stops_the_model_within_a_second(
    start: Any, server: ScriptedServer, stream: bool, manner: str
) -> None:
    service = start(("lexical",), **options(server))
    server.manner, server.says, server.pause = manner, ["word "] * 2_000, 0.02  # type: ignore[assignment]
    leave(service, stream=stream, wait=0.5)
    deadline = time.monotonic() + 1.0
    while service.platform.speaking.n_talks:
        assert time.monotonic() < deadline, "the talk went on"
        time.sleep(0.01)


def open_tasks() -> int:
    """Tasks of any loop that have not ended."""
    return sum(issubclass(type(one), asyncio.Task) and not one.done() for one in gc.get_objects())


@pytest.mark.parametrize("n", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_disconnects_leak_no_task_no_talk_and_no_thread(start: Any, server: ScriptedServer, n: int) -> None:
    service = start(("lexical",), **options(server, language_queue=4))
    assert service.client.post("/v1/reason", json={**QUESTION, "stream": True}).status_code == 200
    server.says, server.pause = ["word "] * 2_000, 0.005
    threads, tasks = threading.active_count(), open_tasks()
    for place in range(n):
        leave(service, stream=place % 2 == 0, wait=0.005 * (place % 4))
    assert is_idle(service, server, 10.0)
    assert threading.active_count() <= threads + 1
    deadline = time.monotonic() + 5
    while open_tasks() > tasks:
        assert time.monotonic() < deadline, "a task was leaked"
        time.sleep(0.05)
    server.says, server.pause = ["It rains."], 0.0
    assert service.client.post("/v1/reason", json=QUESTION).json()["answer"] == "It rains."


def test_who_finds_the_queue_full_is_told_to_come_again(start: Any, server: ScriptedServer) -> None:
    service = start(("lexical",), **options(server, language_queue=1))
    server.says, server.pause = ["word "] * 60, 0.05
    answers: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=str(service.client.base_url), timeout=30) as client:
            answers.append(client.post("/v1/reason", json=QUESTION).status_code)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + 5
    while service.platform.speaking.n_talks < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for stream in (False, True):
        refused = service.client.post("/v1/reason", json={**QUESTION, "stream": stream})
        assert "try again in a moment" in problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
    assert service.client.post("/v1/search", json={"query": "graph"}).status_code == 200
    for thread in asking:
        thread.join()
    assert answers == [200, 200]


def test_who_waits_too_long_for_a_turn_is_told_to_come_again(start: Any, server: ScriptedServer) -> None:
    service = start(("lexical",), **options(server, language_wait=1.0))
    service.platform.speaking.speaker()  # loading belongs to the wait of the first
    server.says, server.pause = ["word "] * 40, 0.2
    first = threading.Thread(target=lambda: service.client.post("/v1/reason", json=QUESTION))
    first.start()
    while not service.platform.speaking.n_talks:
        time.sleep(0.01)
    with httpx.Client(base_url=str(service.client.base_url), timeout=30) as client:
        assert "had no time within 1 seconds" in problem(client.post("/v1/reason", json=QUESTION), 503)
    first.join()
    assert is_idle(service, server)


def test_a_service_that_stops_ends_its_talks(start: Any, server: ScriptedServer) -> None:
    service = start(("lexical",), **options(server))
    server.says, server.pause = ["word "] * 2_000, 0.02
    talking = threading.Thread(target=lambda: leave(service, stream=True, wait=1.0))
    talking.start()
    while not service.platform.speaking.n_talks:
        time.sleep(0.01)
    started = time.monotonic()
    service.platform.speaking.close()
    assert time.monotonic() - started < 1.0
    assert service.platform.speaking.n_talks == 0
    talking.join()


def test_a_model_is_loaded_off_the_event_loop(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(("lexical",), language_model=str(tmp_path))
    names: list[str] = []
    speaking = service.platform.speaking
    opened = speaking.speaker
    monkeypatch.setattr(speaking, "speaker", lambda: names.append(threading.current_thread().name) or opened())
    problem(service.client.post("/v1/reason", json=QUESTION), 503)
    assert [name.rsplit("_", 1)[0] for name in names] == ["facetrail-speak"]
