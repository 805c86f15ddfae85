"""Events in, recommendations out: over HTTP and on the command line, with what people send by mistake."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from facetrail.app.cli import main
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.collection import Collection
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.recommend_request import RecommendRequest
from facetrail.indexing.recommenders import fit_closed_forms, versions
from facetrail.indexing.recommending import Recommending
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.records import Event
from facetrail.models.records import Document

THEN = 1_700_000_000_000
N_ITEMS, N_USERS = 20, 30
IDS = [f"d{i:03d}" for i in range(60)]


def cycle() -> list[Event]:
    """Thirty users who walk a circle of twenty items, each twelve steps from a start of its own."""
    return [
        Event(f"u{user}", IDS[(user + step) % N_ITEMS], "view", THEN + 1_000 * step)
        for user in range(N_USERS)
        for step in range(12)
    ]


@pytest.fixture
def service(start: Any) -> Any:
    """A service over sixty documents, twenty of which have events, with a recommender fitted on them."""
    return fitted(start(("lexical",)))


@pytest.fixture
def dense_service(start: Any) -> Any:
    """The same with vectors, so that documents without events have neighbours."""
    return fitted(start())


def fitted(running: Any) -> Any:
    searcher = running.platform.collection(None).searcher
    Events(searcher.collection).put(cycle())
    fit_closed_forms(searcher.collection, actions=Actions())
    return running


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def ids(found: dict[str, Any]) -> list[str]:
    return [item["id"] for item in found["items"]]


def problem(response: httpx.Response, status: int, kind: str, pointer: str = "") -> str:
    assert response.status_code == status, response.text
    document = response.json()
    assert (document["type"], document.get("pointer", "")) == (f"urn:facetrail:problem:{kind}", pointer), document
    return str(document["detail"])


def events_of(*items: str, user: str = "new", action: str = "view") -> dict[str, Any]:
    return {"events": [{"user": user, "item": i, "action": action, "time": THEN + n} for n, i in enumerate(items)]}


# -- events --------------------------------------------------------------------------------------------------------


def test_a_posted_event_is_on_disk_counted_and_part_of_the_next_answer(service: Any) -> None:
    client = service.client
    before = answer(client.post("/v1/recommend", json={"user": "u0", "limit": 3}))
    first = ids(before)[0]
    assert first == IDS[12]  # what follows the last of u0's twelve
    sent = {"user": "u0", "item": first, "action": "view", "time": THEN + 99_000, "request_id": before["request_id"]}
    assert answer(client.post("/v1/events", json={"events": [sent]})) == {
        "created": 1,
        "known": [],
        "unknown_items": [],
    }
    after = answer(client.post("/v1/recommend", json={"user": "u0", "limit": 3}))
    assert first not in ids(after)
    assert ids(after)[0] == IDS[13]
    again = answer(client.post("/v1/events", json={"events": [sent, {**sent, "item": "later"}]}))
    assert again == {"created": 1, "known": [0], "unknown_items": ["later"]}
    assert client.get("/v1/collections/sample").json()["n_events"] == N_USERS * 12 + 2
    folder = service.platform.collection(None).searcher.collection.folder
    with Collection.open(folder) as reader:
        assert Events(reader).history("u0")[-1].request_id == before["request_id"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"time": THEN // 1_000}, "/events/1/time"),
        ({"time": int(time.time() * 1_000) + 86_400_000}, "/events/1/time"),
        ({"time": -1}, "/events/1/time"),
        ({"time": "2024-01-01"}, "/events/1/time"),
        ({"user": ""}, "/events/1/user"),
        ({"item": "a\nb"}, "/events/1/item"),
        ({"action": None}, "/events/1/action"),
        ({"value": "4"}, "/events/1/value"),
        ({"stars": 4}, "/events/1/stars"),
    ],
)
def test_a_bad_event_is_pointed_at_and_nothing_of_its_batch_is_written(
    service: Any, change: dict[str, Any], pointer: str
) -> None:
    body = events_of("d001", "d002")
    body["events"][1].update(change)
    problem(service.client.post("/v1/events", json=body), 422, "invalid-input", pointer)
    assert Events(service.platform.collection(None).searcher.collection).count() == N_USERS * 12


def test_too_many_events_and_no_events_are_refused(start: Any) -> None:
    client = start(("lexical",), max_events=2).client
    problem(client.post("/v1/events", json=events_of("a", "b", "c")), 422, "invalid-input", "/events")
    problem(client.post("/v1/events", json={"events": []}), 422, "invalid-input", "/events")
    problem(client.post("/v1/recommend", json={"user": "ann"}), 404, "not-found")
    assert "index fit" in problem(client.post("/v1/recommend", json={"history": []}), 409, "conflict")


# -- whom to recommend to ------------------------------------------------------------------------------------------


def test_a_raw_history_of_an_unknown_user_is_as_good_as_a_stored_one(service: Any) -> None:
    client = service.client
    body = {"user": "nobody", "history": [IDS[4], IDS[5], IDS[6]], "limit": 5}
    found = answer(client.post("/v1/recommend", json=body))
    assert ids(found)[0] == IDS[7]
    assert not found["fallback"]
    assert found["model"] == "blend/000001"
    client.post("/v1/events", json=events_of(IDS[4], IDS[5], IDS[6]))
    stored = answer(client.get("/v1/recommend", params={"user": "new", "limit": 5}))
    assert stored["items"] == found["items"]
    out_of_order = [{"item": IDS[6], "time": 30}, {"item": IDS[4], "time": 10}, {"item": IDS[5], "time": 20}]
    assert answer(client.post("/v1/recommend", json={**body, "history": out_of_order}))["items"] == found["items"]


def test_an_unknown_user_without_history_is_not_found_and_an_empty_history_gets_what_is_popular(service: Any) -> None:
    client = service.client
    detail = problem(client.get("/v1/recommend", params={"user": "nobody"}), 404, "not-found")
    assert "'nobody' has no events" in detail
    found = answer(client.post("/v1/recommend", json={"user": "nobody", "history": [], "explain": True}))
    assert found["fallback"]
    assert all(item["flags"] == ["fallback"] for item in found["items"])
    assert found["items"][0]["reasons"][0]["type"] == "popular"
    strange = answer(client.post("/v1/recommend", json={"history": ["never heard of"]}))
    assert strange["fallback"]
    assert ids(strange) == ids(found)


def test_reasons_name_items_of_the_history(service: Any) -> None:
    found = answer(service.client.get("/v1/recommend", params={"user": "u3", "explain": "true", "limit": 2}))
    history = {IDS[(3 + step) % N_ITEMS] for step in range(12)}
    for item in found["items"]:
        assert {source["name"] for source in item["sources"]} == {"ease", "markov"}
        for reason in item["reasons"]:
            assert reason["type"] == "because_you"
            assert set(reason["evidence"]) <= history
    plain = answer(service.client.get("/v1/recommend", params={"user": "u3", "limit": 2}))
    assert all(item["reasons"] == [] for item in plain["items"])


# -- what may be returned ------------------------------------------------------------------------------------------


def test_filters_lists_and_seen_items_hold_inside_the_ranking(service: Any) -> None:
    client = service.client
    whole = ids(answer(client.post("/v1/recommend", json={"history": [IDS[0]], "limit": 500})))
    assert len(whole) == N_ITEMS - 1
    tree = {"must": [{"key": "topic", "match": {"value": "graph"}}]}
    kept = ids(answer(client.post("/v1/recommend", json={"history": [IDS[0]], "limit": 500, "filter": tree})))
    assert kept == [i for i in whole if IDS.index(i) % 5 == 0]
    allow, exclude = [*IDS[1:6], "unknown"], [IDS[2]]
    body = {"history": [IDS[0]], "limit": 500, "allow": allow, "exclude": exclude}
    assert ids(answer(client.post("/v1/recommend", json=body))) == [i for i in whole if i in allow and i not in exclude]
    paged = [
        ids(answer(client.post("/v1/recommend", json={"history": [IDS[0]], "limit": 5, "offset": o})))
        for o in range(0, 20, 5)
    ]
    assert [i for page in paged for i in page] == whole
    again = ids(answer(client.post("/v1/recommend", json={"history": [IDS[0]], "limit": 500, "filter_seen": False})))
    assert sorted(again) == IDS[:N_ITEMS]


def test_a_filter_that_leaves_nothing_answers_nothing_and_says_so(service: Any) -> None:
    body = {"history": [IDS[0]], "filter": {"year": 1900}}
    found = answer(service.client.post("/v1/recommend", json=body))
    assert (found["items"], len(found["warnings"])) == ([], 1)
    assert "no document passes" in found["warnings"][0]
    unseen = answer(service.client.post("/v1/recommend", json={"history": [IDS[0]], "allow": [IDS[50]]}))
    assert "had no event" in unseen["warnings"][0]


def test_who_is_deleted_is_never_recommended_again(service: Any) -> None:
    client = service.client
    body = {"history": [IDS[3]], "limit": 500}
    assert ids(answer(client.post("/v1/recommend", json=body)))[0] == IDS[4]
    client.delete(f"/v1/documents/{IDS[4]}")
    found = ids(answer(client.post("/v1/recommend", json=body)))
    assert (IDS[4] in found, len(found)) == (False, N_ITEMS - 2)


def test_items_outside_their_dates_are_never_returned(dense_service: Any) -> None:
    searcher = dense_service.platform.collection(None).searcher
    now, day = THEN, 86_400_000
    windows: list[tuple[dict[str, Any], bool]] = [
        ({"available_from": "2023-11-14T22:13:20Z"}, True),
        ({"available_from": "2023-11-14T22:13:20.001Z"}, False),
        ({"available_from": now + 1}, False),
        ({"available_from": now - day, "available_to": now + day}, True),
        ({"available_to": now}, False),
        ({"available_to": "2023-11-14"}, False),
        ({"available_to": "2023-11-15"}, True),
        ({"available_to": None}, True),
    ]
    searcher.put([Document(IDS[n], "text", metadata=window) for n, (window, _) in enumerate(windows)])
    request = RecommendRequest(history=[IDS[15]], limit=500)
    found = {item.id for item in Recommending(searcher).recommend(request, now=now).items}
    assert [IDS[n] in found for n in range(len(windows))] == [is_there for _, is_there in windows]
    similar = RecommendRequest(strategy="similar", item=IDS[15], limit=500)
    near = {item.id for item in Recommending(searcher).recommend(similar, now=now).items}
    assert [IDS[n] in near for n in range(len(windows))] == [is_there for _, is_there in windows]


# -- strategies ----------------------------------------------------------------------------------------------------


def test_every_strategy_answers_under_its_own_name(service: Any) -> None:
    client = service.client
    for strategy, sources in (("blend", 2), ("ease", 1), ("markov", 1), ("popular", 1)):
        found = answer(client.get("/v1/recommend", params={"user": "u1", "strategy": strategy}))
        assert len(found["items"]) == 8  # all of the twenty but the twelve seen
        assert len(found["items"][0]["sources"]) == sources


def test_similar_is_the_nearest_by_text_and_may_leave_out_what_a_user_has_seen(dense_service: Any) -> None:
    client = dense_service.client
    near = answer(client.get("/v1/recommend", params={"strategy": "similar", "item": "d040", "limit": 5}))
    like = client.post("/v1/search", json={"like": "d040", "mode": "dense", "limit": 5}).json()
    assert ids(near) == [hit["id"] for hit in like["hits"]]
    assert near["model"] == "dense"
    unseen = answer(
        client.get("/v1/recommend", params={"strategy": "similar", "item": "d040", "limit": 60, "user": "u0"})
    )
    assert set(ids(unseen)) == set(IDS[12:]) - {"d040"}


def test_documents_without_events_are_proposed_as_cold_by_their_neighbours(dense_service: Any) -> None:
    client = dense_service.client
    body = {"history": [IDS[0]], "limit": 500, "explain": True}
    items = answer(client.post("/v1/recommend", json=body))["items"]
    scores = {item["id"]: item["score"] for item in items}
    cold = [item for item in items if item["flags"] == ["cold"]]
    assert sorted(item["id"] for item in cold) == IDS[N_ITEMS:]
    for item in cold:
        (reason,) = item["reasons"]
        assert (reason["type"], len(reason["evidence"])) == ("cold", 10)
        if IDS[0] not in reason["evidence"]:
            assert item["score"] == pytest.approx(sum(scores[i] for i in reason["evidence"]) / 10, abs=1e-5)
    twin = client.get(f"/v1/documents/{IDS[1]}").json()
    client.put("/v1/documents", json={"documents": [{"id": "twin", "title": twin["title"], "text": twin["text"]}]})
    fresh = answer(client.post("/v1/recommend", json={**body, "allow": ["twin"]}))["items"]
    assert fresh[0]["reasons"][0]["evidence"][0] == IDS[1]
    client.delete("/v1/documents/twin")
    assert answer(client.post("/v1/recommend", json={**body, "allow": ["twin"]}))["items"] == []


@pytest.mark.parametrize(
    ("body", "status", "kind", "pointer"),
    [
        ({}, 422, "invalid-input", "/user"),
        ({"history": [], "strategy": "magic"}, 422, "invalid-input", "/strategy"),
        ({"strategy": "similar"}, 422, "invalid-input", "/item"),
        ({"strategy": "similar", "item": "none"}, 422, "invalid-input", "/mode"),
        ({"history": [], "item": "d001"}, 422, "invalid-input", "/item"),
        ({"history": [{"item": "d001", "action": ""}]}, 422, "invalid-input", "/history/0"),
        ({"history": [7]}, 422, "invalid-input", "/history/0"),
        ({"history": [], "limit": 501}, 422, "invalid-input", "/limit"),
        (
            {"history": [], "filter": {"key": "year", "range": {"above": 3}}},
            422,
            "invalid-input",
            "/filter/range/above",
        ),
        ({"history": [], "collection": "none"}, 404, "not-found", ""),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_pointer(
    service: Any, body: dict[str, Any], status: int, kind: str, pointer: str
) -> None:
    problem(service.client.post("/v1/recommend", json=body), status, kind, pointer)


def test_only_what_counts_is_learned_from_and_unknown_actions_are_an_error(service: Any) -> None:
    searcher = service.platform.collection(None).searcher
    stored = Events(searcher.collection)
    stored.put([Event("u0", "d050", "rating", THEN, 2.0), Event("u1", "d051", "rating", THEN, 5.0)])
    with pytest.raises(InvalidInput, match="'view'"):
        fit_closed_forms(searcher.collection, actions=Actions(positive=("rating>=4",)))
    folder, manifest = fit_closed_forms(searcher.collection, actions=Actions(positive=("view", "rating>=4")))
    assert (folder.name, manifest.trained_on["events"], manifest.trained_on["items"]) == ("000002", 361, 21)
    recommending = Recommending(searcher)
    found = recommending.recommend(RecommendRequest(user="u0", limit=500))
    assert found.model == "blend/000002"
    assert "d050" not in {item.id for item in found.items}
    history: list[Any] = [{"item": IDS[2], "action": "rating", "value": 1.0}]
    assert recommending.recommend(RecommendRequest(history=history)).fallback
    history[0]["value"] = 5.0
    assert not recommending.recommend(RecommendRequest(history=history)).fallback
    history[0]["action"] = "stare"
    with pytest.raises(InvalidInput, match="'stare'"):
        recommending.recommend(RecommendRequest(history=history))
    fit_closed_forms(searcher.collection, actions=Actions(ignored=("rating",)))
    assert [path.name for path in versions(searcher.collection.folder, "blend")] == ["000002", "000003"]
    assert recommending.recommend(RecommendRequest(user="u0")).model == "blend/000003"


@pytest.mark.parametrize("rule", ["", ">=4", "rating>=", "rating>=four", "a>=3<4"])
def test_a_rule_that_says_nothing_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="is no action"):
        Actions(positive=(rule,))


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {"_id": i, "title": f"title of {i}", "text": "words", "metadata": {"even": n % 2 == 0}}
        for n, i in enumerate(IDS)
    ]
    (tmp_path / "corpus.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    build_collection(tmp_path / "corpus.jsonl", tmp_path / "c", config=BuildConfig(modes=("lexical",)))
    lines = [{"user": e.user, "item": e.item, "action": e.action, "time": e.time} for e in cycle()]
    (tmp_path / "events.jsonl").write_bytes(
        b"\n".join([*map(orjson.dumps, lines), b'{"user": "u0"', orjson.dumps({**lines[0], "item": "ghost"})])
    )
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
    """What a command prints as JSON."""
    with suppress(SystemExit):
        main([str(a) for a in argv])
    return json.loads(capsys.readouterr().out)


def test_from_a_file_of_events_to_a_recommendation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    added = run(capsys, "index", "events", folder / "c", "--events", folder / "events.jsonl", "--json")
    assert (added["created"], added["known"], added["unknown_items"]) == (361, 0, ["ghost"])
    assert [(p["line"], p["kind"]) for p in added["problems"]] == [(361, "invalid")]
    again = run(capsys, "index", "events", folder / "c", "--events", folder / "events.jsonl", "--json")
    assert (again["created"], again["known"]) == (0, 361)
    assert run(capsys, "index", "fit", folder / "c", "--json")["users"] == 30
    found = run(capsys, "recommend", folder / "c", "--user", "u0", "--filter", '{"even": false}', "--explain", "--json")
    assert ids(found)[0] == IDS[13]
    (folder / "history.csv").write_text(f"user,item,action,time\nx,{IDS[4]},view,1700000000\n")
    options = ("--exclude", IDS[5], "--allow", IDS[5], "--allow", IDS[6], "--json")
    assert ids(run(capsys, "recommend", folder / "c", "--history", folder / "history.csv", *options)) == [IDS[6]]
    asked = ("recommend", folder / "c", "--user", "u1", "--limit", "3", "--json")
    first = run(capsys, *asked)
    second = run(capsys, *asked, "--cursor", first["next_cursor"])
    assert ids(first) + ids(second) == ids(run(capsys, *asked[:-2], "6", "--json"))
    now = time.time_ns() // 1_000_000
    with Collection.open(folder / "c", writable=True) as collection:
        shown = [(0, 1), (1, 1), (1, 2), (2, 9)]  # (place in the list, days ago)
        Events(collection).put([Event("u1", ids(first)[n], "impression", now - d * 86_400_000) for n, d in shown])
    assert ids(run(capsys, *asked, "--exclude-shown", "7"))[0] == ids(first)[2]
    assert ids(run(capsys, *asked, "--exclude-shown", "7:2")) == [ids(first)[0], ids(first)[2], ids(second)[0]]
    assert ids(run(capsys, *asked, "--exclude-shown", "0.5")) == ids(first)
    assert run(capsys, "index", "forget", folder / "c", "--user", "u0", "--json") == {"deleted": 13}
    assert run(capsys, "index", "info", folder / "c", "--json")["n_events"] == 352


@pytest.mark.parametrize(
    ("code", "says", "argv"),
    [
        (4, "has no events", ("recommend", "{c}", "--user", "u0")),
        (5, "index fit", ("recommend", "{c}", "--user", "u0", "--strategy", "popular", "--history", "{h}")),
        (2, "say for whom", ("recommend", "{c}")),
        (2, "none of the 0 events", ("index", "fit", "{c}")),
        (2, "is no action", ("index", "fit", "{c}", "--positive", ">=4")),
        (2, "--ridge", ("index", "fit", "{c}", "--ridge", "0")),
        (2, "--scorer magic", ("index", "fit", "{c}", "--scorer", "magic")),
        (2, "--limit", ("recommend", "{c}", "--user", "u0", "--limit", "0")),
        (2, "--diversity", ("recommend", "{c}", "--user", "u0", "--diversity", "2")),
        (2, "DAYS:TIMES", ("recommend", "{c}", "--user", "u0", "--exclude-shown", "a week")),
        (2, "--exclude-shown", ("recommend", "{c}", "--user", "u0", "--exclude-shown", "0")),
        (2, "cursor is not one", ("recommend", "{c}", "--user", "u0", "--cursor", "?")),
        (4, "holds no model", ("index", "fit", "{c}", "--hints", "nowhere")),
        (4, "no events in", ("index", "forget", "{c}", "--user", "u0")),
        (4, "no file", ("index", "events", "{c}", "--events", "nowhere.csv")),
        (2, "dense index", ("recommend", "{c}", "--strategy", "similar", "--item", "d001")),
    ],
)
def test_mistakes_are_one_sentence_and_a_stable_code(
    folder: Path, capsys: pytest.CaptureFixture[str], code: int, says: str, argv: tuple[str, ...]
) -> None:
    (folder / "h.csv").write_text("user,item,action,time\nx,d004,view,1700000000\n")
    places = {"c": folder / "c", "h": folder / "h.csv"}
    with pytest.raises(SystemExit) as end:
        main([a.format(**places) for a in argv])
    told = capsys.readouterr().err
    assert (end.value.code, says in told, "Traceback" in told) == (code, True, False), told
