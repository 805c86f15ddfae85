"""Facets over HTTP: weights in, weights and explanations out, refusals with a pointer, single facets' embeddings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient

from facetrail.app.main import create_app
from facetrail.app.platform import Platform
from facetrail.app.settings import Settings
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.searcher import Searcher

QUERY = "method:spectral result:spectral"
ROWS = [
    {"_id": "method", "title": "Apples", "text": "method:spectral method:graph. result:survey result:form."},
    {"_id": "result", "title": "Apples", "text": "method:survey method:form. result:spectral result:graph."},
    {"_id": "neither", "title": "Oceans", "text": "method:poll method:post. result:slow result:water."},
]
"""The first two have the same words: only facets tell them apart."""
FACETS = ["background", "objective", "method", "result"]


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A collection with facets, and one of words alone."""
    shared: Any = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    encoder = shared.FacetHashEncoder()
    folder = tmp_path_factory.mktemp("facets")
    (folder / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, ROWS)) + b"\n")
    build_collection(folder / "rows.jsonl", folder / "faceted", config=BuildConfig(), encoder=encoder)
    build_collection(folder / "rows.jsonl", folder / "words", config=BuildConfig(modes=("lexical",)))
    platform = Platform(Settings(log_requests=False, max_wait_ms=10_000))
    platform.add("faceted", Searcher.open(folder / "faceted", encoder=encoder))
    platform.add("words", Searcher.open(folder / "words"))
    platform.state = "ready"
    yield platform
    platform.close()


@pytest.fixture(scope="module")
def client(platform: Platform) -> httpx.Client:
    """Asks the application without a socket."""
    return TestClient(create_app(platform.settings, platform), base_url="http://localhost")


def found(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def test_weights_decide_the_order_and_come_back_as_shares(client: httpx.Client) -> None:
    by_method = found(
        client, query=QUERY, mode="facet", facets={"method": 8, "background": 2}, limit=2, rescore_depth=2
    )
    assert ids(by_method)[0] == "method"
    assert by_method["facets"] == pytest.approx({"background": 0.2, "objective": 0, "method": 0.8, "result": 0})
    assert by_method["task"] == "question"
    assert by_method["mode"] == "facet"
    assert ids(found(client, query=QUERY, mode="facet", facets={"result": 0.3}))[0] == "result"
    own = found(client, query="method:spectral method:graph", mode="facet", facets="auto")
    assert own["facets"] == found(client, query="method:spectral method:graph", mode="facet")["facets"]
    assert own["facets"]["method"] > 0.8


def test_where_facets_have_no_part_nothing_is_said_of_them(client: httpx.Client) -> None:
    for body in ({"mode": "lexical"}, {"mode": "dense"}, {"collection": "words"}):
        answer = found(client, query=QUERY, explain=True, **body)
        assert (answer["facets"], answer["task"]) == (None, None)
        assert all(hit["explanation"]["facets"] is None for hit in answer["hits"])


def test_the_explanation_recomputes_the_score_and_shows_the_sentence(client: httpx.Client) -> None:
    hit = found(client, query=QUERY, mode="facet", facets={"method": 1}, explain=True)["hits"][0]
    facets = hit["explanation"]["facets"]
    assert sum(m["weight"] * m["score"] for m in facets["matches"]) == pytest.approx(facets["s_k"], abs=1e-6)
    total = (1 - facets["mixing"]) * facets["s_1"] + facets["mixing"] * facets["s_k"]
    assert total == pytest.approx(hit["score"], abs=1e-6)
    (sentence,) = [s for s in facets["sentences"] if s["facet"] == "method"]
    assert hit["payload"][sentence["field"]][sentence["start"] : sentence["end"]] == "method:spectral method:graph."
    assert sentence["role"] == "method"
    assert set(facets["gate"]) == {"document", "token", "sentence", "paragraph"}
    assert list(facets["prior_query"]) == list(facets["prior_document"]) == FACETS


def test_get_and_batch_answer_like_post(client: httpx.Client) -> None:
    weights = {"result": 1.0}
    posted = found(client, query=QUERY, mode="facet", facets=weights)
    query = {"q": QUERY, "mode": "facet", "facets": orjson.dumps(weights).decode()}
    got = client.get("/v1/search", params=query).json()
    assert (got["hits"], got["facets"]) == (posted["hits"], posted["facets"])
    assert client.get("/v1/search", params={"q": QUERY, "mode": "facet", "facets": "auto"}).status_code == 200
    assert client.get("/v1/search", params={**query, "facets": "{"}).json()["pointer"] == "/facets"
    body = {"queries": ["fruit", QUERY], "search": {"mode": "facet", "facets": weights}}
    batch = client.post("/v1/search/batch", json=body).json()["results"][1]
    assert ids(batch) == ids(posted)
    assert (batch["facets"], batch["task"]) == (posted["facets"], "question")


def test_similar_by_one_facet(client: httpx.Client) -> None:
    answer = found(client, like="method", mode="facet", facets={"method": 1})
    assert "method" not in ids(answer)
    assert answer["task"] == "document"


BAD = {
    "unknown": ({"mode": "facet", "facets": {"colour": 1}}, "/facets/colour"),
    "negative": ({"mode": "facet", "facets": {"method": -0.1}}, "/facets/method"),
    "zero": ({"mode": "facet", "facets": {"method": 0}}, "/facets"),
    "empty": ({"mode": "facet", "facets": {}}, "/facets"),
    "no number": ({"mode": "facet", "facets": {"method": "much"}}, "/facets/method"),
    "not auto": ({"mode": "facet", "facets": "manual"}, "/facets"),
    "another mode": ({"mode": "lexical", "facets": {"method": 1}}, "/facets"),
    "too deep": ({"mode": "facet", "rescore_depth": 1_001}, "/rescore_depth"),
    "no facets": ({"mode": "facet", "collection": "words"}, "/mode"),
}


@pytest.mark.parametrize(("body", "pointer"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_named(client: httpx.Client, body: dict[str, Any], pointer: str) -> None:
    single = client.post("/v1/search", json={"query": QUERY, **body})
    search = {name: value for name, value in body.items() if name != "collection"}
    rest = {"collection": body["collection"]} if "collection" in body else {}
    batch = client.post("/v1/search/batch", json={"queries": [QUERY], "search": search, **rest})
    for response, prefix in ((single, ""), (batch, "/search")):
        assert response.status_code == 422, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["pointer"] == prefix + pointer


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_weights_are_finite(client: httpx.Client, number: str) -> None:
    for path, text in (
        ("/v1/search", '{"query":"x","mode":"facet","facets":{"method":%s}}'),
        ("/v1/search/batch", '{"queries":["x"],"search":{"mode":"facet","facets":{"method":%s}}}'),
    ):
        response = client.post(path, content=text % number, headers={"content-type": "application/json"})
        assert response.status_code == 422, response.text
        assert response.json()["pointer"].endswith("/facets/method")


def test_collections_tell_their_facets_and_are_warmed_in_every_mode(platform: Platform, client: httpx.Client) -> None:
    listed = {c["name"]: c["facets"] for c in client.get("/v1/collections").json()["collections"]}
    assert listed == {"faceted": FACETS, "words": []}
    assert platform.collections["faceted"].modes == ("lexical", "dense", "hybrid", "facet")
    assert platform.collections["words"].modes == ("lexical",)
    platform.warm()


def test_embeddings_of_one_facet(client: httpx.Client) -> None:
    def embed(**body: Any) -> Any:
        return client.post("/v1/embeddings", json={"input": ["a method:graph result:ripe", "method:graph"], **body})

    for kind in ("document", "query"):
        rows = np.array([row["embedding"] for row in embed(facet="method", input_type=kind).json()["data"]])
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)
        assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-3)  # both say "graph" under it, whatever else they say
    whole = np.array([row["embedding"] for row in embed().json()["data"]])
    assert whole[0] @ whole[1] < 0.99
    assert embed(facet="colour").json()["pointer"] == "/facet"
