"""Are hints what the score rests on: taking the first away moves it more than taking another, and to the right side."""

from dataclasses import replace

import numpy as np
import torch
from contracts.planted_hints import attributes_of, rated
from scipy import stats

from facetrail.models.recommend.hint_model import SeenRows
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import HintConfig
from facetrail.training.loop import FitConfig
from facetrail.training.recommend.hint_batches import HintsRecipe, Rows
from facetrail.training.recommend.hint_fit import fit_discovery

N_TRAITS, N_NOISE, N_USERS, N_ITEMS = 5, 60, 40, 160


def test_the_first_hint_moves_the_score_more_than_another_candidate_and_as_its_sign_says():
    rng = np.random.default_rng(0)
    traits = rng.integers(N_TRAITS, size=N_ITEMS)
    lists = [[trait, *(N_TRAITS + rng.choice(N_NOISE, 20, replace=False)).tolist()] for trait in traits.tolist()]
    attributes = attributes_of(lists, N_TRAITS + N_NOISE)
    users, items = rng.integers(N_USERS, size=2_400), rng.integers(N_ITEMS, size=2_400)
    likes = (traits[items] == users % N_TRAITS) | (rng.random(2_400) < 0.1)
    every = rated(users, items, likes.astype(float), start=0)
    parts = (every.take(slice(0, 1_800)), every.take(slice(1_800, 2_000)), every.take(slice(2_000, None)))
    rows = Rows(*parts, n_users=N_USERS, n_items=N_ITEMS)
    recipe = HintsRecipe(
        batch=256,
        lr=5e-3,
        translation=0.0,
        fit=FitConfig(steps=45, ema=None, eval_every=15, checkpoint_every=45, best="AUC"),
        network=HintConfig(dim=16, n_similar=3),
    )
    network, _ = fit_discovery(rows, attributes, recipe, seed=0)
    test, log = rows.test, rows.log
    seen = SeenRows(network, Evidence(log, attributes), test.users, test.items, np.full(len(test), len(log)))
    asked = seen.asked(np.arange(len(test)))
    hinted = np.array([row for row, one in enumerate(asked) if one.hints.item])
    assert len(hinted) > 200
    first = [asked[row].hints.item[0] for row in hinted]
    other = [
        int(rng.choice([a for a in seen.table.item_side[row] if a != hint.attribute]))
        for row, hint in zip(hinted, first, strict=True)
    ]
    batch = seen.table.batch(hinted)

    def without(gone: list[int]) -> np.ndarray:
        left = batch.item_side.masked_fill(batch.item_side == torch.tensor(gone)[:, None], -1)
        with torch.no_grad():
            found: np.ndarray = network(replace(batch, item_side=left)).logits.numpy()
        return found

    whole = seen.logits[hinted]
    moved, moved_by_other = whole - without([hint.attribute for hint in first]), whole - without(other)
    assert np.abs(moved).mean() > np.abs(moved_by_other).mean()
    assert stats.wilcoxon(np.abs(moved), np.abs(moved_by_other), alternative="greater").pvalue < 0.01
    signs = np.array([1 if hint.polarity == "likes" else -1 for hint in first])
    assert (np.sign(moved) == signs).mean() >= 0.7
