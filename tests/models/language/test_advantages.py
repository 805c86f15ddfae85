"""Advantages: golden values, guards, and what scaling, shifting and permuting rewards may change."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.advantages import (
    ADVANTAGES,
    AdvantageName,
    advantages,
    group_statistics,
    reward_tensor,
    zero_variance_rate,
)

ONE_GROUP = torch.zeros(4, dtype=torch.long)
REWARDS = torch.tensor([1, 0, 0, 0.5], dtype=torch.float64)
GROUPED: list[AdvantageName] = ["grpo", "dr_grpo", "rloo"]

groups_of_four = st.lists(
    st.lists(st.floats(-3, 3).map(lambda r: round(r, 2)), min_size=4, max_size=4), min_size=1, max_size=4
)


def flattened(groups: list[list[float]]) -> tuple[Tensor, Tensor]:
    rewards = torch.tensor(groups, dtype=torch.float64)
    ids = torch.arange(len(groups)).unsqueeze(1).expand(rewards.shape)
    return rewards.flatten(), ids.flatten()


@pytest.mark.parametrize(
    ("name", "eps", "expected"),
    [
        ("grpo", 1e-4, [1.305310, -0.783186, -0.783186, 0.261062]),
        ("rloo", 1e-6, [0.833333, -0.5, -0.5, 0.166667]),
        ("dr_grpo", 1e-6, [0.625, -0.375, -0.375, 0.125]),
        ("batch_mean", 1e-6, [0.625, -0.375, -0.375, 0.125]),
        ("none", 1e-6, [1, 0, 0, 0.5]),
    ],
)
def test_golden_values(name: AdvantageName, eps: float, expected: list[float]) -> None:
    found = advantages(REWARDS, ONE_GROUP, name=name, eps=eps)
    assert found.tolist() == pytest.approx(expected, abs=6e-7)


@settings(max_examples=40, deadline=None)
@given(groups_of_four)
def test_rloo_leaves_one_out(groups: list[list[float]]) -> None:
    rewards, ids = flattened(groups)
    by_hand = [r - (sum(g) - r) / 3 for g in groups for r in g]
    by_hand = [0.0 if len(set(groups[i // 4])) == 1 else a for i, a in enumerate(by_hand)]
    assert advantages(rewards, ids, name="rloo").tolist() == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("name", [*GROUPED, "batch_mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_teach_exactly_nothing(name: AdvantageName, dtype: torch.dtype) -> None:
    rewards = torch.full((7,), 0.1, dtype=dtype)
    assert (rewards.double() - rewards.double().mean()).any() or dtype == torch.float32  # the mean itself is inexact
    assert not advantages(rewards, torch.zeros(7, dtype=torch.long), name=name).any()


@settings(max_examples=40, deadline=None)
@given(groups_of_four, st.sampled_from(GROUPED), st.randoms(use_true_random=False))
def test_permuting_rows_permutes_advantages(groups: list[list[float]], name: AdvantageName, random: object) -> None:
    rewards, ids = flattened(groups)
    order = list(range(len(rewards)))
    random.shuffle(order)  # type: ignore[attr-defined]
    expected = advantages(rewards, ids, name=name)[order]
    # Group numbers are names: any injective renaming will do.
    assert torch.allclose(advantages(rewards[order], 100 - 7 * ids[order], name=name), expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(groups_of_four, st.sampled_from([*GROUPED, "batch_mean"]), st.sampled_from([-2.0, 0.5, 4.0]))
def test_a_constant_added_to_rewards_changes_nothing(
    groups: list[list[float]], name: AdvantageName, constant: float
) -> None:
    rewards, ids = flattened(groups)
    before = advantages(rewards, ids, name=name)
    assert torch.allclose(advantages(rewards + constant, ids, name=name), before, atol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_scaling_rewards(factor: float) -> None:
    for name in ("dr_grpo", "rloo"):
        before = advantages(REWARDS, ONE_GROUP, name=name)
        assert torch.allclose(advantages(REWARDS * factor, ONE_GROUP, name=name), before * factor, atol=1e-12)
    before = advantages(REWARDS, ONE_GROUP)
    assert (advantages(REWARDS * factor, ONE_GROUP) - before).abs().max() < 1e-4


@pytest.mark.parametrize("name", GROUPED)
def test_a_rollout_without_a_verdict_is_as_if_it_were_not_there(name: AdvantageName) -> None:
    rewards, valid = reward_tensor([1, None, 0, 0.5, 0], dtype=torch.float64)
    assert valid.tolist() == [True, False, True, True, True]
    group = torch.zeros(5, dtype=torch.long)
    found = advantages(rewards, group, name=name, valid=valid)
    assert found[1] == 0
    alone = advantages(torch.tensor([1, 0, 0.5, 0], dtype=torch.float64), ONE_GROUP, name=name)
    assert torch.equal(found[valid], alone)


def test_what_stands_in_the_place_of_an_unknown_reward_does_not_matter() -> None:
    valid = torch.tensor([True, True, False, True])
    filled = [REWARDS.clone() for _ in range(2)]
    filled[0][2], filled[1][2] = math.nan, 1e9
    for name in ADVANTAGES:
        first, second = (advantages(rewards, ONE_GROUP, name=name, valid=valid) for rewards in filled)
        assert torch.equal(first, second)
        assert first[2] == 0


@pytest.mark.parametrize("name", GROUPED)
def test_one_verdict_in_a_group_says_nothing(name: AdvantageName) -> None:
    valid = torch.tensor([False, True, False, False])
    assert not advantages(REWARDS + 1, ONE_GROUP, name=name, valid=valid).any()
    assert not advantages(REWARDS + 1, ONE_GROUP, name=name, valid=torch.zeros(4, dtype=torch.bool)).any()


def test_a_group_of_one_is_refused_where_peers_are_needed() -> None:
    ids = torch.tensor([0, 1, 1])
    for name in ("grpo", "rloo"):
        with pytest.raises(InvalidInput, match="group of one"):
            advantages(torch.ones(3), ids, name=name, ragged=True)
    assert advantages(torch.tensor([0.5, 1, 0]), ids, name="dr_grpo", ragged=True).tolist() == [0, 0.5, -0.5]


def test_unequal_groups_are_refused_unless_ragged() -> None:
    ids = torch.tensor([0, 0, 1, 1, 1])
    rewards = torch.tensor([1, 0, 1, 0, 0], dtype=torch.float64)
    with pytest.raises(InvalidInput, match="between 2 and 3 rollouts"):
        advantages(rewards, ids)
    found = advantages(rewards, ids, name="dr_grpo", ragged=True)
    assert found.tolist() == pytest.approx([0.5, -0.5, 2 / 3, -1 / 3, -1 / 3])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused_by_row(bad: float) -> None:
    rewards = REWARDS.clone()
    rewards[2] = bad
    with pytest.raises(InvalidInput, match="row 2"):
        advantages(rewards, ONE_GROUP)


def test_the_batch_mean_crosses_groups() -> None:
    rewards, ids = torch.tensor([1.0, 1, 0, 0]), torch.tensor([0, 0, 1, 1])
    assert advantages(rewards, ids, name="batch_mean").tolist() == [0.5, 0.5, -0.5, -0.5]
    assert advantages(rewards, ids, name="dr_grpo").tolist() == [0, 0, 0, 0]


def test_statistics_are_those_of_torch() -> None:
    ids = torch.tensor([3, 9, 3, 9, 3, 9])
    values = torch.tensor([1.0, 2, 5, 4, 3, 3])
    found = group_statistics(values, ids, torch.ones(6, dtype=torch.bool))
    for group in (3, 9):
        members = values[ids == group].double()
        assert torch.allclose(found.mean[ids == group], members.mean())
        assert torch.allclose(found.std[ids == group], members.std())
    assert found.size.tolist() == found.n_valid.tolist() == [3] * 6


def test_zero_variance_rate_counts_groups() -> None:
    rewards = torch.tensor([1.0, 1, 0, 1, 0, 0, 1, 0])
    ids = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert zero_variance_rate(rewards, ids, torch.ones(8, dtype=torch.bool)) == 0.5
    without = torch.tensor([True] * 7 + [False])
    assert zero_variance_rate(rewards, ids, without) == 0.75
