"""Limits: sizes, times, shedding before the body is read, draining."""

import asyncio
import concurrent.futures
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from facetrail.app.errors import Busy, Refused
from facetrail.app.limits import Load
from facetrail.app.metrics import Metrics
from facetrail.app.settings import Settings
from facetrail.app.work import WorkPool

HEAD = b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def read_answer(connection: socket.socket) -> bytes:
    """Everything up to the end of the answer or of the connection."""
    received = b""
    while True:
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), None
        )
        if length is not None and len(body) >= length:
            return received
        part = connection.recv(65_536)
        if not part:
            return received
        received += part


def slow_searches(service: Any, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The real search, made slow; hybrid searches always go to the pool."""
    searcher = service.platform.collection(None).searcher
    search = searcher.search

    def slow(request: Any) -> Any:
        time.sleep(seconds)
        return search(request)

    monkeypatch.setattr(searcher, "search", slow)


def test_overload_is_shed_quickly_and_accepted_requests_stay_fast(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(search_workers=2, max_wait_ms=100)
    slow_searches(service, monkeypatch, 0.05)  # capacity: 40 a second
    for _ in range(25):  # the pool learns what a search takes
        service.client.post("/v1/search", json={"query": "graph"})
    answers: list[tuple[int, float, str | None]] = []

    def one(client: httpx.Client) -> None:
        started = time.perf_counter()
        response = client.post("/v1/search", json={"query": "graph"})
        answers.append((response.status_code, time.perf_counter() - started, response.headers.get("retry-after")))

    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    with (
        httpx.Client(base_url=service.client.base_url, timeout=30, limits=limits) as client,
        concurrent.futures.ThreadPoolExecutor(60) as pool,
    ):
        begun = time.perf_counter()
        futures = []
        for n in range(200):  # open loop: 100 a second, whatever comes back
            time.sleep(max(0.0, begun + n / 100 - time.perf_counter()))
            futures.append(pool.submit(one, client))
        for future in futures:
            future.result()
    accepted = sorted(seconds for status, seconds, _ in answers if status == 200)
    shed = [retry for status, _, retry in answers if status == 503]
    assert len(accepted) + len(shed) == 200
    assert len(accepted) > 30
    assert len(shed) > 60
    assert set(shed) == {"1"}
    assert accepted[int(0.99 * len(accepted))] < 1.5  # unbounded, the last would wait 3 s; the benchmark holds 0.25
    assert 'facetrail_shed_total{reason="queue"}' in service.client.get("/metrics").text
    assert service.client.get("/healthz").status_code == 200


def test_a_full_queue_refuses_before_the_body_is_sent(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(search_workers=1, max_wait_ms=1)  # any queue is too long
    slow_searches(service, monkeypatch, 0.4)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(service.client.post, "/v1/search", json={"query": "graph"}) for _ in range(1)]
        time.sleep(0.1)
        with connect(service.port) as connection:
            connection.sendall(HEAD + b"content-length: 1000000\r\n\r\n")
            answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        assert [f.result().status_code for f in busy] == [200]


def test_places_are_bounded_and_given_back(start: Any) -> None:
    service = start(modes=("lexical",), max_in_flight=3)
    uploads = [connect(service.port) for _ in range(3)]
    for upload in uploads:
        upload.sendall(HEAD + b"content-length: 17\r\n\r\n{")
    time.sleep(0.2)
    refused = service.client.post("/v1/search", json={"query": "graph"})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert service.client.get("/readyz").status_code == 200
    for upload in uploads:
        upload.sendall(b'"query":"graph"}')
        assert read_answer(upload).startswith(b"HTTP/1.1 200")
        upload.close()
    assert service.client.post("/v1/search", json={"query": "graph"}).status_code == 200


def test_what_comes_too_late_in_a_batch_is_turned_away() -> None:
    load = Load(Settings(max_wait_ms=20), lambda: None, Metrics())
    n_taken = sum(load.arrive() for _ in range(1_000))
    assert 20 < n_taken < 60  # 10 ms of backlog at the first guess of .3 ms each
    for _ in range(n_taken):
        time.sleep(0.001)
        load.start()
    n_later = sum(load.arrive() for _ in range(1_000))
    assert n_later < n_taken / 2  # it has learnt that a request costs a millisecond
    for _ in range(n_later):
        load.start()
    assert load.arrive()


def test_a_flood_on_many_connections_is_partly_answered_and_partly_turned_away(start: Any) -> None:
    service = start(modes=("lexical",), max_wait_ms=10)
    body = b'{"query":"graph"}'
    request = HEAD + b"content-length: %d\r\n\r\n%s" % (len(body), body)
    crowd = [connect(service.port) for _ in range(150)]
    time.sleep(0.2)
    statuses: list[bytes] = []
    for _ in range(3):
        for connection in crowd:
            connection.sendall(request)
        for connection in crowd:
            answer = read_answer(connection)
            statuses.append(answer[9:12])
            assert answer[9:12] == b"200" or b"retry-after: 1" in answer
    for connection in crowd:
        connection.close()
    assert set(statuses) == {b"200", b"503"}
    assert service.client.post("/v1/search", json={"query": "graph"}).status_code == 200


def test_the_body_limit_holds_announced_or_not(start: Any) -> None:
    service = start(modes=("lexical",), max_body_bytes=2_000)
    big = {"query": "x" * 3_000}
    refused = service.client.post("/v1/search", json=big)
    assert (refused.status_code, refused.json()["title"]) == (413, "Content Too Large") or refused.status_code == 413
    chunks = (b'{"query":"' + b"x" * 900, *[b"x" * 900] * 4, b'"}')
    headers = {"content-type": "application/json"}
    assert service.client.post("/v1/search", content=iter(chunks), headers=headers).status_code == 413
    with connect(service.port) as connection:  # nothing of the body is sent
        connection.sendall(HEAD + b"content-length: 99999999999\r\n\r\n")
        assert read_answer(connection).startswith(b"HTTP/1.1 413")
    assert service.client.post("/v1/search", json={"query": "x" * 1_500}).status_code == 200


def test_a_full_sized_body_is_taken(start: Any) -> None:
    client = start(modes=("lexical",)).client
    documents = [{"id": f"big{n}", "text": "zebra " * 50_000} for n in range(20)]
    response = client.put("/v1/documents", json={"documents": documents})
    assert response.status_code == 200, response.text
    assert len(response.request.content) > 5_000_000


def test_slow_senders_are_cut_off(start: Any) -> None:
    service = start(modes=("lexical",), header_timeout=0.4, body_timeout=0.4)
    with connect(service.port) as silent, connect(service.port) as half_header, connect(service.port) as half_body:
        half_header.sendall(b"POST /v1/search HTTP/1.1\r\nhost: local")
        half_body.sendall(HEAD + b"content-length: 100\r\n\r\n{")
        assert read_answer(half_body).startswith(b"HTTP/1.1 408")
        assert read_answer(half_header) == b""
        assert read_answer(silent) == b""
    with connect(service.port) as patient:  # an idle connection after an answer stays open
        request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        patient.sendall(request)
        assert read_answer(patient).startswith(b"HTTP/1.1 200")
        time.sleep(0.8)
        patient.sendall(request)
        assert read_answer(patient).startswith(b"HTTP/1.1 200")


def test_huge_headers_and_too_many_connections_are_refused(start: Any) -> None:
    service = start(modes=("lexical",), max_header_bytes=4_000, max_connections=8)
    with connect(service.port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-big: " + b"x" * 5_000 + b"\r\n\r\n")
        assert read_answer(connection).startswith(b"HTTP/1.1 400")
    crowd = [connect(service.port) for _ in range(12)]
    time.sleep(0.2)
    crowd[-1].settimeout(5)
    assert crowd[-1].recv(4_096).startswith(b"HTTP/1.1 503")
    for connection in crowd:
        connection.close()
    time.sleep(0.2)
    assert service.client.get("/healthz").status_code == 200


def test_a_search_that_takes_too_long_is_given_up(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(request_timeout=0.2)
    slow_searches(service, monkeypatch, 0.6)
    answer = service.client.post("/v1/search", json={"query": "graph"})
    assert answer.status_code == 503
    assert "longer than 0.2 seconds" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "1"


def test_slow_searches_leave_probes_and_embeddings_alone(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(search_workers=1)
    slow_searches(service, monkeypatch, 2.0)
    thread = threading.Thread(target=service.client.post, args=("/v1/search",), kwargs={"json": {"query": "graph"}})
    thread.start()
    time.sleep(0.1)
    started = time.perf_counter()
    with httpx.Client(base_url=service.client.base_url) as other:
        assert other.get("/healthz").status_code == 200
        assert other.post("/v1/embeddings", json={"input": "x"}).status_code == 200
    assert time.perf_counter() - started < 1.7
    thread.join()


def test_a_pool_predicts_its_wait() -> None:
    async def scenario() -> None:
        pool = WorkPool("test", 2, max_wait=0.13, timeout=5)
        assert pool.expected_wait() == 0
        for _ in range(25):
            await pool.run(lambda: time.sleep(0.1))
        running = [asyncio.create_task(pool.run(lambda: time.sleep(0.1))) for _ in range(4)]
        await asyncio.sleep(0)
        assert pool.queued == 2
        assert 0.1 < pool.expected_wait() < 0.3
        with pytest.raises(Busy):
            await pool.run(lambda: None)
        await asyncio.gather(*running)
        assert await pool.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        assert pool.queued == 0
        pool.close()
        short = WorkPool("short", 1, max_wait=1, timeout=0.05)
        with pytest.raises(Refused, match="longer than"):
            await short.run(lambda: time.sleep(0.3))
        short.close()

    # In a thread of its own: a browser test in this process may have left an event loop running in the main one.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, scenario()).result(30)


def test_sigterm_drains(lexical_folder: Path, start_process: Any) -> None:
    child, port = start_process(lexical_folder, FACETRAIL_DRAIN_DELAY="0.7")
    with connect(port) as upload:
        upload.sendall(HEAD + b"content-length: 17\r\n\r\n{")
        time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        during = httpx.get(f"http://127.0.0.1:{port}/readyz")
        assert during.status_code == 503
        assert "draining" in during.json()["detail"]
        assert httpx.post(f"http://127.0.0.1:{port}/v1/search", json={"query": "graph"}).status_code == 200
        time.sleep(0.9)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/healthz")
        upload.sendall(b'"query":"graph"}')
        assert read_answer(upload).startswith(b"HTTP/1.1 200")
    assert child.wait(20) == 0
