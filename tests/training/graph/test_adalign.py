"""ADAlign in the loop: it transfers, no target label reaches it, weight 0 is the source alone, resuming is exact."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.graph.encoder import GraphEncoder
from facetrail.models.graph.graph_data import GraphData, build_graph
from facetrail.models.graph.propagation import graph_tensors
from facetrail.models.graph.spectral import gaussian_frequencies, nsd
from facetrail.training.graph.adalign import (
    AdalignRecipe,
    SpectralAlignment,
    distance_before_and_after,
    learned_frequencies,
)
from facetrail.training.graph.adapt import Fitted, fit
from facetrail.training.graph.alignment import Aligned
from facetrail.training.graph.methods import DomainAdapter, method_recipe
from facetrail.training.loop import Diverged

Pair = tuple[GraphData, GraphData]
SMALL = ("dim=8", "n_layers=1", "k_source=1", "k_target=1", "epochs=12", "trace_every=5", "checkpoint_every=4")
TOY = ("dim=32", "dropout=0.2", "lr=0.01", "k_source=1", "k_target=1", "epochs=150", "trace_every=150", "checkpoint_every=150")  # fmt: skip  # noqa: E501


def fitted(method: str, pair: Pair, *more: str, shape: tuple[str, ...] = SMALL, **options: Any) -> Fitted:
    adapter = DomainAdapter(method_recipe(method, (*shape, *more)))
    adapter.fit(*pair, **options)
    return adapter.fitted


def equal(a: Fitted, b: Fitted) -> bool:
    weights = zip((a.final, a.average), (b.final, b.average), strict=True)
    return all(torch.equal(one[name], other[name]) for one, other in weights for name in one) and all(
        np.array_equal(a.trace[epoch], b.trace[epoch]) for epoch in {*a.trace, *b.trace}
    )


def small_recipe() -> AdalignRecipe:
    recipe = method_recipe("adalign", SMALL)
    assert isinstance(recipe, AdalignRecipe)
    return recipe


def test_the_defaults_are_the_declared_ones():
    recipe = method_recipe("adalign")
    assert isinstance(recipe, AdalignRecipe)
    assert (recipe.weight, recipe.kappa, recipe.frequencies, recipe.sampler) == (0.6, 0.5, 16, "tanh")
    assert (recipe.lr, recipe.weight_decay, recipe.dropout, recipe.k_source, recipe.k_target) == (0.005, 0.005, 0.5, 10, 10)  # fmt: skip  # noqa: E501
    with pytest.raises(InvalidInput, match="kappa"):
        method_recipe("adalign", ("kappa=1.5",))


def test_true_permuted_and_absent_target_labels_give_the_same_bits(pair: Pair):
    source, target = pair
    permuted = replace(target, y=np.random.default_rng(0).permutation(target.y))
    fits = [fitted("adalign", (source, t)) for t in (target, permuted, target.unlabelled())]
    assert equal(fits[0], fits[1])
    assert equal(fits[0], fits[2])


@pytest.mark.parametrize("sampler", ["tanh", "scale-mixture", "frozen", "gaussian"])
def test_weight_0_is_the_source_alone_and_every_sampler_moves_the_weights(pair: Pair, sampler: str):
    alone = fitted("source-only", pair)
    assert equal(alone, fitted("adalign", pair, "weight=0", f"sampler={sampler}"))
    moved = fitted("adalign", pair, f"sampler={sampler}")
    assert not equal(alone, moved)
    assert equal(moved, fitted("adalign", pair, f"sampler={sampler}"))
    others = {"tanh": "frozen", "frozen": "gaussian", "gaussian": "scale-mixture", "scale-mixture": "tanh"}
    assert not equal(moved, fitted("adalign", pair, f"sampler={others[sampler]}"))


def test_the_order_of_the_targets_nodes_does_not_matter(pair: Pair):
    source, target = pair
    order = np.random.default_rng(0).permutation(len(target.ids))
    edges = target.adjacency[order][:, order]
    moved = build_graph([target.ids[i] for i in order], target.x[order], edges, target.y[order])
    net = GraphEncoder(fitted("source-only", pair).config.encoder, torch.Generator().manual_seed(0)).eval()
    t = gaussian_frequencies(16, 8, 0.4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = net.encode(graph_tensors(source), 1)
        values = [float(nsd(t, ours, net.encode(graph_tensors(graph), 1), 0.5)) for graph in (target, moved)]
    assert values[0] == pytest.approx(values[1], abs=1e-5)


class Interrupted(SpectralAlignment):
    """Stops the fit in its eleventh epoch."""

    def __call__(self, source: Tensor, target: Tensor, epoch: int) -> Aligned:
        if epoch == 11:
            raise RuntimeError("the power is gone")
        return super().__call__(source, target, epoch)


def test_a_resumed_fit_equals_the_uninterrupted_one_bit_for_bit(pair: Pair, tmp_path: Path):
    recipe = small_recipe()
    whole = fit(*pair, recipe, align=SpectralAlignment(recipe, "cpu"), folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power"):
        fit(*pair, recipe, align=Interrupted(recipe, "cpu"), folder=tmp_path / "cut")
    resumed = fit(*pair, recipe, align=SpectralAlignment(recipe, "cpu"), folder=tmp_path / "cut", resume=True)
    assert equal(whole, resumed)
    frequencies = [learned_frequencies(tmp_path / name) for name in ("whole", "cut")]
    assert torch.equal(*frequencies)
    assert frequencies[0].shape == (16, 8)
    with pytest.raises(NotFound, match="no checkpoint with frequencies"):
        learned_frequencies(tmp_path)


def test_curves_hold_the_discrepancy_and_its_frequencies(pair: Pair):
    class Heard:
        def __init__(self) -> None:
            self.rows: list[dict[str, float]] = []

        def log(self, step: int, values: Any) -> None:
            self.rows.append(dict(values))

        def note(self, step: int, text: str) -> None: ...

        def rewind(self, step: int) -> None: ...

    heard = Heard()
    recipe = small_recipe()
    fit(*pair, recipe, align=SpectralAlignment(recipe, "cpu"), tracker=heard)
    row = next(row for row in heard.rows if "train/nsd" in row)
    names = {f"{side}_modulus_{which}" for side in ("source", "target") for which in ("min", "median", "max")}
    assert {f"train/{name}" for name in names | {"nsd", "mean_frequency", "source_loss"}} <= row.keys()


def test_a_discrepancy_that_is_not_finite_ends_the_fit(pair: Pair):
    class Broken(SpectralAlignment):
        def __call__(self, source: Tensor, target: Tensor, epoch: int) -> Aligned:
            return super().__call__(source * (float("nan") if epoch == 4 else 1), target, epoch)

    recipe = small_recipe()
    with pytest.raises(Diverged, match="step 4 ends"):
        fit(*pair, recipe, align=Broken(recipe, "cpu"))


def toy(pairs: list[Pair]) -> tuple[float, float, list[dict[str, Any]]]:
    """Mean accuracy of the source alone and of ADAlign, and the distances before and after."""
    alone, aligned, distances = [], [], []
    for source, target in pairs:
        for method, more, found in (("source-only", (), alone), ("adalign", ("weight=1",), aligned)):
            one = fitted(method, (source, target), *more, shape=TOY)
            found.append(float((one.model("final").predict(target).labels == target.y).mean()))
        distances.append(distance_before_and_after(one, source, target))
    return float(np.mean(alone)), float(np.mean(aligned)), distances


def test_the_toy_transfer_of_one_pair(pairs: list[Pair]):
    alone, aligned, distances = toy(pairs[:1])
    assert aligned > alone + 0.05
    assert distances[0]["nsd_after"] < distances[0]["nsd_before"]


@pytest.mark.slow
def test_the_toy_transfer(pairs: list[Pair]):
    """Seen: 0.515 from the source alone, 0.747 with ADAlign; the distance 0.323 without it and 0.044 with it."""
    alone, aligned, _ = toy(pairs)
    assert aligned >= alone + 0.12
    assert aligned >= 0.65
    with_, without = (
        [distance_before_and_after(fitted(method, p, *more, shape=TOY), *p)["nsd_after"] for p in pairs]
        for method, more in (("adalign", ("weight=1",)), ("source-only", ()))
    )
    assert np.mean(with_) <= np.mean(without) / 3
