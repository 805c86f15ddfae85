"""Rows to tune a language model on: what they may see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facetrail.models.recommend.hint_prompts import Asked
from facetrail.training.config import read_recipe
from facetrail.training.loop import FitConfig
from facetrail.training.recommend.hint_batches import HintsRecipe, Rows
from facetrail.training.recommend.hint_fit import build_network
from facetrail.training.recommend.hint_material import HintMaterial, miniature
from facetrail.training.recommend.hint_tuning import TuningConfig, shots
from facetrail.training.recommend.hints import DEFAULTS

N_BLOCKS = 4


@pytest.fixture(scope="module")
def material() -> HintMaterial:
    return miniature()


def _asked(material: HintMaterial, rows: Rows, sees: str) -> tuple[list[Asked], np.ndarray]:
    recipe = read_recipe(DEFAULTS, HintsRecipe, ["network.dim=8", "network.n_similar=3"])
    network = build_network(material.rows, material.attributes, recipe, seed=0, device=torch.device("cpu"))
    config = TuningConfig.model_validate(
        {"n_shots": None, "n_blocks": N_BLOCKS, "sees": sees, "fit": FitConfig(steps=1, ema=None)}
    )
    return shots(rows, material.attributes, network, config)


def test_a_row_sees_every_earlier_event_or_the_blocks_before_its_own(material: HintMaterial) -> None:
    train = material.rows.train
    blocks, _ = _asked(material, material.rows, "blocks")
    earlier, labels = _asked(material, material.rows, "earlier")
    first = len(train) - len(earlier)
    assert first == len(train) // N_BLOCKS
    assert labels.tolist() == train.labels[first:].tolist()
    for row, (of_blocks, of_earlier) in enumerate(zip(blocks, earlier, strict=True), first):
        mine = np.flatnonzero((train.users == train.users[row]) & (train.labels > 0.5))
        assert of_earlier.liked == tuple(train.items[mine[mine < row]].tolist())
        start = row - row % (len(train) // N_BLOCKS)
        assert of_blocks.liked == tuple(train.items[mine[mine < start]].tolist())


@pytest.mark.parametrize("sees", ["blocks", "earlier"])
def test_no_row_sees_its_own_label_or_a_later_one(material: HintMaterial, sees: str) -> None:
    rows = material.rows
    before, _ = _asked(material, rows, sees)
    place = len(before) // 2
    row = len(rows.train) - len(before) + place
    turned = np.where(np.arange(len(rows.train)) >= row, 1 - rows.train.labels, rows.train.labels)
    after, _ = _asked(material, replace(rows, train=replace(rows.train, labels=turned)), sees)
    assert after[: place + 1] == before[: place + 1]
    assert after[place + 1 :] != before[place + 1 :]
