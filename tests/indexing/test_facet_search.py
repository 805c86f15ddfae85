"""Facet search through the searcher: weights steer, pages hold, writes show, refusals say why."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from contracts.first_schema import as_first_schema
from contracts.hash_encoders import FacetHashEncoder

from facetrail.indexing import encoding
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.facet_search import asked_weights
from facetrail.indexing.request import SearchRequest, SearchResult
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import Conflict, FacetrailError, InvalidInput, NotFound
from facetrail.models.records import Document

WORDS = ["graph", "neural", "citation", "protein", "battery", "ocean", "trial", "heart", "latent", "sparse"]
FACET_NAMES = ("background", "objective", "method", "result")


def make_documents(n: int, seed: int = 0) -> list[Document]:
    """Texts of one sentence a facet, each of words with that facet's prefix."""
    rng = np.random.default_rng(seed)

    def sentence(facet: str) -> str:
        return " ".join(f"{facet}:{word}" for word in rng.choice(WORDS, 4)) + "."

    return [
        Document(
            id=f"d{i:03d}",
            title=f"about {rng.choice(WORDS)}",
            text=" ".join(sentence(facet) for facet in FACET_NAMES),
            metadata={"year": int(2000 + i % 20)},
        )
        for i in range(n)
    ]


def planted() -> list[Document]:
    """Equal words, other facets: `m` does with a graph what `r` finds out about one."""
    return [
        Document(id="m", text="method:graph method:citation. result:ocean result:heart."),
        Document(id="r", text="result:graph result:citation. method:ocean method:heart."),
        *make_documents(40),
    ]


Open = Callable[..., Searcher]


@pytest.fixture
def open_collection(tmp_path: Path, facet_encoder: Any) -> Iterator[Open]:
    """Builds a collection from documents and opens it writable; closes all at the end."""
    numbers, opened = itertools.count(), []

    def build(documents: list[Document], modes: tuple[str, ...] | None = None) -> Searcher:
        n = next(numbers)
        rows = [{"_id": d.id, "title": d.title, "text": d.text, "metadata": dict(d.metadata)} for d in documents]
        (tmp_path / f"{n}.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n")
        config = BuildConfig(modes=modes)
        build_collection(tmp_path / f"{n}.jsonl", tmp_path / f"c{n}", config=config, encoder=facet_encoder)
        opened.append(Searcher.open(tmp_path / f"c{n}", encoder=facet_encoder, writable=True))
        return opened[-1]

    yield build
    for searcher in opened:
        searcher.close()


def ask(searcher: Searcher, **request: Any) -> SearchResult:
    return searcher.search(SearchRequest.model_validate(request))


def pairs(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


def ranks(result: SearchResult) -> dict[str, int]:
    return {hit.id: rank for rank, hit in enumerate(result.hits)}


# -- what facets do ------------------------------------------------------------------------------------------------


def test_weights_steer_the_ranking_as_planted(open_collection: Open) -> None:
    searcher = open_collection(planted())
    query = "method:graph method:citation result:graph result:citation"
    by_method = ask(searcher, query=query, mode="facet", facets={"method": 1}, limit=42)
    by_result = ask(searcher, query=query, mode="facet", facets={"result": 3}, limit=42)
    assert ranks(by_method)["m"] < ranks(by_method)["r"]
    assert ranks(by_result)["r"] < ranks(by_result)["m"]
    assert by_method.facets == {"background": 0, "objective": 0, "method": 1, "result": 0}
    assert by_method.task == "question"
    assert by_method.mode == "facet"


def test_without_weights_the_querys_own_intent_decides(open_collection: Open) -> None:
    searcher = open_collection(planted())
    for facet, wanted, other in (("method", "m", "r"), ("result", "r", "m")):
        query = f"{facet}:graph {facet}:citation"
        unasked = ask(searcher, query=query, mode="facet", limit=42)
        assert ranks(unasked)[wanted] < ranks(unasked)[other]
        assert unasked.facets is not None
        assert max(unasked.facets, key=lambda name: unasked.facets[name]) == facet
        assert sum(unasked.facets.values()) == pytest.approx(1)
        assert pairs(ask(searcher, query=query, mode="facet", facets="auto", limit=42)) == pairs(unasked)
    dense = ask(searcher, query="method:graph method:citation", mode="dense", limit=42)
    scores = dict(pairs(dense))
    assert scores["m"] == pytest.approx(scores["r"])  # the single vector cannot tell them apart


def test_another_facet_counts_for_the_querys_own_intent_and_never_for_given_weights(open_collection: Open) -> None:
    """Equal words, so equal single vectors: `elsewhere` says all that is asked for as a result, `partly` half of it."""
    elsewhere = Document(id="elsewhere", text="result:graph result:citation. method:ocean method:heart.")
    partly = Document(id="partly", text="method:graph method:ocean. result:citation result:heart.")
    searcher = open_collection([elsewhere, partly, *make_documents(20)])
    query = "method:graph method:citation"
    for facets, mode, first, matched in (
        (None, "facet", "elsewhere", "result"),
        ("auto", "facet", "elsewhere", "result"),
        ("auto", "hybrid", "elsewhere", "result"),
        ({"method": 1}, "facet", "partly", "method"),
        ({"method": 1}, "hybrid", "partly", "method"),
    ):
        found = ask(searcher, query=query, mode=mode, facets=facets, limit=22, explain=True)
        both = [hit for hit in found.hits if hit.id in ("elsewhere", "partly")]
        assert [both[0].id, len(both)] == [first, 2], (facets, mode)
        opened = next(h for h in both if h.id == "elsewhere").explanation
        assert opened is not None
        assert opened.facets is not None
        assert next(m for m in opened.facets.matches if m.facet == "method").matched == matched


def test_same_method_finds_documents_by_one_facet_of_a_document(open_collection: Open) -> None:
    documents = [
        Document(id="asked", text="method:graph method:citation. result:protein result:battery."),
        Document(id="same-method", text="method:graph method:citation. result:ocean result:heart."),
        Document(id="same-result", text="method:ocean method:heart. result:protein result:battery."),
        *make_documents(30),
    ]
    searcher = open_collection(documents)
    for facet, other in (("method", "result"), ("result", "method")):
        found = ask(searcher, like="asked", mode="facet", facets={facet: 1}, limit=32)
        assert found.hits[0].id == f"same-{facet}"
        assert ranks(found)[f"same-{facet}"] < ranks(found)[f"same-{other}"]
        assert "asked" not in ranks(found)
        assert found.task == "document"


def test_hybrid_with_facets_rescores_its_dense_source(open_collection: Open) -> None:
    searcher = open_collection(planted())
    query = "method:graph method:citation result:graph result:citation"
    for facets, first, second in (({"method": 1}, "m", "r"), ({"result": 1}, "r", "m")):
        found = ask(searcher, query=query, facets=facets, limit=42, explain=True)
        assert found.mode == "hybrid"
        assert ranks(found)[first] < ranks(found)[second]
        assert found.facets is not None
        for hit in found.hits:
            assert hit.explanation is not None
            assert {s.name for s in hit.explanation.sources} <= {"lexical", "dense"}
            total = sum(s.weight * s.normalised for s in hit.explanation.sources)
            assert total == pytest.approx(hit.score, abs=1e-9)
            dense = next(s for s in hit.explanation.sources if s.name == "dense")
            opened = hit.explanation.facets
            assert opened is not None
            assert dense.raw == pytest.approx((1 - opened.mixing) * opened.s_1 + opened.mixing * opened.s_k, abs=1e-9)
    plain = ask(searcher, query=query, limit=42)
    assert plain.facets is None
    assert plain.task is None


def test_mode_without_being_asked_is_what_it_was(open_collection: Open) -> None:
    assert ask(open_collection(make_documents(10)), query="graph").mode == "hybrid"
    single_source = open_collection(make_documents(10), ("dense", "facet"))
    assert ask(single_source, query="graph").mode == "dense"
    assert ask(single_source, query="graph", facets="auto").mode == "facet"


# -- order, pages, filters -----------------------------------------------------------------------------------------


def test_only_the_first_by_single_vector_are_scored_again(open_collection: Open) -> None:
    searcher = open_collection(make_documents(80))
    dense = [hit.id for hit in ask(searcher, query="method:graph ocean", mode="dense", limit=25).hits]
    found = ask(searcher, query="method:graph ocean", mode="facet", rescore_depth=25, limit=25)
    assert sorted(hit.id for hit in found.hits) == sorted(dense)
    assert found.next_cursor is None
    with pytest.raises(InvalidInput, match="rescore_depth") as caught:
        ask(searcher, query="graph", mode="facet", rescore_depth=25, limit=20, offset=6)
    assert caught.value.pointer == "/offset"


def test_pages_neither_skip_nor_repeat_among_equal_scores(open_collection: Open) -> None:
    same = [Document(id=f"x{i:03d}", text="method:identical words") for i in range(60)]
    searcher = open_collection([*same, Document(id="zz", text="something else")])
    request = {"query": "method:identical words", "mode": "facet", "facets": {"method": 1}, "rescore_depth": 50}
    by_offset = [h.id for o in range(0, 49, 7) for h in ask(searcher, **request, limit=7, offset=o).hits]
    walked, cursor = [], None
    while True:
        page = ask(searcher, **request, limit=7, **({"cursor": cursor} if cursor else {}))
        walked += [hit.id for hit in page.hits]
        if (cursor := page.next_cursor) is None:
            break
    assert walked == [d.id for d in same[:50]]
    assert by_offset == walked[:49]
    assert pairs(ask(searcher, **request, limit=10)) == pairs(ask(searcher, **request, limit=50))[:10]


def test_filters_hold_before_rescoring(open_collection: Open) -> None:
    searcher = open_collection(make_documents(100))
    found = ask(
        searcher, query="method:graph", mode="facet", filter={"year": {"gte": 2015}}, rescore_depth=20, limit=20
    )
    assert len(found.hits) == 20
    assert all(hit.payload is not None and hit.payload.metadata["year"] >= 2015 for hit in found.hits)
    assert list(ask(searcher, query="a", mode="facet", filter={"year": 1}).hits) == []


def test_a_threshold_cuts_by_the_final_score(open_collection: Open) -> None:
    searcher = open_collection(make_documents(50))
    full = pairs(ask(searcher, query="method:graph", mode="facet", limit=50))
    cut = pairs(ask(searcher, query="method:graph", mode="facet", limit=50, score_threshold=full[9][1]))
    assert cut == [pair for pair in full if pair[1] >= full[9][1]]


@pytest.mark.parametrize("asked", [{"mode": "facet"}, {"mode": "facet", "facets": {"result": 1}}, {"facets": "auto"}])
def test_search_many_answers_as_search_does(open_collection: Open, asked: dict[str, Any]) -> None:
    searcher = open_collection(make_documents(60))
    request = SearchRequest.model_validate({**asked, "limit": 30, "filter": {"year": {"gte": 2005}}})
    queries = ["method:graph neural", "result:ocean?", "nothing known", ""]
    together = searcher.search_many(queries, request)
    alone = [searcher.search(request.model_copy(update={"query": q})) for q in queries]
    assert [pairs(r) for r in together] == [pairs(r) for r in alone]
    assert [r.facets for r in together] == [r.facets for r in alone]


# -- writes --------------------------------------------------------------------------------------------------------


def test_rankings_after_writes_equal_those_of_a_fresh_build(open_collection: Open) -> None:
    documents = make_documents(60)
    searcher = open_collection(documents)
    changed = {d.id: d for d in make_documents(60, seed=5)[10:25]}
    added = [Document(id=f"a{i}", text=f"method:{w} result:graph") for i, w in enumerate(WORDS)]
    searcher.put([*changed.values(), *added])
    searcher.delete([d.id for d in documents[30:40]])
    fresh = open_collection([changed.get(d.id, d) for d in documents if d not in documents[30:40]] + added)
    requests: list[dict[str, Any]] = [
        {"query": "method:graph result:ocean", "mode": "facet", "limit": 200},
        {"query": "method:graph", "facets": {"method": 1}, "limit": 200},
        {"like": "d012", "mode": "facet", "facets": {"background": 1}, "limit": 200},
    ]
    for request in requests:
        assert pairs(ask(searcher, **request)) == pairs(ask(fresh, **request))
    searcher.rebuild()
    assert searcher.info().generation == 2
    for request in requests:
        assert pairs(ask(searcher, **request)) == pairs(ask(fresh, **request))


def test_building_and_adding_encode_each_text_once(open_collection: Open, facet_encoder: Any) -> None:
    searcher = open_collection(make_documents(30))
    assert facet_encoder.n_encoded == 30
    searcher.put([Document(id="new", text="method:graph")])
    searcher.rebuild()
    assert facet_encoder.n_encoded == 31
    info = searcher.info()
    assert (info.modes, info.facets) == (("lexical", "dense", "facet"), FACET_NAMES)


def test_an_interrupted_encoding_goes_on_where_it_stopped(
    tmp_path: Path, facet_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "ENCODE_BLOCK", 10)
    rows = [{"_id": d.id, "title": d.title, "text": d.text} for d in make_documents(45)]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")

    def stop_at_30(step: str, done: int, total: int | None) -> None:
        if step == "encode" and done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_collection(tmp_path / "c.jsonl", tmp_path / "out", encoder=facet_encoder, progress=stop_at_30)
    before = facet_encoder.n_encoded
    build_collection(tmp_path / "c.jsonl", tmp_path / "out", encoder=facet_encoder, resume=True)
    assert facet_encoder.n_encoded - before <= 25
    with Searcher.open(tmp_path / "out", encoder=facet_encoder) as searcher:
        assert len(ask(searcher, query="method:graph", mode="facet", limit=45).hits) == 45


def test_a_document_without_a_vector_can_be_deleted_and_replaced(open_collection: Open) -> None:
    searcher = open_collection(make_documents(20))
    folder, encoder = searcher.collection.folder, searcher.encoder
    searcher.collection.put([Document("bare", "method:graph"), Document("d003", "not encoded")])
    searcher.close()
    with Searcher.open(folder, encoder=encoder, writable=True) as again:
        assert again.info().n_without_vector == 2
        assert "bare" not in ranks(ask(again, query="method:graph", mode="facet", limit=30))
        with pytest.raises(Conflict, match="no vector yet"):
            ask(again, like="bare", mode="facet")
        again.put([Document("d003", "method:graph")])
        again.delete(["bare"])
        assert again.info().n_without_vector == 0
        assert "d003" in ranks(ask(again, query="method:graph", mode="facet", limit=30))


# -- refusals ------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], type[FacetrailError], str, str]] = [
    ({"query": "a", "mode": "facet", "facets": {"methods": 1}}, InvalidInput, "background, obj", "/facets/methods"),
    ({"query": "a", "mode": "facet", "facets": {"a/b~": 1}}, InvalidInput, "no facet", "/facets/a~1b~0"),
    ({"query": "a", "mode": "facet", "facets": {"method": -1}}, InvalidInput, "from 0 up", "/facets/method"),
    ({"query": "a", "mode": "facet", "facets": {"result": float("nan")}}, InvalidInput, "from 0", "/facets/result"),
    ({"query": "a", "mode": "facet", "facets": {"result": float("inf")}}, InvalidInput, "from 0", "/facets/result"),
    ({"query": "a", "mode": "facet", "facets": {"result": 0}}, InvalidInput, "no facet has a weight", "/facets"),
    ({"query": "a", "mode": "facet", "facets": {}}, InvalidInput, "background, objective", "/facets"),
    ({"query": "a", "mode": "dense", "facets": {"method": 1}}, InvalidInput, "no part", "/facets"),
    ({"query": "a", "mode": "lexical", "facets": "auto"}, InvalidInput, "no part", "/facets"),
    ({"vector": [1.0] * 32, "mode": "facet"}, InvalidInput, "mode 'dense'", "/mode"),
    ({"vector": [1.0] * 32, "facets": {"method": 1}}, InvalidInput, "no part", "/facets"),
    ({"recommend": {"positive": ["d001"]}, "mode": "facet"}, InvalidInput, "mode 'dense'", "/mode"),
    ({"like": "nobody", "mode": "facet"}, NotFound, "nobody", ""),
]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    """One collection for all refusals."""
    folder, encoder = tmp_path_factory.mktemp("refusing"), FacetHashEncoder()
    (folder / "c.jsonl").write_bytes(b"\n".join(orjson.dumps({"_id": d.id, "text": d.text}) for d in make_documents(5)))
    build_collection(folder / "c.jsonl", folder / "c", encoder=encoder)
    with Searcher.open(folder / "c", encoder=encoder) as searcher:
        yield searcher


@pytest.mark.parametrize(("request_", "error", "says", "pointer"), REFUSED, ids=[str(r[0])[:70] for r in REFUSED])
def test_what_cannot_be_done_is_refused_in_a_sentence(
    refusing: Searcher, request_: dict[str, Any], error: type[FacetrailError], says: str, pointer: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        ask(refusing, **request_)
    assert getattr(caught.value, "pointer", "") == pointer


def test_weights_are_shares_however_large_they_are() -> None:
    given = asked_weights({"method": 1e308, "result": 1e308, "background": 0}, FACET_NAMES)
    assert given is not None
    assert given.tolist() == [0, 0, 0.5, 0.5]
    assert asked_weights(None, FACET_NAMES) is None


@pytest.mark.parametrize("old_schema", [False, True])
def test_a_collection_of_single_vectors_works_and_says_what_it_lacks(open_collection: Open, old_schema: bool) -> None:
    searcher = open_collection(make_documents(20), ("lexical", "dense"))
    expected = pairs(ask(searcher, query="method:graph"))
    folder, encoder = searcher.collection.folder, searcher.encoder
    searcher.close()
    if old_schema:
        as_first_schema(folder)
    with Searcher.open(folder, encoder=encoder, writable=True) as single:
        assert single.info().facets == ()
        assert pairs(ask(single, query="method:graph")) == expected
        assert not ask(single, query="method:graph").warnings
        for asked, pointer in (({"mode": "facet"}, "/mode"), ({"facets": {"method": 1}}, "/facets")):
            with pytest.raises(InvalidInput, match=r"--mode-set lexical,dense,facet") as caught:
                ask(single, query="graph", **asked)
            assert caught.value.pointer == pointer
        wished = ask(single, query="method:graph", facets="auto")
        assert pairs(wished) == expected
        assert wished.facets is None
        assert any("single vectors only" in warning for warning in wished.warnings)
        single.put([Document("new", "method:graph")])
        single.rebuild()
        assert "new" in ranks(ask(single, query="method:graph", mode="dense"))


def test_facets_need_an_encoder_that_has_them(tmp_path: Path, hash_encoder: Any, facet_encoder: Any) -> None:
    (tmp_path / "c.jsonl").write_bytes(orjson.dumps({"_id": "a", "text": "graph"}))
    wanted = BuildConfig(modes=("dense", "facet"))
    with pytest.raises(InvalidInput, match="has no facets"):
        build_collection(tmp_path / "c.jsonl", tmp_path / "c", config=wanted, encoder=hash_encoder)
    config = BuildConfig(modes=("lexical", "facet"))
    with pytest.raises(InvalidInput, match="add dense"):
        build_collection(tmp_path / "c.jsonl", tmp_path / "c", config=config, encoder=facet_encoder)
    build_collection(tmp_path / "c.jsonl", tmp_path / "c", config=wanted, encoder=facet_encoder)
    with pytest.raises(Conflict, match="built with encoder"):
        Searcher.open(tmp_path / "c", encoder=hash_encoder)
