"""2,000 hostile requests on raw sockets: no 5xx but the documented 503, no dead process."""

import concurrent.futures
import contextlib
import gzip
import json
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

N_REQUESTS = 2_000
Maker = Callable[[random.Random], bytes]
METHODS = "GET POST PUT DELETE PATCH HEAD OPTIONS TRACE CONNECT PURGE PROPFIND BREW get".split()  # noqa: SIM905
PATHS = [
    "/v1/search",
    "/v1/search/batch",
    "/v1/documents",
    "/v1/documents/x",
    "/v1/documents/delete",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/collections",
    "/v1/collections/sample/fields",
    "/v1/collections/x/build",
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
    "/static/x",
    "/openapi.json",
]


def request(
    method: str, target: str | bytes, body: bytes = b"", *, headers: dict[str, str] | None = None, length: bool = True
) -> bytes:
    raw = target if isinstance(target, bytes) else target.encode("latin-1", "replace")
    fields = {"host": "localhost", "content-type": "application/json", **(headers or {})}
    if length and body:
        fields.setdefault("content-length", str(len(body)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("latin-1", "replace")
    return method.encode() + b" " + raw + b" HTTP/1.1\r\n" + lines + b"\r\n" + body


def noise(rng: random.Random, n: int) -> bytes:
    return bytes(rng.randrange(256) for _ in range(rng.randrange(1, n)))


def wrong_method(rng: random.Random) -> bytes:
    return request(rng.choice(METHODS), rng.choice(PATHS), rng.choice([b"", b"{}"]))


def broken_json(rng: random.Random) -> bytes:
    whole = b'{"query":"graph","limit":5,"filter":{"must":[{"key":"year","range":{"gte":2001}}]}}'
    body = bytearray(whole[: rng.randrange(1, len(whole))])
    for _ in range(rng.randrange(3)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return request("POST", rng.choice(PATHS[:7]), bytes(body))


def deep_nesting(rng: random.Random) -> bytes:
    depth = rng.choice([60, 70, 190, 210, 1_100, 50_000])
    left, right = rng.choice([(b"[", b"]"), (b'{"must":[', b"]}"), (b'{"a":', b"}")])
    nested = left * depth + b"1" + right * depth
    body = rng.choice([nested, b'{"query":"x","filter":' + nested + b"}", b'{"ids":' + nested + b"}"])
    return request("POST", rng.choice(["/v1/search", "/v1/documents/delete"]), body)


def giant_numbers(rng: random.Random) -> bytes:
    number = rng.choice(
        [
            "9" * 400,
            "-" + "9" * 30,
            "1e999",
            "-1e999",
            "NaN",
            "Infinity",
            "1e-999",
            "0x10",
            "1_0",
            "18446744073709551616",
        ]
    )
    field = rng.choice(["limit", "offset", "score_threshold", "vector", "filter", "cursor", "facets", "rescore_depth"])
    value = (
        f"[{number}]"
        if field == "vector"
        else f'{{"must":[{{"key":"year","range":{{"gte":{number}}}}}]}}'
        if field == "filter"
        else f'{{"method":{number}}}'
        if field == "facets"
        else number
    )
    return request("POST", "/v1/search", f'{{"query":"x","{field}":{value}}}'.encode())


def bad_text(rng: random.Random) -> bytes:
    text = rng.choice(
        [
            rb"\ud800",
            rb"\udc00\ud800",
            b"\x00",
            rb"\u0000",
            b"\xff\xfe",
            b"\xed\xa0\x80",
            b"\xc0\xaf",
            rb"\x41",
            "\u202e\ufeff".encode(),
        ]
    )
    template = rng.choice(
        [
            b'{"query":"%s"}',
            b'{"like":"%s"}',
            b'{"ids":["%s"]}',
            b'{"input":"a%s"}',
            b'{"query":"x","collection":"%s"}',
            b'{"query":"a","cursor":"%s"}',
        ]
    )
    path = {b"i": "/v1/documents/delete", b"n": "/v1/embeddings"}.get(
        template[3:4] if template[2:3] == b"i" else b"", "/v1/search"
    )
    return request("POST", path, template % text)


def huge_header(rng: random.Random) -> bytes:
    big = "x" * rng.choice([1_000, 33_000, 70_000])
    return request(
        "GET", rng.choice(PATHS), headers={rng.choice(["x-big", "authorization", "cookie", "x-request-id"]): big}
    )


def many_headers(rng: random.Random) -> bytes:
    return request("GET", "/v1/search?q=x", headers={f"x-{n}": "y" for n in range(rng.choice([100, 3_000]))})


def long_target(rng: random.Random) -> bytes:
    return request(
        "GET",
        "/v1/" + rng.choice(["documents/", "search?q=", "search?filter="]) + "a" * rng.choice([600, 20_000, 80_000]),
    )


def bad_chunks(rng: random.Random) -> bytes:
    chunks = rng.choice(
        [
            b"zz\r\n{}\r\n",
            b"-1\r\n{}",
            b"ffffffffffffffffff\r\n{",
            b"2\r\n{}3\r\n",
            b"2;ext=%s\r\n{}\r\n0\r\n\r\n" % (b"x" * 9_000),
            b"2\n{}\n0\n\n",
            b"",
        ]
    )
    return request(
        "POST",
        "/v1/search",
        chunks,
        headers={"transfer-encoding": rng.choice(["chunked", "gzip, chunked", "chunked, chunked", "x"])},
        length=False,
    )


def two_lengths(rng: random.Random) -> bytes:
    length = rng.choice(
        [
            "5\r\ncontent-length: 6",
            "-5",
            "0x5",
            "5, 5",
            "99999999999999999999",
            " ",
            "2\r\ntransfer-encoding: chunked",
            "+2",
        ]
    )
    return request("POST", "/v1/search", b"{}", headers={"content-length": length})


def traversal(rng: random.Random) -> bytes:
    prefix = rng.choice(["/static/", "/static", "/v1/documents/", "/v1/collections/", "/"])
    step = rng.choice(["../", "..%2f", "%2e%2e/", "..\\", "....//", "%252e%252e%252f", "/", "%00", "%c0%ae%c0%ae/"])
    return request(
        "GET",
        prefix
        + step * rng.randrange(1, 9)
        + rng.choice(["etc/passwd", "app/settings.py", "CURRENT", "index.html%00.js"]),
    )


def wrong_type(rng: random.Random) -> bytes:
    kind = rng.choice(
        [
            "text/plain",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "",
            "application/",
            ";;",
            "application/jsonp",
            "a" * 500,
        ]
    )
    return request("POST", rng.choice(PATHS[:7]), b'{"query":"x"}', headers={"content-type": kind})


def huge_limits(rng: random.Random) -> bytes:
    body = rng.choice(
        [
            {"query": "x", "limit": 10**9},
            {"query": "x", "limit": 1_000, "offset": 10**12},
            {"query": "graph " * 16_000, "limit": 1_000, "explain": True},
            {"query": "x", "fusion": {"depth": 10**7}},
            {"query": "x", "fusion": {"weights": {"lexical": -1}}},
            {"queries": ["x"] * 20_000},
            {"vector": [0.0] * 100_000},
            {"recommend": {"positive": ["d001"] * 101}},
            {"documents": [{"id": "x", "text": "y"}] * 1_001},
            {"input": ["x"] * 5_000},
        ]
    )
    path = "/v1/search/batch" if "queries" in body else "/v1/documents" if "documents" in body else "/v1/search"
    return request("PUT" if path == "/v1/documents" else "POST", path, json.dumps(body).encode())


def odd_ids(rng: random.Random) -> bytes:
    text = "".join(
        chr(rng.choice([rng.randrange(1, 128), rng.randrange(0x80, 0xD800), rng.randrange(0x10000, 0x1FFFF)]))
        for _ in range(rng.randrange(1, 40))
    )
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    return rng.choice(
        [
            request(rng.choice(["GET", "DELETE"]), "/v1/documents/" + quoted),
            request("GET", "/v1/search?like=" + quoted),
            request("GET", b"/v1/documents/" + text.encode()),
            request("POST", "/v1/documents/delete", json.dumps({"ids": [text]}).encode()),
        ]
    )


def bombs(rng: random.Random) -> bytes:
    encoding = rng.choice(["gzip", "deflate", "br", "gzip, gzip", "identity, gzip", "zstd"])
    return request(
        "POST",
        "/v1/search",
        gzip.compress(b'{"query":"' + b"x" * 1_000_000 + b'"}'),
        headers={"content-encoding": encoding},
    )


def old_protocols(rng: random.Random) -> bytes:
    version = rng.choice([b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTPS/1.1", b""])
    return b"GET /v1/search?q=graph " + version + b"\r\n\r\n"


def pipelined(rng: random.Random) -> bytes:
    return b"".join(rng.choice([wrong_method, broken_json, odd_ids])(rng) for _ in range(rng.randrange(2, 30)))


def upgrades(rng: random.Random) -> bytes:
    return request(
        "GET",
        rng.choice(PATHS),
        headers={
            "connection": rng.choice(["Upgrade", "upgrade, close", "HTTP2-Settings"]),
            "upgrade": rng.choice(["websocket", "h2c", "TLS/1.0"]),
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version": "13",
        },
    )


def expectations(rng: random.Random) -> bytes:
    return request(
        "POST", "/v1/search", b'{"query":"x"}', headers={"expect": rng.choice(["100-continue", "200-ok", "x" * 300])}
    )


def garbage(rng: random.Random) -> bytes:
    return rng.choice(
        [
            noise(rng, 400),
            b"\x16\x03\x01" + noise(rng, 200),
            b"\r\n" * 50,
            b"GET\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ]
    )


def bad_queries(rng: random.Random) -> bytes:
    query = rng.choice(
        [
            "q=%ff",
            "q=x&q=y",
            "limit=abc",
            "q",
            "&&&",
            "=",
            "q=x&filter={",
            "q=x&filter=[[[",
            "q=x&explain=maybe",
            "q=x&limit=1e3",
            "q=x&limit=٣",
            "q=%00",
            "&".join(f"a{n}=1" for n in range(200)),
            "q=x&cursor=AAAA",
            "q=x&cursor=W10=",
            "q=x&score_threshold=nan",
            "filter=null&q=x",
            "q=x&facets=auto&mode=hybrid",
            "q=x&facets={",
            "q=x&facets=%22%22&rescore_depth=-1",
        ]
    )
    return request("GET", f"/v1/search?{query}")


def odd_filters(rng: random.Random) -> bytes:
    leaf: Any = rng.choice(
        [
            {"key": "year", "range": {"gte": "x"}},
            {"key": "", "match": {}},
            {"has_id": 3},
            {"key": "a.b.c", "is_null": 1},
            {"key": "year", "match": {"any": list(range(3_000))}},
            {},
            None,
            7,
            {"must": []},
        ]
    )
    tree = {
        rng.choice(["must", "should", "must_not", "min_should", "either"]): rng.choice(
            [[leaf], leaf, [[leaf]], [leaf] * 200]
        )
    }
    return request(
        "POST", rng.choice(["/v1/search", "/v1/documents/delete"]), json.dumps({"query": "x", "filter": tree}).encode()
    )


def odd_facets(rng: random.Random) -> bytes:
    facets: Any = rng.choice(
        [
            "auto",
            "AUTO",
            {},
            {"method": 0},
            {"method": -1},
            {"method": 1e308, "result": 1e308},
            {"method": True},
            {"": 1},
            {"a/b~c": 1},
            {"\x00😀": 1},
            {f"facet{n}": 1 for n in range(3_000)},
            {"method": [1]},
            ["method"],
            7,
        ]
    )
    search = {"mode": rng.choice(["facet", "hybrid", "lexical", None]), "facets": facets, "explain": True}
    if rng.random() < 0.3:
        return request("POST", "/v1/search/batch", json.dumps({"queries": ["x"], "search": search}).encode())
    return request("POST", "/v1/search", json.dumps({rng.choice(["query", "like"]): "d001", **search}).encode())


def odd_documents(rng: random.Random) -> bytes:
    document: Any = rng.choice(
        [
            {},
            {"id": "\x00", "text": "x"},
            {"id": "x" * 600, "text": ""},
            {"id": "h", "text": "x" * 200_000},
            {"id": "h", "text": None},
            {"id": 5, "text": "x"},
            [],
            "x",
            {"id": "h", "text": "x", "metadata": {"k" * 5_000: {"": []}}},
            {"id": "h", "text": "x", "sections": [{}]},
            {"id": "h", "text": "\ufffe\uffff", "metadata": {"a": [[[[]]]]}},
        ]
    )
    return request("PUT", "/v1/documents", json.dumps({"documents": [document]}).encode())


MAKERS: tuple[Maker, ...] = (
    wrong_method, broken_json, deep_nesting, giant_numbers, bad_text, huge_header, many_headers, long_target,
    bad_chunks, two_lengths, traversal, wrong_type, huge_limits, odd_ids, bombs, old_protocols, pipelined, upgrades,
    expectations, garbage, bad_queries, odd_filters, odd_facets, odd_documents,
)  # fmt: skip


def statuses(raw: bytes, port: int, *, half: bool = False) -> list[int]:
    """Sends bytes as they are and returns the status of every answer; an empty list for a closed connection."""
    received = b""
    with (
        contextlib.suppress(ConnectionError, TimeoutError),
        socket.create_connection(("127.0.0.1", port), timeout=8) as connection,
    ):
        connection.sendall(raw[: len(raw) // 2] if half else raw)
        while part := connection.recv(65_536):
            received += part
            connection.settimeout(0.15)  # whatever else there is follows at once
    lines = [line for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split()[1]) for line in lines]


def test_two_thousand_hostile_requests(lexical_folder: Path, tmp_path: Path, start_process: Any) -> None:
    folder = shutil.copytree(lexical_folder, tmp_path / "sample")
    child, port = start_process(
        folder, FACETRAIL_HEADER_TIMEOUT="1", FACETRAIL_BODY_TIMEOUT="1", FACETRAIL_LOG_REQUESTS="false"
    )
    rng = random.Random(20_261_122)
    prepared = [(maker := MAKERS[n % len(MAKERS)], maker(rng), n % 50 == 49) for n in range(N_REQUESTS)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda p: statuses(p[1], port, half=p[2]), prepared))
    bad = [
        (maker.__name__, raw[:300], found)
        for (maker, raw, _), found in zip(prepared, answers, strict=True)
        if any(status >= 500 and status != 503 for status in found)
    ]
    assert bad == []
    assert child.poll() is None
    seen = Counter(status for found in answers for status in found)
    assert {200, 400, 404, 405, 408, 415, 422} <= set(seen), seen
    assert sum(1 for found in answers if found) > 0.8 * N_REQUESTS, seen
    response = httpx.post(f"http://127.0.0.1:{port}/v1/search", json={"query": "graph", "limit": 5})
    assert response.status_code == 200
    assert len(response.json()["hits"]) == 5
    assert httpx.get(f"http://127.0.0.1:{port}/v1/documents/d005").json()["id"] == "d005"
