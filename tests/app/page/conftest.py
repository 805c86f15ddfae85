"""The page in a real browser: headless Chromium, and a service over the built-in sample and over odd documents."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from facetrail.app.main import create_app
from facetrail.app.platform import Platform
from facetrail.app.serve import server_config
from facetrail.app.settings import Settings
from facetrail.eval.benchmarks.page import BROWSERS
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.collection import Collection
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.events_corpus import read_events
from facetrail.indexing.judgements import JudgedQuery, Judgements, read_judgements
from facetrail.indexing.recommenders import fit_closed_forms
from facetrail.indexing.searcher import Searcher

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000
"""Milliseconds: machines that run the suite are busy."""

ODD = [
    {
        "_id": "<img src=x onerror=window.hacked=1>",
        "title": "<img src=x onerror='window.hacked=1'> zebra",
        "text": '<script>window.hacked=1</script> A zebra & its "quotes". <svg onload=window.hacked=1>',
        "sections": [{"name": "<b>role</b>", "text": 'A zebra & its "quotes".'}],
        "metadata": {"topic": "<i onmouseover=window.hacked=1>animals</i>", "url": "javascript:window.hacked=1"},
    },
    {
        "_id": "folder/emoji 😀?#1",
        "title": "😀 Zebra 𝒳 crossing",
        "text": "😀😀 The first zebra 𝒳 runs. 🦓🦓🦓 A second zebra, zebra 𐍈 again.",
        "metadata": {"topic": "animals", "url": "https://example.org/zebra"},
    },
    {"_id": "untitled", "text": "giraffe " * 400 + "okapi " + "giraffe " * 400, "metadata": {"topic": "animals"}},
    {"_id": "a" * 300, "title": "W" * 300, "text": "wide" * 200 + " zebra", "metadata": {"topic": "x" * 200}},
]

MARKUP = "<img src=x onerror=window.hacked=1>"
FACETED = [
    {
        "_id": "by-method",
        "title": "Apples",
        "text": f"😀 background:orchards. method:spectral method:graph {MARKUP}. result:survey result:form.",
        "sections": [{"name": "result", "text": "result:survey result:form."}],
    },
    {
        "_id": "by-result",
        "title": "Apples",
        "text": f"😀 background:orchards. method:survey method:form {MARKUP}. result:spectral result:graph.",
    },
    {"_id": "model", "title": "Currents", "text": "method:walk method:cycle. result:walk result:cycle."},
    {"_id": "same-method", "title": "Streets", "text": "method:walk method:cycle. result:noisy result:people."},
    {"_id": "same-result", "title": "Streets", "text": "method:noisy method:people. result:walk result:cycle."},
]
"""For the encoder that reads the facet of a word off its prefix. Documents in pairs of the same words: only facets
tell the two of a pair apart."""
FACETED_JUDGED = [
    JudgedQuery("spectral", "method:spectral result:spectral", {"by-method": 2, "elsewhere": 1}),
    JudgedQuery("walk", "method:walk result:walk", {"model": 1}),
]


@dataclass
class Site:
    """A service on loopback."""

    url: str
    client: httpx.Client


@dataclass
class Watched:
    """What must not happen on a page; `expected` holds parts of console messages that a test provokes."""

    problems: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)


Open = Callable[..., Page]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright's driver."""
    with sync_playwright() as driver:
        expect.set_options(timeout=PATIENCE)
        yield driver


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """One Chromium with an empty profile; skips where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), playwright.chromium.executable_path)
    if not os.path.exists(found):
        pytest.skip(f"needs Chromium: none of {', '.join(BROWSERS)} is on the path")
    started = playwright.chromium.launch(executable_path=found, args=FLAGS)
    yield started
    started.close()


@pytest.fixture(scope="session")
def searchers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Searcher]]:
    """The sample with words and (hashed) meaning and its judged queries; the sample again, by words alone, with those
    and its readers' events; the odd documents with words alone, read-only and to be written; documents with facets."""
    shared: Any = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[2] / "conftest.py"))
    encoder = shared.HashEncoder()
    folder = tmp_path_factory.mktemp("page")
    for name, rows in (("odd", ODD), ("faceted", FACETED)):
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    with as_file(files("facetrail.indexing.sample")) as sample:
        build_collection(sample, folder / "sample", config=BuildConfig(), encoder=encoder)
        build_collection(sample, folder / "readers", config=BuildConfig(modes=("lexical",)))
        with Collection.open(folder / "readers", writable=True) as readers:
            Events(readers).put([event for _, event in read_events(sample / "events.jsonl")])
            fit_closed_forms(readers, actions=Actions())
        judged = read_judgements(sample / "queries.jsonl", sample / "qrels" / "test.tsv").queries
    for name in ("odd", "growing"):
        build_collection(folder / "odd.jsonl", folder / name, config=BuildConfig(modes=("lexical",)))
    facets = shared.FacetHashEncoder()
    build_collection(folder / "faceted.jsonl", folder / "faceted", config=BuildConfig(), encoder=facets)
    for name, queries in (("sample", judged), ("readers", judged), ("faceted", FACETED_JUDGED)):
        with Collection.open(folder / name, writable=True) as collection:
            Judgements(collection).replace(queries)
    encoders = {"sample": encoder, "odd": None, "readers": None, "faceted": facets, "growing": None}
    opened = {n: Searcher.open(folder / n, encoder=e, writable=n == "growing") for n, e in encoders.items()}
    yield opened
    for searcher in opened.values():
        searcher.close()


Serve = Callable[..., Site]


@pytest.fixture(scope="session")
def serve(searchers: dict[str, Searcher]) -> Iterator[Serve]:
    """Starts services over some of the collections, with any settings."""
    running: list[tuple[uvicorn.Server, threading.Thread, httpx.Client]] = []

    def begin(*names: str, **options: Any) -> Site:
        settings = Settings(**{"log_requests": False, "max_wait_ms": 10_000, **options})
        platform = Platform(settings)
        for name in names:
            platform.add(name, searchers[name])
        platform.state = "ready"
        server = uvicorn.Server(server_config(create_app(settings, platform), settings))
        bound = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        running.append((server, thread, httpx.Client(base_url=url, timeout=30)))
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.01)
        return Site(url, running[-1][2])

    yield begin
    for server, thread, client in running:
        client.close()
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def site(serve: Serve) -> Site:
    """The sample, and behind it the odd documents and the sample with events."""
    return serve("sample", "odd", "readers")


@pytest.fixture(scope="session")
def faceted(serve: Serve) -> Site:
    """Documents with facets, and behind them the sample, which has none."""
    return serve("faceted", "sample")


@pytest.fixture(scope="session")
def barriers() -> Callable[[Page], list[str]]:
    """What axe-core finds on a page that keeps somebody out: its serious and critical violations, each with a place."""
    axe = Axe()

    def find(page: Page) -> list[str]:
        found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        return [
            f"{rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    return find


@pytest.fixture
def watched() -> Watched:
    """Filled by `open_page`, checked at its end."""
    return Watched()


@pytest.fixture
def open_page(browser: Browser, site: Site, watched: Watched) -> Iterator[Open]:
    """Opens the page at a path, in a fresh context; afterwards nothing forbidden may have happened on it."""
    contexts = []

    def begin(path: str = "/", at: Site = site, **options: Any) -> Page:
        context = browser.new_context(base_url=at.url, **{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )
        page = context.new_page()
        page.on("console", lambda m: watched.problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: watched.problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(at.url + "/") else watched.problems.append(r.url))
        page.goto(path)
        return page

    yield begin
    for context in contexts:
        context.close()
    assert [p for p in watched.problems if not any(part in p for part in watched.expected)] == []
