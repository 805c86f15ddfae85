"""MMD against its defining formula, and an adversary's reversed gradient."""

import math

import pytest
import torch
from torch import Tensor

from facetrail.models.graph.baselines import (
    domain_loss,
    drawn_rows,
    mmd,
    reversal_coefficient,
    reverse_gradient,
)


def drawn(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_differences(a: Tensor, b: Tensor) -> Tensor:
    """The released form, with every difference written out."""
    m, x = len(a), torch.cat([a, b])
    squared = (x[:, None] - x[None]).square().sum(-1)
    beta = squared.sum().detach() / (4 * m * m - 2 * m) / 4
    k = sum((-squared / (beta * 2**i)).exp() for i in range(5))
    return (k[:m, :m] + k[m:, m:] - k[:m, m:] - k[m:, :m]).mean()


def test_equal_samples_have_no_discrepancy():
    a = drawn(50, 8, 0)
    assert abs(float(mmd(a, a.clone()))) <= 1e-6


def test_value_and_gradient_are_those_of_the_difference_tensor():
    a, b = drawn(60, 16, 1).requires_grad_(), drawn(60, 16, 2) + 0.5
    ours, theirs = mmd(a, b), by_differences(a, b)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    gradients = [torch.autograd.grad(value, a)[0] for value in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_a_larger_shift_is_a_larger_value():
    a, b = drawn(200, 4, 3), drawn(200, 4, 4)
    values = [float(mmd(a, b + shift)) for shift in (0, 0.5, 1, 2)]
    assert values == sorted(values)
    assert values[-1] > 10 * values[0]


def test_rows_that_are_all_equal_cost_nothing():
    rows = torch.ones(5, 3, requires_grad=True)
    value = mmd(rows, torch.ones(5, 3))
    assert value.item() == 0
    assert torch.equal(torch.autograd.grad(value, rows)[0], torch.zeros(5, 3))


def test_rows_are_drawn_with_replacement_by_their_generator():
    rows = torch.arange(3.0)[:, None]
    one, same = (drawn_rows(rows, 100, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, same)
    assert set(one[:, 0].tolist()) == {0.0, 1.0, 2.0}


def test_the_gradient_comes_back_times_minus_the_coefficient():
    x = drawn(4, 3, 5).requires_grad_()
    plain = torch.autograd.grad(x.pow(3).sum(), x)[0]
    assert torch.equal(reverse_gradient(x, 0.3), x)
    assert torch.allclose(torch.autograd.grad(reverse_gradient(x, 0.3).pow(3).sum(), x)[0], -0.3 * plain)


def test_the_coefficient_climbs_from_0_to_nearly_1():
    assert reversal_coefficient(0) == 0
    assert reversal_coefficient(1) == pytest.approx(2 / (1 + math.exp(-10)) - 1)
    assert reversal_coefficient(0.1) == pytest.approx(0.46212, abs=1e-5)


def test_undecided_domains_cost_log_2_and_known_ones_nothing():
    assert float(domain_loss(torch.zeros(3, 2), torch.zeros(5, 2))) == pytest.approx(math.log(2))
    sure = torch.tensor([[50.0, 0.0]])
    assert float(domain_loss(sure.expand(3, 2), sure.flip(1).expand(2, 2))) == pytest.approx(0, abs=1e-6)
