"""Losses of next-item prediction: hand values, the plain cross-entropy as oracle, the sampled one against the full."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from facetrail.models.recommend import sequence_losses
from facetrail.models.recommend.sequence_losses import full_softmax, one_negative, sampled_softmax


def given(n: int = 37, d: int = 6, m: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(n, d, generator=draw, dtype=torch.float64, requires_grad=True)
    table = torch.randn(m, d, generator=draw, dtype=torch.float64, requires_grad=True)
    return states, torch.randint(0, m, (n,), generator=draw), table


@pytest.mark.parametrize("held", [1, 50, 1 << 20])  # a row at a time, four and a short last one, all at once
def test_full_softmax_is_cross_entropy_with_its_gradients(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_losses, "CPU_SCORES", held)
    states, targets, table = given()
    loss = full_softmax(states, targets, table)
    plain = cross_entropy(states @ table.T, targets)
    torch.testing.assert_close(loss, plain)
    ours = torch.autograd.grad(3 * loss, (states, table))
    torch.testing.assert_close(ours, torch.autograd.grad(3 * plain, (states, table)))


def test_full_softmax_survives_scores_that_overflow_an_exponential() -> None:
    states = torch.tensor([[1000.0], [1000.0]])
    table = torch.tensor([[1.0], [-1.0]])
    assert full_softmax(states, torch.tensor([0, 1]), table).item() == pytest.approx((0 + 2000) / 2)


def test_unavailable_items_leave_the_sum_and_learn_nothing() -> None:
    states, _, table = given()
    targets = torch.zeros(len(states), dtype=torch.int64)
    unavailable = torch.zeros(len(table), dtype=torch.bool)
    unavailable[3:] = True
    loss = full_softmax(states, targets, table, unavailable=unavailable)
    torch.testing.assert_close(loss, cross_entropy(states @ table[:3].T, targets))
    (gradient,) = torch.autograd.grad(loss, table)
    assert (gradient[3:] == 0).all()
    assert (gradient[:3] != 0).all()


def test_sampled_softmax_with_every_item_drawn_once_is_the_full_one() -> None:
    states, targets, table = given()
    m = len(table)
    sampled = sampled_softmax(states, targets, table, torch.arange(m), torch.full((m,), -math.log(m)))
    full = full_softmax(states, targets, table)
    torch.testing.assert_close(sampled, full, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(sampled, (states, table)), torch.autograd.grad(full, (states, table)), rtol=1e-6, atol=1e-6
    )


def test_log_q_correction_undoes_the_popularity_of_the_negatives() -> None:
    states, targets, table = (x.detach() / 2 if x.is_floating_point() else x for x in given(n=200, m=50))
    states[:, 0], table[:, 0] = 1, torch.linspace(-1, 1, 50)  # popular items score higher
    q = torch.arange(1, 51, dtype=torch.float64)
    q /= q.sum()
    negatives = torch.multinomial(q, 50_000, replacement=True, generator=torch.Generator().manual_seed(1))
    full = full_softmax(states, targets, table).item()
    assert sampled_softmax(states, targets, table, negatives, q.log()).item() == pytest.approx(full, abs=0.01)
    uniform = torch.full((50,), -math.log(50), dtype=torch.float64)
    assert sampled_softmax(states, targets, table, negatives, uniform).item() > full + 0.1


def test_one_negative_by_hand() -> None:
    states = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    table = torch.tensor([[2.0, 0.0], [3.0, 0.0]])
    loss = one_negative(states, torch.tensor([0, 0]), table, torch.tensor([1, 1]))
    first = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(3))
    assert loss.item() == pytest.approx((first + 2 * math.log(2)) / 2)
