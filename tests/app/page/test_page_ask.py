"""Asking on the page: the answer as it is written, its citations, what nothing carries, stopping, and bad days."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from contracts.scripted_server import ScriptedServer
from playwright.sync_api import Locator, Page, Route, expect

from facetrail.models.language.causal import TinyPolicy
from facetrail.models.language.vocabulary import WordTokenizer

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("imported")]
QUESTION = "Why do graph networks with many layers lose accuracy?"
ASKED = "/?" + urlencode({"q": QUESTION, "view": "ask"})
BROKEN = "Failed to load resource"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer().running() as running:
        yield running


@pytest.fixture(autouse=True)
def well(server: ScriptedServer) -> None:
    """Every test begins with a server that says one thing, at once."""
    server.says, server.pause, server.manner = ["It is about graph networks [1]."], 0.0, "stream"
    server.asked.clear()


@pytest.fixture(scope="module")
def talking(serve: Any, server: ScriptedServer) -> Any:
    """A service whose language model is a scripted server."""
    options = {"language_model": server.url, "language_model_name": "scripted", "language_timeout": 30}
    return serve("sample", "faceted", "odd", **options)


def answer(page: Page) -> Locator:
    return page.get_by_role("group", name="Answer")


def settled(page: Page) -> None:
    expect(answer(page)).to_have_attribute("aria-busy", "false")


def status(page: Page) -> Locator:
    return page.locator("#answer [role=status]")


def address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def cards(page: Page) -> list[str]:
    return [str(card.get_attribute("data-id")) for card in page.locator("#answer article.hit").all()]


def test_an_answer_with_citations_that_lead_to_what_they_quote(
    open_page: Any, talking: Any, server: ScriptedServer, barriers: Any
) -> None:
    server.says = ["Accuracy of graph networks", " falls with many layers [1]. Whales", " sing [9]. Many graph layers."]
    body = {"question": QUESTION, "limit": 5}
    said = talking.client.post("/v1/reason", json=body).raise_for_status().json()
    assert [s["is_supported"] for s in said["sentences"]] == [True, False, True]
    assert said["sentences"][2]["attributed"] == "afterwards"
    page = open_page("/", at=talking)
    page.get_by_role("navigation").get_by_role("link", name="Ask").click()
    field = page.get_by_role("searchbox", name="Ask this collection")
    expect(field).to_be_focused()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("2 of 3 sentences supported · ")
    assert address(page) == {"q": QUESTION, "view": "ask"}
    assert page.title() == f"{QUESTION} · facetrail"
    numbers = [str(n) for s in said["sentences"] for n in s["citations"]]
    expect(answer(page).get_by_role("button")).to_have_text(numbers)
    expect(answer(page).locator(".unsupported")).to_have_text(["Whales sing [?]."])
    expect(answer(page).get_by_text("unsupported", exact=True)).to_have_count(1)
    legend = page.get_by_role("list", name="Legend").get_by_role("listitem")
    expect(legend).to_have_count(3)
    expect(page.get_by_text("Written by scripted, on another server")).to_contain_text(said["model"]["limits"])
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert barriers(page) == []
    cited = said["citations"][0]
    answer(page).get_by_role("button", name=f"Passage 1: {cited['title']}").first.click()
    card = page.locator("#answer article.hit").first
    expect(card).to_be_focused()
    expect(card).to_have_attribute("data-id", cited["id"])
    expect(card.locator(".answer")).to_have_text(cited["quote"])
    card.get_by_role("button", name="To the answer").click()
    expect(answer(page).get_by_role("button").first).to_be_focused()
    card.get_by_role("heading", level=2).get_by_role("link", name=cited["title"]).click()
    expect(page.locator("#similar strong")).to_have_text(cited["title"])
    n_asked = len(server.asked)
    page.go_back()
    expect(status(page)).to_contain_text("2 of 3 sentences supported")
    assert len(server.asked) == n_asked  # what was seen is shown again, no model is asked


def test_the_answer_shows_while_it_is_written_and_can_be_stopped(
    open_page: Any, talking: Any, server: ScriptedServer
) -> None:
    server.says, server.pause = ["Graphs [1]. ", *["word "] * 2_000], 0.02
    page = open_page(ASKED, at=talking)
    expect(answer(page)).to_contain_text("Graphs 1. word word")
    expect(answer(page)).to_have_attribute("aria-busy", "true")
    expect(status(page)).to_contain_text("the model is reading and writing")
    expect(page.locator("#answer article.hit .snippet").first).to_be_visible()  # passages are there before the answer
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Stopped. What stands here was not checked.")
    is_idle(server)
    expect(page.get_by_role("button", name="Ask again")).to_be_focused()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(answer(page)).to_contain_text("Graphs 1. word word")
    page.get_by_role("searchbox").focus()
    page.keyboard.press("Escape")
    expect(status(page)).to_have_text("Stopped. What stands here was not checked.")
    expect(page.get_by_role("searchbox")).to_have_value(QUESTION)
    is_idle(server)
    page.get_by_role("button", name="Ask again").click()
    expect(answer(page)).to_contain_text("word word")
    page.get_by_role("link", name="Recommendations").click()
    is_idle(server)
    expect(page.locator("#answer")).to_be_hidden()


def is_idle(server: ScriptedServer) -> None:
    deadline = time.monotonic() + 20
    while server.open:
        assert time.monotonic() < deadline, "the model writes on"
        time.sleep(0.02)


def test_who_does_not_know_shows_what_is_nearest(open_page: Any, talking: Any, server: ScriptedServer) -> None:
    question = "who won the chess game?"
    page = open_page("/?" + urlencode({"q": question, "view": "ask", "mode": "lexical"}), at=talking)
    expect(answer(page)).to_have_text("I don't know.")
    expect(page.get_by_text("so no model was asked")).to_be_visible()
    assert server.asked == []
    server.says = ["I don't know."]
    page.goto(ASKED)
    expect(page.get_by_text("The model did not find the answer")).to_be_visible()
    near = talking.client.post("/v1/search", json={"query": QUESTION, "limit": 3}).json()["hits"]
    expect(page.get_by_role("heading", name="Nearest documents")).to_be_visible()
    assert cards(page) == [hit["id"] for hit in near]
    tree = '{"must":[{"key":"topic","match":{"any":["alchemy"]}}]}'
    page.goto(ASKED + "&" + urlencode({"filter": tree}))
    expect(page.get_by_text("No document is near.")).to_be_visible()
    server.says = ["It is about graph networks [1]."]
    page.get_by_role("button", name="Remove the filters").click()
    expect(status(page)).to_contain_text("1 of 1 sentence supported")


def test_weights_and_filters_of_the_search_hold(open_page: Any, talking: Any) -> None:
    query = {"q": "method:spectral result:spectral", "view": "ask", "collection": "faceted"}
    sent: list[dict[str, Any]] = []
    page = open_page("/", at=talking)
    page.on("request", lambda r: sent.append(r.post_data_json) if r.url.endswith("/v1/reason") else None)
    page.goto("/?" + urlencode({**query, "facets": "method:0.8,result:0.2"}))
    settled(page)
    expect(page.get_by_role("slider", name="Method")).to_have_value("0.8")
    assert sent == [
        {"question": query["q"], "facets": {"method": 0.8, "result": 0.2}, "collection": "faceted", "stream": True}
    ]
    page.goto(ASKED)
    settled(page)
    page.get_by_label("graph learning").check()
    page.wait_for_function("() => new URLSearchParams(location.search).has('filter')")
    settled(page)
    tree = {"must": [{"key": "topic", "match": {"any": ["graph learning"]}}]}
    assert sent[-1] == {"question": QUESTION, "filter": tree, "stream": True}


def test_what_is_said_stays_text(open_page: Any, talking: Any, server: ScriptedServer) -> None:
    server.says = ["<img src=x onerror=window.hacked=1> zebra 😀𝒳 [1]. Whales <b>sing</b>."]
    page = open_page("/?q=zebra&view=ask&collection=odd", at=talking)
    expect(status(page)).to_contain_text("supported ·")
    expect(answer(page)).to_contain_text("<img src=x onerror=window.hacked=1> zebra 😀𝒳 1")
    expect(answer(page).locator(".unsupported").last).to_have_text("Whales <b>sing</b>.")
    assert page.locator("#answer img, #answer b.x, #answer script, .said b").count() == 0
    assert page.evaluate("() => window.hacked") is None


def test_bad_days_are_explained_and_asked_again(
    open_page: Any, talking: Any, server: ScriptedServer, watched: Any
) -> None:
    watched.expected.append(BROKEN)
    server.manner = "breaks off"
    page = open_page(ASKED, at=talking)
    expect(page.get_by_role("alert")).to_contain_text("gave up while it wrote")
    expect(status(page)).to_have_text("Broken off. What stands here was not checked.")
    server.manner = "stream"
    page.get_by_role("button", name="Try again").click()
    expect(status(page)).to_contain_text("1 of 1 sentence supported")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.goto("/?" + urlencode({"q": "graph " * 1_500, "view": "ask"}))
    expect(page.get_by_role("alert")).to_contain_text("This cannot be answered.")
    expect(page.get_by_role("alert")).to_contain_text("/question")


def test_a_connection_that_breaks_is_said(open_page: Any, talking: Any) -> None:
    page = open_page("/", at=talking)
    head = {"content-type": "text/event-stream"}
    cut = 'event: retrieved\ndata: {"citations": []}\n\nevent: token\ndata: {"text": "Half"}\n\nevent: to'

    def breaks(route: Route) -> None:
        route.fulfill(status=200, headers=head, body=cut)

    page.route("**/v1/reason", breaks)
    page.get_by_role("link", name="Ask").click()
    page.get_by_role("link", name=QUESTION).click()
    expect(page.get_by_role("alert")).to_contain_text("The connection broke before the end.")
    expect(answer(page)).to_have_text("Half")
    page.unroute("**/v1/reason")
    page.get_by_role("button", name="Try again").click()
    expect(status(page)).to_contain_text("1 of 1 sentence supported")


def test_a_key_that_reads_may_ask(open_page: Any, serve: Any, server: ScriptedServer, watched: Any) -> None:
    watched.expected.append(BROKEN)
    options = {"language_model": server.url, "language_model_name": "scripted", "read_keys": "open-sesame"}
    page = open_page(ASKED, at=serve("sample", **options))
    page.get_by_label("API key").fill("open-sesame")
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("1 of 1 sentence supported")


def test_a_model_of_this_process_says_what_it_cannot_read(
    open_page: Any, serve: Any, tmp_path: Path, watched: Any
) -> None:
    watched.expected.append(BROKEN)
    words = WordTokenizer.of(sorted({"whales", *QUESTION.split()}))
    TinyPolicy.new(words, seed=0, dim=16, n_layers=1, n_heads=2, context=1_500).save(tmp_path / "tiny")
    page = open_page(ASKED, at=serve("sample", language_model=str(tmp_path / "tiny")))
    expect(page.get_by_role("alert")).to_contain_text("This vocabulary of 13 tokens cannot express")


def test_nothing_sticks_out_and_every_control_has_a_name(open_page: Any, talking: Any, server: ScriptedServer) -> None:
    server.says = ["Accuracy " + "w" * 200 + " [1, 2]. Whales sing."]
    page = open_page(ASKED, at=talking, viewport={"width": 320, "height": 640})
    expect(status(page)).to_contain_text("supported ·")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
    lines = [line.strip(" -:") for line in page.locator("body").aria_snapshot().splitlines()]
    assert [line for line in lines if line in ("button", "link", "article", "heading", "group", "searchbox")] == []
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
