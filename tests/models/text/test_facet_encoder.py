"""UniFAR through every path: packed torch, ONNX Runtime, and a slow reference of other parts."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetrail.models.errors import InvalidInput, Unavailable
from facetrail.models.text import facet_bulk, facet_query, unifar_graph
from facetrail.models.text.encoder import EncoderCard, load_encoder
from facetrail.models.text.facet_encoder import UnifarEncoder
from facetrail.models.text.facet_query import LAYOUT_PROBES, layout_tokeniser
from facetrail.models.text.layout import batch_layout
from facetrail.models.text.locate import unifar_folder
from facetrail.models.text.task import is_question
from facetrail.models.text.unifar import N_PLACES, FacetState, sentence_places
from facetrail.models.text.unifar_checkpoint import UnifarSource, find_unifar

sys.path.insert(0, str(Path(__file__).parents[2]))
from contracts.text_encoder import STRUCTURED, TEXTS, FacetEncoderContract

ALL = [*STRUCTURED, *TEXTS, *LAYOUT_PROBES]
QUERY = "Does aspirin lower the risk of a second heart attack?"


def opened(folder: Path, **options: Any) -> UnifarEncoder:
    encoder = load_encoder(str(folder), **{"bulk": "fp32", **options})
    assert isinstance(encoder, UnifarEncoder)
    return encoder


def located(folder: Path) -> UnifarSource:
    found = unifar_folder(str(folder))
    assert found is not None
    return find_unifar(str(folder), found)


def reference(source: UnifarSource, texts: list[str], *, asked: bool) -> FacetState:
    """transformers below, `TopLayers` with its mask above, all texts as one padded batch."""
    from safetensors.torch import load_file
    from transformers import AutoModel

    from facetrail.models.text.top_layers import TopLayers
    from facetrail.models.text.unifar import UnifarHead
    from facetrail.models.text.unifar_checkpoint import read_unifar

    ids, layout = batch_layout(layout_tokeniser(source, "question" if asked else "document")(texts), asked)
    weights = read_unifar(source)
    base = load_file(source.base.weights[0])
    top = TopLayers(base, source.base.config, source.config.trained_layers)
    top.load({name: torch.from_numpy(tensor) for name, tensor in weights.network.items()})
    head = UnifarHead(source.config, generator=torch.Generator())
    head.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.head.items()})
    model = AutoModel.from_pretrained(source.base.modules).eval()
    with torch.inference_mode():
        below = model(input_ids=ids, attention_mask=layout.mask.long(), output_hidden_states=True).hidden_states
        states = below[top.first] + (asked * head.question if source.config.trained_layers else 0)
        made = head(top(states, layout.mask), layout)
    assert isinstance(made, FacetState)
    return made


class TestTorch(FacetEncoderContract):
    @pytest.fixture(autouse=True)
    def _encoder(self, tiny_unifar: Path) -> None:
        self.encoder = opened(tiny_unifar, runtime="torch")

    def make(self) -> UnifarEncoder:
        return self.encoder


class TestOnnx(FacetEncoderContract):
    @pytest.fixture(autouse=True)
    def _encoder(self, tiny_unifar: Path) -> None:
        self.encoder = opened(tiny_unifar, runtime="onnx")

    def make(self) -> UnifarEncoder:
        return self.encoder

    def test_the_card_says_so(self) -> None:
        self.encoder.encode_queries(["a"])
        assert self.encoder.card.runtime_query == "onnx"


@pytest.mark.parametrize("asked", [False, True], ids=["documents", "questions"])
@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_every_path_gives_what_the_slow_reference_gives(tiny_unifar: Path, runtime: Any, asked: bool) -> None:
    expected = reference(located(tiny_unifar), ALL, asked=asked)
    encoder = opened(tiny_unifar, runtime=runtime)
    for i, text in enumerate(ALL):
        found = encoder.encode_facet_query(text, task="question" if asked else "document")
        for name in ("single", "facets", "prior", "gate"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name)[i], atol=1e-5)


def test_documents_in_bulk_give_what_the_slow_reference_gives(tiny_unifar: Path) -> None:
    expected, encoder = reference(located(tiny_unifar), ALL, asked=False), opened(tiny_unifar)
    single, batch = encoder.encode_facets(ALL)
    np.testing.assert_allclose(single, expected.single, atol=1e-5)
    for i, text in enumerate(ALL):
        n, here = len(encoder.sentences(text)), slice(batch.first[i], batch.first[i + 1])
        if n > 1:
            attention, roles = expected.attention[i, :, :n].T, expected.roles[i, :n].exp()
        else:  # all the attention there is; the mean role of the tokens of the text, without the special ones
            n_tokens = int(expected.unit_mask[i].sum())
            attention, roles = torch.ones(n, 4), expected.roles[i, 1 : n_tokens - 1].exp().mean(0, keepdim=True)[:n]
        np.testing.assert_allclose(batch.attention[here] / 255, attention, atol=0.5 / 255 + 1e-4)
        np.testing.assert_allclose(batch.roles[here] / 255, roles, atol=0.5 / 255 + 1e-4)
    assert {len(encoder.sentences(text)) for text in ALL} >= {0, 1, 3}


@pytest.mark.parametrize("options", [{"gated": False}, {"trained_layers": 0}, {"attention_temperature": 0.5}], ids=str)
def test_other_configurations_have_equal_paths(
    tmp_path: Path, save_tiny_unifar: Callable[..., Path], options: dict[str, Any]
) -> None:
    folder = save_tiny_unifar(tmp_path / "model", noise=0.3, **options)
    encoders = [opened(folder, runtime="onnx"), opened(folder, runtime="torch")]
    for asked in (False, True):
        expected = reference(located(folder), STRUCTURED, asked=asked)
        for encoder in encoders:
            for i, text in enumerate(STRUCTURED):
                found = encoder.encode_facet_query(text, task="question" if asked else "document")
                for name in ("single", "facets", "prior", "gate"):
                    np.testing.assert_allclose(getattr(found, name), getattr(expected, name)[i], atol=1e-5)


def test_places_are_those_of_the_head_and_move_documents_alone(
    tmp_path: Path, tiny_unifar: Path, save_tiny_unifar: Callable[..., Path]
) -> None:
    assert facet_query.N_PLACES == N_PLACES
    texts = layout_tokeniser(located(tiny_unifar), "document")(ALL)
    several = [text for text in texts if text.n_sentences > 1]
    assert len({(text.n_sentences, text.n_paragraphs > 1) for text in several}) > 3
    for text in several:
        expected = sentence_places(batch_layout([text], False)[1], text.n_sentences)[0]
        np.testing.assert_allclose(facet_query.places(text), expected, atol=1e-6)
    moved = save_tiny_unifar(tmp_path / "moved", noise=0.3, place=3.0)
    for runtime in ("onnx", "torch"):
        here, there = opened(tiny_unifar, runtime=runtime), opened(moved, runtime=runtime)
        of_document = [encoder.encode_facet_query(STRUCTURED[0], task="document").prior for encoder in (here, there)]
        assert np.abs(of_document[0] - of_document[1]).max() > 0.01
        for text, task in ((STRUCTURED[0], "question"), (TEXTS[0], "document")):
            np.testing.assert_allclose(
                *(e.encode_facet_query(text, task=task).facets for e in (here, there)), atol=1e-6
            )


def test_before_training_it_is_the_base(untrained_unifar: Path, tiny_unifar: Path, tiny_bert: Path) -> None:
    base = load_encoder(str(tiny_bert), bulk="fp32").encode_documents(ALL)
    for runtime in ("torch", "onnx"):
        encoder = opened(untrained_unifar, runtime=runtime)
        single, batch = encoder.encode_facets(ALL)
        for vectors in (single, encoder.encode_documents(ALL), encoder.encode_queries(ALL)):
            np.testing.assert_allclose(vectors, base, atol=1e-5)
        np.testing.assert_allclose(batch.vectors * batch.scales[..., None], base[:, None].repeat(4, 1), atol=5e-3)
        for text, vector in zip(STRUCTURED, base, strict=False):
            for row in encoder.encode_facet_query(text).facets:
                np.testing.assert_allclose(row, vector, atol=1e-5)
    assert (opened(tiny_unifar).encode_documents(TEXTS) * base[len(STRUCTURED) :][: len(TEXTS)]).sum(1).max() < 0.99


def test_what_it_is_asked_for_changes_vectors(tiny_unifar: Path) -> None:
    encoder = opened(tiny_unifar)
    as_question, as_document = (encoder.encode_facet_query(QUERY, task=task) for task in ("question", "document"))
    assert (as_question.task, as_document.task) == ("question", "document")
    assert as_question.single @ as_document.single < 0.999
    assert encoder.encode_facet_query(QUERY).task == "question"
    assert encoder.encode_facet_query(STRUCTURED[0]).task == "document"
    with pytest.raises(InvalidInput, match="use auto, question or document"):
        encoder.encode_facet_query(QUERY, task="query")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "n_tokens", "expected"),
    [
        ("bees", 3, True),
        ("Bees\nThey fly.", 8, False),
        ("Bees\nDo they fly?", 8, True),
        ("Bees\nDo they fly? \n", 8, True),
        ("蜜蜂\n它们会飞吗？", 8, True),
        (" a trailing break \n", 6, True),
        ("one line", 41, False),
        ("does it?", 41, False),
        ("does it?", 40, True),
        ("", 2, True),
    ],
)
def test_what_looks_like_a_question(text: str, n_tokens: int, expected: bool) -> None:
    assert is_question(text, n_tokens) is expected


def test_queries_are_remembered_and_stay_as_they_were(tiny_unifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = opened(tiny_unifar, runtime="onnx", query_cache=2)
    first = encoder.encode_facet_query(QUERY)
    kept = first.facets.copy()
    first.facets[:] = 0
    monkeypatch.setattr(facet_query.UnifarSession, "__call__", None)
    np.testing.assert_array_equal(encoder.encode_facet_query(QUERY).facets, kept)
    assert encoder.encode_queries([QUERY]).shape == (1, encoder.dim)
    with pytest.raises(TypeError):
        encoder.encode_facet_query(QUERY, task="document")


def test_long_documents_are_read_as_far_as_asked(tiny_unifar: Path) -> None:
    short, whole = opened(tiny_unifar, max_document_tokens=32), opened(tiny_unifar)
    assert len(short.sentences(STRUCTURED[-1])) < len(whole.sentences(STRUCTURED[-1])) <= 32
    assert short.fingerprint != whole.fingerprint
    assert short.sentences(STRUCTURED[0])[0] == (0, len("Bees"))


def test_a_graph_of_other_vectors_is_refused(
    tiny_unifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = opened(tiny_unifar, runtime="torch").encode_facet_query(QUERY)
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path))
    honest = unifar_graph.folded_anchors
    monkeypatch.setattr(unifar_graph, "folded_anchors", lambda *args: honest(*args) * np.float32(1.01))
    with pytest.raises(Unavailable, match="differ from fp32"):
        opened(tiny_unifar, runtime="onnx").encode_queries([QUERY])
    encoder = opened(tiny_unifar)
    with caplog.at_level(logging.WARNING):
        found = encoder.encode_facet_query(QUERY)
    np.testing.assert_allclose(found.facets, expected.facets, atol=1e-6)
    assert "encoded by torch" in caplog.text
    assert encoder.card.runtime_query == "torch"


@pytest.mark.parametrize("part", ["down.weight", "facet_scale"], ids=["single vectors", "facet vectors"])
def test_bf16_that_gives_other_vectors_is_refused(
    tiny_unifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path))
    honest = facet_bulk.UnifarNetwork.__init__

    def dishonest(self: Any, source: Any, *, dtype: torch.dtype, device: torch.device) -> None:
        honest(self, source, dtype=dtype, device=device)
        if dtype is torch.bfloat16 and part == "facet_scale":
            self.head.facet_scale *= torch.tensor([1, 1, 1, 9.0])
        elif dtype is torch.bfloat16:
            self._bert._layers[1][part] *= 3

    monkeypatch.setattr(facet_bulk.UnifarNetwork, "__init__", dishonest)
    encoder = opened(tiny_unifar, bulk="bf16")
    encoder.encode_documents(["a"])
    assert encoder.card.dtype_bulk == "fp32"


def test_a_query_imports_no_torch(tiny_unifar: Path) -> None:
    opened(tiny_unifar, runtime="onnx").encode_queries([QUERY])  # makes the graph
    program = (
        "import sys\n"
        "from facetrail.models.text.encoder import load_encoder\n"
        f"encoder = load_encoder({str(tiny_unifar)!r})\n"
        f"print(encoder.encode_facet_query({QUERY!r}).facets.shape, encoder.encode_queries(['a']).shape)\n"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'onnx') if name in sys.modules])\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.splitlines() == ["(4, 48) (1, 48)", "[]"]


def test_the_card_names_the_base_and_older_cards_are_still_read(tiny_unifar: Path, tiny_bert: Path) -> None:
    card = opened(tiny_unifar).card
    assert (card.base, card.base_source) == (str(tiny_bert), str(tiny_bert))
    assert card.facets == ("background", "objective", "method", "result")
    older = load_encoder(str(tiny_bert)).card.model_dump(mode="json")
    for name in ("facets", "base", "base_source", "base_sha256"):
        del older[name]
    assert EncoderCard.model_validate(older).facets == ()
