"""The spectral discrepancy on cases solved by hand, and a sampler that finds where two sets of rows differ."""

import math

import pytest
import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.adalign import SpectralConfig, ascend, descend
from facetrail.models.graph.spectral import FrequencySampler, SamplerKind, gaussian_frequencies, nsd

KAPPAS = (0.0, 0.5, 1.0)


def drawn(n: int, d: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kappa", KAPPAS)
def test_the_same_rows_have_no_discrepancy(kappa: float):
    t, z = drawn(32, 8, 0), drawn(500, 8, 1)
    assert float(nsd(t, z, z.clone(), kappa)) <= 1e-4
    assert float(nsd(t.double(), z.double(), z.double(), kappa)) <= 3e-6


@pytest.mark.parametrize("kappa", KAPPAS)
def test_sides_rows_and_a_common_shift_do_not_matter(kappa: float):
    t, a, b = 0.3 * drawn(32, 8, 0), drawn(400, 8, 1), 1.5 * drawn(300, 8, 2) + 0.4
    value = float(nsd(t, a, b, kappa))
    assert value > 0.05
    same = (nsd(t, b, a, kappa), nsd(t, a.flip(0), b.roll(7, 0), kappa), nsd(t, a + 0.7, b + 0.7, kappa))
    assert [float(one) for one in same] == pytest.approx([value] * 3, abs=1e-5)


def test_point_masses_differ_by_phase_alone():
    t, mu = drawn(64, 4, 0, torch.float64), torch.tensor([0.8, -0.3, 0.5, 0.2], dtype=torch.float64)
    at_0, at_mu = torch.zeros(5, 4, dtype=torch.float64), mu.expand(7, 4)
    for kappa in (0.0, 0.3, 0.5):
        expected = math.sqrt(1 - kappa) * (2 * (t @ mu / 2).sin().abs()).mean()
        assert float(nsd(t, at_0, at_mu, kappa)) == pytest.approx(float(expected), abs=1e-6)
    assert float(nsd(t, at_0, at_mu, 1.0)) == pytest.approx(1e-6, abs=1e-8)


def test_symmetric_pairs_differ_by_amplitude_alone():
    a, b = torch.tensor([0.9, 0.2, 0.0]), torch.tensor([0.3, -0.5, 0.4])
    t = drawn(64, 3, 0)
    t = t / t.norm(dim=1, keepdim=True) * 1.5
    assert float((t @ torch.stack([a, b]).T).abs().max()) < math.pi / 2
    sides = torch.stack([a, -a]), torch.stack([b, -b])
    expected = float(((t @ a).cos() - (t @ b).cos()).abs().mean())
    assert float(nsd(t, *sides, 1.0)) == pytest.approx(expected, abs=1e-6)
    assert float(nsd(t, *sides, 0.0)) <= 1e-5


def test_at_one_half_it_is_the_distance_of_the_characteristic_functions():
    t, a, b = drawn(32, 6, 0, torch.float64), drawn(200, 6, 1, torch.float64), drawn(90, 6, 2, torch.float64) + 0.5
    psi = [torch.exp(1j * (t @ z.T)).mean(dim=1) for z in (a, b)]
    expected = float((psi[0] - psi[1]).abs().mean()) / math.sqrt(2)
    assert float(nsd(t, a, b, 0.5)) == pytest.approx(expected, abs=1e-9)


def test_what_gaussians_differ_in_is_seen_where_it_must_be():
    """Closed forms, at e1, e2, e1 + e2 and (1, 1, 1, 1) / 2."""
    n, tolerance = 20_000, 0.015
    t = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0.5, 0.5, 0.5, 0.5]])
    plain, other = drawn(n, 4, 5), drawn(n, 4, 6)

    def seen(a: Tensor, b: Tensor, kappa: float) -> list[float]:
        return [float(nsd(row[None], a, b, kappa)) for row in t]

    def correlated(z: Tensor, rho: float) -> Tensor:
        return torch.cat([z[:, :1], rho * z[:, :1] + math.sqrt(1 - rho**2) * z[:, 1:2], z[:, 2:]], dim=1)

    shifted = other + torch.tensor([0.8, 0, 0, 0])
    assert seen(plain, shifted, 0.0) == pytest.approx([0.4724, 0, 0.2865, 0.2410], abs=tolerance)
    assert seen(plain, 1.5 * other, 1.0) == pytest.approx([0.2819, 0.2819, 0.2625, 0.2819], abs=tolerance)
    assert max(seen(plain, 1.5 * other, 0.0)) <= tolerance
    e1, e2, both, _ = seen(correlated(plain, 0.9), correlated(other, -0.9), 1.0)
    assert (e1, e2, both) == pytest.approx((0, 0, 0.7553), abs=tolerance)
    assert max(seen(plain, other, 0.0) + seen(plain, other, 1.0)) <= tolerance


def test_rotating_repeating_and_chunking_change_nothing():
    t, a, b = drawn(24, 6, 0), drawn(300, 6, 1), drawn(200, 6, 2) + 0.5
    value = float(nsd(t, a, b, 0.3))
    q = torch.linalg.qr(drawn(6, 6, 3))[0]
    assert float(nsd(t @ q.T, a @ q.T, b @ q.T, 0.3)) == pytest.approx(value, abs=1e-6)
    assert float(nsd(t.repeat(16, 1), a, b, 0.3)) == pytest.approx(value, abs=1e-7)
    for chunk in (1, 7, 24):
        assert float(nsd(t.repeat(2, 1), a, b, 0.3, chunk=chunk)) == pytest.approx(value, abs=1e-6)


def test_chunks_leave_the_gradient_alone():
    parts = [part.requires_grad_() for part in (drawn(10, 4, 0), drawn(30, 4, 1), drawn(20, 4, 2) + 0.5)]
    whole, chunked = (torch.autograd.grad(nsd(*parts, 0.5, chunk=chunk), parts) for chunk in (None, 3))
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(whole, chunked, strict=True))


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_gradients_are_those_of_finite_differences(kappa: float):
    parts = [part.requires_grad_() for part in (
        drawn(5, 3, 0, torch.float64), drawn(6, 3, 1, torch.float64), drawn(4, 3, 2, torch.float64) + 0.5
    )]  # fmt: skip
    assert torch.autograd.gradcheck(lambda t, zs, zt: nsd(t, zs, zt, kappa), parts)


@pytest.mark.parametrize("kappa", KAPPAS)
def test_gradients_are_finite_where_nothing_differs(kappa: float):
    t = torch.cat([torch.zeros(1, 4), drawn(5, 4, 0)])
    parts = [part.clone().requires_grad_() for part in (t, drawn(20, 4, 1), drawn(20, 4, 1))]
    gradients = torch.autograd.grad(nsd(*parts, kappa), parts)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert float(nsd(torch.zeros(1, 4), drawn(20, 4, 1), drawn(9, 4, 2), kappa)) <= 1e-4


def test_half_precision_is_left_behind():
    t, a, b = drawn(8, 16, 0), drawn(100, 16, 1), drawn(100, 16, 2) + 0.2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nsd(t, a, b, 0.5)
    assert found.dtype == torch.float32
    assert torch.equal(found, nsd(t, a, b, 0.5))
    assert nsd(t.bfloat16(), a.bfloat16(), b.bfloat16(), 0.5).dtype == torch.float32


def test_sides_that_cannot_be_compared_are_refused():
    t, z = drawn(4, 3, 0), drawn(5, 3, 1)
    for sides in ((z[:0], z), (z, z[:0]), (z, z[:, :2])):
        with pytest.raises(InvalidInput, match="one row at least"):
            nsd(t, *sides, 0.5)
    with pytest.raises(InvalidInput, match="kappa"):
        nsd(t, z, z, 1.5)
    with pytest.raises(InvalidInput, match="two rows"):
        FrequencySampler(3, 1, "tanh", torch.Generator())


@pytest.mark.parametrize(
    ("kind", "rows", "length"),
    [
        ("tanh", 16, (6.4, 7.8)),
        ("frozen", 16, (6.4, 7.8)),
        ("gaussian", 16, (6.4, 7.8)),
        ("scale-mixture", 256, (0.4, 0.9)),
    ],
)
def test_samplers_draw_from_their_own_generator(kind: SamplerKind, rows: int, length: tuple[float, float]):
    before = torch.get_rng_state()
    sampler, same = (FrequencySampler(128, 16, kind, torch.Generator().manual_seed(1)) for _ in range(2))
    t = sampler().detach()
    assert torch.equal(torch.get_rng_state(), before)
    assert t.shape == (rows, 128)
    assert length[0] < float(t.norm(dim=1).mean()) < length[1]
    assert torch.equal(t, same.eval()()), "batch norm counts the draw at hand in every mode"
    assert not torch.equal(t, sampler())
    assert (kind == "gaussian") or float(sampler().detach().abs().max()) < (4 if kind == "scale-mixture" else 1)
    assert any(p.requires_grad for p in sampler.parameters()) == (kind in ("tanh", "scale-mixture"))


def test_a_step_down_reaches_the_rows_and_not_the_sampler():
    sampler = FrequencySampler(8, 16, "tanh", torch.Generator().manual_seed(0))
    zs, zt = drawn(50, 8, 1).requires_grad_(), (drawn(60, 8, 2) + 0.5).requires_grad_()
    value, t, figures = descend(sampler, zs, zt, SpectralConfig().kappa)
    value.backward()
    assert not t.requires_grad
    assert all(p.grad is None for p in sampler.parameters())
    assert all(z.grad is not None and float(z.grad.abs().max()) > 0 for z in (zs, zt))
    assert figures["nsd"] == pytest.approx(float(value.detach()))
    assert 0 <= figures["source_modulus_min"] <= figures["source_modulus_median"] <= figures["source_modulus_max"] <= 1


def searched(kind: SamplerKind, seed: int, steps: int) -> tuple[float, float, float]:
    """After the ascent, of 50 draws: the discrepancy, the shifted coordinate's share of mean t², mean |t|."""
    zs, zt = drawn(2000, 16, 10 + seed), drawn(2000, 16, 20 + seed)
    zt[:, 0] += 0.5
    sampler = FrequencySampler(16, 16, kind, torch.Generator().manual_seed(seed))
    learnt = [p for p in sampler.parameters() if p.requires_grad]
    if learnt:
        optimiser = torch.optim.Adam(learnt, lr=5e-3)
        for _ in range(steps):
            ascend(sampler, optimiser, zs, zt, 0.5)
    with torch.no_grad():
        t = torch.cat([sampler() for _ in range(50)])
    share = t.square().mean(dim=0)
    return float(nsd(t, zs, zt, 0.5)), float(share[0] / share.sum()), float(t.norm(dim=1).mean())


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_the_sampler_finds_the_direction_of_a_shift(seed: int):
    start, share, length = searched("tanh", seed, 0)
    assert start < 0.05
    assert share == pytest.approx(1 / 16, abs=0.02)
    assert length == pytest.approx(2.5, abs=0.2)
    found, share, length = searched("tanh", seed, 200)
    assert found >= 0.15
    assert share >= 0.6
    assert length < 1.5


def test_a_frozen_sampler_finds_nothing():
    assert searched("frozen", 0, 200)[1] == pytest.approx(1 / 16, abs=0.02)
    assert not list(FrequencySampler(16, 16, "gaussian", torch.Generator()).parameters())


def test_gaussian_frequencies_have_their_variance():
    t = gaussian_frequencies(20_000, 4, 0.09, torch.Generator().manual_seed(0))
    assert float(t.var()) == pytest.approx(0.09, rel=0.02)
