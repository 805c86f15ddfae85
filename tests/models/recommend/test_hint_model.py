"""A model of hints as a folder: it opens to the same scores and hints, and a damaged or foreign one is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.hint_models import small_hint_model

from facetrail.models.checkpoint import TENSORS_FILE, save_model
from facetrail.models.errors import Conflict, Damaged, InvalidInput
from facetrail.models.recommend.hint_model import (
    HintModel,
    SeenRows,
    fit_blend,
    log_odds,
    open_hint_model,
    save_hint_model,
    with_guest,
)
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.time_blocks import EventLog


def seen(model: HintModel) -> SeenRows:
    n = 12
    log = EventLog(model.events, len(model.users) + 1, len(model.items))
    users, items = np.arange(n) % (len(model.users) + 1), np.arange(n)
    return SeenRows(model.network, Evidence(log, model.attributes), users, items, np.full(n, len(log)))


def test_a_reopened_model_scores_and_hints_as_before(tmp_path: Path):
    model = small_hint_model()
    save_hint_model(tmp_path / "model", model, figures={"AUC": 0.5})
    again = open_hint_model(tmp_path / "model")
    assert (again.users, again.items, again.titles) == (model.users, model.items, model.titles)
    assert (again.logistic, again.blend) == (model.logistic, model.blend)
    assert again.attributes.tail_names == model.attributes.tail_names
    before, after = seen(model), seen(again)
    np.testing.assert_array_equal(before.logits, after.logits)
    assert before.asked(np.arange(12)) == after.asked(np.arange(12))
    assert any(one.hints.item for one in after.asked(np.arange(12)))


def test_names_that_are_none_stay_none(tmp_path: Path):
    model = small_hint_model()
    names = (None, "", *model.attributes.tail_names[2:])
    save_hint_model(tmp_path / "model", replace(model, attributes=replace(model.attributes, tail_names=names)))
    assert open_hint_model(tmp_path / "model").attributes.tail_names == names


def test_the_guest_has_no_embedding_and_others_keep_theirs():
    model = small_hint_model()
    with torch.no_grad():
        model.network.users.weight.normal_()
    wider = with_guest(model.network, model.attributes)
    assert torch.equal(wider.users.weight[:-1], model.network.users.weight)
    assert not wider.users.weight[-1].any()


def test_another_kind_an_occupied_place_and_damage_are_refused(tmp_path: Path):
    model, folder = small_hint_model(), tmp_path / "model"
    manifest = save_hint_model(folder, model)
    with pytest.raises(Conflict):
        save_hint_model(folder, model)
    save_model(tmp_path / "other", kind="other", config=model.network.config, tensors={"x": np.zeros(1)})
    with pytest.raises(InvalidInput, match="of kind 'other'"):
        open_hint_model(tmp_path / "other")
    save_model(tmp_path / "old", kind="hints", config=model.network.config, tensors={"x": np.zeros(1)})
    with pytest.raises(Damaged, match="train it again"):
        open_hint_model(tmp_path / "old")
    assert json.loads((folder / "manifest.json").read_text())["config"] == manifest.config
    content = bytearray((folder / TENSORS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS_FILE).write_bytes(content)
    with pytest.raises(Damaged):
        open_hint_model(folder)


def test_a_folder_of_a_network_without_one_of_its_weights_is_refused(tmp_path: Path):
    model = small_hint_model()
    del model.network.taste_slopes
    save_hint_model(tmp_path / "model", model)
    with pytest.raises(Damaged, match=r"lacks a weight of the network .*taste_slopes"):
        open_hint_model(tmp_path / "model")


def test_a_blend_finds_the_weights_that_made_the_labels():
    rng = np.random.default_rng(0)
    bias, reasoner = rng.normal(size=(2, 40_000))
    odds = 1.5 * bias + 0.5 * reasoner - 0.3
    labels = (rng.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(float)
    blend = fit_blend(bias, reasoner, labels)
    assert (blend.bias, blend.reasoner, blend.intercept) == pytest.approx((1.5, 0.5, -0.3), abs=0.06)
    np.testing.assert_allclose(blend.log_odds(bias, reasoner), odds, atol=0.3)
    assert log_odds(np.array([0.5, 0.75])) == pytest.approx([0, np.log(3)])
