"""The searcher on small collections: modes, pages, writes, switches, refusals."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.request import SearchRequest, SearchResult
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import Conflict, Damaged, FacetrailError, Gone, InvalidInput, NotFound
from facetrail.models.records import Document

WORDS = [
    "graph",
    "neural",
    "citation",
    "retrieval",
    "query",
    "index",
    "vector",
    "protein",
    "battery",
    "ocean",
    "trial",
    "heart",
    "model",
    "latent",
    "sparse",
]


def make_documents(n: int, seed: int = 0) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [
        Document(
            id=f"d{i:03d}",
            title=" ".join(rng.choice(WORDS, 3)),
            text=" ".join(rng.choice(WORDS, int(rng.integers(5, 30)))),
            metadata={"year": int(2000 + i % 20), "topic": WORDS[i % 5], "tags": list(rng.choice(WORDS, 2))},
        )
        for i in range(n)
    ]


def write_corpus(path: Path, documents: list[Document]) -> Path:
    rows = [{"_id": d.id, "title": d.title, "text": d.text, "metadata": dict(d.metadata)} for d in documents]
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n")
    return path


Open = Callable[..., Searcher]


@pytest.fixture
def open_collection(tmp_path: Path, hash_encoder: Any) -> Iterator[Open]:
    """Builds a collection from documents and opens it writable; closes all at the end."""
    numbers, opened = itertools.count(), []

    def build(documents: list[Document], modes: tuple[str, ...] = ("lexical", "dense")) -> Searcher:
        n = next(numbers)
        corpus = write_corpus(tmp_path / f"{n}.jsonl", documents)
        build_collection(corpus, tmp_path / f"c{n}", config=BuildConfig(modes=modes), encoder=hash_encoder)
        opened.append(Searcher.open(tmp_path / f"c{n}", encoder=hash_encoder, writable=True))
        return opened[-1]

    yield build
    for searcher in opened:
        searcher.close()


def ask(searcher: Searcher, **request: Any) -> SearchResult:
    return searcher.search(SearchRequest.model_validate(request))


def pairs(result: SearchResult) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in result.hits]


@pytest.mark.parametrize("mode", ["lexical", "dense", "hybrid"])
def test_a_document_is_found_by_its_own_words(open_collection: Open, mode: str) -> None:
    documents = make_documents(60)
    searcher = open_collection(documents)
    for document in documents[::7]:
        result = ask(searcher, query=document.content, mode=mode, limit=3)
        assert document.id in [hit.id for hit in result.hits]
        assert result.hits[0].payload is not None
        assert result.mode == mode


def test_mode_defaults_to_what_the_collection_has(open_collection: Open) -> None:
    assert ask(open_collection(make_documents(20)), query="graph").mode == "hybrid"
    assert ask(open_collection(make_documents(20), ("lexical",)), query="graph").mode == "lexical"
    assert ask(open_collection(make_documents(20), ("dense",)), query="graph").mode == "dense"


@pytest.mark.parametrize("mode", ["lexical", "dense", "hybrid"])
def test_like_leaves_the_document_itself_out(open_collection: Open, mode: str) -> None:
    searcher = open_collection(make_documents(50))
    result = ask(searcher, like="d007", mode=mode, limit=50)
    assert result.hits
    assert "d007" not in [hit.id for hit in result.hits]


@pytest.mark.parametrize("mode", ["lexical", "dense", "hybrid"])
def test_pages_neither_skip_nor_repeat_among_equal_scores(open_collection: Open, mode: str) -> None:
    same = [Document(id=f"x{i:03d}", text="identical words everywhere") for i in range(180)]
    searcher = open_collection([*same, Document(id="zz", text="something else")])
    pages = [ask(searcher, query="identical words", mode=mode, limit=7, offset=o) for o in range(0, 180, 7)]
    ids = [hit.id for page in pages for hit in page.hits][:180]
    assert ids == [d.id for d in same]
    walked, cursor = [], None
    while len(walked) < 180:
        page = ask(searcher, query="identical words", mode=mode, limit=7, **({"cursor": cursor} if cursor else {}))
        walked += [hit.id for hit in page.hits]
        cursor = page.next_cursor
    assert walked[:180] == ids


@pytest.mark.parametrize("mode", ["lexical", "dense", "hybrid"])
def test_the_first_ten_do_not_depend_on_the_limit(open_collection: Open, mode: str) -> None:
    searcher = open_collection(make_documents(200))
    short = ask(searcher, query="graph citation heart", mode=mode, limit=10)
    long = ask(searcher, query="graph citation heart", mode=mode, limit=100)
    assert pairs(short) == pairs(long)[:10]


@pytest.mark.parametrize("mode", ["lexical", "dense", "hybrid"])
def test_scores_after_writes_equal_those_of_a_fresh_build(open_collection: Open, mode: str) -> None:
    documents = make_documents(80)
    searcher = open_collection(documents)
    changed = {d.id: d for d in make_documents(80, seed=5)[10:25]}
    added = [Document(id=f"a{i}", text=" ".join(WORDS[i : i + 4])) for i in range(5)]
    searcher.put([*changed.values(), *added])
    searcher.delete([d.id for d in documents[40:60]])
    survivors = [changed.get(d.id, d) for d in documents if d not in documents[40:60]] + added
    fresh = open_collection(survivors)
    request = {"query": "graph battery ocean vector", "mode": mode, "limit": 200, "fusion": {"depth": 500}}
    assert pairs(ask(searcher, **request)) == pairs(ask(fresh, **request))
    searcher.rebuild()
    assert searcher.info().generation == 2
    assert pairs(ask(searcher, **request)) == pairs(ask(fresh, **request))


def test_search_many_answers_as_search_does(open_collection: Open) -> None:
    searcher = open_collection(make_documents(120))
    queries = ["graph neural", "ocean trial heart", "nothing known here xyzzy", ""]
    for mode in ("lexical", "dense", "hybrid"):
        for filter_ in (None, {"year": {"gte": 2010}}):
            request = SearchRequest.model_validate({"mode": mode, "limit": 30, "filter": filter_})
            together = searcher.search_many(queries, request)
            alone = [searcher.search(request.model_copy(update={"query": q})) for q in queries]
            assert [pairs(r) for r in together] == [pairs(r) for r in alone]


@pytest.mark.parametrize("mode", ["lexical", "dense", "hybrid"])
def test_filters_hold_in_every_source_and_for_fresh_writes(open_collection: Open, mode: str) -> None:
    searcher = open_collection(make_documents(100))
    searcher.put([Document(id="new", text="graph graph graph", metadata={"year": 2030, "topic": "graph"})])
    result = ask(searcher, query="graph", mode=mode, filter={"year": {"gte": 2015}}, limit=100)
    assert "new" in [hit.id for hit in result.hits]
    assert all(hit.payload is not None and hit.payload.metadata["year"] >= 2015 for hit in result.hits)
    nothing = ask(searcher, query="graph", mode=mode, filter={"year": {"gte": 2031}})
    assert list(nothing.hits) == []


@pytest.mark.parametrize("method", ["z", "minmax", "rrf", "dbsf"])
def test_explanations_recompute_the_score(open_collection: Open, method: str) -> None:
    searcher = open_collection(make_documents(60))
    result = ask(searcher, query="graph citation ocean", fusion={"method": method}, explain=True, limit=30)
    for hit in result.hits:
        assert hit.explanation is not None
        total = sum(s.weight * s.normalised for s in hit.explanation.sources)
        assert total == pytest.approx(hit.score, abs=1e-9)
        lexical = next(s for s in hit.explanation.sources if s.name == "lexical")
        if lexical.raw is not None:
            assert sum(t.contribution for t in hit.explanation.terms) == pytest.approx(lexical.raw, abs=1e-9)
        assert hit.payload is not None
        for mark in hit.explanation.highlights:
            word = getattr(hit.payload, mark.field)[mark.start : mark.end]
            assert word in ("graph", "citation", "ocean")


def test_examples_attract_and_repel(open_collection: Open) -> None:
    documents = [
        *(Document(id=f"g{i}", text=f"graph neural citation {w}") for i, w in enumerate(WORDS)),
        *(Document(id=f"o{i}", text=f"ocean protein battery {w}") for i, w in enumerate(WORDS)),
    ]
    searcher = open_collection(documents)
    for strategy in ("average", "best", "sum"):
        result = ask(searcher, recommend={"positive": ["g0", "g1"], "negative": ["o0"], "strategy": strategy}, limit=10)
        ids = [hit.id for hit in result.hits]
        assert all(i.startswith("g") for i in ids)
        assert not {"g0", "g1", "o0"} & set(ids)
    best = ask(searcher, recommend={"positive": ["g0"], "negative": ["o0"], "strategy": "best"}, limit=40)
    scores = {hit.id: hit.score for hit in best.hits}
    assert min(s for i, s in scores.items() if i.startswith("g")) > max(s for i, s in scores.items() if i[0] == "o")


def test_a_vector_of_the_collection_finds_its_document(open_collection: Open, hash_encoder: Any) -> None:
    documents = make_documents(30)
    searcher = open_collection(documents)
    vector = (3 * hash_encoder.encode_documents([documents[4].content])[0]).tolist()  # any length: it is normalised
    result = ask(searcher, vector=vector)
    assert result.hits[0].id == "d004"
    assert result.hits[0].score == pytest.approx(1, abs=1e-6)


def test_score_threshold_cuts_the_tail(open_collection: Open) -> None:
    searcher = open_collection(make_documents(100))
    full = ask(searcher, query="graph ocean", limit=100)
    cut = ask(searcher, query="graph ocean", limit=100, score_threshold=full.hits[9].score)
    assert pairs(cut) == [p for p in pairs(full) if p[1] >= full.hits[9].score]
    assert ask(searcher, query="graph", fusion={"method": "rrf"}, score_threshold=0.1, force=True)


REFUSED: list[tuple[dict[str, Any], type[FacetrailError], str]] = [
    ({}, InvalidInput, "exactly one of"),
    ({"query": "a", "like": "d001"}, InvalidInput, "exactly one of"),
    ({"like": "nobody"}, NotFound, "nobody"),
    ({"recommend": {"positive": ["d001", "nobody"]}}, NotFound, "nobody"),
    ({"recommend": {"positive": ["d001"]}, "mode": "lexical"}, InvalidInput, "mode"),
    ({"recommend": {"positive": ["d001"], "negative": ["d001"], "strategy": "sum"}}, InvalidInput, "cancel"),
    ({"vector": [1.0, 2.0]}, InvalidInput, "32"),
    ({"vector": [0.0] * 32}, InvalidInput, "zero"),
    ({"vector": [float("nan")] * 32}, InvalidInput, "finite"),
    ({"vector": [1.0] * 32, "mode": "hybrid"}, InvalidInput, "dense"),
    ({"query": "a", "offset": 995}, InvalidInput, "depth"),
    ({"query": "a", "cursor": "rubbish"}, InvalidInput, "cursor"),
    ({"query": "a", "cursor": "W10="}, InvalidInput, "cursor"),
    ({"query": "a", "fusion": {"method": "rrf"}, "score_threshold": 0.5}, InvalidInput, "rrf|rank"),
    ({"query": "a", "filter": {"must": [{"key": "year"}]}}, InvalidInput, "year|match|range|leaf"),
    ({"query": "a", "fusion": {"weights": {"lexical": 0, "dense": 0}}}, InvalidInput, "weight"),
    ({"query": "a", "fusion": {"weights": {"lexical": -1, "dense": 2}}}, InvalidInput, "weight"),
]


@pytest.mark.parametrize(("request_", "error", "says"), REFUSED, ids=[str(r[0])[:60] for r in REFUSED])
def test_what_cannot_be_done_is_refused_in_a_sentence(
    open_collection: Open, request_: dict[str, Any], error: type[FacetrailError], says: str
) -> None:
    searcher = open_collection(make_documents(30))
    with pytest.raises(error, match=says):
        ask(searcher, **request_)


def test_modes_that_were_not_built_are_refused(open_collection: Open) -> None:
    with pytest.raises(InvalidInput, match="dense index"):
        ask(open_collection(make_documents(10), ("lexical",)), query="graph", mode="hybrid")
    with pytest.raises(InvalidInput, match="lexical index"):
        ask(open_collection(make_documents(10), ("dense",)), query="graph", mode="lexical")


def test_a_cursor_ends_with_its_generation_and_its_search(open_collection: Open) -> None:
    searcher = open_collection(make_documents(50))
    cursor = ask(searcher, query="graph", limit=5).next_cursor
    assert cursor is not None
    with pytest.raises(InvalidInput, match="another search"):
        ask(searcher, query="ocean", limit=5, cursor=cursor)
    searcher.rebuild()
    with pytest.raises(Gone, match="generation"):
        ask(searcher, query="graph", limit=5, cursor=cursor)


def test_words_no_document_has_give_no_hit_and_no_error(open_collection: Open) -> None:
    searcher = open_collection(make_documents(20), ("lexical",))
    assert list(ask(searcher, query="xyzzy").hits) == []
    empty = ask(searcher, query="...")
    assert list(empty.hits) == []
    assert empty.warnings


def test_another_encoder_is_refused(open_collection: Open, other_encoder: Any) -> None:
    folder = open_collection(make_documents(10)).collection.folder
    with pytest.raises(Conflict, match="built with encoder"):
        Searcher.open(folder, encoder=other_encoder)


def test_writes_outlive_the_process_without_a_build(open_collection: Open, hash_encoder: Any) -> None:
    searcher = open_collection(make_documents(30))
    searcher.put([Document(id="later", text="written afterwards")])
    searcher.delete(["d003"])
    before = pairs(ask(searcher, query="written graph", limit=40))
    searcher.close()
    with Searcher.open(searcher.collection.folder, encoder=hash_encoder) as again:
        assert pairs(ask(again, query="written graph", limit=40)) == before
        assert again.get("later").text == "written afterwards"
        with pytest.raises(NotFound):
            again.get("d003")
        assert again.info().n_written_since == 2


def test_delete_where_takes_what_the_filter_keeps(open_collection: Open) -> None:
    searcher = open_collection(make_documents(40))
    result = searcher.delete_where({"year": {"lt": 2010}})
    assert len(result.deleted) == 20
    assert searcher.info().n_documents == 20
    assert all(h.payload and h.payload.metadata["year"] >= 2010 for h in ask(searcher, query="graph", limit=40).hits)
    for nothing in ({}, {"must": []}):
        with pytest.raises(InvalidInput, match="empty filter"):
            searcher.delete_where(nothing)
    assert searcher.info().n_documents == 20


def test_a_read_only_searcher_follows_the_switch_of_another(open_collection: Open, hash_encoder: Any) -> None:
    writer = open_collection(make_documents(20))
    with Searcher.open(writer.collection.folder, encoder=hash_encoder) as reader:
        writer.put([Document(id="fresh", text="unheard xylophone")])
        writer.rebuild()
        assert reader.refresh()
        assert not reader.refresh()
        assert [hit.id for hit in ask(reader, query="xylophone", mode="lexical").hits] == ["fresh"]


def test_searches_run_through_writes_and_switches(open_collection: Open) -> None:
    """Every search sees a whole state: the untouched half of the collection is found at every moment."""
    searcher = open_collection(make_documents(60))
    stop, failures, n_searches = threading.Event(), [], [0]

    def hammer() -> None:
        while not stop.is_set():
            try:
                found = ask(searcher, query="anchor", mode="lexical", limit=10)
                n_searches[0] += 1
                if [hit.id for hit in found.hits][:1] != ["keep"]:
                    failures.append(pairs(found))
            except BaseException as error:
                failures.append(error)
                raise

    searcher.put([Document(id="keep", text="anchor anchor anchor")])
    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for round_ in range(4):
        searcher.put([Document(id=f"w{round_}-{i}", text=f"graph anchor {w} {w}") for i, w in enumerate(WORDS)])
        searcher.rebuild()
        searcher.delete([f"w{round_}-{i}" for i in range(len(WORDS))])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert n_searches[0] > 50
    assert searcher.info().generation == 5


def test_an_interrupted_encoding_goes_on_where_it_stopped(tmp_path: Path, hash_encoder: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("facetrail.indexing.encoding.ENCODE_BLOCK", 10)
    corpus = write_corpus(tmp_path / "c.jsonl", make_documents(45))

    def stop_at_30(step: str, done: int, total: int | None) -> None:
        if step == "encode" and done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_collection(corpus, tmp_path / "out", encoder=hash_encoder, progress=stop_at_30)
    with pytest.raises(Conflict, match="--resume"):
        Searcher.open(tmp_path / "out", encoder=hash_encoder)
    with pytest.raises(Conflict, match="--resume"):
        build_collection(corpus, tmp_path / "out", encoder=hash_encoder)
    before = hash_encoder.n_encoded
    build_collection(corpus, tmp_path / "out", encoder=hash_encoder, resume=True)
    assert hash_encoder.n_encoded - before <= 25
    with Searcher.open(tmp_path / "out", encoder=hash_encoder) as searcher:
        assert searcher.info().n_without_vector == 0


def test_a_damaged_generation_is_named_and_rebuilt_from_the_truth(open_collection: Open, hash_encoder: Any) -> None:
    searcher = open_collection(make_documents(40))
    expected = pairs(ask(searcher, query="graph ocean", limit=40))
    searcher.close()
    folder = searcher.collection.folder
    target = max((f for f in (folder / "generations").rglob("*.npy")), key=lambda f: f.stat().st_size)
    content = bytearray(target.read_bytes())
    content[-9] ^= 4
    target.write_bytes(content)
    with pytest.raises(Damaged, match=target.name):
        Searcher.open(folder, encoder=hash_encoder)
    build_collection(None, folder, encoder=hash_encoder)
    with Searcher.open(folder, encoder=hash_encoder) as healed:
        assert pairs(ask(healed, query="graph ocean", limit=40)) == expected
