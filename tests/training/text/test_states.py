"""Cached states: equal to a fresh pass, found again, and finished after a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.tiny_bert import save_tiny_bert
from safetensors.torch import load_file

from facetrail.models.errors import Damaged, InvalidInput
from facetrail.models.text.layout import LayoutTokeniser, batch_layout
from facetrail.models.text.source import Overrides, find_source
from facetrail.models.text.top_layers import TopLayers
from facetrail.training.text import states
from facetrail.training.text.states import StateBuilder, StateStore

TEXTS = ["A title\nOne sentence. Two sentences here.", "", "word", "many words " * 40, "Why? Because."]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights in two layers."""
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def builder(tiny_bert: Path, tmp_path: Path) -> StateBuilder:
    return StateBuilder(find_source(str(tiny_bert), Overrides()), root=tmp_path)


def test_states_and_layout_are_those_of_a_fresh_pass(builder: StateBuilder, tiny_bert: Path) -> None:
    store = builder.build(TEXTS, max_tokens=32, layer=1)
    laid_out = LayoutTokeniser(tiny_bert / "tokenizer.json", max_tokens=32)(TEXTS)
    rows = [3, 0, 1]
    found, layout = store.batch(rows, is_question=True)
    _, expected = batch_layout([laid_out[i] for i in rows], True)
    for name in ("mask", "sentence", "paragraph", "n_sentences", "n_paragraphs", "is_question"):
        assert torch.equal(getattr(layout, name), getattr(expected, name)), name
    assert found.dtype == torch.float32
    assert not found[~layout.mask].any()
    with torch.inference_mode():
        for place, row in enumerate(rows):
            fresh = builder.network.lower([laid_out[row].ids], 1)
            assert torch.allclose(found[place, : len(fresh)], fresh, atol=2e-3)  # float16
            whole = torch.nn.functional.normalize(builder.network([laid_out[row].ids]), dim=1)
            assert np.allclose(store.base[row], whole[0].numpy(), atol=1e-5)


def test_top_layers_over_cached_states_give_the_bases_vectors(builder: StateBuilder, tiny_bert: Path) -> None:
    store = builder.build(TEXTS, max_tokens=32, layer=1)
    top = TopLayers(load_file(tiny_bert / "model.safetensors"), dict(builder.source.config), 1)
    found, layout = store.batch(range(len(TEXTS)), is_question=False)
    with torch.inference_mode():
        pooled = top(found, layout.mask).sum(1) / layout.mask.sum(1, keepdim=True)
    cosines = torch.nn.functional.cosine_similarity(pooled, torch.from_numpy(store.base))
    assert cosines.min() > 0.9999


def test_the_last_layers_states_average_to_the_base(builder: StateBuilder) -> None:
    store = builder.build(TEXTS, max_tokens=32, layer=2)
    found, layout = store.batch(range(len(TEXTS)), is_question=False)
    mean = torch.nn.functional.normalize(found.sum(1), dim=1)
    assert torch.allclose(mean, torch.from_numpy(store.base), atol=2e-3)
    assert store.lengths.tolist() == layout.mask.sum(1).tolist()


def test_known_sentences_make_another_store(builder: StateBuilder) -> None:
    texts = ["one two three four"]
    free = builder.build(texts, max_tokens=32, layer=1)
    known = builder.build(texts, max_tokens=32, layer=1, spans=[[(0, 7), (8, 18)]])
    assert free.batch([0], is_question=False)[1].n_sentences.tolist() == [1]
    assert known.batch([0], is_question=False)[1].sentence.tolist() == [[-1, 0, 0, 1, 1, -1]]
    assert known.folder != free.folder


def test_what_is_cached_is_not_encoded_again(builder: StateBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = builder.build(TEXTS, max_tokens=32, layer=1)
    heard: list[tuple[int, int]] = []
    again = builder.build(TEXTS, max_tokens=32, layer=1, progress=lambda *done: heard.append(done))
    assert not heard
    assert again.folder == first.folder
    for other in (builder.build(TEXTS[:-1], max_tokens=32, layer=1), builder.build(TEXTS, max_tokens=16, layer=1)):
        assert other.folder != first.folder


def test_a_killed_run_goes_on_where_it_stopped(builder: StateBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "BLOCK", 2)

    def die(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builder.build(TEXTS, max_tokens=32, layer=1, progress=die)
    heard: list[tuple[int, int]] = []
    resumed = builder.build(TEXTS, max_tokens=32, layer=1, progress=lambda *done: heard.append(done))
    assert heard == [(4, 5), (5, 5)]
    whole = StateBuilder(builder.source, root=resumed.folder.parent / "whole").build(TEXTS, max_tokens=32, layer=1)
    assert np.array_equal(resumed.base, whole.base)
    assert torch.equal(resumed.batch(range(5), is_question=False)[0], whole.batch(range(5), is_question=False)[0])


def test_nothing_to_encode(builder: StateBuilder) -> None:
    assert len(builder.build([], max_tokens=32, layer=1)) == 0


def test_a_damaged_store_is_refused(builder: StateBuilder) -> None:
    store = builder.build(TEXTS, max_tokens=32, layer=1)
    (store.folder / "sentence.npy").write_bytes(b"no array")
    with pytest.raises(Damaged, match="delete that folder"):
        StateStore(store.folder)


def test_a_layer_that_is_not_there(builder: StateBuilder) -> None:
    with pytest.raises(InvalidInput, match="layer 3"):
        builder.build(TEXTS, max_tokens=32, layer=3)
