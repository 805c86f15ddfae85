"""Facets on the page: sliders and whose weights they show, what a hit says of each facet, similar by one facet."""

import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
QUERY = "method:spectral result:spectral"
FACETS = ["Background", "Objective", "Method", "Result"]
BOTH = "method:spectral result:form"
BY_METHOD, BY_RESULT = "by-method", "by-result"


@pytest.fixture(autouse=True)
def expected(watched: Any) -> None:
    """The browser reports an answer of 422 on its console."""
    watched.expected.append("Failed to load resource")


def path(**state: str) -> str:
    return "/?" + urlencode({"q": QUERY, **state})


def address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def settled(page: Page, first: str | None = None) -> None:
    """Waits for hits, and for the one that must be first."""
    if first is not None:
        page.wait_for_function("(id) => document.querySelector('article.hit')?.dataset.id === id", arg=first)
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("article.hit").first).to_be_visible()


def asked(site: Any, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = site.client.post("/v1/search", json=body).raise_for_status().json()
    return answer


def values(page: Page) -> list[str]:
    return page.locator(".slider .n").all_inner_texts()


def slider(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=name, exact=True)


def test_sliders_appear_only_with_facets(open_page: Any, faceted: Any) -> None:
    page = open_page(path(), at=faceted)
    settled(page)
    expect(page.get_by_role("region", name="Facets").get_by_role("slider")).to_have_count(4)
    assert page.locator(".slider label").all_inner_texts() == FACETS
    assert page.locator("#modes label").all_inner_texts() == ["Hybrid", "Words", "Meaning", "Facets"]
    page.get_by_role("combobox", name="Collection").select_option("sample")
    expect(page.get_by_role("slider")).to_have_count(0)
    expect(page.get_by_role("radio")).to_have_count(3)
    settled(page)
    expect(page.locator(".answers")).to_have_count(0)


def test_the_usual_search_leaves_facets_out_until_a_slider_moves(open_page: Any, faceted: Any) -> None:
    page = open_page("/", at=faceted)
    bodies: list[Any] = []
    page.on("request", lambda r: bodies.append(r.post_data_json) if r.url.endswith("/v1/search") else None)
    page.get_by_role("searchbox").fill(QUERY)
    page.keyboard.press("Enter")
    settled(page)
    found = page.locator("article.hit").evaluate_all("(cards) => cards.map((card) => card.dataset.id)")
    assert found == [hit["id"] for hit in asked(faceted, query=QUERY)["hits"]]
    assert values(page) == ["–"] * 4
    expect(page.locator(".answers")).to_have_count(0)
    slider(page, "Result").press("End")
    settled(page, BY_RESULT)
    expect(page.get_by_role("radio", name="Hybrid")).to_be_checked()
    expect(page.locator(".answers").first).to_be_visible()
    assert address(page) == {"q": QUERY, "facets": "result:1"}
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".answers")).to_have_count(0)
    assert address(page) == {"q": QUERY}
    assert values(page) == ["–"] * 4
    assert [body.get("facets") for body in bodies] == [None, {"result": 1}, None]


def test_untouched_sliders_show_the_weights_of_the_question(open_page: Any, faceted: Any) -> None:
    page = open_page(path(mode="facet"), at=faceted)
    settled(page)
    used = asked(faceted, query=QUERY, mode="facet")["facets"]
    assert values(page) == [f"{weight:.2f}" for weight in used.values()]
    expect(page.locator("#weights")).to_contain_text("the question's own")
    expect(page.get_by_role("button", name="Reset")).to_be_hidden()
    assert used["method"] > 0.4 > 0.1 > used["background"] > 0
    expect(slider(page, "Method")).to_have_attribute("aria-valuetext", f"{used['method']:.2f}, automatic")
    assert float(slider(page, "Method").input_value()) == pytest.approx(used["method"], abs=0.026)


def test_a_moved_slider_changes_the_order_and_the_address(open_page: Any, faceted: Any) -> None:
    page = open_page(path(mode="facet", facets="method:1"), at=faceted)
    settled(page, BY_METHOD)
    assert values(page) == ["0.00", "0.00", "1.00", "0.00"]
    slider(page, "Result").focus()
    page.keyboard.press("End")
    expect(page).to_have_url(re.compile("result"))
    slider(page, "Method").focus()
    page.keyboard.press("Home")
    settled(page, BY_RESULT)
    assert address(page) == {"q": QUERY, "mode": "facet", "facets": "result:1"}
    expect(slider(page, "Method")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("method%3A0.05"))
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#weights")).to_contain_text("the question's own")
    assert address(page) == {"q": QUERY, "mode": "facet"}


def test_the_address_and_the_way_back_carry_the_weights(open_page: Any, faceted: Any) -> None:
    page = open_page(path(mode="facet", facets="result:0.85"), at=faceted)
    settled(page, BY_RESULT)
    assert values(page) == ["0.00", "0.00", "0.00", "0.85"]
    page.goto(path(mode="facet", facets="method:0.3"))
    settled(page, BY_METHOD)
    page.reload()
    settled(page, BY_METHOD)
    assert values(page) == ["0.00", "0.00", "0.30", "0.00"]
    slider(page, "Result").press("End")
    settled(page, BY_RESULT)
    page.go_back()
    settled(page, BY_METHOD)
    assert values(page) == ["0.00", "0.00", "0.30", "0.00"]


def test_one_search_follows_many_steps(open_page: Any, faceted: Any) -> None:
    page = open_page(path(mode="facet", facets="method:1"), at=faceted)
    settled(page, BY_METHOD)
    bodies: list[Any] = []
    page.on("request", lambda r: bodies.append(r.post_data_json) if r.url.endswith("/v1/search") else None)
    slider(page, "Result").evaluate(
        "(s) => { for (let n = 1; n <= 8; n++) { s.value = n / 20; s.dispatchEvent(new Event('input')); } }"
    )
    expect(page).to_have_url(re.compile("result%3A0.4"))
    settled(page)
    assert [body["facets"] for body in bodies] == [{"method": 1, "result": 0.4}]


def test_weights_of_zero_ask_nothing(open_page: Any, faceted: Any) -> None:
    page = open_page(path(mode="facet", facets="method:0.5"), at=faceted)
    settled(page, BY_METHOD)
    slider(page, "Method").press("Home")
    expect(page.locator("#weights")).to_contain_text("At least one facet has to count.")
    page.wait_for_timeout(400)
    assert address(page)["facets"] == "method:0.5"
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_slider_turns_a_mode_without_facets_into_one_with(open_page: Any, faceted: Any) -> None:
    page = open_page(path(mode="lexical"), at=faceted)
    settled(page)
    assert values(page) == ["–"] * 4
    expect(page.locator("#weights")).to_contain_text("does not use facets")
    slider(page, "Result").press("End")
    settled(page, BY_RESULT)
    expect(page.get_by_role("radio", name="Facets")).to_be_checked()
    page.get_by_role("radio", name="Meaning").check()
    settled(page)
    expect(page.get_by_role("alert")).to_have_count(0)  # the weights rest, they are not sent


def test_every_hit_shows_its_facets_and_the_sentence_that_answers(open_page: Any, faceted: Any) -> None:
    page = open_page(path(q=BOTH, mode="facet", facets="method:1"), at=faceted)
    settled(page, BY_METHOD)
    hits = asked(faceted, query=BOTH, mode="facet", facets={"method": 1}, explain=True)["hits"]
    for hit, card in zip(hits, page.locator("article.hit").all(), strict=True):
        matches = hit["explanation"]["facets"]["matches"]
        wanted = [f"{m['score']:.2f} × {m['weight']:.2f}".replace("-", "−") for m in matches]
        assert card.locator(".match .n").all_inner_texts() == wanted
    card = page.locator("article.hit").first
    answer = card.locator(".answer")
    expect(answer).to_have_text("Method method:spectral method:graph <img src=x onerror=window.hacked=1>.")
    assert page.evaluate("() => window.hacked") is None
    expect(answer.locator(".role.method")).to_have_text("Method")
    expect(card.get_by_role("button", pressed=True)).to_have_accessible_name(
        re.compile("^Method: score 0.\\d+, weight 1")
    )
    result = card.get_by_role("button", name="Result: score")
    result.hover()
    expect(answer).to_have_text("Result result:survey result:form.")
    card.locator("h2").hover()
    expect(answer).to_contain_text("method:spectral")
    result.press("Enter")
    card.locator("h2").hover()
    expect(answer).to_have_text("Result result:survey result:form.")


def test_the_sentence_stands_out_in_the_abstract(open_page: Any, faceted: Any) -> None:
    page = open_page(path(q=BOTH, mode="facet", facets="method:1"), at=faceted)
    settled(page, BY_METHOD)
    card = page.locator("article.hit").first
    card.get_by_role("button", name="Abstract").click()
    answer = card.locator(".body.open .answer")
    expect(answer).to_have_text("Method method:spectral method:graph <img src=x onerror=window.hacked=1>.")
    expect(card.locator(".body.open")).to_contain_text("background:orchards.")
    card.get_by_role("button", name="Result: score").click()
    expect(card.locator(".body.open .roles .answer")).to_have_text("Result result:survey result:form.")


def test_a_facet_that_is_met_under_another_says_so(open_page: Any, faceted: Any) -> None:
    page = open_page("/?" + urlencode({"q": "result:spectral result:graph", "mode": "facet"}), at=faceted)
    settled(page)
    card = page.locator("article.hit[data-id=by-method]")
    button = card.get_by_role("button", name="Result: score")
    expect(button).to_contain_text("via method")
    button.click()
    expect(card.locator(".answer")).to_have_text(
        "Method method:spectral method:graph <img src=x onerror=window.hacked=1>."
    )


def test_why_recomputes_the_facet_score(open_page: Any, faceted: Any) -> None:
    page = open_page(path(mode="facet", facets="method:0.8,result:0.2"), at=faceted)
    settled(page)
    card = page.locator("article.hit").first
    card.get_by_role("button", name="Why?").click()
    shares = [float(text.replace("−", "-")) for text in card.locator(".why .facets .value").all_inner_texts()]
    hit = asked(faceted, query=QUERY, mode="facet", facets={"method": 0.8, "result": 0.2}, explain=True)["hits"][0]
    facets = hit["explanation"]["facets"]
    assert sum(shares) == pytest.approx(facets["s_k"], abs=3e-3)
    total = (1 - facets["mixing"]) * facets["s_1"] + facets["mixing"] * sum(shares)
    assert total == pytest.approx(hit["score"], abs=3e-3)
    expect(card.locator(".why")).to_contain_text(f"{hit['score']:.3f} = ")


def test_similar_by_one_facet(open_page: Any, faceted: Any) -> None:
    page = open_page(path(), at=faceted)
    settled(page)
    page.locator("article.hit[data-id=model]").get_by_role("button", name="More like this").click()
    choices = page.get_by_role("group", name="Similar by")
    expect(choices.get_by_role("button", pressed=True)).to_have_text("All")
    choices.get_by_role("button", name="Result").click()
    settled(page, "same-result")
    choices.get_by_role("button", name="Method").click()
    settled(page, "same-method")
    assert address(page) == {"q": QUERY, "like": "model", "by": "method"}
    expect(choices.get_by_role("button", name="Method")).to_be_focused()
    expect(choices.get_by_role("button", pressed=True)).to_have_text("Method")
    expect(page.get_by_role("radio", name="Facets")).to_be_checked()
    assert values(page) == ["0.00", "0.00", "1.00", "0.00"]
    expect(page.locator("#similar strong")).to_have_text("Currents")
    page.get_by_role("button", name="Back to").click()
    expect(page.locator("#similar > *")).to_have_count(0)
    assert address(page) == {"q": QUERY}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"facets": "colour:1"}, "/facets/colour"),
        ({"facets": "method:-1"}, "/facets/method"),
        ({"facets": "method:much"}, "/facets/method"),
        ({"facets": "method:0"}, "/facets"),
        ({"facets": "method:1", "collection": "sample"}, "/facets"),
    ],
    ids=["unknown", "negative", "no number", "zero", "without facets"],
)
def test_weights_that_cannot_be_used_are_explained(
    open_page: Any, faceted: Any, state: dict[str, str], says: str
) -> None:
    page = open_page(path(**state), at=faceted)
    expect(page.get_by_role("alert").locator("code")).to_have_text(says)
    page.get_by_role("button", name="Remove the weights").click()
    settled(page)
    assert "facets" not in address(page)
