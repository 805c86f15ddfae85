"""Recommendations over several answers: pages by cursor, lists that vary, and what was shown already."""

import json
import time
from typing import Any

import httpx
import numpy as np
import pytest

from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.recommend_request import Diversity, ExcludeShown, RecommendRequest
from facetrail.indexing.recommenders import fit_closed_forms
from facetrail.indexing.recommending import Recommending
from facetrail.indexing.recommending_diversity import POOL, diversified
from facetrail.models.errors import Gone
from facetrail.models.recommend.records import Event, Recommendation

THEN = 1_700_000_000_000
IDS = [f"d{i:03d}" for i in range(60)]


def cycle() -> list[Event]:
    """Forty users who walk a circle of forty items, each twelve steps from a start of its own."""
    return [Event(f"u{u}", IDS[(u + step) % 40], "view", THEN + 1_000 * step) for u in range(40) for step in range(12)]


@pytest.fixture
def service(start: Any, request: pytest.FixtureRequest) -> Any:
    running = start(getattr(request, "param", ("lexical",)), write_keys="writer", read_keys="reader")
    running.client.headers["x-api-key"] = "writer"
    searcher = running.platform.collection(None).searcher
    Events(searcher.collection).put(cycle())
    fit_closed_forms(searcher.collection, actions=Actions())
    return running


with_vectors = pytest.mark.parametrize("service", [("lexical", "dense")], indirect=True)


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def ask(service: Any, **body: Any) -> httpx.Response:
    answer: httpx.Response = service.client.post("/v1/recommend", json=body)
    return answer


# -- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [{"user": "u0"}, {"history": [IDS[0]]}, {"user": "u0", "strategy": "popular"}])
def test_pages_by_cursor_are_one_long_list_whatever_happens_meanwhile(service: Any, asked: dict[str, Any]) -> None:
    whole = ids(ask(service, **asked, limit=500))
    assert len(whole) == len(set(whole)) >= 28
    pages, cursor = [], None
    while True:
        answer = ask(service, **asked, limit=9, **({"cursor": cursor} if cursor else {}))
        pages.append(ids(answer))
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
        seen = {"user": "u0", "item": whole[12], "action": "view", "time": time.time_ns() // 1_000_000 + 1}
        assert service.client.post("/v1/events", json={"events": [seen]}).status_code == 200
    assert [i for page in pages for i in page] == whole
    assert all(len(page) == 9 for page in pages[:-1])
    if asked == {"user": "u0"}:
        assert whole[12] not in ids(ask(service, **asked, limit=500))  # a new list has learned of it


def test_a_cursor_counts_events_of_a_fast_clock_too(service: Any) -> None:
    ahead = {"user": "u0", "item": IDS[20], "action": "view", "time": time.time_ns() // 1_000_000 + 30_000}
    service.client.post("/v1/events", json={"events": [ahead]})
    whole = ids(ask(service, user="u0", limit=500))
    first = ask(service, user="u0", limit=5)
    assert ids(first) + ids(ask(service, user="u0", limit=500, cursor=first.json()["next_cursor"])) == whole


def test_a_cursor_is_of_one_request_one_recommender_and_one_generation(service: Any) -> None:
    cursor = ask(service, user="u0", limit=5).json()["next_cursor"]
    by_url = service.client.get("/v1/recommend", params={"user": "u0", "limit": 7, "cursor": cursor})
    assert len(ids(by_url)) == 7
    for change in ({"user": "u1"}, {"filter_seen": False}, {"exclude": [IDS[9]]}, {"strategy": "ease"}):
        refused = ask(service, **{"user": "u0", "cursor": cursor, **change})
        assert (refused.status_code, refused.json()["pointer"]) == (422, "/cursor")
    for broken in ("", "?", "bm9uc2Vuc2U=", "WzEsMl0="):
        refused = ask(service, user="u0", cursor=broken)
        assert (refused.status_code, refused.json()["pointer"]) == (422, "/cursor")
    assert ask(service, user="u0", cursor=cursor, offset=3).json()["pointer"] == "/offset"
    searcher = service.platform.collection(None).searcher
    fit_closed_forms(searcher.collection, actions=Actions())
    assert ask(service, user="u0", cursor=cursor).status_code == 410
    cursor = ask(service, user="u0", limit=5).json()["next_cursor"]
    searcher.rebuild()
    with pytest.raises(Gone, match="generation 2 replaced"):
        Recommending(searcher).recommend(RecommendRequest(user="u0", limit=5, cursor=cursor))


# -- lists that vary -----------------------------------------------------------------------------------------------


def points(*scores: float) -> list[Recommendation]:
    return [Recommendation(str(n), score, n + 1) for n, score in enumerate(scores)]


def test_the_next_item_has_the_best_sum_of_relevance_and_distance() -> None:
    cosines = {"0": {"1": 0.9, "2": 0.1, "3": 0.0}, "1": {}, "2": {"1": 0.2, "3": 0.8}, "3": {}}
    items = points(10.0, 9.0, 6.0, 0.0)  # relevance 1, 0.9, 0.6, 0

    def order(share: float, n: int = 4) -> list[str]:
        found = diversified(items, share, n, cosines.__getitem__)
        assert [item.rank for item in found] == list(range(1, len(found) + 1))
        assert all(item.score == items[int(item.id)].score for item in found)
        return [item.id for item in found]

    assert order(0.0) == ["0", "1", "2", "3"]
    assert order(0.5) == ["0", "2", "1", "3"]  # 1: 0.45 - 0.45 = 0; 2: 0.3 - 0.05; then 1: 0.45 - 0.45, 3: -0.4
    assert order(1.0) == ["0", "3", "2", "1"]  # 3: 0.0; then 2: 0.1 before 1: 0.9
    assert order(0.5, n=1) == ["0"]


def test_equal_scores_vary_and_what_lies_behind_the_pool_stays() -> None:
    assert [i.id for i in diversified(points(1.0, 1.0, 1.0), 0.5, 3, lambda _: {"1": 0.9, "2": 0.1})] == ["0", "2", "1"]
    many = points(*map(float, range(POOL + 5, 0, -1)))
    found = diversified(many, 1.0, POOL + 3, lambda _: {})
    assert [item.id for item in found[POOL:]] == [item.id for item in many[POOL : POOL + 3]]
    assert diversified([], 0.5, 3, lambda _: {}) == []


@with_vectors
def test_a_list_that_varies_is_less_alike_and_pages_agree(service: Any) -> None:
    searcher = service.platform.collection(None).searcher

    def mean_cosine(found: list[str]) -> float:
        texts = [searcher.get(i).content for i in found]
        vectors = searcher.encoder.encode_documents(texts)
        return float((vectors @ vectors.T)[np.triu_indices(len(found), 1)].mean())

    asked: dict[str, Any] = {"strategy": "similar", "item": IDS[1], "limit": 8}
    plain = ids(ask(service, **asked))
    assert ids(ask(service, **asked, diversity={"lambda": 0.0})) == plain
    varied = ids(ask(service, **asked, diversity={"lambda": 0.9}))
    assert varied[0] == plain[0]
    assert mean_cosine(varied) < mean_cosine(plain)
    body = {"user": "u0", "diversity": {"lambda": 0.5}}
    first = ask(service, **body, limit=5)
    second = ask(service, **body, limit=5, cursor=first.json()["next_cursor"])
    assert ids(first) + ids(second) == ids(ask(service, **body, limit=10))
    assert [item["rank"] for item in second.json()["items"]] == [6, 7, 8, 9, 10]


def test_without_vectors_a_list_cannot_vary(service: Any) -> None:
    refused = ask(service, user="u0", diversity={"lambda": 0.5})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/diversity")
    assert ask(service, user="u0", diversity={"lambda": 1.5}).json()["pointer"] == "/diversity/lambda"


# -- what was shown ------------------------------------------------------------------------------------------------


def test_what_was_shown_is_logged_and_kept_out_but_teaches_nothing(service: Any) -> None:
    collection = service.platform.collection(None).searcher.collection
    before = ids(ask(service, user="u0", limit=500))
    shown = ask(service, user="u0", limit=4, log_impression=True)
    assert ids(shown) == before[:4]
    logged = [event for event in Events(collection).history("u0") if event.action == "impression"]
    assert [event.item for event in logged] == before[:4]
    assert {event.request_id for event in logged} == {shown.json()["request_id"]}
    assert ids(ask(service, user="u0", limit=500)) == before  # neither seen nor liked
    week = {"window": 7 * 86_400_000}
    assert ids(ask(service, user="u0", limit=500, exclude_shown=week)) == before[4:]
    assert ids(ask(service, user="u0", limit=500, exclude_shown={**week, "max": 2})) == before
    ask(service, user="u0", limit=2, log_impression=True)
    assert ids(ask(service, user="u0", limit=500, exclude_shown={**week, "max": 2})) == before[2:]
    recommending = Recommending(service.platform.collection(None).searcher)
    later = RecommendRequest(user="u0", limit=500, exclude_shown=ExcludeShown(window=86_400_000))
    then = recommending.recommend(later, now=logged[0].time + 2 * 86_400_000)
    assert [item.id for item in then.items] == before
    _, manifest = fit_closed_forms(collection, actions=Actions(positive=("view",)))
    assert manifest.trained_on["events"] == 480


@pytest.mark.parametrize("service", [("lexical",)], indirect=True)
def test_only_a_users_newest_impressions_are_kept(start: Any, service: Any) -> None:
    collection = service.platform.collection(None)
    kept = Events(collection.searcher.collection, max_impressions=6)
    kept.put([Event("u1", IDS[n], "impression", THEN + n) for n in range(4)])
    before = kept.count()
    kept.put([Event("u0", IDS[n], "impression", THEN + n) for n in range(8)])
    kept.put([Event("u0", IDS[20], "impression", THEN), Event("u0", IDS[20], "view", THEN)])
    shown = [event.item for event in kept.history("u0") if event.action == "impression"]
    assert shown == IDS[2:8]
    assert kept.count() == before + 6 + 1
    assert len(kept.history("u1")) == len(kept.history("u0")) - 1 - 6 + 4
    assert collection.searcher.collection.check() == []


def test_the_service_keeps_as_many_impressions_as_its_settings_say(start: Any) -> None:
    running = start(("lexical",), max_impressions=3)
    searcher = running.platform.collection(None).searcher
    Events(searcher.collection).put(cycle())
    fit_closed_forms(searcher.collection, actions=Actions())
    first, second = (ids(ask(running, user="u0", limit=2, offset=o, log_impression=True)) for o in (0, 2))
    posted = {"user": "u0", "item": "x", "action": "impression", "time": THEN}
    assert running.client.post("/v1/events", json={"events": [posted]}).status_code == 200
    shown = [event.item for event in Events(searcher.collection).history("u0") if event.action == "impression"]
    assert len(shown) == 3
    assert shown[1:] == second
    assert shown[0] in first


def test_logging_needs_a_user_and_the_right_to_write(service: Any) -> None:
    for body in ({"log_impression": True}, {"exclude_shown": {"window": 1_000}}):
        refused = ask(service, history=[IDS[0]], **body)
        assert (refused.status_code, refused.json()["pointer"]) == (422, f"/{next(iter(body))}")
    service.client.headers["x-api-key"] = "reader"
    assert ask(service, user="u0", log_impression=True).status_code == 403
    assert ask(service, user="u0").status_code == 200
    events = Events(service.platform.collection(None).searcher.collection)
    assert events.count() == 480


def test_somebody_who_was_only_shown_things_gets_what_is_popular(service: Any) -> None:
    stored = Events(service.platform.collection(None).searcher.collection)
    stored.put([Event("new", IDS[3], "impression", THEN)])
    answer = ask(service, user="new", limit=500)
    assert answer.json()["fallback"]
    assert IDS[3] in ids(answer)


def test_the_requests_parts_are_closed() -> None:
    assert Diversity(lambda_=0.5) == Diversity.model_validate(json.loads('{"lambda": 0.5}'))
    with pytest.raises(ValueError, match="window"):
        ExcludeShown.model_validate({"max": 1})
