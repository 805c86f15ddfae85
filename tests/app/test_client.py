"""The Python client against the real service: typed answers, problems as exceptions, waits that were asked for."""

import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from contracts.scripted_server import ScriptedServer

from facetrail.app.client import Client, ServiceProblem
from facetrail.app.client_http import parsed_events
from facetrail.app.client_options import ReasonOptions, RecommendOptions, SearchOptions
from facetrail.app.client_reason import RetrievedShape, TokenShape
from facetrail.app.reason_schemas import AnswerShape, ReasonBody
from facetrail.app.recommend_schemas import EventIn, RecommendBody
from facetrail.app.schemas import DocumentIn, SearchBody
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.judgements import JudgedQuery, Judgements
from facetrail.indexing.recommenders import fit_closed_forms
from facetrail.models.errors import InvalidInput, Unavailable

THEN = 1_700_000_000_000


@pytest.fixture
def service(start: Any) -> Any:
    return start()


@pytest.fixture
def client(service: Any) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{service.port}") as opened:
        yield opened


def test_importing_the_client_loads_neither_engines_nor_the_service() -> None:
    code = (
        "import sys; import facetrail.app.client; "
        "print([m for m in ('torch', 'numpy', 'fastapi', 'starlette', 'uvicorn', 'typer') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "body", "given_otherwise"),
    [
        (SearchOptions, SearchBody, {"query"}),
        (RecommendOptions, RecommendBody, {"user"}),
        (ReasonOptions, ReasonBody, {"question", "stream"}),
    ],
)
def test_every_field_of_a_request_can_be_given_by_name(options: Any, body: Any, given_otherwise: set[str]) -> None:
    assert {*options.__annotations__, *given_otherwise} == {*body.model_fields}


def test_a_search_and_its_pages_are_those_of_the_service(client: Client, service: Any) -> None:
    asked = {"query": "graph retrieval", "limit": 3, "explain": True, "filter": {"year": {"gte": 2005}}}
    wanted = service.client.post("/v1/search", json=asked).json()
    first = client.search("graph retrieval", limit=3, explain=True, filter={"year": {"gte": 2005}})
    assert [(hit.id, hit.score) for hit in first.hits] == [(hit["id"], hit["score"]) for hit in wanted["hits"]]
    explanation, payload = first.hits[0].explanation, first.hits[0].payload
    assert explanation is not None
    assert payload is not None
    assert {source.name for source in explanation.sources} == {"lexical", "dense"}
    assert payload.metadata["year"] >= 2005
    assert first.next_cursor is not None
    second = client.search("graph retrieval", limit=3, filter={"year": {"gte": 2005}}, cursor=first.next_cursor)
    whole = client.search("graph retrieval", limit=6, filter={"year": {"gte": 2005}})
    assert [hit.id for hit in (*first.hits, *second.hits)] == [hit.id for hit in whole.hits]
    near, batch = client.search(like="d001", limit=2), client.search_batch(["graph", "ocean"], limit=2)
    assert "d001" not in {hit.id for hit in near.hits}
    assert [[hit.id for hit in result.hits] for result in batch.results] == [
        [hit.id for hit in client.search(query, limit=2).hits] for query in ("graph", "ocean")
    ]


@pytest.mark.parametrize("document_id", ["plain", "a/b?c#d&e=f", "..", "é 😀%2F", "a\u2028b"])
def test_documents_go_in_come_out_and_go_away_whatever_their_id(client: Client, document_id: str) -> None:
    written = client.put_documents(
        [DocumentIn(id=document_id, text="zeppelin", metadata={"n": 1}), {"id": "other", "text": "zeppelin"}]
    )
    assert (written.created, written.updated) == (2, 0)
    found = client.get_document(document_id)
    assert (found.id, found.text, found.metadata) == (document_id, "zeppelin", {"n": 1})
    assert {hit.id for hit in client.search("zeppelin", mode="lexical").hits} == {document_id, "other"}
    assert client.delete_document(document_id).deleted == [document_id]
    with pytest.raises(ServiceProblem) as caught:
        client.get_document(document_id)
    assert (caught.value.status, caught.value.title, caught.value.kind) == (404, "Not Found", "not-found")
    gone = client.delete_documents(["other", document_id])
    assert (gone.deleted, gone.missing) == (["other"], [document_id])
    assert len(client.delete_documents(filter={"topic": "graph"}).deleted) == 12


def test_events_become_recommendations(client: Client, service: Any) -> None:
    walks = [
        {"user": f"u{user}", "item": f"d{(user + step) % 20:03d}", "action": "view", "time": THEN + step}
        for user in range(20)
        for step in range(8)
    ]
    assert client.events(walks).created == 160
    again = client.events([EventIn(**walks[0]), EventIn(user="u0", item="ghost", action="view", time=THEN + 99)])
    assert (again.created, again.known, again.unknown_items) == (1, [0], ["ghost"])
    fit_closed_forms(service.platform.collection(None).searcher.collection, actions=Actions())
    found = client.recommend(history=["d003"], limit=2, explain=True, strategy="markov")
    assert found.items[0].id == "d004"
    assert (found.items[0].reasons[0].type, found.items[0].reasons[0].evidence) == ("because_you", ["d003"])
    assert not found.fallback
    assert client.recommend("u1", limit=1).items[0].id == "d009"
    near = client.recommend(strategy="similar", item="d001", limit=3)
    assert [item.id for item in near.items] == [h.id for h in client.search(like="d001", mode="dense", limit=3).hits]


def test_the_encoder_and_the_ranking_of_given_texts(client: Client) -> None:
    answer = client.embeddings(["graph", "ocean"], input_type="query")
    (one,) = client.embeddings("graph", input_type="query").data
    assert [row.index for row in answer.data] == [0, 1]
    assert one.embedding == answer.data[0].embedding
    assert sum(float(x) ** 2 for x in one.embedding) == pytest.approx(1, abs=1e-5)
    ranked = client.rerank("ocean", ["a trial", "the ocean", "a graph"], top_n=1, method="lexical")
    assert [row.index for row in ranked.results] == [1]
    assert ranked.meta.method == "lexical"


def test_the_service_tells_of_itself(client: Client, service: Any) -> None:
    assert client.health().state == "ready"
    told = client.collections()
    assert (told.default, [c.name for c in told.collections]) == ("sample", ["sample"])
    assert client.collection("sample").n_documents == 60
    assert client.fields("sample").fields["year"].n_values == 20
    assert client.judgements("sample").queries == []
    collection = service.platform.collection("sample").searcher.collection
    Judgements(collection).replace([JudgedQuery("q", "graph?", {"d001": 2, "gone": 1})])
    (judged,) = client.judgements("sample").queries
    assert (judged.id, judged.text, judged.relevant) == ("q", "graph?", {"d001": 2, "gone": 1})
    assert client.collection("sample").recommenders == []
    assert client.build("sample").status == "running"
    deadline = time.monotonic() + 30
    while (state := client.collection("sample").build).status == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (state.status, client.collection("sample").generation) == ("done", 2)


def test_what_is_refused_names_the_field(client: Client) -> None:
    with pytest.raises(ServiceProblem, match="at /limit") as caught:
        client.search("graph", limit=0)
    problem = caught.value
    assert (problem.status, problem.title, problem.kind) == (422, HTTPStatus(422).phrase, "invalid-input")
    assert (problem.pointer, str(problem)) == ("/limit", problem.detail)
    with pytest.raises(ServiceProblem, match="no collection 'none'"):
        client.search("graph", collection="none")
    with pytest.raises(InvalidInput, match="no JSON"):
        client.search(vector=[float("nan")])
    with pytest.raises(InvalidInput, match="no JSON"):
        client.put_documents([{"id": "a", "text": "b", "metadata": {"when": object()}}])


def test_a_key_opens_what_is_closed(start: Any) -> None:
    port = start(("lexical",), read_keys="open-sesame").port
    with Client(f"http://127.0.0.1:{port}") as stranger, pytest.raises(ServiceProblem) as caught:
        stranger.search("graph")
    assert caught.value.status == 401
    with Client(f"http://127.0.0.1:{port}", key="open-sesame") as friend:
        assert friend.search("graph").hits
        with pytest.raises(ServiceProblem) as caught:
            friend.put_documents([{"id": "a", "text": "b"}])
        assert caught.value.status == 403


def test_nobody_there_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "localhost:8000"):
        with Client(url) as client, pytest.raises(Unavailable, match="no answer from"):
            client.health()


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer().running() as running:
        yield running


@pytest.fixture
def asking(start: Any, model: ScriptedServer) -> Iterator[Client]:
    running = start(("lexical",), language_model=model.url, language_model_name="scripted")
    with Client(f"http://127.0.0.1:{running.port}") as opened:
        yield opened


def test_an_answer_comes_whole_or_in_parts(asking: Client, model: ScriptedServer) -> None:
    model.says = ["It is about graph", " citation [1]. It is about whales."]
    whole = asking.reason("graph neural citation retrieval", mode="lexical", limit=3)
    assert whole.answer == "It is about graph citation [1]. It is about whales."
    assert [sentence.is_supported for sentence in whole.sentences] == [True, False]
    assert asking.get_document(whole.citations[0].id).text.find(whole.citations[0].quote) >= 0
    first, *parts, last = asking.reason_events("graph neural citation retrieval", mode="lexical", limit=3)
    assert isinstance(first, RetrievedShape)
    assert whole.citations[0].id in {cited.id for cited in first.citations}
    assert "".join(part.text for part in parts if isinstance(part, TokenShape)) == whole.answer
    assert isinstance(last, AnswerShape)
    assert last.model_copy(update={"took_ms": whole.took_ms}) == whole


def test_what_fails_before_or_within_a_stream_is_a_problem(asking: Client, model: ScriptedServer) -> None:
    with pytest.raises(ServiceProblem) as caught:
        list(asking.reason_events("a question", limit=0))
    assert (caught.value.status, caught.value.pointer) == (422, "/limit")
    model.manner = "breaks off"
    read = []
    with pytest.raises(ServiceProblem) as caught:
        read.extend(asking.reason_events("graph neural citation retrieval", mode="lexical"))
    assert (caught.value.status, caught.value.kind) == (503, "unavailable")
    assert "gave up while it wrote" in caught.value.detail


def test_a_reader_who_leaves_a_stream_frees_the_model(asking: Client, model: ScriptedServer) -> None:
    model.says, model.pause = ["word "] * 200, 0.05
    events = asking.reason_events("graph neural citation retrieval", mode="lexical")
    assert isinstance(next(events), RetrievedShape)
    events.close()  # type: ignore[attr-defined]  # a generator
    deadline = time.monotonic() + 10
    while model.open and time.monotonic() < deadline:
        time.sleep(0.02)
    assert model.open == 0
    assert asking.health().state == "ready"


# -- waiting, against a service that says what a test wants --------------------------------------------------------


@contextmanager
def answering(answers: Callable[[int], tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, list[float]]]:
    """A server whose n-th answer is answers(n). Yields its address and the times of the requests."""
    times: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            times.append(time.monotonic())
            status, headers, body = answers(len(times))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            with suppress(BrokenPipeError):  # who asked has left
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", times
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BUSY = json.dumps({"type": "urn:facetrail:problem:busy", "title": "Busy", "status": 503, "detail": "too busy"}).encode()
READY = b'{"state": "ready"}'


def test_a_busy_service_is_asked_again_when_it_says_so() -> None:
    with answering(lambda n: (503, {"retry-after": "1"}, BUSY) if n == 1 else (200, {}, READY)) as (url, times):
        with Client(url) as client:
            assert client.health().state == "ready"
        assert len(times) == 2
        assert times[1] - times[0] >= 1


@pytest.mark.parametrize(
    ("status", "headers", "retries", "n_asked"),
    [
        (503, {"retry-after": "0"}, 2, 3),
        (429, {"retry-after": "0"}, 1, 2),
        (503, {"retry-after": "0"}, 0, 1),
        (503, {}, 3, 1),
        (503, {"retry-after": "3600"}, 3, 1),
        (503, {"retry-after": "Wed, 21 Oct 2037 07:28:00 GMT"}, 3, 1),
        (500, {"retry-after": "0"}, 3, 1),
        (404, {"retry-after": "0"}, 3, 1),
    ],
)
def test_it_is_asked_no_oftener_than_that(status: int, headers: dict[str, str], retries: int, n_asked: int) -> None:
    with answering(lambda _: (status, headers, BUSY)) as (url, times):
        with Client(url, retries=retries) as client, pytest.raises(ServiceProblem, match="too busy") as caught:
            client.health()
        assert (caught.value.status, caught.value.kind, len(times)) == (status, "busy", n_asked)


def test_a_stranger_s_page_is_no_problem_document_but_one_sentence() -> None:
    with answering(lambda _: (502, {"content-type": "text/html"}, b"<h1>Bad Gateway</h1>")) as (url, _):
        with Client(url) as client, pytest.raises(ServiceProblem, match="answered 502 without a reason") as caught:
            client.health()
        assert (caught.value.status, caught.value.title) == (502, "Bad Gateway")


def test_an_answer_that_does_not_come_ends_at_the_timeout() -> None:
    def late(_: int) -> tuple[int, dict[str, str], bytes]:
        time.sleep(1)
        return 200, {}, READY

    with answering(late) as (url, _), Client(url, timeout=0.1) as client, pytest.raises(Unavailable, match="timed out"):
        client.health()


def test_events_are_read_from_any_pieces_and_keep_odd_line_breaks() -> None:
    text = 'event: token\ndata: {"text": "a\u2028b\u0085"}\n\n: a comment\n\nevent: done\ndata: {"n": 1}\n\nevent: half'
    wanted = [("token", {"text": "a\u2028b\u0085"}), ("done", {"n": 1})]
    for content, size in itertools.product((text.encode(), text.replace("\n", "\r\n").encode()), (1, 3, 1_000)):
        assert list(parsed_events(content[at : at + size] for at in range(0, len(content), size))) == wanted
