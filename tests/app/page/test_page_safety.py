"""What must not happen on the page, and what it says when something goes wrong."""

from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Route, expect

from facetrail.app.routes.page import page_files

browser_test = pytest.mark.browser
BROKEN = "Failed to load resource"


@browser_test
def test_markup_in_documents_stays_text(open_page: Any) -> None:
    page = open_page("/?q=zebra&collection=odd")
    expect(page.locator("#count")).to_contain_text("All 3 hits")
    for button in page.get_by_role("button", name="Abstract").all() + page.get_by_role("button", name="Why?").all():
        button.click()
    card = page.locator("article.hit", has_text="onerror")
    expect(card.get_by_role("heading", level=2)).to_have_text("<img src=x onerror='window.hacked=1'> zebra")
    expect(card.locator("h2 a")).to_have_count(0)  # its url is a script
    assert card.locator("img, script, svg, b.x, i").count() == 0
    card.get_by_role("button", name="More like this").click()
    expect(page.locator("#similar strong")).to_contain_text("onerror")
    page.goto("/?" + urlencode({"q": "<img src=x onerror=window.hacked=1>", "collection": "<b>"}))
    expect(page.locator(".problem")).to_contain_text("there is no collection '<b>'", ignore_case=True)
    assert page.evaluate("() => window.hacked") is None


@browser_test
def test_a_document_links_to_its_address(open_page: Any) -> None:
    page = open_page("/?q=crossing&collection=odd")
    link = page.locator("h2 a")
    expect(link).to_have_attribute("href", "https://example.org/zebra")
    expect(link).to_have_attribute("rel", "noopener noreferrer")


@pytest.fixture(autouse=True)
def expected(request: pytest.FixtureRequest, watched: Any) -> None:
    """The browser itself reports answers of 4xx and 5xx and lost connections on its console."""
    watched.expected.append(BROKEN)


@browser_test
def test_the_browser_refuses_markup_from_scripts(open_page: Any, watched: Any) -> None:
    page = open_page()
    watched.expected += ["CSP", "trusted", "Trusted", "Content Security Policy"]
    refused = page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.name; } }")
    assert refused == "TypeError"
    assert any("require-trusted-types-for" in p or "TrustedHTML" in p for p in watched.problems)


@browser_test
@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ('{"must":[{"key":"year","match":{}}]}', "exactly one of value, any and except"),
        ("not json", "The filter in the address is not JSON"),
    ],
)
def test_a_bad_filter_is_explained_and_can_be_removed(open_page: Any, tree: str, says: str) -> None:
    page = open_page("/?" + urlencode({"q": "graph", "filter": tree}))
    expect(page.get_by_role("alert")).to_contain_text(says)
    expect(page.get_by_role("complementary")).to_contain_text(tree)
    page.get_by_role("button", name="Remove the filter").click()
    expect(page.locator("article.hit")).to_have_count(10)
    expect(page.get_by_role("alert")).to_have_count(0)


@browser_test
def test_a_mode_that_the_collection_lacks_is_explained(open_page: Any) -> None:
    page = open_page("/?q=zebra&mode=dense&collection=odd")
    expect(page.get_by_role("alert")).to_contain_text("This search cannot be run.")
    page.get_by_role("button", name="Search in the usual mode").click()
    expect(page.locator("article.hit")).to_have_count(3)


@browser_test
def test_an_unknown_document_has_nothing_like_it(open_page: Any) -> None:
    page = open_page("/?like=no-such-document")
    expect(page.get_by_role("alert")).to_contain_text("no-such-document")
    page.get_by_role("button", name="Back to the start").click()
    expect(page.get_by_role("searchbox")).to_be_focused()


@browser_test
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again(open_page: Any, status: int) -> None:
    page = open_page()
    n_asked = 0

    def shed_once(route: Route) -> None:
        nonlocal n_asked
        n_asked += 1
        if n_asked > 1:
            route.continue_()
            return
        problem = {"title": "Busy", "status": status, "detail": "the service is busier than it can answer in time"}
        route.fulfill(status=status, headers={"retry-after": "1"}, json=problem)

    page.route("**/v1/search", shed_once)
    page.get_by_role("searchbox").fill("graph")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Trying again in 1 s.")
    expect(page.locator("article.hit")).to_have_count(10)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert n_asked == 2


@browser_test
def test_offline_and_back(open_page: Any) -> None:
    page = open_page()
    expect(page.get_by_role("radio")).to_have_count(3)
    page.context.set_offline(True)
    page.get_by_role("searchbox").fill("graph")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("This device is offline.")
    page.context.set_offline(False)
    expect(page.locator("article.hit")).to_have_count(10)  # by itself


@browser_test
def test_a_key_is_asked_for_and_kept_in_the_tab(open_page: Any, serve: Any) -> None:
    site = serve("sample", read_keys="open-sesame")
    page = open_page("/?q=graph", at=site)
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_text("That key was not accepted.")).to_be_visible()
    page.get_by_label("API key").fill("open-sesame")
    page.keyboard.press("Enter")
    expect(page.locator("article.hit")).to_have_count(10)
    page.reload()
    expect(page.locator("article.hit")).to_have_count(10)
    assert page.evaluate("() => [localStorage.length, document.cookie, location.href.includes('sesame')]") == [
        0,
        "",
        False,
    ]
    page.get_by_role("button", name="Forget the API key").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_files_are_small_named_by_their_hash_and_never_stale(site: Any) -> None:
    assert sum(len(file.content) for file in page_files().values()) < 150_000  # five views
    for name in page_files():
        path = "/" if name == "index.html" else f"/static/{name}"
        answer = site.client.get(path)
        assert answer.status_code == 200
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        for known in (answer.headers["etag"], f'"x", W/{answer.headers["etag"]}'):
            again = site.client.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
        assert site.client.get(path, headers={"if-none-match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    "name", ["__init__.py", "..%2froutes%2fpage.py", "%2e%2e/main.py", "nothing.js", "style.css%00"]
)
def test_nothing_else_is_served(site: Any, name: str) -> None:
    assert site.client.get(f"/static/{name}").status_code == 404


def test_the_sources_hold_no_inline_code_and_no_foreign_address() -> None:
    for entry in (entry for entry in files("facetrail.app.web").iterdir() if entry.is_file()):
        text = entry.read_text(encoding="utf-8")
        if entry.name.endswith(".js"):
            assert not any(word in text for word in ("innerHTML", "insertAdjacentHTML", "eval(", "document.write"))
        if entry.name.endswith(".html"):
            assert "<style" not in text
            assert " style=" not in text
            assert " on" not in "".join(part.split(">")[0] for part in text.split("<"))
        foreign = [part for part in text.split("http")[1:] if part.startswith(("://", "s://"))]
        assert all(part.startswith(("://www.w3.org/2000/svg", "s://doi.org/")) for part in foreign), entry.name
