"""The README's pictures, made of the page as it is, over the sample and the encoder with facets. Only on request:

FACETRAIL_PICTURES=1 python -m pytest tests/app/page/test_page_pictures.py
"""

import io
import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.collection import Collection
from facetrail.indexing.judgements import Judgements, read_judgements
from facetrail.indexing.searcher import Searcher

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1_800),  # the sample is encoded first
    pytest.mark.skipif("FACETRAIL_PICTURES" not in os.environ, reason="draws the README's pictures; on request alone"),
]
PICTURES = Path(__file__).parents[3] / "app" / "web" / "pictures"
"""Beside the page, and in no wheel: a folder that is no package is not shipped."""
MAX_BYTES = 200_000
SEARCH = {"q": "Why do graph networks with many layers lose accuracy?", "facets": "method:0.8,result:0.2"}
EVALUATION = {"view": "evaluate", "a": "lexical", "b": "hybrid", "at": "q21"}


@pytest.fixture(scope="module")
def papers(searchers: dict[str, Searcher], serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The sample as `facetrail index build --encoder unifar` makes it."""
    folder = tmp_path_factory.mktemp("pictures") / "papers"
    with as_file(files("facetrail.indexing.sample")) as sample:
        build_collection(sample, folder, config=BuildConfig(encoder="unifar"))
        with Collection.open(folder, writable=True) as collection:
            judged = read_judgements(sample / "queries.jsonl", sample / "qrels" / "test.tsv")
            Judgements(collection).replace(judged.queries)
    searchers["papers"] = Searcher.open(folder)
    return serve("papers")


def keep(page: Page, name: str) -> None:
    """Writes what is seen, in 256 colours, and holds it to its size."""
    page.evaluate("() => document.activeElement.blur()")
    drawn = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    PICTURES.mkdir(exist_ok=True)
    drawn.save(PICTURES / name, optimize=True)
    assert (PICTURES / name).stat().st_size <= MAX_BYTES


def test_a_search_with_an_explained_facet_hit(open_page: Any, papers: Any) -> None:
    screen = {"viewport": {"width": 1280, "height": 1000}, "device_scale_factor": 1.5}
    page = open_page("/?" + urlencode(SEARCH), at=papers, **screen)
    expect(page.locator("article.hit").first).to_be_visible()
    page.reload()  # the first search loaded the encoder, and its time would stand in the picture
    page.locator("article.hit").first.get_by_role("button", name="Why?").click()
    expect(page.locator(".why")).to_contain_text("Method")
    expect(page.locator("#filters details").first).to_be_visible()
    page.mouse.move(0, 0)
    keep(page, "search.png")


def test_the_evaluation(open_page: Any, papers: Any) -> None:
    screen = {"viewport": {"width": 1280, "height": 1440}, "device_scale_factor": 1.5}
    page = open_page("/?" + urlencode(EVALUATION), at=papers, **screen)
    ranking = page.get_by_role("region", name="Ranking of B")
    expect(ranking).to_be_visible()
    page.wait_for_load_state("networkidle")  # the titles
    keep(page, "evaluation.png")
