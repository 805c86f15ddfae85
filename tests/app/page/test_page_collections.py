"""The collections on the page: how each of them is, and a build that is started and followed."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser
COLLECTIONS = "/?view=collections"
BROKEN = "Failed to load resource"


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=name, exact=True)


def facts(place: Locator) -> dict[str, str]:
    return dict(zip(place.locator("dt").all_inner_texts(), place.locator("dd").all_inner_texts(), strict=True))


def test_every_collection_says_what_it_holds(open_page: Any, site: Any) -> None:
    page = open_page("/")
    page.get_by_role("navigation").get_by_role("link", name="Collections").click()
    expect(page.get_by_role("article")).to_have_count(3)
    assert page.title() == "Collections · facetrail"
    told = site.client.get("/v1/collections/readers").json()
    readers = facts(card(page, "readers"))
    assert (readers["Documents"], readers["Events"], readers["Recommender"]) == ("130", "1,526", "blend")
    assert (readers["Encoder"], readers["Generation"], readers["Indexes"]) == ("none", "1", "Words")
    size, unit = readers["On disk"].split()
    assert float(size) * {"kB": 1e3, "MB": 1e6}[unit] == pytest.approx(told["bytes_on_disk"], rel=0.1)
    sample = facts(card(page, "sample"))
    assert sample["Indexes"].startswith("Words, Meaning")
    assert sample["Encoder"].endswith(" dimensions")
    assert (sample["Events"], sample["Recommender"]) == ("none", "none fitted")
    expect(card(page, "sample").get_by_text("used unless another is named")).to_be_visible()
    expect(card(page, "odd").get_by_text("Served read-only")).to_be_visible()
    expect(page.get_by_role("button", name="Build")).to_have_count(0)
    card(page, "readers").get_by_role("link", name="Evaluate").click()
    expect(page.get_by_role("heading", level=2, name="Evaluation")).to_be_visible()
    assert parse_qs(urlsplit(page.url).query) == {"view": ["evaluate"], "collection": ["readers"]}


def test_a_build_is_started_and_followed(open_page: Any, serve: Any) -> None:
    at = serve("growing", "sample")
    page = open_page(COLLECTIONS, at=at)
    growing = card(page, "growing")
    expect(growing.get_by_text("Everything is indexed.")).to_be_visible()
    before = int(facts(growing)["Generation"])
    documents = [{"id": "new", "text": "a new zebra"}]
    at.client.put("/v1/documents", json={"documents": documents}).raise_for_status()
    page.reload()
    expect(growing.get_by_text("1 write is not folded in yet")).to_be_visible()
    assert (facts(growing)["Documents"], facts(growing)["Not folded in"]) == ("5", "1")
    growing.get_by_role("button", name="Build growing").press("Enter")
    expect(growing.get_by_text(f"Generation {before + 1} was built in")).to_be_visible()
    expect(growing.get_by_text("Everything is indexed.")).to_be_visible()
    expect(growing.get_by_role("button", name="Build growing")).to_be_focused()  # drawn anew under the hands
    assert facts(growing)["Generation"] == str(before + 1)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        ({"status": "running", "started": 0.0}, "A build has been running for"),
        ({"status": "failed", "error": "no space is left"}, "The last build failed: no space is left"),
    ],
)
def test_the_state_of_a_build_is_told(open_page: Any, serve: Any, build: dict[str, Any], says: str) -> None:
    at = serve("growing")
    told = at.client.get("/v1/collections").json()
    told["collections"][0]["build"].update(build)
    page = open_page("/", at=at)
    n_asked = 0

    def answer(route: Any) -> None:
        nonlocal n_asked
        n_asked += 1
        route.fulfill(json=told)

    page.route("**/v1/collections", answer)
    page.get_by_role("link", name="Collections").click()
    expect(card(page, "growing").get_by_text(says)).to_be_visible()
    is_running = build["status"] == "running"
    expect(page.locator("#shelf [role=status]")).to_have_text(
        "1 collection; building growing" if is_running else "1 collection"
    )
    page.wait_for_timeout(1_500)
    assert (n_asked > 1) == is_running  # it looks again only while something changes


def test_a_key_that_may_not_write_cannot_build(open_page: Any, serve: Any, watched: Any) -> None:
    watched.expected.append(BROKEN)
    page = open_page(COLLECTIONS, at=serve("growing", read_keys="reader", write_keys="writer"))
    page.get_by_label("API key").fill("reader")
    page.keyboard.press("Enter")
    card(page, "growing").get_by_role("button", name="Build growing").click()
    expect(page.get_by_role("alert")).to_contain_text("key")
    expect(card(page, "growing")).to_be_visible()
