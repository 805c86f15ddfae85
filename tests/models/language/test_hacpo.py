"""HACPO: worked examples, guards, calibration by simulation, and the limit cases in which it is GSPO."""

import math
from typing import Literal

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from facetrail.models.errors import InvalidInput
from facetrail.models.language.advantages import advantages
from facetrail.models.language.hacpo import (
    ARMS,
    HacpoConfig,
    calibrated_mean,
    delta_for,
    foreign_objective,
    guarded_mean,
    hacpo,
    joint_advantages,
    mean_log_prob,
    source_order,
    source_weights,
    without_end,
)
from facetrail.models.language.policy_losses import ClipConfig, Denominators, aggregate, gspo

CONFIG = HacpoConfig()
TINY = HacpoConfig(lo=0.02, hi=0.03, delta=0.6)
WEAK, STRONG = 0, 1
RATIOS = torch.tensor([[1, 0.4 / 0.6], [0.6 / 0.4, 1]], dtype=torch.float64)
REWARDS = torch.tensor([1, 0, 1, 0, 1, 1, 1, 0], dtype=torch.float64)
AGENTS = torch.tensor([0] * 4 + [1] * 4)
ONE_PROMPT = torch.zeros(8, dtype=torch.long)


@pytest.mark.parametrize(
    ("learner", "for_one", "for_zero", "weight"),
    [(WEAK, 0.966090, -0.966090, 1.5), (STRONG, 0.483045, -1.449135, 2 / 3)],
)
def test_worked_example(learner: int, for_one: float, for_zero: float, weight: float) -> None:
    found = joint_advantages(REWARDS, ONE_PROMPT, AGENTS, RATIOS, learner=learner, config=CONFIG)
    assert found.tolist() == pytest.approx([for_one if r else for_zero for r in REWARDS.tolist()], abs=6e-7)
    weights = source_weights(RATIOS, AGENTS, learner=learner, config=CONFIG)
    assert weights.tolist() == pytest.approx([1.0 if a == learner else weight for a in AGENTS.tolist()])


def test_the_source_baseline_is_the_papers_method_section() -> None:
    config = HacpoConfig(foreign_baseline="source")
    found = joint_advantages(REWARDS, ONE_PROMPT, AGENTS, RATIOS, learner=WEAK, config=config)
    own, foreign = (joint_advantages(REWARDS, ONE_PROMPT, AGENTS, RATIOS, learner=k, config=CONFIG) for k in (0, 1))
    assert torch.equal(found, torch.cat([own[:4], foreign[4:]]))


def test_without_calibration_the_mean_is_plain() -> None:
    found = joint_advantages(REWARDS, ONE_PROMPT, AGENTS, RATIOS, learner=WEAK, config=CONFIG.arm("no_calibration"))
    assert torch.equal(found, advantages(REWARDS, ONE_PROMPT))
    assert source_weights(RATIOS, AGENTS, learner=WEAK, config=CONFIG.arm("no_weight")).tolist() == [1] * 8


def test_a_baseline_beyond_every_reward_gives_way_to_the_agents_own() -> None:
    rewards = torch.tensor([1, 1, 1, 1, 1, 1, 1, 0], dtype=torch.float64)
    ratios = torch.tensor([[1, 3], [1 / 3, 1]], dtype=torch.float64)
    known = torch.ones(8, dtype=torch.bool)
    assert calibrated_mean(rewards, ONE_PROMPT, ratios[0][AGENTS], known)[0] == 1.625
    assert guarded_mean(rewards, ONE_PROMPT, AGENTS == 0, ratios[0][AGENTS], known)[0] == 1
    found = joint_advantages(rewards, ONE_PROMPT, AGENTS, ratios, learner=0, config=CONFIG)
    assert found.tolist() == pytest.approx([0] * 7 + [-2.828419], abs=6e-7)


def test_the_guard_is_off_for_rewards_beyond_one() -> None:
    rewards = torch.tensor([2, 0, 2, 2, 2, 2, 2, 0], dtype=torch.float64)
    ratios = torch.tensor([[1, 3], [1 / 3, 1]], dtype=torch.float64)
    known = torch.ones(8, dtype=torch.bool)
    assert guarded_mean(rewards, ONE_PROMPT, AGENTS == 0, ratios[0][AGENTS], known)[0] == (6 + 18) / 8


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0])
def test_equal_rewards_teach_exactly_nothing(reward: float) -> None:
    rewards = torch.full((6,), reward, dtype=torch.float64)  # the mean of six times .1 is not .1
    agents, prompts = AGENTS[1:7], ONE_PROMPT[:6]
    known = torch.ones(6, dtype=torch.bool)
    ratios = torch.tensor([[1, 3], [1 / 3, 1]], dtype=torch.float64)
    for learner in (0, 1):
        mean = guarded_mean(rewards, prompts, agents == learner, ratios[learner][agents], known)
        assert mean.tolist() == pytest.approx([reward] * 6)
        assert not joint_advantages(rewards, prompts, agents, ratios, learner=learner, config=CONFIG).any()


def test_agents_that_answer_unequally_often_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\[4, 3\] rollouts"):
        joint_advantages(REWARDS[:7], ONE_PROMPT[:7], AGENTS[:7], RATIOS, learner=0, config=CONFIG)
    with pytest.raises(InvalidInput, match="names agent 2"):
        joint_advantages(REWARDS, ONE_PROMPT, AGENTS + 1, RATIOS, learner=0, config=CONFIG)


def test_a_rollout_without_a_verdict_gets_nothing_and_gives_nothing() -> None:
    valid = torch.tensor([True] * 7 + [False])
    filled = REWARDS.clone()
    filled[7] = math.nan
    found = joint_advantages(filled, ONE_PROMPT, AGENTS, RATIOS, learner=WEAK, config=CONFIG, valid=valid)
    mean, std = (2 + 2 / 3 * 3) / 7, REWARDS[:7].std().item()
    assert found[7] == 0
    assert found[:7].tolist() == pytest.approx([(r - mean) / (std + 1e-6) for r in REWARDS[:7].tolist()])


@pytest.fixture(scope="module")
def simulated() -> tuple[Tensor, Tensor]:
    """Rewards of 200,000 prompts, eight rollouts of each agent, p = .3 and .7. → (prompts · 16,), prompt ids."""
    chances = torch.tensor([0.3] * 8 + [0.7] * 8, dtype=torch.float64).expand(200_000, 16)
    rewards = torch.bernoulli(chances, generator=torch.Generator().manual_seed(8))
    return rewards.flatten(), torch.arange(200_000).repeat_interleave(16)


def per_prompt(agent: int, simulated: tuple[Tensor, Tensor], *, ratio: float, guards: bool) -> tuple[Tensor, Tensor]:
    """The agent's own mean reward, and its baseline. → two (prompts,)."""
    rewards, ids = simulated
    is_own = (torch.arange(16) // 8 == agent).repeat(200_000)
    weights, known = torch.where(is_own, 1.0, ratio).double(), torch.ones_like(is_own)
    if guards:
        mean = guarded_mean(rewards, ids, is_own, weights, known)
    else:
        mean = calibrated_mean(rewards, ids, weights, known)
    return rewards.view(-1, 2, 8)[:, agent].mean(1), mean.view(-1, 16)[:, 0]


@pytest.mark.parametrize(("agent", "ratio", "variance"), [(0, 3 / 7, 0.00777), (1, 7 / 3, 0.0423)])
def test_the_joint_baseline_is_calibrated(
    agent: int, ratio: float, variance: float, simulated: tuple[Tensor, Tensor]
) -> None:
    own, mean = per_prompt(agent, simulated, ratio=ratio, guards=False)
    difference = own - mean
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(difference))
    assert mean.var().item() == pytest.approx(variance, rel=0.02)


def test_the_naive_joint_mean_is_not(simulated: tuple[Tensor, Tensor]) -> None:
    own, mean = per_prompt(0, simulated, ratio=1, guards=False)
    assert (own - mean).mean().item() == pytest.approx(-0.200, abs=0.002)
    assert own.var().item() == pytest.approx(0.02625, rel=0.02)  # what the weak agent's own baseline would vary by


def test_the_guards_favour_the_strong_agent(simulated: tuple[Tensor, Tensor]) -> None:
    raw = per_prompt(1, simulated, ratio=7 / 3, guards=False)[1]
    assert (raw > 1).double().mean().item() == pytest.approx(0.085, abs=0.002)
    own, mean = per_prompt(1, simulated, ratio=7 / 3, guards=True)
    assert (own - mean).mean().item() == pytest.approx(0.024, abs=0.002)


@pytest.mark.parametrize(
    ("s", "m", "alpha", "derivative"),
    [
        (0.9, 0, 1, 0.972),
        (0.86, 0, 1, 0.887520),
        (0.86, 3, 1, 0),
        (0.79, 0, 1, 0),
        (1.0, 0, 1, 1.2),
        (1.0, 40, 1, 1.2),  # the bound stops at 1
        (1 + 5e-7, 0, 1, 1.2),  # rounding between twins is no disagreement
        (1.01, 0, 1, 0),
        (0.9, 0, 3, 0.787320),
        (0.9, 0, 0, 1.08),
    ],
)
def test_derivative_of_the_foreign_objective(s: float, m: int, alpha: float, derivative: float) -> None:
    log_ratio = torch.tensor([math.log(s)], dtype=torch.float64, requires_grad=True)
    a, w = torch.tensor([0.8], dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)
    objective, kept = foreign_objective(log_ratio, a, w, n_updates=m, config=HacpoConfig(alpha=alpha))
    found = torch.autograd.grad(objective.sum(), log_ratio)[0].item()
    assert found == pytest.approx(derivative, abs=3e-6)
    assert (found == 0) == (derivative == 0) == (not kept.item())


@pytest.mark.parametrize("sign", [1, -1])
def test_outside_the_bounds_the_sign_does_not_matter(sign: int) -> None:
    log_ratio = torch.tensor([0.7, 0.9, 1.2], dtype=torch.float64).log().requires_grad_()
    objective, kept = foreign_objective(log_ratio, sign * torch.ones(3), torch.ones(3), n_updates=0, config=CONFIG)
    gradient = torch.autograd.grad(objective.sum(), log_ratio)[0]
    assert (gradient != 0).tolist() == kept.tolist() == [False, True, False]
    bare = foreign_objective(log_ratio, torch.ones(3), torch.ones(3), n_updates=0, config=CONFIG.arm("no_bound"))
    assert bare[1].all()
    assert bare[0].tolist() == pytest.approx([0.49, 0.81, 1.44])  # c · detach(c) without a bound


def test_only_alpha_zero_delta_one_is_the_importance_weight_capped_at_one() -> None:
    config = HacpoConfig(alpha=0, delta=1, delta_step=0)
    s = torch.tensor([1e-4, 0.3, 0.999, 1.7], dtype=torch.float64)
    objective, _ = foreign_objective(s.log(), torch.full((4,), -2.0), torch.ones(4), n_updates=7, config=config)
    assert objective.tolist() == pytest.approx([-2e-4, -0.6, -1.998, -2 * (1 + 1e-6)])


def test_naive_sharing_treats_foreign_rows_as_own() -> None:
    config = TINY.arm("naive")
    generator = torch.Generator().manual_seed(2)
    log_probs, behaviour = (-torch.rand(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    a, mask = torch.randn(6, generator=generator, dtype=torch.float64), torch.ones(6, 4, dtype=torch.bool)
    is_own = torch.tensor([True] * 3 + [False] * 3)
    weights = torch.full((6,), 3.0)
    found = hacpo(
        log_probs, behaviour, mean_log_prob(behaviour, mask), a, weights / 3, is_own, mask, n_updates=3, config=config
    )
    own = gspo(log_probs, behaviour, a, mask, ClipConfig(lo=0.02, hi=0.03))
    assert torch.allclose(found.values, own.values, atol=1e-15)
    assert found.own.n_clipped + 3 - found.n_kept == own.n_clipped
    assert not config.calibrate
    assert not config.weigh


class Toy(nn.Module):
    """The smallest language model: the next token from the present one. Prompts are one token."""

    def __init__(self, seed: int, n_tokens: int = 7, dim: int = 6) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randn(n_tokens, dim, generator=generator, dtype=torch.float64))
        self.head = nn.Parameter(torch.randn(dim, n_tokens, generator=generator, dtype=torch.float64))

    def log_probs(self, prompts: Tensor, completions: Tensor) -> Tensor:
        before = torch.cat([prompts.unsqueeze(1), completions[:, :-1]], dim=1)
        logits = self.table[before].tanh() @ self.head
        return logits.log_softmax(-1).gather(2, completions.unsqueeze(2)).squeeze(2)


def rollouts(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prompts (n,), completions (n, 5), mask and rewards of two groups; what is learnt from does not matter here."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (n, 1), generator=generator)
    return (
        torch.randint(7, (n,), generator=generator),
        torch.randint(7, (n, 5), generator=generator),
        lengths > torch.arange(5),
        torch.randint(2, (n,), generator=generator).double(),
    )


def fitted(kind: Literal["gspo", "hacpo"]) -> Toy:
    """Ten steps of two minibatches each on the rollouts of one agent."""
    model, clip = Toy(0), ClipConfig(lo=0.02, hi=0.03)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    alone = torch.zeros(8, dtype=torch.long)
    for step in range(10):
        prompts, completions, mask, rewards = rollouts(8, seed=step)
        ids = torch.arange(2).repeat_interleave(4)
        behaviour = model.log_probs(prompts, completions).detach()
        if kind == "gspo":
            a = advantages(rewards, ids)
        else:
            a = joint_advantages(rewards, ids, alone, torch.ones(1, 1), learner=0, config=TINY)
        for m, rows in enumerate((slice(0, 4), slice(4, 8))):
            log_probs = model.log_probs(prompts[rows], completions[rows])
            if kind == "gspo":
                values = gspo(log_probs, behaviour[rows], a[rows], mask[rows], clip).values
            else:
                means, is_own = mean_log_prob(behaviour[rows], mask[rows]), torch.ones(4, dtype=torch.bool)
                terms = hacpo(
                    log_probs, behaviour[rows], means, a[rows], torch.ones(4), is_own, mask[rows],
                    n_updates=m, config=TINY,
                )  # fmt: skip
                assert terms.kept_rate == 1
                values = terms.values
            loss = aggregate(values, mask[rows], Denominators.of(mask[rows]), how="row_mean")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model


def test_one_agent_alone_is_gspo_bit_for_bit() -> None:
    one, other, start = fitted("gspo"), fitted("hacpo"), Toy(0)
    for p, q, p0 in zip(one.parameters(), other.parameters(), start.parameters(), strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, p0)


def gradients(loss: Tensor, model: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in found])


def test_two_equal_agents_in_one_minibatch_are_gspo_with_twice_the_rollouts() -> None:
    model = Toy(1)
    prompts, completions, mask, rewards = rollouts(16, seed=4)
    ids, agents = torch.arange(2).repeat_interleave(8), torch.arange(2).repeat_interleave(4).repeat(2)
    behaviour = model.log_probs(prompts, completions).detach()
    a = joint_advantages(rewards, ids, agents, torch.ones(2, 2), learner=0, config=TINY)
    assert torch.equal(a, advantages(rewards, ids))
    log_probs = model.log_probs(prompts, completions)
    terms = hacpo(
        log_probs, behaviour, mean_log_prob(behaviour, mask), a, torch.ones(16), agents == 0, mask,
        n_updates=0, config=TINY,
    )  # fmt: skip
    assert torch.equal(terms.foreign_ratios, torch.ones(8, dtype=torch.float64))
    plain = gspo(log_probs, behaviour, a, mask, ClipConfig(lo=0.02, hi=0.03))
    denominators = Denominators.of(mask)
    ours, theirs = (aggregate(x.values, mask, denominators, how="row_mean") for x in (terms, plain))
    expected = gradients(theirs, model)
    assert expected.norm() > 0.01
    assert torch.allclose(gradients(ours, model), expected, rtol=0, atol=1e-15)


def foreign_batch() -> tuple[Toy, Tensor, Tensor, Tensor, Tensor]:
    """A learner, its log-probs of foreign rows, their mask, the sources' means and advantages."""
    model = Toy(2)
    prompts, completions, mask, _ = rollouts(12, seed=9)
    log_probs = model.log_probs(prompts, completions)
    generator = torch.Generator().manual_seed(1)
    shift = 0.6 * torch.randn(12, generator=generator, dtype=torch.float64)
    means = mean_log_prob(log_probs.detach(), mask) + shift
    return model, log_probs, mask, means, torch.randn(12, generator=generator, dtype=torch.float64)


def test_discarded_rows_have_no_gradient_in_a_real_model() -> None:
    model, log_probs, mask, means, a = foreign_batch()
    own = torch.zeros(12, dtype=torch.bool)
    ones, nothing = torch.ones(12), torch.full_like(log_probs, math.nan)  # behaviour is not read at foreign rows
    terms = hacpo(log_probs, nothing, means, a, ones, own, mask, n_updates=0, config=TINY)
    discarded = (terms.foreign_ratios < 0.4) | (terms.foreign_ratios > 1 + 1e-6)
    assert 0 < int(discarded.sum()) < 12
    assert terms.n_kept == 12 - int(discarded.sum())
    assert terms.kept_rate == terms.n_kept / 12

    def norm(rows: Tensor) -> float:
        """Discarded rows stay in the denominator."""
        loss = aggregate(terms.values[rows], mask[rows], Denominators.of(mask), how="row_mean")
        return gradients(loss, model).norm().item()

    assert norm(discarded) == 0
    assert norm(~discarded) == pytest.approx(norm(torch.ones(12, dtype=torch.bool)), abs=1e-15)
    assert norm(~discarded) > 0


def test_twice_the_weight_is_twice_the_foreign_gradient() -> None:
    model, log_probs, mask, means, a = foreign_batch()
    own = torch.zeros(12, dtype=torch.bool)

    def gradient(weight: float) -> Tensor:
        weights = torch.full((12,), weight)
        terms = hacpo(log_probs, log_probs, means, a, weights, own, mask, n_updates=2, config=TINY)
        loss = aggregate(terms.values, mask, Denominators.of(mask), how="row_mean")
        return gradients(loss, model)

    assert gradient(1.0).norm() > 0
    assert torch.allclose(gradient(2.0), 2 * gradient(1.0), rtol=1e-14)


def test_padding_changes_no_bit() -> None:
    _, log_probs, mask, means, a = foreign_batch()
    own = torch.tensor([True, False] * 6)

    def values(fill: float) -> Tensor:
        padded = log_probs.detach().masked_fill(~mask, fill)
        means_ = means.masked_fill(own, fill)
        return hacpo(padded, padded, means_, a, torch.ones(12), own, mask, n_updates=0, config=TINY).values

    assert torch.equal(values(0.0), values(math.nan))
    assert not values(math.nan)[~mask].any()


def test_the_bound_rises_with_each_update() -> None:
    assert [round(CONFIG.lower_bound(m), 4) for m in (0, 2, 3, 8, 100)] == [0.8, 0.85, 0.875, 1.0, 1.0]
    assert HacpoConfig(delta_step=0).lower_bound(50) == 0.8


def test_delta_discards_the_share_that_was_asked_for() -> None:
    ratios = torch.linspace(0.1, 1.0, 101)
    delta = delta_for(ratios)
    assert delta == pytest.approx(1 - 0.37)
    assert (ratios < 1 - delta).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert delta_for(torch.full((3,), 1.2)) == 0


def test_own_rows_come_first_and_sources_rotate() -> None:
    assert [source_order(k, 2, step=5) for k in range(2)] == [[0, 1], [1, 0]]
    assert [source_order(2, 4, step=t) for t in range(4)] == [[2, 3, 0, 1], [2, 0, 1, 3], [2, 1, 3, 0], [2, 3, 0, 1]]
    assert source_order(0, 1, step=3) == [0]


def test_dropping_the_end_token() -> None:
    eos = 6
    completions = torch.tensor([[1, 6, 3, 6], [6, 0, 0, 0], [1, 2, 3, 4], [1, 2, 6, 6]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    expected = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert without_end(mask, completions, eos).int().tolist() == expected


def test_every_arm_changes_what_it_says_and_nothing_else() -> None:
    base = HacpoConfig(lo=0.02, hi=0.03, delta=0.6, alpha=3)
    assert base.arm("full") == base
    for name, changes in ARMS.items():
        arm = base.arm(name)
        changed = {key for key, value in arm.model_dump().items() if value != getattr(base, key)}
        assert changed == changes.keys()
    with pytest.raises(ValidationError):
        HacpoConfig(deltas=0.3)  # type: ignore[call-arg]
