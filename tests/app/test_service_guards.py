"""Who may ask, and how refusals look: keys, hosts, problem documents, error tables, settings, logs, the description."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from facetrail.app import errors
from facetrail.app.auth import HostGuard, Keys, check_exposure, scope_needed
from facetrail.app.errors import Refused, exit_code, status_of
from facetrail.app.main import create_app
from facetrail.app.platform import Platform
from facetrail.app.serve import listen, run
from facetrail.app.settings import Settings, keys_of, read_settings
from facetrail.models.errors import (
    Conflict,
    Damaged,
    FacetrailError,
    Gone,
    InvalidInput,
    NotFound,
    Unavailable,
)

DOCUMENTS = {"documents": [{"id": "x", "text": "x"}]}


def test_keys_have_scopes(start: Any) -> None:
    client = start(modes=("lexical",), read_keys="reader-1, reader-2", write_keys="writer").client

    def status(method: str, path: str, key: str | None, header: str = "bearer", **body: Any) -> int:
        headers = (
            {} if key is None else {"authorization": f"Bearer {key}"} if header == "bearer" else {"x-api-key": key}
        )
        return client.request(method, path, headers=headers, **body).status_code

    search = {"json": {"query": "graph"}}
    for key in ("reader-1", "reader-2", "writer"):
        for header in ("bearer", "x-api-key"):
            assert status("POST", "/v1/search", key, header, **search) == 200
            assert status("GET", "/v1/collections", key, header) == 200
            assert status("GET", "/metrics", key, header) == 200
    for key in (None, "", "reader", "WRITER", "reader-1, reader-2"):
        assert status("POST", "/v1/search", key, header="x-api-key", **search) == 401
        assert status("PUT", "/v1/documents", key, header="x-api-key", json=DOCUMENTS) == 401
    for method, path, body in (
        ("PUT", "/v1/documents", {"json": DOCUMENTS}),
        ("DELETE", "/v1/documents/d001", {}),
        ("POST", "/v1/documents/delete", {"json": {"ids": ["d001"]}}),
        ("POST", "/v1/collections/sample/build", {}),
    ):
        assert status(method, path, None, **body) == 401
        assert status(method, path, "reader-1", **body) == 403
    assert client.get("/v1/documents/d001", headers={"x-api-key": "reader-1"}).status_code == 200
    assert status("PUT", "/v1/documents", "writer", json=DOCUMENTS) == 200
    assert client.get("/v1/collections").headers["www-authenticate"].startswith("Bearer")
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_unknown_routes_and_methods_need_the_stricter_scope() -> None:
    assert scope_needed("GET", "/static/app.js") == "open"
    assert scope_needed("GET", "/v1/anything") == "read"
    assert scope_needed("POST", "/v1/anything") == "write"
    assert scope_needed("PATCH", "/v1/search") == "write"
    assert scope_needed("DELETE", "/healthz") == "write"


def test_listening_beyond_loopback_needs_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "search.example.org", ""):
        with pytest.raises(InvalidInput, match="API key"):
            check_exposure(host, Keys([], []))
        check_exposure(host, Keys(["k"], []))
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        check_exposure(host, Keys([], []))
    with pytest.raises(InvalidInput) as refusal:
        run([tmp_path], host="0.0.0.0", port=0, settings=Settings())
    assert exit_code(refusal.value) == 2
    assert "\n" not in str(refusal.value)
    with pytest.raises(NotFound, match="no collection"):
        run([tmp_path / "absent"], port=0, settings=Settings())


def test_a_taken_port_is_one_sentence() -> None:
    bound = listen("127.0.0.1", 0)
    bound.listen()
    with pytest.raises(Unavailable, match="--port"):
        listen("127.0.0.1", bound.getsockname()[1])
    bound.close()
    with pytest.raises(InvalidInput, match="cannot listen"):
        listen("no such host", 0)


def test_rebound_names_and_foreign_pages_are_refused(start: Any) -> None:
    service = start(modes=("lexical",), allowed_hosts="search.example.org")
    client: httpx.Client = service.client
    for host, status in (
        (f"127.0.0.1:{service.port}", 200),
        ("localhost", 200),
        ("[::1]:99", 200),
        ("Search.Example.org", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ):
        assert client.get("/v1/collections", headers={"host": host}).status_code == status, host
    own = f"127.0.0.1:{service.port}"
    for origin, status in ((f"http://{own}", 202), ("http://evil.example", 403), ("null", 403)):
        response = client.post("/v1/collections/sample/build", headers={"origin": origin})
        assert response.status_code == status, response.text


def test_names_are_not_checked_where_keys_protect() -> None:
    guard = HostGuard.of(Settings(), Keys(["k"], []), "0.0.0.0")
    guard.check("GET", {b"host": b"anything.example"})
    listed = HostGuard.of(Settings(allowed_hosts=("a.example",)), Keys(["k"], []), "0.0.0.0")
    with pytest.raises(Refused, match="FACETRAIL_ALLOWED_HOSTS"):
        listed.check("GET", {b"host": b"b.example"})


def test_problems_name_the_field(start: Any) -> None:
    client = start(modes=("lexical",)).client
    for body, pointer in (
        ({"query": "x", "limit": 0}, "/limit"),
        ({"query": "x", "limit": 1_001}, "/limit"),
        ({"query": "x", "limit": "3"}, "/limit"),
        ({"query": "x", "offset": -1}, "/offset"),
        ({"query": "x", "offset": 995}, "/offset"),
        ({"query": "x", "mode": "magic"}, "/mode"),
        ({"query": "x", "fusion": {"k": 0}}, "/fusion/k"),
        ({"query": "x", "a/b~c": 1}, "/a~1b~0c"),
        ({"query": "x", "filter": {"must": 3}}, "/filter"),
        ({}, "/query"),
        ({"query": "x", "like": "d001"}, "/query"),
    ):
        response = client.post("/v1/search", json=body)
        assert response.status_code == 422, body
        assert response.json()["pointer"].startswith(pointer), (body, response.text)
    both = client.post("/v1/search", json={"query": 1, "limit": 0}).json()
    assert {e["pointer"] for e in both["errors"]} == {"/query", "/limit"}
    assert client.get("/v1/search?q=x&limit=many").json()["pointer"] == "/limit"
    assert client.get("/v1/search?q=x&colour=red").json()["pointer"] == "/colour"
    assert "twice" in client.get("/v1/search?q=x&q=y").json()["detail"]
    assert client.get("/v1/search?q=x&filter={").json()["pointer"] == "/filter"
    assert client.get("/v1/search?q=%ff").status_code == 422


def test_refusals_of_http_itself_are_problems_too(start: Any) -> None:
    client = start(modes=("lexical",)).client
    cases = [
        (client.get("/nope"), 404),
        (client.get("/v1/nope"), 404),
        (client.patch("/v1/search"), 405),
        (client.post("/healthz"), 405),
        (client.post("/v1/search", content=b"{}", headers={"content-type": "text/plain"}), 415),
        (client.post("/v1/search", content=b"{}"), 415),
        (client.post("/v1/search", json={"query": "x"}, headers={"content-encoding": "gzip"}), 415),
        (client.post("/v1/search", content=b"{", headers={"content-type": "application/json"}), 422),
        (client.get("/v1/documents/absent"), 404),
    ]
    for response, status in cases:
        document = response.json()
        assert (response.status_code, document["status"]) == (status, status), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert document["instance"] == response.request.url.path
    assert client.patch("/v1/search").headers["allow"] == "GET, POST"


def test_request_ids_go_through_and_are_checked(start: Any) -> None:
    client = start(modes=("lexical",)).client
    assert client.get("/healthz", headers={"x-request-id": "abc-1.2:3"}).headers["x-request-id"] == "abc-1.2:3"
    made = {
        client.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"] for bad in ("a b", "x" * 200, '"')
    }
    assert len(made) == 3
    assert not made & {"a b", '"'}


def test_metrics_count_requests_stages_and_documents(start: Any) -> None:
    client = start().client
    for _ in range(3):
        client.post("/v1/search", json={"query": "graph"})
    client.get("/v1/collections/sample")
    text = client.get("/metrics").text
    assert 'facetrail_requests_total{route="/v1/search",status="200"} 3.0' in text
    assert 'facetrail_requests_total{route="/v1/collections/{name}",status="200"} 1.0' in text
    assert 'facetrail_stage_seconds_bucket{le="+Inf",stage="fusion"} 3.0' in text
    assert 'facetrail_documents{collection="sample"} 60.0' in text
    assert 'facetrail_generation{collection="sample"} 1.0' in text
    assert "facetrail_in_flight 0.0" in text


def test_every_error_class_has_a_status_and_an_exit_code() -> None:
    classes = {
        InvalidInput: (422, 2),
        NotFound: (404, 4),
        Damaged: (503, 3),
        Conflict: (409, 5),
        Gone: (410, 5),
        Unavailable: (503, 6),
        errors.InvalidBody: (422, 2),
    }
    for kind, (status, code) in classes.items():
        assert (status_of(kind("x")), exit_code(kind("x"))) == (status, code)
    assert (status_of(FacetrailError("x")), exit_code(FacetrailError("x"))) == (500, 1)
    assert errors.Busy("x").headers["retry-after"] == "1"
    _, document, headers = errors.problem_of(Unavailable("not loaded yet"), "/v1/search")
    assert headers["retry-after"] == "1"
    assert document["type"].endswith("unavailable")


def test_a_bug_is_a_500_with_a_request_id_and_the_service_lives(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(modes=("lexical",))
    searcher = service.platform.collection(None).searcher

    def broken(request: Any) -> Any:
        raise RuntimeError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(searcher, "search", broken)
        response = service.client.post("/v1/search", json={"query": "x"})
    assert response.status_code == 500
    assert response.headers["x-request-id"] in response.json()["detail"]
    assert "secret" not in response.text
    assert service.client.post("/v1/search", json={"query": "graph"}).status_code == 200


def test_settings_name_the_variable_that_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACETRAIL_MAX_IN_FLIGHT", "many")
    with pytest.raises(InvalidInput, match="FACETRAIL_MAX_IN_FLIGHT"):
        read_settings()
    monkeypatch.setenv("FACETRAIL_MAX_IN_FLIGHT", "7")
    monkeypatch.setenv("FACETRAIL_ALLOWED_HOSTS", "A.example, b.example,")
    (tmp_path / "keys").write_text("# staff\nalpha\n\n beta \n")
    monkeypatch.setenv("FACETRAIL_READ_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("FACETRAIL_READ_KEYS", "gamma")
    settings = read_settings()
    assert (settings.max_in_flight, settings.allowed_hosts) == (7, ("a.example", "b.example"))
    assert keys_of(settings.read_keys, settings.read_keys_file) == ["gamma", "alpha", "beta"]
    assert "gamma" not in repr(settings)
    with pytest.raises(NotFound, match="key file"):
        keys_of(settings.read_keys, tmp_path / "absent")


def test_logs_hold_no_keys_and_no_queries_unless_asked(start: Any, capfdbinary: Any) -> None:
    for log_queries in (False, True):
        service = start(modes=("lexical",), log_requests=True, log_queries=log_queries, read_keys="sesame-key")
        headers = {"authorization": "Bearer sesame-key"}
        service.client.post("/v1/search", json={"query": "graph purple"}, headers=headers)
        service.client.post("/v1/search", json={"query": "x"}, headers={"x-api-key": "wrong-key"})
        service.client.get("/healthz")
        service.stop()
        lines = [json.loads(line) for line in capfdbinary.readouterr().err.splitlines() if line.startswith(b"{")]
        requests = [line for line in lines if line["event"] == "request"]
        assert [(r["route"], r["status"]) for r in requests] == [("/v1/search", 200), ("/v1/search", 401)]
        assert "key" not in json.dumps(lines)
        assert ("purple" in json.dumps(lines)) == log_queries


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_the_description_is_complete() -> None:
    settings = Settings()
    document = create_app(settings, Platform(settings)).openapi()
    for reference in references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    n_operations = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            n_operations += 1
            assert operation["description"], (method, path)
            assert any(status.startswith("2") for status in operation["responses"]), (method, path)
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                assert schema["$ref"].split("/")[-1] in document["components"]["schemas"]
    assert n_operations == 24
    assert document["components"]["schemas"]["SearchBody"]["examples"]
