"""The credit of each rollout against its group, under the names that configurations use.

A group is the rollouts of one prompt, with rewards r, mean m and standard deviation s (n - 1, as in TRL and verl):
`grpo` (r - m) / (s + eps) (arXiv 2402.03300) · `dr_grpo` r - m (2503.20783) · `rloo` r_i minus the mean of the others
(2402.14740). Two without groups serve plain REINFORCE: `batch_mean` r minus the mean of the whole batch, `none` r
itself.

Ours: equal rewards give exactly 0, because r - m of equal rewards may be 1e-9, which eps = 1e-6 turns into 1e-3; a
rollout without a verdict is left out of the statistics and gets 0; sums run in float64 whatever the rewards' dtype.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput

AdvantageName = Literal["grpo", "dr_grpo", "rloo", "batch_mean", "none"]
EPS = 1e-6
"""Added to the standard deviation; verl's value (TRL: 1e-4)."""


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """What holds of each row's group, over its rows with a verdict. Every field is (n,), one value per row."""

    mean: Tensor
    std: Tensor
    """With n - 1; 0 for a group of one."""
    n_valid: Tensor
    size: Tensor
    """Rows with and without a verdict."""
    is_flat: Tensor
    """Whether all rewards are equal, or none is known: the group teaches nothing."""


def reward_tensor(rewards: Sequence[float | None], *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Rewards (n,), 0 where there is no verdict, and whether there is one (n,) bool."""
    valid = torch.tensor([reward is not None for reward in rewards], dtype=torch.bool)
    return torch.tensor([0.0 if reward is None else reward for reward in rewards], dtype=dtype), valid


def group_statistics(values: Tensor, group_ids: Tensor, valid: Tensor) -> GroupStatistics:
    """Statistics of values (n,) by group (n,), in float64. valid: (n,) bool."""
    group = torch.unique(group_ids, return_inverse=True)[1]
    known = values.double().masked_fill(~valid, 0)
    empty = known.new_zeros(int(group.max()) + 1 if len(group) else 0)

    def total(x: Tensor) -> Tensor:
        return empty.clone().index_add_(0, group, x)[group]

    def extreme(fill: float, how: str) -> Tensor:
        start = torch.full_like(empty, fill)
        return start.scatter_reduce_(0, group, known.masked_fill(~valid, fill), how)[group]

    n_valid = total(valid.double())
    mean = total(known) / n_valid.clamp_min(1)
    squares = total((known - mean).square().masked_fill(~valid, 0))
    return GroupStatistics(
        mean=mean,
        std=(squares / (n_valid - 1).clamp_min(1)).sqrt(),
        n_valid=n_valid,
        size=total(torch.ones_like(known)),
        is_flat=extreme(-math.inf, "amax") <= extreme(math.inf, "amin"),
    )


def grpo(rewards: Tensor, group_ids: Tensor, valid: Tensor, eps: float) -> Tensor:
    """(r - m) / (s + eps)."""
    groups = group_statistics(rewards, group_ids, valid)
    return _centred(rewards, groups) / (groups.std + eps)


def dr_grpo(rewards: Tensor, group_ids: Tensor, valid: Tensor, eps: float) -> Tensor:
    """r - m."""
    return _centred(rewards, group_statistics(rewards, group_ids, valid))


def rloo(rewards: Tensor, group_ids: Tensor, valid: Tensor, eps: float) -> Tensor:
    """r_i - sum_{j≠i} r_j / (g - 1), which is g / (g - 1) · (r_i - m)."""
    groups = group_statistics(rewards, group_ids, valid)
    return _centred(rewards, groups) * groups.n_valid / (groups.n_valid - 1).clamp_min(1)


def batch_mean(rewards: Tensor, group_ids: Tensor, valid: Tensor, eps: float) -> Tensor:
    """r minus the mean of all rewards: REINFORCE with the simplest baseline."""
    return _centred(rewards, group_statistics(rewards, torch.zeros_like(group_ids), valid))


def no_baseline(rewards: Tensor, group_ids: Tensor, valid: Tensor, eps: float) -> Tensor:
    """r: REINFORCE as it was first written. Equal rewards do teach here."""
    return rewards.double()


Estimator = Callable[[Tensor, Tensor, Tensor, float], Tensor]
ADVANTAGES: dict[AdvantageName, Estimator] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "batch_mean": batch_mean,
    "none": no_baseline,
}
NEED_PEERS: frozenset[AdvantageName] = frozenset({"grpo", "rloo"})
"""These compare a rollout with others of its prompt and say nothing of one alone."""


def advantages(
    rewards: Tensor,
    group_ids: Tensor,
    *,
    name: AdvantageName = "grpo",
    valid: Tensor | None = None,
    eps: float = EPS,
    ragged: bool = False,
) -> Tensor:
    """The advantage of each rollout. → (n,), of the rewards' dtype; exactly 0 where valid is False.

    rewards: (n,) · group_ids: (n,) int, equal for rollouts of one prompt · valid: (n,) bool, False where there is no
    verdict · ragged: groups may differ in size. Raises InvalidInput for groups of one rollout under `grpo` and `rloo`,
    for unequal groups unless ragged, and for a reward that is not finite.
    """
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    _check_groups(group_ids, name, ragged=ragged)
    check_finite(rewards, valid)
    found = ADVANTAGES[name](rewards, group_ids, valid, eps)
    return found.masked_fill(~valid, 0).to(rewards.dtype)


def zero_variance_rate(rewards: Tensor, group_ids: Tensor, valid: Tensor) -> float:
    """Share of groups whose rewards are all equal, or all unknown. 0 for no groups."""
    flat = group_statistics(rewards, group_ids, valid).is_flat
    n_groups = len(torch.unique(group_ids))
    return len(torch.unique(group_ids[flat])) / n_groups if n_groups else 0.0


def check_finite(rewards: Tensor, valid: Tensor) -> None:
    """Raises InvalidInput for a known reward that is infinite or no number."""
    bad = valid & ~rewards.isfinite()
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InvalidInput(
            f"the reward of row {row} is {rewards[row].item()}; a reward must be finite, or None where there is none"
        )


def _centred(rewards: Tensor, groups: GroupStatistics) -> Tensor:
    return (rewards.double() - groups.mean).masked_fill(groups.is_flat, 0)


def _check_groups(group_ids: Tensor, name: AdvantageName, *, ragged: bool) -> None:
    sizes = sorted({int(n) for n in torch.unique(group_ids, return_counts=True)[1]})
    if name in NEED_PEERS and 1 in sizes:
        raise InvalidInput(
            f"{name} compares a rollout with others of its prompt, and there is a group of one; sample at least two "
            "per prompt or take batch_mean"
        )
    if len(sizes) > 1 and not ragged:
        raise InvalidInput(
            f"groups have between {sizes[0]} and {sizes[-1]} rollouts; sample the same number for every prompt or set "
            "ragged"
        )
