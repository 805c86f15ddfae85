"""Policy losses: golden values of TRL and verl, gradients, and what padding and micro-batches must not change."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.advantages import advantages
from facetrail.models.language.policy_losses import (
    KL_ESTIMATORS,
    POLICY_LOSSES,
    Aggregation,
    ClipConfig,
    Denominators,
    PolicyLossName,
    aggregate,
    k2,
    k3,
)

ROW, TOKEN = torch.arange(4, dtype=torch.float64).unsqueeze(1), torch.arange(5, dtype=torch.float64).unsqueeze(0)
LOG_PROBS = -0.2 - 0.1 * ((3 * ROW + 2 * TOKEN) % 7)
BEHAVIOUR = LOG_PROBS - 0.15 * (((ROW + 2 * TOKEN) % 5) - 2)
REFERENCE = LOG_PROBS + 0.04 * (((2 * ROW + TOKEN) % 3) - 1)
MASK = torch.tensor([5, 3, 4, 2]).unsqueeze(1) > TOKEN
ADVANTAGES = advantages(torch.tensor([1, 0, 0, 0.5], dtype=torch.float64), torch.zeros(4, dtype=torch.long), eps=1e-4)
TOKEN_CLIP, ROW_CLIP = ClipConfig(lo=0.2, hi=0.28), ClipConfig(lo=0.02, hi=0.03)
HOWS: tuple[Aggregation, ...] = get_args(Aggregation)
NAMES: tuple[PolicyLossName, ...] = get_args(PolicyLossName)


def loss_and_gradient(
    name: PolicyLossName, how: Aggregation, clip: ClipConfig = TOKEN_CLIP, *, beta: float = 0.0
) -> tuple[float, Tensor]:
    log_probs = LOG_PROBS.clone().requires_grad_()
    terms = POLICY_LOSSES[name](log_probs, BEHAVIOUR, ADVANTAGES, MASK, clip)
    values = terms.values + beta * k3(log_probs, REFERENCE, MASK)
    loss = aggregate(values, MASK, Denominators.of(MASK), how=how, max_tokens=5)
    return loss.item(), torch.autograd.grad(loss, log_probs)[0]


@pytest.mark.parametrize(
    ("how", "loss", "with_kl", "norm"),
    [
        ("row_mean", 0.006994, 0.007012, 0.195451),
        ("token_mean", -0.103206, -0.103187, 0.232843),
        ("fixed_length", -0.072244, -0.072231, 0.162990),
        ("row_sum", -0.361220, None, 0.814949),
    ],
)
def test_golden_ppo_clip(how: Aggregation, loss: float, with_kl: float | None, norm: float) -> None:
    value, gradient = loss_and_gradient("ppo_clip", how)
    assert value == pytest.approx(loss, abs=6e-7)
    assert gradient.norm().item() == pytest.approx(norm, abs=6e-7)
    if with_kl is not None:
        assert loss_and_gradient("ppo_clip", how, beta=0.04)[0] == pytest.approx(with_kl, abs=6e-7)


def test_golden_gspo() -> None:
    value, gradient = loss_and_gradient("gspo", "row_mean", ROW_CLIP)
    assert value == pytest.approx(0.016049, abs=6e-7)
    assert loss_and_gradient("gspo", "row_mean", ROW_CLIP, beta=0.04)[0] == pytest.approx(0.016067, abs=6e-7)
    assert gradient.norm().item() == pytest.approx(0.185111, abs=6e-7)
    assert not gradient[1].any()  # ratio .904837 with a negative advantage is clipped
    assert all(gradient[row].any() for row in (0, 2, 3))


def test_clip_counts_and_ratio_errors() -> None:
    tokens = POLICY_LOSSES["ppo_clip"](LOG_PROBS, BEHAVIOUR, ADVANTAGES, MASK, TOKEN_CLIP)
    assert (tokens.n_clipped, tokens.n_counted) == (2, 14)
    assert tokens.max_ratio_error == pytest.approx(math.exp(0.3) - 1)
    rows = POLICY_LOSSES["gspo"](LOG_PROBS, BEHAVIOUR, ADVANTAGES, MASK, ROW_CLIP)
    assert (rows.n_clipped, rows.n_counted, rows.clipped_rate) == (1, 4, 0.25)
    assert rows.max_ratio_error == pytest.approx(1 - 0.904837, abs=1e-6)
    at_once = POLICY_LOSSES["ppo_clip"](LOG_PROBS, LOG_PROBS, ADVANTAGES, MASK, TOKEN_CLIP)
    assert (at_once.clipped_rate, at_once.max_ratio_error) == (0, 0)


def test_golden_row_ratios() -> None:
    """With A = -1 and no clip, a row's value is its ratio."""
    values = POLICY_LOSSES["gspo"](LOG_PROBS, BEHAVIOUR, -torch.ones(4), MASK, ClipConfig(lo=1, hi=0)).values
    assert values[:, 0].tolist() == pytest.approx([1, 0.904837, 1.077884, 0.927743], abs=6e-7)
    assert torch.equal(values != 0, MASK)


def test_golden_kl_means() -> None:
    means = {name: kl(LOG_PROBS, REFERENCE, MASK).sum().item() / 14 for name, kl in KL_ESTIMATORS.items()}
    assert means == pytest.approx({"k1": 0.005714, "k2": 0.000457, "k3": 0.000456}, abs=6e-7)


def test_reinforce_by_hand() -> None:
    value, gradient = loss_and_gradient("reinforce", "row_sum")
    by_row = [-ADVANTAGES[i] * LOG_PROBS[i][MASK[i]].sum() for i in range(4)]
    assert value == pytest.approx(float(sum(by_row)) / 4)
    assert torch.allclose(gradient, -ADVANTAGES.unsqueeze(1) * MASK / 4)


def test_the_token_form_of_gspo_has_the_same_gradient() -> None:
    """verl's: the detached row ratio times exp(log-prob - detached log-prob), averaged per token in each row."""
    log_probs = LOG_PROBS.clone().requires_grad_()
    rows = (((log_probs - BEHAVIOUR) * MASK).sum(1) / MASK.sum(1)).exp().detach().unsqueeze(1)
    ratios = rows * (log_probs - log_probs.detach()).exp()
    a = ADVANTAGES.unsqueeze(1)
    values = -torch.minimum(ratios * a, ratios.clamp(0.98, 1.03) * a)
    loss = ((values * MASK).sum(1) / MASK.sum(1)).mean()
    expected = loss_and_gradient("gspo", "row_mean", ROW_CLIP)
    assert loss.item() == pytest.approx(expected[0], abs=1e-12)
    assert torch.allclose(torch.autograd.grad(loss, log_probs)[0], expected[1], atol=1e-14)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_kl_gradients_are_those_of_the_two_divergences(estimator: str) -> None:
    """Expected gradient over on-policy samples of a 5-way softmax: k2 → KL(π ‖ ref), k3 → KL(ref ‖ π)."""
    logits = torch.tensor([0.3, -1.2, 0.8, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-0.5, 0.4, 0.2, 1.1, -0.9], dtype=torch.float64).log_softmax(0)
    policy = logits.log_softmax(0)
    mask = torch.ones(1, 5, dtype=torch.bool)
    values = KL_ESTIMATORS[estimator](policy.unsqueeze(0), reference.unsqueeze(0), mask)  # type: ignore[index]
    expected = (policy.exp().detach() * values[0]).sum()
    exact = {
        "k2": (policy.exp() * (policy - reference)).sum(),
        "k3": (reference.exp() * (reference - policy)).sum(),
    }[estimator]
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (expected, exact))
    assert theirs.norm() > 0.1
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_k1_teaches_nothing_on_average() -> None:
    logits = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64, requires_grad=True)
    policy = logits.log_softmax(0)
    values = KL_ESTIMATORS["k1"](policy.unsqueeze(0), torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    gradient = torch.autograd.grad((policy.exp().detach() * values[0]).sum(), logits)[0]
    assert gradient.abs().max() < 1e-15


def differentiable(name: PolicyLossName, clip: ClipConfig) -> Callable[[Tensor], Tensor]:
    return lambda x: POLICY_LOSSES[name](x, BEHAVIOUR, ADVANTAGES, MASK, clip).values.sum()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: PolicyLossName) -> None:
    loss = differentiable(name, ROW_CLIP if name == "gspo" else TOKEN_CLIP)
    assert torch.autograd.gradcheck(loss, LOG_PROBS.clone().requires_grad_())


@pytest.mark.parametrize("padding", [math.nan, math.inf, -1e30, 1e30])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", HOWS)
def test_padding_changes_no_bit(name: PolicyLossName, how: Aggregation, padding: float) -> None:
    def run(fill: float) -> tuple[Tensor, Tensor]:
        log_probs = LOG_PROBS.masked_fill(~MASK, fill).requires_grad_()
        others = [x.masked_fill(~MASK, -fill) for x in (BEHAVIOUR, REFERENCE)]
        values = POLICY_LOSSES[name](log_probs, others[0], ADVANTAGES, MASK, TOKEN_CLIP).values
        values = values + 0.04 * k3(log_probs, others[1], MASK) + 0.01 * k2(log_probs, others[1], MASK)
        loss = aggregate(values, MASK, Denominators.of(MASK), how=how, max_tokens=5)
        return loss.detach(), torch.autograd.grad(loss, log_probs)[0]

    for clean, padded in zip(run(0.0), run(padding), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, padded)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", HOWS)
def test_micro_batches_add_up(name: PolicyLossName, how: Aggregation) -> None:
    generator = torch.Generator().manual_seed(3)
    log_probs = -torch.rand(8, 6, generator=generator, dtype=torch.float64)
    behaviour = log_probs + 0.3 * torch.randn(8, 6, generator=generator, dtype=torch.float64)
    a = torch.randn(8, generator=generator, dtype=torch.float64)
    mask = torch.tensor([1, 6, 3, 0, 2, 5, 4, 1]).unsqueeze(1) > torch.arange(6)
    denominators = Denominators.of(mask)
    assert denominators == Denominators(n_rows=7, n_tokens=22, n_empty=1)
    assert Denominators.of(mask[:4]) + Denominators.of(mask[4:]) == denominators

    def share(rows: slice) -> tuple[Tensor, Tensor]:
        leaf = log_probs.clone().requires_grad_()
        values = POLICY_LOSSES[name](leaf[rows], behaviour[rows], a[rows], mask[rows], TOKEN_CLIP).values
        loss = aggregate(values, mask[rows], denominators, how=how, max_tokens=6)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    whole, parts = share(slice(0, 8)), [share(slice(0, 4)), share(slice(4, 8))]
    for i in range(2):
        assert torch.allclose(parts[0][i] + parts[1][i], whole[i], atol=1e-12)


@pytest.mark.parametrize("how", HOWS)
def test_an_empty_row_is_left_out(how: Aggregation) -> None:
    values, mask = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)), torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    with_it = aggregate(values, mask, Denominators.of(mask), how=how, max_tokens=4)
    kept = mask[[0, 2]]
    assert torch.equal(with_it, aggregate(values[[0, 2]], kept, Denominators.of(kept), how=how, max_tokens=4))
    terms = POLICY_LOSSES["gspo"](values, values, torch.ones(3), mask, ROW_CLIP)
    assert terms.n_counted == 2


def test_nothing_to_learn_from_is_refused() -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(InvalidInput, match="no row"):
        aggregate(torch.ones(2, 3), mask, Denominators.of(mask), how="row_mean")
    with pytest.raises(InvalidInput, match="max_tokens"):
        aggregate(torch.ones(2, 3), ~mask, Denominators.of(~mask), how="fixed_length")


def test_the_ratio_cap_is_verls_dual_clip() -> None:
    """Beyond the cap a negative advantage costs cap · |A| and teaches nothing; a positive one is clipped as ever."""
    log_probs = torch.tensor([[1.0], [1.5], [1.5], [-3.0]], dtype=torch.float64, requires_grad=True)  # ratios e, e^1.5
    a = torch.tensor([-2.0, -2.0, 2.0, -2.0], dtype=torch.float64)
    mask = torch.ones(4, 1, dtype=torch.bool)
    clip = ClipConfig(lo=0.2, hi=0.28, ratio_cap=3)
    terms = POLICY_LOSSES["ppo_clip"](log_probs, torch.zeros(4, 1), a, mask, clip)
    assert terms.values.flatten().tolist() == pytest.approx([2 * math.e, 6, -2.56, 1.6])
    gradient = torch.autograd.grad(terms.values.sum(), log_probs)[0].flatten().tolist()
    assert gradient == pytest.approx([2 * math.e, 0, 0, 0])
    assert terms.n_clipped == 3
    uncapped = POLICY_LOSSES["ppo_clip"](log_probs, torch.zeros(4, 1), a, mask, TOKEN_CLIP)
    assert uncapped.values[1].item() == pytest.approx(2 * math.exp(1.5))
    with pytest.raises(ValidationError, match="ratio_cap"):
        ClipConfig(ratio_cap=1.2)


@pytest.mark.parametrize("name", NAMES)
def test_a_huge_log_ratio_stays_finite(name: PolicyLossName) -> None:
    log_probs = torch.tensor([[-200.0], [-0.1]], requires_grad=True)
    behaviour, mask = torch.tensor([[-0.1], [-200.0]]), torch.ones(2, 1, dtype=torch.bool)
    values = POLICY_LOSSES[name](log_probs, behaviour, torch.tensor([-1.0, -1.0]), mask, TOKEN_CLIP).values
    values = values + k3(log_probs, behaviour, mask)
    assert values.isfinite().all()
    assert torch.autograd.grad(values.sum(), log_probs)[0].isfinite().all()
