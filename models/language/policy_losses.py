"""Policy-gradient losses, KL estimators and how token losses become one number: pure functions of tensors.

`reinforce` -A · log-prob · `ppo_clip` the clipped ratio per token (arXiv 1707.06347; with group advantages GRPO,
2402.03300; a higher upper bound is DAPO's, 2503.14476) · `gspo` one length-normalised ratio per row (2507.18071).
Values and gradients equal TRL's to 1e-9 (`tests/models/language/test_policy_losses_trl.py`).

Ours:
1. denominators are those of the whole optimiser step, so micro-batches add up to the same number;
2. a row without a counted token is left out and counted (TRL takes it into the mean as 0);
3. padding is replaced before any arithmetic, so that even a NaN there changes no bit of loss or gradient;
4. log-ratios are clamped to [-20, 20] before exp (verl's choice; TRL does not clamp), k3's exponent at 20.

Shapes: log_probs, behaviour_log_probs, mask (n, t); advantages (n,).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from facetrail.models.errors import InvalidInput

PolicyLossName = Literal["reinforce", "ppo_clip", "gspo"]
KlName = Literal["k1", "k2", "k3"]
Aggregation = Literal["row_mean", "token_mean", "row_sum", "fixed_length"]

MAX_LOG_RATIO = 20.0


class ClipConfig(BaseModel):
    """How far a ratio may leave 1 before a rollout stops teaching."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lo: float = Field(default=0.2, ge=0, le=1)
    """Bound 1 - lo, for negative advantages. GSPO wants 3e-4 at a learning rate of 1e-6, 0.02 for tiny models."""
    hi: float = Field(default=0.28, ge=0)
    """Bound 1 + hi, for positive advantages. GSPO: 4e-4 and 0.03."""
    ratio_cap: float | None = None
    """Bound for negative advantages from above; None: none. 3 is verl's dual clip."""

    @model_validator(mode="after")
    def _cap_is_outside(self) -> Self:
        if self.ratio_cap is not None and self.ratio_cap <= 1 + self.hi:
            raise ValueError(f"ratio_cap {self.ratio_cap} must exceed the upper bound 1 + hi = {1 + self.hi}")
        return self


@dataclass(frozen=True, slots=True)
class PolicyTerms:
    """The loss before it is aggregated, and what to watch."""

    values: Tensor
    """(n, t), 0 at padding; a row's own value stands at each of its tokens. Carries the gradient."""
    n_clipped: int
    """Tokens (rows for `gspo`) whose gradient is 0 because of the clip."""
    n_counted: int
    """Tokens (rows for `gspo`) that count."""
    max_ratio_error: float
    """max |ratio - 1|; at the first minibatch of plain float32 rollouts below 1e-5, or sampler and trainer disagree."""

    @property
    def clipped_rate(self) -> float:
        """Share of tokens (rows for `gspo`) that are clipped; 0 for none at all."""
        return self.n_clipped / self.n_counted if self.n_counted else 0.0


@dataclass(frozen=True, slots=True)
class Denominators:
    """What the sums of one optimiser step are divided by: the same in each of its micro-batches.

    They add up: `Denominators.of(first) + Denominators.of(second)` is that of both together.
    """

    n_rows: int
    """Rows with a counted token."""
    n_tokens: int
    n_empty: int = 0
    """Rows without a counted token, which are left out."""

    @classmethod
    def of(cls, mask: Tensor) -> Self:
        """Counts of a mask (n, t) bool over all rows of the optimiser step."""
        n_rows = int(mask.any(1).sum())
        return cls(n_rows=n_rows, n_tokens=int(mask.sum()), n_empty=len(mask) - n_rows)

    def __add__(self, other: "Denominators") -> "Denominators":
        return Denominators(self.n_rows + other.n_rows, self.n_tokens + other.n_tokens, self.n_empty + other.n_empty)


def reinforce(
    log_probs: Tensor, behaviour_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: ClipConfig
) -> PolicyTerms:
    """-A · log-prob of each token. No ratio enters the loss, so `clip` has no say; the ratio is still watched."""
    values = -advantages.unsqueeze(1) * log_probs.masked_fill(~mask, 0)
    error = _ratio_error(_log_ratios(log_probs, behaviour_log_probs, mask).exp(), mask)
    return PolicyTerms(values, n_clipped=0, n_counted=int(mask.sum()), max_ratio_error=error)


def ppo_clip(
    log_probs: Tensor, behaviour_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: ClipConfig
) -> PolicyTerms:
    """-min(w·A, clip(w, 1 - lo, 1 + hi)·A) with the ratio w of each token."""
    ratios = _log_ratios(log_probs, behaviour_log_probs, mask).exp()
    values, clipped = _clipped(ratios, advantages.unsqueeze(1), clip)
    return PolicyTerms(
        values.masked_fill(~mask, 0),
        n_clipped=int((clipped & mask).sum()),
        n_counted=int(mask.sum()),
        max_ratio_error=_ratio_error(ratios, mask),
    )


def gspo(
    log_probs: Tensor, behaviour_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: ClipConfig
) -> PolicyTerms:
    """-min(s·A, clip(s, 1 - lo, 1 + hi)·A) with one ratio per row, s = exp(mean of the log-ratios of its tokens)."""
    n_tokens = mask.sum(1)
    ratios = (_log_ratios(log_probs, behaviour_log_probs, mask).sum(1) / n_tokens.clamp_min(1)).exp()  # (n,)
    values, clipped = _clipped(ratios, advantages, clip)
    return PolicyTerms(
        spread(values, mask),
        n_clipped=int((clipped & (n_tokens > 0)).sum()),
        n_counted=int((n_tokens > 0).sum()),
        max_ratio_error=_ratio_error(ratios, n_tokens > 0),
    )


PolicyLoss = Callable[[Tensor, Tensor, Tensor, Tensor, ClipConfig], PolicyTerms]
POLICY_LOSSES: dict[PolicyLossName, PolicyLoss] = {"reinforce": reinforce, "ppo_clip": ppo_clip, "gspo": gspo}


def k1(log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor) -> Tensor:
    """-x, with x = reference - policy. → (n, t), 0 at padding.

    Its mean is KL(policy ‖ reference), but as a loss it teaches nothing: its expected gradient on policy samples is 0.
    It belongs in the reward.
    """
    return -(reference_log_probs - log_probs).masked_fill(~mask, 0)


def k2(log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor) -> Tensor:
    """x² / 2. → (n, t). As a loss on policy samples its gradient is that of KL(policy ‖ reference)."""
    return (reference_log_probs - log_probs).masked_fill(~mask, 0).square() / 2


def k3(log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor) -> Tensor:
    """exp(x) - x - 1. → (n, t). As a loss on policy samples its gradient is that of KL(reference ‖ policy)."""
    x = (reference_log_probs - log_probs).masked_fill(~mask, 0).clamp(max=MAX_LOG_RATIO)
    return x.exp() - x - 1


KL_ESTIMATORS: dict[KlName, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def aggregate(
    values: Tensor,
    mask: Tensor,
    denominators: Denominators,
    *,
    how: Aggregation,
    max_tokens: int | None = None,
) -> Tensor:
    """Token losses (n, t) of one micro-batch as its share of the optimiser step's loss. → scalar.

    `row_mean` mean over rows of the row's token mean · `token_mean` all token losses over all tokens · `row_sum` mean
    over rows of the row's token sum · `fixed_length` all token losses over rows · max_tokens, the longest completion
    the sampler allows. The shares of an optimiser step add up to its loss, whatever the cut into micro-batches.
    """
    if denominators.n_rows == 0:
        raise InvalidInput("no row of this optimiser step has a token to learn from; leave the step out")
    rows = values.masked_fill(~mask, 0).sum(1)
    if how == "row_mean":
        return (rows / mask.sum(1).clamp_min(1)).sum() / denominators.n_rows
    if how == "token_mean":
        return rows.sum() / denominators.n_tokens
    if how == "row_sum":
        return rows.sum() / denominators.n_rows
    if max_tokens is None:
        raise InvalidInput("fixed_length divides by the longest completion allowed; give max_tokens")
    return rows.sum() / (denominators.n_rows * max_tokens)


def spread(rows: Tensor, mask: Tensor) -> Tensor:
    """A value per row (n,) at each of its tokens, 0 at padding. → (n, t)."""
    return rows.unsqueeze(1).expand(mask.shape).masked_fill(~mask, 0)


def _log_ratios(log_probs: Tensor, behaviour_log_probs: Tensor, mask: Tensor) -> Tensor:
    """(n, t), 0 at padding: replaced before exp, since NaN · 0 is NaN in the gradient too."""
    return (log_probs - behaviour_log_probs).masked_fill(~mask, 0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _clipped(ratios: Tensor, advantages: Tensor, clip: ClipConfig) -> tuple[Tensor, Tensor]:
    """The clipped loss, and where the clip has taken its gradient; both of the ratios' shape."""
    low, high = 1 - clip.lo, 1 + clip.hi
    # With a cap beyond the upper bound, capping the unclipped ratio touches negative advantages only.
    capped = ratios if clip.ratio_cap is None else ratios.clamp(max=clip.ratio_cap)
    values = -torch.minimum(capped * advantages, ratios.clamp(low, high) * advantages)
    clipped = ((ratios > high) & (advantages > 0)) | ((ratios < low) & (advantages < 0))
    if clip.ratio_cap is not None:
        clipped = clipped | ((ratios > clip.ratio_cap) & (advantages < 0))
    return values, clipped


def _ratio_error(ratios: Tensor, counted: Tensor) -> float:
    errors = (ratios.detach() - 1).abs()[counted]
    return float(errors.max()) if len(errors) else 0.0
