"""How long and how the one loop of post-training goes; what it trains on stands in its hooks."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.language.policy_losses import Aggregation
from facetrail.models.language.records import Sampling


class LoopConfig(BaseModel):
    """Settings that every algorithm shares. All of them are part of a checkpoint and must not change in a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    """Steps of the loop, each with rollouts of its own."""
    prompts: int = Field(default=16, ge=1)
    """Q: prompts in a step."""
    group: int = Field(default=8, ge=1)
    """G: rollouts of each prompt, per agent."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling and of every log-prob in training: both must use the same."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Below 1, behaviour log-probs cost a forward pass: the sampler's own would be too high."""
    max_new_tokens: int = Field(default=14, ge=1)
    """T_max: longest completion."""
    lr: float = Field(default=3e-4, ge=0)
    """AdamW; constant. 3e-4 for tiny models, 1e-6 for those of a billion weights."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of one agent's parameters."""
    minibatches: int = Field(default=2, ge=1)
    """Optimiser steps for each block of samples (own ones; each other agent's) and epoch."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the samples of a step."""
    micro_rows: int = Field(default=0, ge=0)
    """Rows in memory at a time, in training and in passes without gradient; 0: a whole minibatch."""
    order: Literal["shuffled", "as_chosen"] = "shuffled"
    """Of the samples within a block, before it is cut into minibatches; drawn by seed, step and agent."""
    aggregation: Aggregation = "row_mean"
    """How token losses become one number; `fixed_length` divides by `max_new_tokens`."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Of the KL to each agent's reference; above 0, agents need a reference."""
    kl: Literal["k2", "k3"] = "k3"
    """Estimator; k1 is not offered, since as a loss it teaches nothing."""
    eval_every: int = Field(default=10, ge=1)
    """Steps between evaluations; the first comes before any step, the last after all of them."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Steps between checkpoints: what a power cut may cost."""
    max_bad_steps: int = Field(default=10, ge=1)
    """Optimiser steps in a row with a non-finite loss or gradient that end the run."""
    seed: int = Field(default=0, ge=0)

    @property
    def sampling(self) -> Sampling:
        """How rollouts are drawn."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.max_new_tokens)
