"""How long a fit goes, how its learning rate moves, and where the randomness of one step comes from."""

import math
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class FitConfig(BaseModel):
    """How long and how a fit goes; what is fitted stands in the parameter groups."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    """Optimiser steps, those skipped for a non-finite loss included."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the learning rate climbs to its full value."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: half a cosine down to 0, or no change."""
    max_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all trained parameters together; longer ones are shortened to it."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of the groups that name none of their own; decoupled (AdamW)."""
    ema: float | None = Field(default=0.999, ge=0, lt=1)
    """Largest decay of the weights' moving average; None evaluates and returns the weights themselves."""
    eval_every: int = Field(default=100, ge=1)
    """Steps between evaluations; the first comes before any step, the last after all of them."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints: what a power cut may cost."""
    best: str | None = None
    """The evaluation's measure whose best weights are kept; None keeps the last."""
    best_is: Literal["max", "min"] = "max"
    """Whether more or less of `best` is better."""
    patience: int | None = Field(default=None, ge=1)
    """Evaluations in a row without a better `best` that end the fit early; None: it goes on to the last step."""
    max_bad_steps: int = Field(default=10, ge=1)
    """Non-finite steps in a row that end the run."""
    seed: int = Field(default=0, ge=0)
    """Seeds torch's own generators when the fit begins."""


def lr_factor(step: int, config: FitConfig) -> float:
    """Share of the full learning rate at a step (0 is the first); never 0, so that every step teaches something."""
    warm = round(config.warmup * config.steps)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (config.steps - warm)))


def step_rng(seed: int, step: int) -> np.random.Generator:
    """A generator for the batch of one step: a function of seed and step, so that resuming replays nothing."""
    return np.random.default_rng([seed, step])
