"""Our losses against TRL's own code, called on the same tensors."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from facetrail.models.language.advantages import AdvantageName, advantages
from facetrail.models.language.policy_losses import (
    POLICY_LOSSES,
    Aggregation,
    ClipConfig,
    Denominators,
    PolicyLossName,
    aggregate,
    k3,
)

pytest.importorskip("trl", reason="TRL is the oracle; install the extra `test`")
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import nanstd

N, LENGTH, LIMIT = 8, 6, 7
THEIR_NAMES: dict[Aggregation, str] = {
    "row_mean": "grpo",
    "token_mean": "dapo",
    "row_sum": "luspo",
    "fixed_length": "dr_grpo",
}


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)

    def drawn(scale: float) -> Tensor:
        return scale * torch.randn(N, LENGTH, generator=generator, dtype=torch.float64)

    log_probs = -drawn(1.0).abs()
    return {
        "log_probs": log_probs,
        "behaviour": log_probs + drawn(0.3),
        "reference": log_probs + drawn(0.2),
        "advantages": torch.randn(N, generator=generator, dtype=torch.float64),
        "mask": torch.tensor([6, 1, 4, 3, 5, 2, 6, 4]).unsqueeze(1) > torch.arange(LENGTH),
    }


def their_loss(tensors: dict[str, Tensor], log_probs: Tensor, **options: Any) -> Tensor:
    """GRPOTrainer's own method; only the model's answer and the process group of one are ours."""
    mask = tensors["mask"].long()
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    arguments = SimpleNamespace(use_bias_correction_kl=False, delta=options.pop("delta"), steps_per_generation=1)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, torch.zeros_like(log_probs), None),
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=False,
        accelerator=accelerator,
        args=arguments,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=LIMIT,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=False,
        **options,
    )
    inputs = {
        "prompt_ids": torch.zeros(N, 1, dtype=torch.long),
        "prompt_mask": torch.ones(N, 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": tensors["advantages"],
        "old_per_token_logps": tensors["behaviour"],
        "ref_per_token_logps": tensors["reference"],
        "num_items_in_batch": mask.sum(),
    }
    found: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return found


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("how", THEIR_NAMES)
@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("ppo_clip", ClipConfig(lo=0.2, hi=0.28)),
        ("ppo_clip", ClipConfig(lo=0.1, hi=0.1, ratio_cap=1.2)),
        ("gspo", ClipConfig(lo=0.02, hi=0.03)),
    ],
)
def test_loss_and_gradient_equal_trls(name: PolicyLossName, clip: ClipConfig, how: Aggregation, beta: float) -> None:
    tensors = batch()
    ours, theirs = (tensors["log_probs"].clone().requires_grad_() for _ in range(2))
    terms = POLICY_LOSSES[name](ours, tensors["behaviour"], tensors["advantages"], tensors["mask"], clip)
    assert 0 < terms.clipped_rate < 1
    values = terms.values + beta * k3(ours, tensors["reference"], tensors["mask"])
    our_loss = aggregate(values, tensors["mask"], Denominators.of(tensors["mask"]), how=how, max_tokens=LIMIT)
    their = their_loss(
        tensors,
        theirs,
        loss_type=THEIR_NAMES[how],
        importance_sampling_level="token" if name == "ppo_clip" else "sequence",
        epsilon_low=clip.lo,
        epsilon_high=clip.hi,
        delta=clip.ratio_cap,
        beta=beta,
    )
    assert our_loss.item() == pytest.approx(their.item(), abs=1e-9)
    gradients = torch.autograd.grad(our_loss, ours)[0], torch.autograd.grad(their, theirs)[0]
    assert torch.allclose(*gradients, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "scales"), [("grpo", True), ("dr_grpo", False)])
def test_advantages_equal_trls(name: AdvantageName, scales: bool) -> None:
    """The lines of its `_generate_and_score_completions`, which cannot be called alone, with its own `nanstd`."""
    # Groups of three and two: TRL's n / (n - 1) is float32, and exact for these.
    rewards = torch.rand(4, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rewards[1, 2] = torch.nan
    theirs = rewards - rewards.nanmean(dim=1, keepdim=True)
    if scales:
        theirs = theirs / (nanstd(rewards, dim=1).unsqueeze(1) + 1e-4)
    ids = torch.arange(4).repeat_interleave(3)
    ours = advantages(rewards.flatten(), ids, name=name, valid=~rewards.flatten().isnan(), eps=1e-4)
    assert torch.allclose(ours, theirs.nan_to_num(nan=0.0).flatten(), rtol=0, atol=1e-9)
