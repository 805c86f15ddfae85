"""Searching on the page: hits, modes, filters, highlights, explanations, similar documents, paging, the address."""

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.browser
QUESTION = "Why do graph networks with many layers lose accuracy?"


def ids(page: Page) -> list[str]:
    return [str(hit.get_attribute("data-id")) for hit in page.locator("article.hit").all()]


def asked(site: Any, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = site.client.post("/v1/search", json=body).raise_for_status().json()
    return answer


def address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def busy_until(page: Page, text: str) -> None:
    expect(page.locator("#count")).to_contain_text(text)
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")


def test_a_question_finds_what_the_service_finds(open_page: Any, site: Any) -> None:
    page = open_page()
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    busy_until(page, "First 10 hits")
    hits = asked(site, query=QUESTION)["hits"]
    assert ids(page) == [hit["id"] for hit in hits]
    assert page.locator("article h2").all_inner_texts() == [hit["payload"]["title"] for hit in hits]
    assert page.title() == f"{QUESTION} · facetrail"
    assert re.search(r"· \d+ ms$", page.locator("#count").inner_text())


def test_the_sample_offers_questions_and_other_collections_none(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("link", name=QUESTION).click()
    busy_until(page, "First 10 hits")
    assert address(page) == {"q": QUESTION}
    page = open_page("/?collection=odd")
    expect(page.locator("#about")).to_have_text("4 documents in odd.")
    expect(page.locator("#examples")).to_be_hidden()


@pytest.mark.parametrize(("name", "mode"), [("Words", "lexical"), ("Meaning", "dense")])
def test_every_mode_of_the_collection(open_page: Any, site: Any, name: str, mode: str) -> None:
    page = open_page("/?" + urlencode({"q": QUESTION}))
    busy_until(page, "hits")
    page.get_by_role("radio", name=name).check()
    wanted = [hit["id"] for hit in asked(site, query=QUESTION, mode=mode)["hits"]]
    page.wait_for_function("(id) => document.querySelector('article.hit')?.dataset.id === id", arg=wanted[0])
    busy_until(page, "hits")
    assert ids(page) == wanted
    assert address(page) == {"q": QUESTION, "mode": mode}


def test_a_collection_with_one_mode_offers_none(open_page: Any) -> None:
    page = open_page("/?q=zebra&collection=odd")
    busy_until(page, "All 3 hits")
    expect(page.get_by_role("radio")).to_have_count(0)
    page.get_by_role("combobox", name="Collection").select_option("sample")
    expect(page.get_by_role("radio")).to_have_count(3)
    assert address(page) == {"q": "zebra"}


def test_filters_are_made_from_the_fields_and_narrow_the_hits(open_page: Any, site: Any) -> None:
    page = open_page("/?q=learning")
    panel = page.get_by_role("complementary", name="Filters")
    panel.get_by_label("cardiology").check()
    busy_until(page, "hits")
    since = panel.get_by_role("group", name="Year").get_by_label("From")
    since.fill("2019")
    since.press("Enter")
    expect(page).to_have_url(re.compile("gte"))
    page.wait_for_load_state("networkidle")
    tree = {
        "must": [
            {"key": "topic", "match": {"any": ["cardiology"]}},
            {"key": "year", "range": {"gte": 2019}},
        ]
    }
    assert json.loads(address(page)["filter"]) == tree
    wanted = asked(site, query="learning", filter=tree)["hits"]
    busy_until(page, "hit")
    assert wanted
    assert ids(page) == [hit["id"] for hit in wanted]
    expect(since).to_be_focused()  # the panel was drawn anew under the hands
    page.get_by_role("button", name="Clear filters").click()
    expect(panel.get_by_label("cardiology")).not_to_be_checked()
    assert "filter" not in address(page)


def test_all_values_of_a_field_can_be_chosen(open_page: Any) -> None:
    page = open_page("/?q=learning")
    group = page.get_by_role("group", name="Topic")
    expect(group.get_by_role("checkbox")).to_have_count(6)
    group.get_by_role("button", name="4 more").click()
    expect(group.get_by_role("checkbox")).to_have_count(10)
    group.get_by_label("software engineering").check()
    expect(group.get_by_label("software engineering")).to_be_checked()
    expect(group.get_by_role("checkbox")).to_have_count(10)


def words_at(text: str, spans: list[dict[str, Any]], name: str) -> list[str]:
    return [text[s["start"] : s["end"]] for s in spans if s["field"] == name]


@pytest.mark.parametrize(("collection", "query"), [("sample", QUESTION), ("odd", "zebra"), ("odd", "second runs 𐍈")])
def test_marks_stand_exactly_on_the_matched_words(open_page: Any, site: Any, collection: str, query: str) -> None:
    page = open_page("/?" + urlencode({"q": query, "mode": "lexical", "collection": collection}))
    busy_until(page, "hit")
    hits = asked(site, query=query, mode="lexical", collection=collection, explain=True)["hits"]
    assert hits
    for hit, card in zip(hits, page.locator("article.hit").all(), strict=True):
        card.get_by_role("button", name="Abstract").click()
        payload, spans = hit["payload"], hit["explanation"]["highlights"]
        assert card.locator("h2 mark").all_inner_texts() == words_at(payload["title"], spans, "title")
        assert card.locator(".body mark").all_text_contents() == words_at(payload["text"], spans, "text")
        shown = "".join("".join(card.locator(".roles dd, .whole").all_text_contents()).split())
        assert shown == "".join(payload["text"].split())


def test_a_snippet_shows_the_marked_words_of_a_long_text(open_page: Any) -> None:
    page = open_page("/?q=okapi&collection=odd")
    busy_until(page, "1 hit")
    snippet = page.locator(".snippet")
    expect(snippet.locator("mark")).to_have_text("okapi")
    assert len(snippet.inner_text()) < 450
    assert page.locator("article h2").inner_text() == "untitled"  # without a title, its id


def test_roles_label_the_sentences(open_page: Any, site: Any) -> None:
    page = open_page("/?" + urlencode({"q": QUESTION}))
    busy_until(page, "hits")
    card = page.locator("article.hit").first
    card.get_by_role("button", name="Abstract").click()
    sections = asked(site, query=QUESTION, limit=1)["hits"][0]["payload"]["sections"]
    roles = [s["name"].capitalize() for s in sections]
    assert card.locator(".role").all_inner_texts() == [r for n, r in enumerate(roles) if n == 0 or roles[n - 1] != r]


def test_why_recomputes_the_score(open_page: Any, site: Any) -> None:
    page = open_page("/?" + urlencode({"q": QUESTION}))
    busy_until(page, "hits")
    card = page.locator("article.hit").first
    card.get_by_role("button", name="Why?").click()
    hit = asked(site, query=QUESTION, limit=1, explain=True)["hits"][0]
    shares = [float(text.replace("−", "-")) for text in card.locator(".sources .value").all_inner_texts()]
    assert sum(shares) == pytest.approx(hit["score"], abs=2e-3)
    shown = [float(text) for text in card.locator(".terms .value").all_inner_texts()]
    wanted = sorted((t["contribution"] for t in hit["explanation"]["terms"]), reverse=True)
    assert shown == pytest.approx(wanted[:8], abs=1e-3)
    card.get_by_role("button", name="Why?").click()
    expect(card.locator(".why")).to_have_count(0)


def test_more_like_this_and_the_way_back(open_page: Any, site: Any) -> None:
    page = open_page("/?" + urlencode({"q": QUESTION}))
    busy_until(page, "hits")
    before = ids(page)
    title = page.locator("article h2").nth(1).inner_text()
    page.locator("article.hit").nth(1).get_by_role("button", name="More like this").click()
    expect(page.locator("#similar strong")).to_have_text(title)
    busy_until(page, "hits")
    assert ids(page) == [hit["id"] for hit in asked(site, like=before[1])["hits"]]
    assert before[1] not in ids(page)
    page.get_by_role("button", name="Back to").click()
    expect(page.locator("#similar strong")).to_have_count(0)
    busy_until(page, "hits")
    assert ids(page) == before
    assert address(page) == {"q": QUESTION}


def test_an_id_with_every_kind_of_sign_is_similar_to_others(open_page: Any) -> None:
    page = open_page("/?" + urlencode({"q": "second", "collection": "odd"}))
    busy_until(page, "1 hit")
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#similar strong")).to_have_text("😀 Zebra 𝒳 crossing")
    busy_until(page, "hit")
    assert address(page)["like"] == "folder/emoji 😀?#1"


def test_more_hits_come_in_the_order_of_one_long_list(open_page: Any, site: Any) -> None:
    page = open_page("/?q=learning")
    busy_until(page, "First 10 hits")
    page.get_by_role("button", name="Load more").click()
    busy_until(page, "First 20 hits")
    assert ids(page) == [hit["id"] for hit in asked(site, query="learning", limit=20)["hits"]]
    expect(page.locator("article.hit").nth(10)).to_be_focused()
    page.locator("article.hit").nth(15).get_by_role("button", name="More like this").click()
    busy_until(page, "First 10 hits")
    page.go_back()
    busy_until(page, "First 20 hits")  # as it was left, without asking again
    page.wait_for_function("() => window.scrollY > 500")


def test_the_address_carries_the_state(open_page: Any) -> None:
    page = open_page()
    page.get_by_role("searchbox").fill("graph learning")
    page.keyboard.press("Enter")
    busy_until(page, "hits")
    first = ids(page)
    page.get_by_role("radio", name="Words").check()
    expect(page).to_have_url(re.compile("mode=lexical"))
    page.get_by_label("cardiology").check()
    expect(page).to_have_url(re.compile("filter="))
    page.wait_for_load_state("networkidle")
    filtered = ids(page)
    page.reload()
    busy_until(page, "hit")
    assert ids(page) == filtered
    expect(page.get_by_role("radio", name="Words")).to_be_checked()
    expect(page.get_by_label("cardiology")).to_be_checked()
    for _ in range(2):
        page.go_back()
    expect(page.get_by_role("radio", name="Hybrid")).to_be_checked()
    page.wait_for_function("(id) => document.querySelector('article.hit')?.dataset.id === id", arg=first[0])
    page.go_back()
    expect(page.get_by_role("heading", level=1, name="Find it")).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("searchbox")).to_have_value("graph learning")


def test_a_late_answer_to_an_old_question_is_not_shown(open_page: Any, site: Any) -> None:
    page = open_page()
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "marine" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route("**/v1/search", hold)
    for query in ("marine", "graph"):
        page.get_by_role("searchbox").fill(query)
        page.keyboard.press("Enter")
    busy_until(page, "hits")
    wanted = [hit["id"] for hit in asked(site, query="graph")["hits"]]
    assert ids(page) == wanted
    assert len(held) == 1
    page.unroute("**/v1/search")
    page.wait_for_timeout(100)
    assert ids(page) == wanted
