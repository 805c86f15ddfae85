"""The trainable top layers compute what the frozen ones compute, and hand back weights under the base's names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from facetrail.models.text.bert import PackedBert
from facetrail.models.text.top_layers import TopLayers

Base = tuple[dict[str, Tensor], dict[str, Any]]
LENGTHS = [3, 3, 7, 12, 12, 30]


@pytest.fixture(scope="module", params=["tiny_bert", "base_folder"])
def base(request: pytest.FixtureRequest) -> Base:
    folder: Path = request.getfixturevalue(request.param)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


def packed(base: Base) -> PackedBert:
    return PackedBert(*base, "mean", dtype=torch.float32, device=torch.device("cpu"))


def texts() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(1_000, 20_000, n).tolist() for n in LENGTHS]


def padded(rows: Tensor, fill: float = 0.0) -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    states = torch.full((*mask.shape, rows.shape[1]), fill)
    states[mask] = rows
    return states, mask


@torch.inference_mode()
def test_the_pass_can_be_cut_at_any_layer_without_a_bit_of_change(base: Base) -> None:
    network, ids = packed(base), texts()
    whole = network.lower(ids, network.n_layers)
    for layer in range(network.n_layers + 1):
        below = network.lower(ids, layer)
        before = below.clone()
        assert torch.equal(network.upper(below, LENGTHS, layer), whole)
        assert torch.equal(below, before)
    assert torch.equal(network.pooled(whole, LENGTHS), network(ids))
    means = torch.stack([text.mean(0) for text in whole.split(LENGTHS)])
    assert torch.allclose(network(ids), means, atol=1e-6)


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_top_layers_equal_the_packed_ones(base: Base, n_layers: int) -> None:
    network, top = packed(base), TopLayers(*base, n_layers)
    with torch.inference_mode():
        below = network.lower(texts(), top.first)
        expected = network.upper(below, LENGTHS, top.first)
    states, mask = padded(below.clone(), fill=7.0)
    out = top(states, mask)
    assert torch.allclose(out[mask], expected, atol=1e-5)
    assert not out[~mask].any()
    short = states[2:3, :7]
    assert torch.allclose(top(short, mask[2:3, :7])[0], expected[6:13], atol=1e-5)  # without padding


def test_padding_gets_no_gradient_and_every_weight_does(base: Base) -> None:
    top = TopLayers(*base, 2)
    rows = torch.randn(sum(LENGTHS), base[1]["hidden_size"], generator=torch.Generator().manual_seed(0))
    states, mask = padded(rows, fill=3.0)
    states.requires_grad_()
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    (top(states, mask) * weights).sum().backward()
    assert states.grad is not None
    assert not states.grad[~mask].any()
    assert states.grad[mask].abs().sum(1).min() > 0
    gradients = {name: p.grad for name, p in top.named_parameters()}
    # Keys shift all scores of a row alike by their bias, so softmax leaves it no gradient but rounding.
    assert all(g is not None and g.abs().max() > 0 for name, g in gradients.items() if "key/bias" not in name)


def test_gradients_are_those_of_finite_differences(tiny_bert: Path) -> None:
    tensors, config = load_file(tiny_bert / "model.safetensors"), json.loads((tiny_bert / "config.json").read_text())
    top = TopLayers(tensors, config, 1).double()
    states = torch.randn(2, 4, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    assert torch.autograd.gradcheck(lambda x: top(x, mask).sum(1)[:, :3], (states,), fast_mode=True)


def test_weights_come_back_under_the_bases_names(base: Base) -> None:
    tensors, config = base
    top = TopLayers(tensors, config, 2)
    ours = top.tensors()
    prefix = f"encoder.layer.{config['num_hidden_layers'] - 1}."
    assert f"{prefix}attention.self.query.weight" in ours
    assert len(ours) == 2 * 16
    assert all(torch.equal(tensor, tensors[name].float()) for name, tensor in ours.items())
    assert all(not difference.any() for difference in top.differences(tensors).values())


def test_averaging_with_the_base(base: Base) -> None:
    tensors, config = base
    top = TopLayers(tensors, config, 1)
    moved = {name: tensor + 1 for name, tensor in top.tensors().items()}
    top.load(moved)
    assert all(torch.allclose(d, torch.ones(()), atol=1e-5) for d in top.differences(tensors).values())
    top.interpolate(tensors, 0.25)
    assert all(torch.allclose(d, torch.full((), 0.25), atol=1e-5) for d in top.differences(tensors).values())
    top.interpolate(tensors, 0.0)
    assert all(not d.any() for d in top.differences(tensors).values())
    assert all(torch.equal(tensors[name].float() + 1, tensor) for name, tensor in moved.items())  # the base stays


def test_more_layers_than_there_are(base: Base) -> None:
    with pytest.raises(ValueError, match="top layers"):
        TopLayers(*base, 99)
