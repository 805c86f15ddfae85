"""The page for everybody: keyboard, narrow screens, large type, contrast in both schemes, names for every control."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility({ visibilityProperty: true })) continue;
    const below = behind(node);
    const [a, b] = [light(over(rgba(getComputedStyle(node).color), below)), light(below)].sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), node.className, walker.currentNode.data.slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""

STATES = {
    "welcome": "/",
    "nothing asked": "/?view=ask",
    "hits": "/?q=contrastive+learning+graph",
    "similar": "/?q=graph&like=ir-006",
    "odd": "/?q=zebra&collection=odd",
    "error": "/?" + urlencode({"q": "graph", "filter": '{"must":[{"key":"year","match":{}}]}'}),
    "for nobody yet": "/?view=recommend&collection=readers",
    "for a user": "/?view=recommend&user=reader-01&collection=readers",
    "for likes": "/?" + urlencode({"view": "recommend", "history": '["gl-013", "<b>"]', "collection": "readers"}),
    "unfitted": "/?view=recommend&history=[]",
    "comparison": "/?view=evaluate&a=lexical&b=hybrid&at=q02",
    "nothing compared yet": "/?view=evaluate",
    "nothing judged": "/?view=evaluate&collection=odd",
    "collections": "/?view=collections",
    "nothing": "/?" + urlencode({"q": "xylophone", "mode": "lexical", "filter": '{"topic":"cardiology"}'}),
}


FACETED = {
    "weights": "/?q=method:spectral+result:spectral&facets=method:0.8,result:0.2",
    "own weights": "/?q=method:spectral+result:spectral&mode=facet",
    "no weights": "/?q=method:spectral+result:spectral",
    "similar by": "/?q=graph&like=model&by=method",
    "compared by facets": "/?view=evaluate&at=spectral&a=facet&b=facet;method:0.8,result:0.2",
    "unused": "/?q=graph&mode=lexical",
    "unknown": "/?q=graph&facets=colour:1",
}
EVERY_VIEW = frozenset({"hits", "similar", "for a user", "comparison", "collections", "weights", "similar by"})
"""And asking, which another module does."""
SETTLED = """() => document.querySelector('#filters > *, #weights > *, .asking')
  && !document.querySelector('[aria-busy]') && !document.querySelector('p:not([hidden]) > progress')
  && document.querySelector('.asking #about:not(:empty), .whom .about:not(:empty), article.hit, .problem, .nothing, '
    + '.evaluation .about:not(:empty), .card')"""


def unfold(page: Page) -> None:
    """Opens everything that can be opened, for the first hits."""
    page.wait_for_function(SETTLED)
    page.evaluate(
        "() => [...document.querySelectorAll('.actions [aria-expanded]')].slice(0, 6).forEach((b) => b.click())"
    )


def visits(
    open_page: Any, site: Any, faceted: Any, names: frozenset[str] = frozenset({*STATES, *FACETED}), **options: Any
) -> Iterator[tuple[Page, str]]:
    """The named states of the page, unfolded, over both services."""
    for at, states in ((site, STATES), (faceted, FACETED)):
        page = open_page("/", at=at, **options)
        for path in (path for name, path in states.items() if name in names):
            page.goto(path)
            unfold(page)
            yield page, path


@pytest.fixture(autouse=True)
def expected(watched: Any) -> None:
    """The browser reports an answer of 422 on its console."""
    watched.expected.append("Failed to load resource")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(open_page: Any, site: Any, faceted: Any, scheme: str) -> None:
    backgrounds = set()
    for page, path in visits(open_page, site, faceted, color_scheme=scheme):
        faint = [entry for entry in page.evaluate(CONTRAST) if entry[0] < 4.5]
        assert faint == [], path
        backgrounds.add(page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor"))
    (background,) = backgrounds
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")


@pytest.mark.parametrize("size", [(320, 640), (640, 450)], ids=["narrow", "zoomed to 200 %"])
def test_nothing_sticks_out_sideways(open_page: Any, site: Any, faceted: Any, size: tuple[int, int]) -> None:
    screen = {"viewport": {"width": size[0], "height": size[1]}, "device_scale_factor": 1280 / size[0] / 2}
    for page, path in visits(open_page, site, faceted, **screen):
        for fold in page.locator(".fold:visible").all():
            form = page.locator(f"#{fold.get_attribute('aria-controls')}")
            expect(form).to_be_hidden()
            fold.click()
            expect(form).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0], path


@pytest.mark.parametrize(
    "look",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}],
    ids=["light", "dark", "narrow"],
)
def test_no_view_keeps_anybody_out(
    open_page: Any, site: Any, faceted: Any, barriers: Any, look: dict[str, Any]
) -> None:
    for page, path in visits(open_page, site, faceted, EVERY_VIEW, **look):
        assert barriers(page) == [], path


def test_a_barrier_would_be_found(open_page: Any, barriers: Any) -> None:
    page = open_page("/?view=collections")
    expect(page.get_by_role("article")).to_have_count(3)
    page.evaluate("() => document.querySelector('.card').append(document.createElement('button'))")
    assert [one.split(":")[0] for one in barriers(page)] == ["button-name"]


def test_a_whole_search_without_a_mouse(open_page: Any) -> None:
    page = open_page()
    expect(page.get_by_role("radio")).to_have_count(3)
    page.keyboard.type("marine")
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).to_have_value("")
    page.keyboard.type("graph networks")
    page.keyboard.press("Enter")
    expect(page.locator("article.hit")).to_have_count(10)
    expect(page.get_by_role("status")).to_contain_text("First 10 hits")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="Hybrid")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Words")).to_be_checked()
    expect(page.get_by_role("radio", name="Words")).to_be_focused()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.textContent || document.activeElement.type"))
        if page.evaluate("() => document.activeElement.textContent") == "More like this":
            break
    assert {"checkbox", "number", "Abstract", "Why?", "More like this"} <= reached
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("j")
    expect(page.locator("article.hit").nth(1)).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("article.hit").first.locator(".body.open")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("a/b")
    expect(page.get_by_role("searchbox")).to_have_value("a/b")


def test_every_control_has_a_name_and_the_page_its_landmarks(open_page: Any, site: Any, faceted: Any) -> None:
    for page, path in visits(open_page, site, faceted):
        named = ("button", "checkbox", "radio", "spinbutton", "slider", "searchbox", "link", "article", "heading")
        lines = [line.strip(" -:") for line in page.locator("body").aria_snapshot().splitlines()]
        assert [line for line in lines if line in named] == [], path
        for landmark in ("banner", "search", "main", "contentinfo"):
            expect(page.get_by_role(landmark)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        twice = (
            "() => [...document.querySelectorAll('[id]')].map(n => n.id).filter((id, n, all) => all.indexOf(id) < n)"
        )
        assert page.evaluate(twice) == []
        assert page.get_attribute("html", "lang") == "en"


def test_nothing_moves_where_that_is_unwelcome(open_page: Any) -> None:
    page = open_page("/?q=graph", reduced_motion="reduce")
    expect(page.locator("article.hit")).to_have_count(10)
    page.evaluate("() => document.getElementById('results').setAttribute('aria-busy', 'true')")
    moving = (
        "() => [...document.querySelectorAll('*')].filter(n => getComputedStyle(n).transitionDuration !== '0s').length"
    )
    assert page.evaluate(moving) == 0
