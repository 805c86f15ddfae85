"""Different language models trained together on shared, verified rollouts (HACPO, arXiv 2603.02604).

Follows the paper: capability as a windowed mean (`capability.py`), the joint baseline with capability ratios (mechanism
1), foreign rows weighted by the source's capability (2) and by a detached power of their ratio (3), and a lower bound
that moves up with each update (4). Where the paper contradicts itself, and for all guards, the authors' code decides:
the learner's baseline serves foreign completions too, delta is 0.2 (bound 0.8), capability is the share of positive
rewards.

Ours:
1. the end token is kept; the authors drop it, and with it all signal on when to stop (`drop_end_token`);
2. the upper bound is 1 + 1e-6, since rounding alone would discard half of the rows of nearly equal agents;
3. own rows go through `gspo` with their token log-probs, so that one agent alone is GSPO bit for bit;
4. more than two agents: the formulas hold, and the order of the sources rotates with the step;
5. rewards beyond [0, 1]: the guard mu > 1 is off; a completion without a verdict is left out of all statistics;
6. naive sharing, which the paper names without defining: the joint mean unweighted, foreign rows under GSPO's loss.

The joint baseline is calibrated on average, not unbiased: the ratio is one number per batch, and the guard shifts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.advantages import EPS, check_finite, group_statistics
from facetrail.models.language.policy_losses import ClipConfig, PolicyTerms, gspo, spread

MAX_LOG_RATIO = 10.0
UPPER_BOUND = 1 + 1e-6

Arm = Literal["full", "naive", "no_calibration", "no_weight", "no_power", "no_bound"]
ARMS: Mapping[Arm, Mapping[str, Any]] = {
    "full": {},
    "naive": {"calibrate": False, "weigh": False, "alpha": 0.0, "foreign_clip": "gspo"},
    "no_calibration": {"calibrate": False},
    "no_weight": {"weigh": False},
    "no_power": {"alpha": 0.0},
    "no_bound": {"foreign_clip": "none"},
}
"""What each arm of the ablation changes."""


class HacpoConfig(BaseModel):
    """How agents share rollouts. Each mechanism has a switch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lo: float = Field(default=3e-4, ge=0, le=1)
    """GSPO's bounds 1 - lo and 1 + hi for own rows; 0.02 and 0.03 for tiny models at a learning rate of 3e-4."""
    hi: float = Field(default=4e-4, ge=0)
    window: int = Field(default=5, ge=1)
    """K: steps, the present one included, over which capability is averaged."""
    warmup_steps: int = Field(default=0, ge=0)
    """First steps during which all capability ratios are 1."""
    capability: Literal["positive_rate", "reward_mean"] = "positive_rate"
    """The authors' code and the paper's text; equal for rewards of 0 and 1."""
    calibrate: bool = True
    """Mechanism 1: others' rewards enter the baseline times the capability ratio."""
    foreign_baseline: Literal["learner", "source"] = "learner"
    """Whose baseline a foreign completion is measured against: the authors' code, or the paper's method section."""
    weigh: bool = True
    """Mechanism 2: foreign rows weigh as much more as their source is more capable."""
    alpha: float = Field(default=1.0, ge=0)
    """Mechanism 3: power of the detached ratio; 0 turns it off."""
    foreign_clip: Literal["moving", "none", "gspo"] = "moving"
    """Mechanism 4, nothing in its place, or the clip of own rows."""
    delta: float = Field(default=0.2, ge=0, le=1)
    """Foreign ratios below 1 - delta are discarded; small models disagree more and need about 0.6 (`delta_for`)."""
    delta_step: float = Field(default=0.025, ge=0)
    """The bound's rise with each update of the learner's pass; 0 holds it still."""
    drop_end_token: bool = False
    """The release's habit of leaving a completion's closing end token out of all probabilities."""

    def arm(self, name: Arm) -> "HacpoConfig":
        """This configuration as one arm of the ablation."""
        return HacpoConfig.model_validate({**self.model_dump(), **ARMS[name]})

    def lower_bound(self, n_updates: int) -> float:
        """min(1, 1 - delta + m · delta_step) after m updates of the learner's pass."""
        return min(1.0, 1 - self.delta + n_updates * self.delta_step)


@dataclass(frozen=True, slots=True)
class HacpoTerms:
    """The loss of each row before it is aggregated with `row_mean`, and what to watch."""

    values: Tensor
    """(n, t), a row's value at each of its tokens, 0 at padding. Carries the gradient."""
    own: PolicyTerms
    foreign_ratios: Tensor
    """s of each foreign row, detached."""
    n_kept: int
    """Foreign rows with a gradient that is not 0 for lack of agreement."""

    @property
    def kept_rate(self) -> float:
        """Share of foreign rows that teach; under 0.1 HACPO is GSPO with smaller steps. 1 where there are none."""
        return self.n_kept / len(self.foreign_ratios) if len(self.foreign_ratios) else 1.0


def calibrated_mean(rewards: Tensor, group_ids: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """Mean over each row's group of weight · reward. all: (n,) → (n,) float64."""
    return group_statistics(rewards.double() * weights.double(), group_ids, valid).mean


def guarded_mean(rewards: Tensor, group_ids: Tensor, is_own: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """`calibrated_mean` under the authors' guards. is_own: (n,) bool, rows of the agent whose baseline it is.

    All rewards of a group equal: their plain mean, since a ratio must not invent a signal. Rewards within [0, 1] and a
    mean above 1, which no reward could exceed: the agent's own mean.
    """
    mean = calibrated_mean(rewards, group_ids, weights, valid)
    plain = group_statistics(rewards, group_ids, valid)
    known = rewards[valid]
    if bool(((known >= 0) & (known <= 1)).all()):
        own = group_statistics(rewards, group_ids, valid & is_own)
        mean = torch.where((mean > 1) & (own.n_valid > 0), own.mean, mean)
    return torch.where(plain.is_flat, plain.mean, mean)


def joint_advantages(
    rewards: Tensor,
    group_ids: Tensor,
    agent_ids: Tensor,
    ratios: Tensor,
    *,
    learner: int,
    config: HacpoConfig,
    valid: Tensor | None = None,
    eps: float = EPS,
) -> Tensor:
    """Mechanism 1: (R - mu) / (std + eps) over the rollouts of all agents on one prompt. → (n,), 0 without a verdict.

    rewards: (n,) · group_ids: (n,) int, one per prompt · agent_ids: (n,) int below n_agents · ratios: (n_agents,
    n_agents), w(a, b) of `CapabilityTracker.ratios` · valid: (n,) bool. Raises InvalidInput where the agents answered
    a prompt unequally often.
    """
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    _check_shares(group_ids, agent_ids, len(ratios))
    check_finite(rewards, valid)
    weights = ratios.to(rewards.device) if config.calibrate else torch.ones_like(ratios, device=rewards.device)

    def baseline(agent: int) -> Tensor:
        return guarded_mean(rewards, group_ids, agent_ids == agent, weights[agent][agent_ids], valid)

    mean = baseline(learner)
    if config.foreign_baseline == "source":
        for agent in range(len(ratios)):
            mean = torch.where(agent_ids == agent, baseline(agent), mean)
    groups = group_statistics(rewards, group_ids, valid)
    centred = (rewards.double() - mean).masked_fill(groups.is_flat | ~valid, 0)
    return (centred / (groups.std + eps)).to(rewards.dtype)


def source_weights(ratios: Tensor, agent_ids: Tensor, *, learner: int, config: HacpoConfig) -> Tensor:
    """Mechanism 2: w(source, learner) of each row, 1 for own rows. → (n,) of the ratios' dtype."""
    weights = ratios[:, learner] if config.weigh else torch.ones_like(ratios[:, learner])
    return weights.to(agent_ids.device)[agent_ids]


def mean_log_prob(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Mean over each row's own tokens. both: (n, t) → (n,)."""
    return log_probs.masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp_min(1)


def foreign_objective(
    log_ratios: Tensor, advantages: Tensor, weights: Tensor, *, n_updates: int, config: HacpoConfig
) -> tuple[Tensor, Tensor]:
    """Mechanisms 2, 3 and 4: c · detach(c)^alpha · w · A with c = clip(s, lower bound, 1); and which rows are kept.

    all: (n,) → (n,), (n,) bool. There is no min: outside the bounds the gradient is 0 whatever the sign of A.
    """
    ratios = log_ratios.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    strength = weights.to(ratios.dtype) * advantages.to(ratios.dtype)
    if config.foreign_clip == "gspo":
        low, high = 1 - config.lo, 1 + config.hi
        power = ratios.detach() ** config.alpha
        least = torch.minimum(ratios * strength, ratios.clamp(low, high) * strength)
        kept = ~(((ratios > high) & (strength > 0)) | ((ratios < low) & (strength < 0)))
        return least * power, kept
    if config.foreign_clip == "none":
        return ratios * ratios.detach() ** config.alpha * strength, torch.ones_like(ratios, dtype=torch.bool)
    low = config.lower_bound(n_updates)
    bounded = ratios.clamp(low, UPPER_BOUND)
    return bounded * bounded.detach() ** config.alpha * strength, (ratios >= low) & (ratios <= UPPER_BOUND)


def hacpo(
    log_probs: Tensor,
    behaviour_log_probs: Tensor,
    source_mean_log_probs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    is_own: Tensor,
    mask: Tensor,
    *,
    n_updates: int,
    config: HacpoConfig,
) -> HacpoTerms:
    """The loss of a minibatch of own rows, foreign rows or both; aggregate it with `row_mean`.

    log_probs: (n, t) of the learner in its own tokens · behaviour_log_probs: (n, t), read at own rows only ·
    source_mean_log_probs: (n,), each over the source's tokens, read at foreign rows only · advantages, weights: (n,) ·
    is_own: (n,) bool · mask: (n, t) bool · n_updates: m, optimiser updates already done in this learner's pass.
    """
    clip = ClipConfig(lo=config.lo, hi=config.hi)
    own = gspo(log_probs[is_own], behaviour_log_probs[is_own], advantages[is_own], mask[is_own], clip)
    log_ratios = mean_log_prob(log_probs[~is_own], mask[~is_own]) - source_mean_log_probs[~is_own].to(log_probs.dtype)
    objective, kept = foreign_objective(
        log_ratios, advantages[~is_own], weights[~is_own], n_updates=n_updates, config=config
    )
    values = torch.zeros_like(log_probs)
    values = values.index_put((is_own,), own.values).index_put((~is_own,), spread(-objective, mask[~is_own]))
    ratios = log_ratios.detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return HacpoTerms(values, own=own, foreign_ratios=ratios, n_kept=int(kept.sum()))


def without_end(mask: Tensor, completion_ids: Tensor, eos_id: int) -> Tensor:
    """The mask with each row's closing end token turned off; an end-only completion keeps it. all: (n, t) bool."""
    places = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    last = places.masked_fill(~mask, -1).amax(1, keepdim=True)
    closing = (places == last) & (completion_ids == eos_id) & (mask.sum(1, keepdim=True) > 1)
    return mask & ~closing


def source_order(learner: int, n_agents: int, *, step: int) -> list[int]:
    """The learner first, then the others from its successor on; with three or more, the start rotates with the step."""
    others = [(learner + 1 + i) % n_agents for i in range(n_agents - 1)]
    start = step % len(others) if others else 0
    return [learner, *others[start:], *others[:start]]


def delta_for(foreign_ratios: Tensor, *, discarded: float = 0.3) -> float:
    """The delta that discards this share of the foreign ratios (n,) of a first step. In [0, 1]."""
    return min(1.0, max(0.0, 1 - float(foreign_ratios.double().quantile(discarded))))


def _check_shares(group_ids: Tensor, agent_ids: Tensor, n_agents: int) -> None:
    if len(agent_ids) and int(agent_ids.max()) >= n_agents:
        raise InvalidInput(
            f"a rollout names agent {int(agent_ids.max())}, but there are {n_agents}; number them from 0"
        )
    group = torch.unique(group_ids, return_inverse=True)[1]
    n_groups = int(group.max()) + 1 if len(group) else 0
    counts = torch.bincount(group * n_agents + agent_ids, minlength=n_groups * n_agents).view(n_groups, n_agents)
    uneven = (counts != counts[:, :1]).any(1)
    if uneven.any():
        example = counts[uneven][0].tolist()
        raise InvalidInput(
            f"the agents wrote {example} rollouts for one prompt; every agent must supply the same number"
        )
