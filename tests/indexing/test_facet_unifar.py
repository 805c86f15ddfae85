"""A collection built with a UniFAR model folder: it opens again by the folder's name alone and searches by facets."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.encoding import recorded_encoder
from facetrail.indexing.request import SearchRequest, SearchResult
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import Conflict
from facetrail.models.records import Document
from facetrail.models.text.facets import FACETS

TOPICS = ("graph search", "protein folding", "ocean heat", "battery life", "heart attacks", "sparse retrieval")
PAPERS = [
    *(
        Document(f"t{i}", f"We study {t}. A new network is fitted. It lowers the error.", t)
        for i, t in enumerate(TOPICS)
    ),
    *(Document(f"s{i}", f"{t} is an old problem") for i, t in enumerate(TOPICS)),
]
QUERY = "Which network folds proteins?"


def save_model(folder: Path, seed: int) -> None:
    """A UniFAR encoder of random head and slightly moved top layers on the default base."""
    import torch
    from safetensors.torch import load_file

    from facetrail.models.text.source import Overrides, find_source
    from facetrail.models.text.top_layers import TopLayers
    from facetrail.models.text.unifar import UnifarConfig, UnifarHead
    from facetrail.models.text.unifar_checkpoint import save_unifar

    base, config, drawn = find_source("base", Overrides()), UnifarConfig(), torch.Generator().manual_seed(seed)
    tensors = load_file(base.weights[0])
    head, top = UnifarHead(config, generator=drawn), TopLayers(tensors, base.config, config.trained_layers)
    with torch.no_grad():
        for parameter in (*head.parameters(), *top.parameters()):
            parameter += 0.03 * torch.randn(parameter.shape, generator=drawn)
    save_unifar(folder, config, head=head.state_dict(), differences=top.differences(tensors), base=base)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a model and a collection that was built by naming it."""
    folder = tmp_path_factory.mktemp("unifar")
    rows = [{"_id": d.id, "title": d.title, "text": d.text} for d in PAPERS]
    (folder / "c.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACETRAIL_CACHE", str(folder / "cache"))
        save_model(folder / "model", seed=0)
        build_collection(folder / "c.jsonl", folder / "c", config=BuildConfig(encoder=str(folder / "model")))
        yield folder


def found(searcher: Searcher, **request: object) -> SearchResult:
    return searcher.search(SearchRequest.model_validate({"mode": "facet", "limit": 12, "explain": True, **request}))


def test_it_opens_again_and_scores_as_its_encoder_does(built: Path) -> None:
    with Searcher.open(built / "c") as searcher:
        info, encoder = searcher.info(), searcher.facet_encoder
        assert (info.encoder, info.facets) == (str(built / "model"), FACETS)
        assert (info.modes, info.encoder_fingerprint) == (("lexical", "dense", "facet"), encoder.fingerprint)
        answer = found(searcher, query=QUERY, facets={"method": 3, "result": 1})
        assert answer.task == "question"
        assert len(answer.hits) == len(PAPERS)
        query, (single, batch) = encoder.encode_facet_query(QUERY), encoder.encode_facets([d.content for d in PAPERS])
        cosines = np.einsum("kd,nkd->nk", query.facets, batch.vectors * batch.scales[:, :, None])
        expected = (1 - encoder.mixing) * (single @ query.single) + encoder.mixing * (cosines @ [0, 0, 0.75, 0.25])
        scores = {hit.id: hit.score for hit in answer.hits}
        np.testing.assert_allclose([scores[d.id] for d in PAPERS], expected, atol=1e-4)
        assert np.ptp(expected) > 0.01


def test_its_explanations_point_at_sentences(built: Path) -> None:
    with Searcher.open(built / "c") as searcher:
        hits = {hit.id: hit for hit in found(searcher, like="s1").hits}
        opened = hits["t1"].explanation
        assert opened is not None
        assert opened.facets is not None
        payload = hits["t1"].payload
        assert payload is not None
        pieces = {getattr(payload, s.field)[s.start : s.end] for s in opened.facets.sentences}
        assert pieces
        assert pieces <= {payload.title, *(f"{piece}." for piece in payload.text[:-1].split(". "))}


def test_a_document_that_is_put_later_is_found_by_facets(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "c", tmp_path / "c")
    with Searcher.open(tmp_path / "c", writable=True) as searcher:
        searcher.put([Document("same", QUERY)])
        assert found(searcher, query=QUERY).hits[0].id == "same"


def test_another_model_in_its_place_is_refused(built: Path, tmp_path: Path) -> None:
    with Searcher.open(built / "c") as searcher:
        (built / "model").rename(tmp_path / "model")
        try:
            save_model(built / "model", seed=1)
            with pytest.raises(Conflict, match="built with encoder"):
                recorded_encoder(searcher.collection)
        finally:
            shutil.rmtree(built / "model", ignore_errors=True)
            (tmp_path / "model").rename(built / "model")
