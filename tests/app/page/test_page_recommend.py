"""Recommendations on the page: for a user, for what is liked, with reasons, and what it says where there are none."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from contracts.hint_models import small_hint_model
from playwright.sync_api import Page, Route, expect

from facetrail.indexing.recommending_hints import attach_hints
from facetrail.indexing.searcher import Searcher
from facetrail.models.recommend.hint_model import HintModel, save_hint_model
from facetrail.models.recommend.interactions import Vocabulary

pytestmark = pytest.mark.browser
READER = "reader-01"
READERS = "/?collection=readers"
EMPTY = "/?view=recommend&collection=readers"
BROKEN = "Failed to load resource"


def recommended(site: Any, **body: Any) -> list[str]:
    body = {"collection": "readers", **body}
    answer = site.client.post("/v1/recommend", json=body).raise_for_status().json()
    return [item["id"] for item in answer["items"]]


def settled(page: Page, text: str = "documents") -> None:
    expect(page.locator("#count")).to_contain_text(text)
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")


def ids(page: Page) -> list[str]:
    return [str(hit.get_attribute("data-id")) for hit in page.locator("article.hit").all()]


def address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_user_is_recommended_what_the_service_recommends_with_its_reasons(open_page: Any, site: Any) -> None:
    page = open_page(READERS)
    page.get_by_role("navigation").get_by_role("link", name="Recommendations").click()
    expect(page.get_by_text("1,526 events in readers")).to_be_visible()
    expect(page.get_by_label("For user")).to_be_focused()
    page.keyboard.type(READER)
    page.keyboard.press("Enter")
    settled(page, "First 10 documents")
    assert address(page) == {"view": "recommend", "user": READER, "collection": "readers"}
    assert page.title() == f"Recommendations for {READER} · facetrail"
    whole = recommended(site, user=READER, limit=20)
    assert ids(page) == whole[:10]
    answer = site.client.post(
        "/v1/recommend", json={"user": READER, "limit": 1, "explain": True, "collection": "readers"}
    ).json()
    reasons = page.locator("article.hit").first.get_by_role("list", name="Reasons").get_by_role("listitem")
    expect(reasons).to_have_count(len(answer["items"][0]["reasons"]))
    evidence = answer["items"][0]["reasons"][0]["evidence"][0]
    title = site.client.get(f"/v1/documents/{evidence}?collection=readers").json()["title"]
    expect(reasons.first.get_by_role("link").first).to_contain_text(title[:50])
    expect(reasons.first).to_contain_text("in the history (ease)")
    page.get_by_role("button", name="Load more").click()
    settled(page, "First 20 documents")
    assert ids(page) == whole
    reasons.first.get_by_role("link").first.click()
    expect(page.locator("#similar strong")).to_have_text(title)
    page.go_back()
    settled(page, "First 20 documents")
    assert ids(page) == whole


def test_from_what_is_popular_to_what_is_liked(open_page: Any, site: Any) -> None:
    page = open_page(EMPTY)
    page.get_by_role("button", name="Begin with what is popular").click()
    settled(page)
    expect(page.get_by_text("this is what is popular now")).to_be_visible()
    first = ids(page)
    assert first == recommended(site, history=[])
    page.locator("article.hit").first.get_by_role("button", name="I like this").click()
    expect(page.locator(".liked .chip")).to_have_count(1)
    settled(page)
    expect(page.get_by_text("this is what is popular now")).to_have_count(0)
    assert json.loads(address(page)["history"]) == first[:1]
    assert ids(page) == recommended(site, history=first[:1])
    page.get_by_label("by", exact=True).select_option("markov")
    expect(page.locator("article.hit").first.locator(".ranks span")).to_have_count(1)
    assert ids(page) == recommended(site, history=first[:1], strategy="markov")
    page.get_by_role("button", name=f"Forget {first[0]}").click()
    expect(page.locator(".liked .chip")).to_have_count(0)
    settled(page)
    assert ids(page) == first


def test_from_a_hit_to_recommendations_where_there_are_events(open_page: Any, site: Any) -> None:
    page = open_page("/?q=graph&collection=readers")
    page.locator("article.hit").first.wait_for()
    hit = ids(page)[0]
    page.locator("article.hit").first.get_by_role("button", name="Recommend from this").click()
    expect(page.locator(".liked .chip")).to_have_count(1)
    settled(page)
    assert ids(page) == recommended(site, history=[hit])
    page.get_by_role("searchbox").fill("ocean")
    page.keyboard.press("Enter")
    settled(page, "hit")
    assert address(page) == {"q": "ocean", "collection": "readers"}
    expect(page.locator("#whom")).to_be_hidden()
    page.goto("/?q=graph")
    page.locator("article.hit").first.wait_for()
    expect(page.get_by_role("button", name="Recommend from this")).to_have_count(0)


def test_filters_hold_for_recommendations(open_page: Any, site: Any) -> None:
    page = open_page(f"/?view=recommend&user={READER}&collection=readers")
    settled(page)
    page.get_by_label("cardiology").check()
    tree = {"must": [{"key": "topic", "match": {"any": ["cardiology"]}}]}
    wanted = recommended(site, user=READER, filter=tree)
    page.wait_for_function("(id) => document.querySelector('article.hit')?.dataset.id === id", arg=wanted[0])
    settled(page)
    assert ids(page) == wanted


def test_while_it_is_looked_for_the_page_says_so(open_page: Any) -> None:
    page = open_page("/?q=graph&collection=readers")
    page.locator("article.hit").first.wait_for()
    held: list[Route] = []
    page.route("**/v1/recommend", lambda route: held.append(route))
    page.locator("article.hit").first.get_by_role("button", name="Recommend from this").click()
    expect(page.get_by_role("status")).to_have_text("Looking…")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    expect(page.locator("article.hit")).to_have_count(0)  # no hit of the search passes for a recommendation
    held[0].continue_()
    settled(page)


def test_who_is_unknown_and_what_was_not_fitted_is_explained(open_page: Any, watched: Any) -> None:
    watched.expected.append(BROKEN)
    page = open_page("/?view=recommend&user=nobody&collection=readers")
    expect(page.get_by_role("alert")).to_contain_text("User 'nobody' has no events here")
    page.get_by_role("button", name="Show what is popular").click()
    settled(page)
    page.goto("/?view=recommend")
    expect(page.get_by_text("sample holds no events yet")).to_be_visible()
    page.get_by_role("button", name="Begin with what is popular").click()
    expect(page.get_by_role("alert")).to_contain_text("facetrail index fit")


def test_where_nothing_is_left_the_page_says_why(open_page: Any) -> None:
    tree = json.dumps({"must": [{"key": "topic", "match": {"any": ["alchemy"]}}]})
    page = open_page(f"/?view=recommend&user={READER}&collection=readers&filter={tree}")
    expect(page.get_by_text("There is nothing left to recommend.")).to_be_visible()
    expect(page.get_by_text("no document passes the filter")).to_be_visible()
    page.get_by_role("button", name="Remove the filters").click()
    settled(page, "First 10 documents")


def test_without_a_mouse(open_page: Any) -> None:
    page = open_page(EMPTY)
    expect(page.get_by_text("1,526 events in readers")).to_be_visible()
    page.get_by_label("For user").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("For user")).to_be_focused()  # nothing was entered
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Begin with what is popular")).to_be_focused()
    page.keyboard.press("Enter")
    settled(page)
    page.locator("article.hit").first.get_by_role("button", name="I like this").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".liked .chip")).to_have_count(1)
    settled(page)
    expect(page.locator("#results")).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("article.hit").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


@pytest.fixture
def hinted(searchers: dict[str, Searcher], tmp_path: Path) -> Iterator[HintModel]:
    """A model of hints, attached to the readers' documents and taken away again."""
    collection = searchers["readers"].collection
    with collection.snapshot() as view:
        ids = tuple(sorted(view.ids_by_change()))
    small = small_hint_model()
    model = replace(small, items=Vocabulary(ids[: len(small.items)]))
    save_hint_model(tmp_path / "model", model)
    attached = attach_hints(collection, tmp_path / "model")
    yield model
    shutil.rmtree(attached.folder.parent)


def test_hints_are_offered_where_a_model_of_them_is_attached(open_page: Any, request: pytest.FixtureRequest) -> None:
    page = open_page(EMPTY)
    offered = page.get_by_label("by", exact=True).locator("option")
    expect(offered).to_have_text(["All together", "Liked together", "Liked in turn", "Popular"])
    request.getfixturevalue("hinted")
    page.reload()
    expect(offered.last).to_have_text("Preference hints")


def test_a_hint_is_answered_and_the_answer_taken_back(
    open_page: Any, site: Any, hinted: HintModel, barriers: Any
) -> None:
    liked = [name for number, name in enumerate(hinted.items.ids) if number % 4 == 0][:4]  # comedies
    history = json.dumps(liked)
    page = open_page(f"/?view=recommend&collection=readers&strategy=hints&history={quote(history)}")
    settled(page)
    reasons = page.get_by_role("list", name="Reasons").get_by_role("listitem")
    expect(reasons.filter(has_text="genre: Comedy").first).to_contain_text(
        "likes — genre: Comedy (4 items of the history"
    )
    assert barriers(page) == []
    before = ids(page)
    answer = page.get_by_role("button", name="Leave out genre: Comedy").first
    expect(answer).to_be_hidden()
    page.get_by_label("Change genre: Comedy").first.press("Enter")
    assert barriers(page) == []
    answer.click()
    settled(page)
    given = [{"relation": "genre", "value": "Comedy", "verdict": "mute"}]
    assert json.loads(address(page)["taste"]) == given
    expect(reasons.filter(has_text="genre: Comedy")).to_have_count(0)
    expect(page.locator(".liked .chip").last).to_contain_text("Leave out genre: Comedy")
    body = {"history": liked, "strategy": "hints", "hints": {"feedback": given}, "limit": 10}
    assert ids(page) == recommended(site, **body)
    page.get_by_label("Change ").first.click()
    page.get_by_role("button", name="Less of").first.click()
    expect(page.locator(".liked .chip")).to_have_count(6)
    while page.get_by_role("button", name="Take back").count():
        page.get_by_role("button", name="Take back").first.click()
    settled(page)
    assert "taste" not in address(page)
    assert ids(page) == before


def test_an_address_with_answers_to_hints_that_are_none_still_recommends(open_page: Any, hinted: HintModel) -> None:
    for taste in ("{", '{"a": 1}', '[{"relation": "genre"}, 3, null]'):
        page = open_page(f"/?view=recommend&collection=readers&strategy=hints&user={READER}&taste={quote(taste)}")
        settled(page)
        expect(page.get_by_role("button", name="Take back")).to_have_count(0)


def test_an_address_that_asks_for_hints_is_told_what_is_missing(open_page: Any, watched: Any) -> None:
    watched.expected.append(BROKEN)
    page = open_page(f"/?view=recommend&user={READER}&strategy=hints&collection=readers")
    expect(page.get_by_label("by", exact=True)).to_have_value("hints")
    expect(page.get_by_role("alert")).to_contain_text("index fit")
