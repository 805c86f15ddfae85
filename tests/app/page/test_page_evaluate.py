"""The evaluation on the page: its numbers are ir_measures' numbers, and it says where a configuration wins."""

import re
import threading
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from facetrail.eval.metrics import evaluate_run

pytestmark = pytest.mark.browser
COMPARED = "/?view=evaluate&a=lexical&b=hybrid"
MEASURES = {"nDCG@10": "nDCG@10", "RR@10": "RR@10", "Recall@10": "R@10"}
"""As the page calls them, and as ir_measures does."""
BROKEN = "Failed to load resource"


def judged(site: Any, collection: str = "sample") -> list[dict[str, Any]]:
    path = f"/v1/collections/{collection}/judgements"
    queries: list[dict[str, Any]] = site.client.get(path).raise_for_status().json()["queries"]
    return queries


def ranked(site: Any, query: str, **body: Any) -> list[str]:
    answer = site.client.post("/v1/search", json={"query": query, "limit": 10, **body}).raise_for_status().json()
    return [hit["id"] for hit in answer["hits"]]


def address(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def compared(page: Page, n: int) -> None:
    noun = "query" if n == 1 else "queries"
    expect(page.locator("#evaluation [role=status]")).to_have_text(f"{n} {noun} compared")


def numbers(cells: Locator) -> list[float]:
    return [float(str(cell.get_attribute("value"))) for cell in cells.locator("data").all()]


def shown(page: Page) -> list[str]:
    return page.locator(".query").all_inner_texts()


def test_the_means_and_wins_are_those_of_ir_measures(open_page: Any, site: Any) -> None:
    page = open_page("/")
    page.get_by_role("navigation").get_by_role("link", name="Evaluation").click()
    queries = judged(site)
    expect(page.get_by_label("A, the baseline", exact=True)).to_have_value("lexical")
    expect(page.get_by_label("B", exact=True)).to_have_value("hybrid")
    page.get_by_role("button", name="Compare").click()
    compared(page, len(queries))
    assert address(page) == {"view": "evaluate", "a": "lexical", "b": "hybrid"}
    qrels = {query["id"]: query["relevant"] for query in queries}
    scores = {}
    for mode in ("lexical", "hybrid"):
        run = {q["id"]: {i: -float(n) for n, i in enumerate(ranked(site, q["text"], mode=mode))} for q in queries}
        scores[mode] = evaluate_run(run, qrels, tuple(MEASURES.values()))
    for name, measure in MEASURES.items():
        row = page.locator(".means tbody tr", has=page.get_by_role("button", name=name, exact=True))
        a, b = scores["lexical"].values[measure], scores["hybrid"].values[measure]
        assert numbers(row) == pytest.approx([a.mean(), b.mean(), (b - a).mean()], abs=1e-6)
        won, lost = int((b - a > 1e-9).sum()), int((a - b > 1e-9).sum())
        assert row.locator("td").last.inner_text() == f"{won} · {len(a) - won - lost} · {lost}"
        row.get_by_role("button").click()
        expect(page.locator(".queries caption")).to_have_text(f"Queries by {name}")
        of = {query["text"]: n for n, query in enumerate(queries)}
        wanted = [(float(a[n]), float(b[n])) for n in (of[text] for text in shown(page))]
        found = [numbers(row) for row in page.locator(".queries tbody tr").all()]
        assert [one[:2] for one in found] == [pytest.approx(pair, abs=1e-6) for pair in wanted]
        assert [one[2] for one in found] == sorted((one[2] for one in found), reverse=True)


def test_both_rankings_of_a_query_and_what_each_misses(open_page: Any, site: Any) -> None:
    page = open_page(COMPARED)
    queries = judged(site)
    compared(page, len(queries))
    by_gain = shown(page)
    page.get_by_role("button", name="B − A").click()
    expect(page.locator(".queries").get_by_role("columnheader", name="B − A")).to_have_attribute(
        "aria-sort", "ascending"
    )
    assert set(shown(page)) == set(by_gain)
    assert numbers(page.locator(".queries tbody tr").first)[2] < 0
    page.get_by_role("button", name="Query", exact=True).click()
    expect(page.get_by_role("button", name="Query", exact=True)).to_have_attribute("aria-pressed", "true")
    assert shown(page) == [query["text"] for query in queries]
    query = next(q for q in queries if set(q["relevant"]) - set(ranked(site, q["text"], mode="lexical")))
    page.get_by_role("button", name=query["text"]).click()
    expect(page.get_by_role("button", name=query["text"])).to_be_focused()  # the table was drawn anew under the hands
    assert address(page) == {"view": "evaluate", "a": "lexical", "b": "hybrid", "sort": "given", "at": query["id"]}
    for side, mode in (("A", "lexical"), ("B", "hybrid")):
        ids = ranked(site, query["text"], mode=mode)
        part = page.get_by_role("region", name=f"Ranking of {side}")
        listed = part.locator("ol li").evaluate_all("(rows) => rows.map((row) => row.dataset.id)")
        marked = part.locator("ol li.relevant").evaluate_all("(rows) => rows.map((row) => row.dataset.id)")
        missed = part.locator(".missed li").evaluate_all("(rows) => rows.map((row) => row.dataset.id)")
        assert listed == ids
        assert marked == [i for i in ids if i in query["relevant"]]
        assert set(missed) == set(query["relevant"]) - set(ids)
    lexical = page.get_by_role("region", name="Ranking of A")
    title = site.client.get(f"/v1/documents/{ranked(site, query['text'], mode='lexical')[0]}").json()["title"]
    expect(lexical.locator("ol li").first.get_by_role("link")).to_contain_text(title[:50])
    page.reload()
    compared(page, len(queries))
    expect(page.get_by_role("region", name="Ranking of B")).to_be_visible()
    lexical.get_by_role("link", name="Search this way").click()
    expect(page.locator("article.hit").first).to_be_visible()
    assert address(page) == {"q": query["text"], "mode": "lexical"}
    requests: list[str] = []
    page.on("request", lambda r: requests.append(r.url))
    page.go_back()
    expect(page.get_by_role("region", name="Ranking of A")).to_be_visible()
    assert not any(url.endswith("/v1/search") for url in requests)  # what was asked is not asked again


def test_facets_are_compared_by_their_weights(open_page: Any, faceted: Any, watched: Any) -> None:
    watched.expected.append(BROKEN)  # the title of a judged document that is not there
    page = open_page("/?view=evaluate", at=faceted)
    bodies: list[Any] = []
    page.on("request", lambda r: bodies.append(r.post_data_json) if r.url.endswith("/v1/search") else None)
    for side, facet in (("A, the baseline", "Method"), ("B", "Result")):
        page.get_by_label(side, exact=True).select_option("facet")
        slider = page.get_by_role("region", name=f"Facets of {side}").get_by_role("slider", name=facet, exact=True)
        slider.press("End")
        expect(page.get_by_role("region", name=f"Facets of {side}").get_by_text("Your weights")).to_be_visible()
        page.wait_for_timeout(400)  # a slider waits for its next movement
    page.get_by_role("button", name="Compare").click()
    compared(page, 2)
    assert address(page) == {"view": "evaluate", "a": "facet;method:1", "b": "facet;result:1"}
    weights = [next(iter(body["facets"].items())) for body in bodies]
    assert sorted(weights) == [("method", 1), ("method", 1), ("result", 1), ("result", 1)]
    expect(page.locator(".means thead")).to_contain_text("Facets (Method 1)")
    spectral = page.locator(".queries tbody tr", has_text="method:spectral")
    page.get_by_role("button", name="RR@10").click()
    by_result = ranked(faceted, "method:spectral result:spectral", mode="facet", facets={"result": 1})
    other = 1 / (by_result.index("by-method") + 1)
    assert numbers(spectral) == pytest.approx([1, other, other - 1])
    assert other < 1
    page.get_by_role("button", name="method:spectral result:spectral").click()
    missed = page.get_by_role("region", name="Ranking of A").locator(".missed li")
    expect(missed).to_have_count(1)
    expect(missed).to_contain_text("elsewhere")  # judged, and no document of the collection


def test_a_comparison_can_be_stopped_and_goes_on(open_page: Any, site: Any) -> None:
    page = open_page("/?view=evaluate")
    n_queries, held = len(judged(site)), threading.Event()
    asked: list[tuple[str, str]] = []

    def hold(route: Route) -> None:
        body = route.request.post_data_json
        asked.append((body["mode"], body["query"]))
        if len(asked) > 5 and not held.is_set():
            return  # no answer until the page gives up
        route.continue_()

    page.route("**/v1/search", hold)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("progressbar", name="Queries answered")).to_have_js_property("value", 5)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#evaluation [role=status]")).to_have_text(
        f"Stopped: 0 of {n_queries} queries have both rankings."
    )
    held.set()
    page.get_by_role("button", name="Go on").click()
    compared(page, n_queries)
    assert len(asked) <= 2 * n_queries + 3  # what was answered before is kept
    expect(page.get_by_role("progressbar")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_busy_service_is_asked_again_and_a_failing_one_named(open_page: Any, site: Any, watched: Any) -> None:
    watched.expected.append(BROKEN)
    page = open_page("/?view=evaluate")
    n_asked = 0

    def shed(route: Route) -> None:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:
            problem = {"title": "Busy", "status": 503, "detail": "the service is busy"}
            route.fulfill(status=503, headers={"retry-after": "1"}, json=problem)
        elif n_asked == 9:
            route.fulfill(status=500, json={"title": "Broken", "status": 500, "detail": "an unexpected error"})
        else:
            route.continue_()

    page.route("**/v1/search", shed)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_contain_text("An unexpected error.")
    page.get_by_role("button", name="Try again").click()
    compared(page, len(judged(site)))
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize(
    ("state", "says", "cure"),
    [
        ({"a": "lexical", "b": "facet"}, "This search cannot be run.", "Choose again what to compare"),
        ({"collection": "none"}, "there is no collection 'none'", "Use the first collection"),
    ],
)
def test_what_cannot_be_compared_is_explained(
    open_page: Any, watched: Any, state: dict[str, str], says: str, cure: str
) -> None:
    watched.expected.append(BROKEN)
    page = open_page("/?" + urlencode({"view": "evaluate", **state}))
    expect(page.get_by_role("alert")).to_contain_text(re.compile(re.escape(says), re.IGNORECASE))
    page.get_by_role("button", name=cure).click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("button", name="Compare")).to_be_visible()


def test_without_judgements_it_says_how_to_add_some(open_page: Any) -> None:
    page = open_page("/?view=evaluate&collection=odd")
    expect(page.locator("#evaluation .command")).to_have_text(
        "facetrail index judge odd --queries queries.jsonl --qrels qrels/test.tsv"
    )
    expect(page.get_by_role("button", name="Compare")).to_be_hidden()
    page.get_by_role("combobox", name="Collection").select_option("readers")
    expect(page.get_by_text("can be searched in one way only")).to_be_visible()
    page.get_by_role("combobox", name="Collection").select_option("sample")
    expect(page.get_by_role("button", name="Compare")).to_be_visible()
