"""The HTML report: whole, self-contained, and safe whatever the texts hold."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.eval.datasets import RetrievalDataset
from facetrail.eval.report import render_html, write_html
from facetrail.eval.retrieval import Comparison, Report, compare_family, score_run
from facetrail.eval.runs import RankedRun
from facetrail.eval.tuning import TunedWeight, fusion_of
from facetrail.models.errors import InvalidInput
from facetrail.models.records import Query

HOSTILE = "<script>alert(1)</script> & \"quotes\" '<img src=x onerror=alert(2)>' $x_1$"
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects tags and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def dataset(n: int = 30, text: str = "what is known about {}") -> RetrievalDataset:
    names = [f"q{i}" for i in range(n)]
    return RetrievalDataset(
        name="toy",
        split="test",
        queries=tuple(Query(name, text.replace("{}", name)) for name in names),
        qrels={name: {"d0": 1, "d5": 2} for name in names},
        folder=Path("toy"),
        corpus=Path("toy/corpus.jsonl"),
        sha256={"corpus": "a" * 64, "queries": "b" * 64, "qrels": "c" * 64},
    )


def run(data: RetrievalDataset, seed: int) -> RankedRun:
    rng = np.random.default_rng(seed)
    return {q.id: [(f"d{d}", float(-place)) for place, d in enumerate(rng.permutation(12))] for q in data.queries}


def evaluated(data: RetrievalDataset, *modes: str) -> tuple[list[Report], list[Comparison]]:
    reports = [score_run(run(data, seed), data, mode=mode, seconds=1.0) for seed, mode in enumerate(modes)]
    rng = np.random.default_rng(0)
    return reports, compare_family([(reports[0], other) for other in reports[1:]], rng=rng)


def tuned(**changed: Any) -> TunedWeight:
    parts: dict[str, Any] = {
        "weight": 0.6, "measure": "nDCG@10", "curve": {0.5: 0.4, 0.6: 0.45}, "fusion": fusion_of(0.6),
        "dataset": "toy/dev", "n_queries": 20, "qrels_sha256": "d" * 64,
        "judgements_sha256": "e" * 64, "query_ids": frozenset({"x"}),
    }  # fmt: skip
    return TunedWeight(**{**parts, **changed})


def page(data: RetrievalDataset, *modes: str, **options: Any) -> str:
    reports, compared = evaluated(data, *modes)
    return render_html(reports, compared, rng=np.random.default_rng(0), **options)


def test_the_page_holds_what_was_measured() -> None:
    data = replace(dataset(), warnings=("3 judged documents are not in the corpus",), n_without_relevant=2)
    text = page(data, "hybrid", "lexical", "dense", tuned=tuned(), command="facetrail eval retrieval --data toy")
    outline = Outline(text)
    words = " ".join(outline.text)
    for expected in (
        "toy", "a" * 64, "b" * 64, "c" * 64, "facetrail eval retrieval --data toy", "3 judged documents",
        "2 without any", "hybrid − lexical", "hybrid − dense", "Most won", "Most lost", "what is known about q7",
        "Holm",
        "The weight 0.6", "nDCG@10", "R@100", "R@k", "weight of the dense ranker",
    ):  # fmt: skip
        assert expected in words, expected
    reports, _ = evaluated(data, "hybrid")
    assert f"{reports[0].scores.mean('nDCG@10'):.4f}" in words
    assert sum(tag == "svg" for tag, _ in outline.tags) == 5
    assert len(re.findall(r'<tr><td class="mono">q\d+</td>', text.split("<details>")[1])) == 30


def test_nothing_leaves_the_page() -> None:
    text = page(dataset(), "hybrid", "lexical", tuned=tuned())
    outline = Outline(text)
    assert "default-src 'none'" in text
    assert not {"script", "link", "img", "iframe", "object", "image"} & {tag for tag, _ in outline.tags}
    for _, attributes in outline.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value is not None
                assert value.startswith("#")
    assert not re.search(r"@import|url\((?!#)", text)


def test_hostile_texts_stay_texts() -> None:
    data = replace(dataset(text=HOSTILE), name="<b>toy</b>", warnings=(HOSTILE,))
    text = page(data, "hybrid:<i>", "<u>lexical", command=f"facetrail {HOSTILE}")
    outline = Outline(text)
    assert not {"script", "img", "i", "u"} & {tag for tag, _ in outline.tags}
    assert "<script" not in text
    assert HOSTILE in "".join(outline.text)


def test_ids_of_the_pictures_do_not_meet() -> None:
    text = page(dataset(), "hybrid", "lexical", "dense", tuned=tuned())
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


def test_no_colour_is_fixed_for_one_theme() -> None:
    svg = "".join(re.findall(r"<svg.*?</svg>", page(dataset(), "hybrid", "lexical", tuned=tuned()), re.DOTALL))
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", svg)
    assert "var(--ink)" in svg
    assert "<text" in svg


def test_one_mode_has_no_comparisons() -> None:
    text = page(dataset(), "lexical")
    assert "Comparisons" not in text
    assert "Most won" not in text
    Outline(text)


def test_tuning_on_the_reported_judgements_is_printed() -> None:
    assert "allow_same" in page(dataset(), "hybrid", tuned=tuned(allow_same=True))


def test_the_same_evaluation_gives_the_same_page() -> None:
    first, second = (page(dataset(), "hybrid", "lexical") for _ in range(2))
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", first) == re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", second)


def test_a_report_of_two_data_sets_is_refused() -> None:
    reports = [evaluated(data, "lexical")[0][0] for data in (dataset(), replace(dataset(), split="dev"))]
    with pytest.raises(InvalidInput, match="one data set"):
        render_html(reports, rng=np.random.default_rng(0))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    reports, _ = evaluated(dataset(3), "lexical")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_html(tmp_path / "file" / "report.html", reports, rng=np.random.default_rng(0))


def test_a_written_report_is_utf8(tmp_path: Path) -> None:
    reports, _ = evaluated(dataset(3, text="Größe – 大きさ {}"), "lexical")
    path = write_html(tmp_path / "new" / "report.html", reports, rng=np.random.default_rng(0))
    assert "大きさ q1" in path.read_text(encoding="utf-8")
