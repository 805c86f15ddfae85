"""Explanations of facet search: they recompute the score and point at the sentence that carried each facet."""

from typing import Any

import orjson
import pytest
from contracts.hash_encoders import FacetHashEncoder

from facetrail.indexing.build import build_collection
from facetrail.indexing.facet_explain import place_in_document
from facetrail.indexing.request import FacetExplanation, Hit, SearchRequest
from facetrail.indexing.searcher import Searcher
from facetrail.models.records import Document

PAPER = Document(
    id="paper",
    title="  On method:graphs",
    text="background:oceans are background:old. We use method:graph method:search method:trees.\nThe result:gain is "
    "result:large result:here.  ",
)
OTHERS = [Document(id=f"o{i}", text=f"objective:graph number {i}. method:ocean result:graph") for i in range(8)]


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, encoder = tmp_path_factory.mktemp("explain"), FacetHashEncoder()
    rows = [{"_id": d.id, "title": d.title, "text": d.text} for d in [PAPER, *OTHERS]]
    (folder / "c.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    build_collection(folder / "c.jsonl", folder / "c", encoder=encoder)
    with Searcher.open(folder / "c", encoder=encoder) as opened:
        yield opened


def ask(searcher: Searcher, **request: Any) -> dict[str, Hit]:
    found = searcher.search(SearchRequest.model_validate({"explain": True, "limit": 9, **request}))
    return {hit.id: hit for hit in found.hits}


def facets_of(hit: Hit) -> FacetExplanation:
    assert hit.explanation is not None
    assert hit.explanation.facets is not None
    return hit.explanation.facets


@pytest.mark.parametrize(
    "asked",
    [
        {"query": "method:graph result:gain"},
        {"query": "method:graph result:gain", "facets": {"method": 2, "background": 1}},
        {"like": "paper", "facets": {"result": 1}},
    ],
)
def test_an_explanation_recomputes_its_score(searcher: Searcher, asked: dict[str, Any]) -> None:
    hits = ask(searcher, mode="facet", **asked)
    assert len(hits) >= 8
    for hit in hits.values():
        opened = facets_of(hit)
        assert sum(m.weight * m.score for m in opened.matches) == pytest.approx(opened.s_k, abs=1e-12)
        total = (1 - opened.mixing) * opened.s_1 + opened.mixing * opened.s_k
        assert total == pytest.approx(hit.score, abs=1e-12)
        assert hit.explanation is not None
        (source,) = hit.explanation.sources
        assert (source.name, source.raw) == ("facet", hit.score)
        assert sum(m.weight for m in opened.matches) == pytest.approx(1)
        assert sum(opened.prior_document.values()) == pytest.approx(1, abs=1e-6)
        assert sum(opened.gate.values()) == pytest.approx(1, abs=1e-6)
        assert list(opened.gate) == ["document", "token", "sentence", "paragraph"]


def test_a_match_under_another_facet_is_named(searcher: Searcher) -> None:
    other = facets_of(ask(searcher, query="method:graph", mode="facet")["o1"])
    method = next(m for m in other.matches if m.facet == "method")
    assert method.matched in ("objective", "result")  # it says "graph" there, and "ocean" under method
    own = facets_of(ask(searcher, query="method:ocean", mode="facet")["o1"])
    assert next(m for m in own.matches if m.facet == "method").matched == "method"


@pytest.mark.parametrize(
    "asked", [{"query": "method:graph"}, {"like": "paper"}, {"query": "method:graph", "mode": None}]
)
def test_given_weights_match_every_facet_with_itself(searcher: Searcher, asked: dict[str, Any]) -> None:
    hits = ask(searcher, **{"mode": "facet", **asked}, facets={"method": 3, "result": 1})
    assert len(hits) >= 8
    for hit in hits.values():
        opened = facets_of(hit)
        assert [m.matched for m in opened.matches] == [m.facet for m in opened.matches]
        assert [m.weight for m in opened.matches] == [0, 0, 0.75, 0.25]


def test_the_sentence_that_carried_each_facet_is_found_in_its_field(searcher: Searcher) -> None:
    hit = ask(searcher, query="method:graph", mode="facet")["paper"]
    assert hit.payload is not None
    found = {s.facet: s for s in facets_of(hit).sentences}
    assert list(found) == ["background", "objective", "method", "result"]
    words = {name: getattr(hit.payload, s.field)[s.start : s.end] for name, s in found.items()}
    assert words["background"] == "background:oceans are background:old."
    assert words["method"] == "We use method:graph method:search method:trees."
    assert words["result"] == "The result:gain is result:large result:here."
    assert {name: found[name].role for name in ("background", "method", "result")} == {
        name: name for name in ("background", "method", "result")
    }
    assert all(0 < s.weight <= 1 for s in found.values())


def test_explanations_need_no_payload(searcher: Searcher) -> None:
    with_payload = ask(searcher, query="method:graph", mode="facet")["paper"]
    without = ask(searcher, query="method:graph", mode="facet", with_payload=False)["paper"]
    assert without.payload is None
    assert facets_of(without) == facets_of(with_payload)


def test_hybrid_explains_facets_only_of_what_its_dense_source_listed(searcher: Searcher) -> None:
    request = {"query": "result:gain graph", "facets": {"result": 1}, "fusion": {"depth": 2}, "limit": 2}
    for hit in ask(searcher, **request).values():
        assert hit.explanation is not None
        dense = next(s for s in hit.explanation.sources if s.name == "dense")
        assert (hit.explanation.facets is None) == (dense.raw is None)
    plain = ask(searcher, query="graph", mode="dense")
    assert all(hit.explanation is not None and hit.explanation.facets is None for hit in plain.values())


@pytest.mark.parametrize(
    ("title", "text"),
    [("A title", "Some text."), ("", "Some text."), ("A title", ""), ("  A title ", "\n Some text. "), (" ", " x ")],
)
def test_places_in_the_content_are_places_in_a_field(title: str, text: str) -> None:
    document = Document("d", text, title)
    for start, character in enumerate(document.content):
        if not character.isspace():
            field, a, b = place_in_document(document, start, start + 1)
            assert getattr(document, field)[a:b] == character


def test_a_span_across_the_line_break_becomes_its_larger_part() -> None:
    document = Document("d", "Text of the paper", "Title")
    assert place_in_document(document, 0, 10) == ("title", 0, 5)
    assert place_in_document(document, 4, 17) == ("text", 0, 11)


def test_a_text_replaced_meanwhile_has_no_sentences_rather_than_wrong_ones(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Document("paper", "One sentence instead of four")
    monkeypatch.setattr(searcher.collection, "get_many", lambda ids: [one for _ in ids])
    opened = facets_of(ask(searcher, query="method:graph", mode="facet")["paper"])
    assert list(opened.sentences) == []
    assert opened.matches
