"""DiffGDA's recipe, and the loop in which the networks of its diffusion are fitted."""

from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from facetrail.models.graph.diffgda import Diffusion, DiffusionConfig, drawn_noise
from facetrail.models.graph.sde import LAST
from facetrail.training.graph.recipe import MmdRecipe
from facetrail.training.loop import FitConfig, FitResult, ParameterGroup, StepResult, fit, step_rng
from facetrail.training.tracking import Tracker

_NETWORK_LR = 2e-3
_NETWORK_KEYS = {"features", "svd_dim", "n_nodes", "label_scale", "start", "network_steps", "network_batch", "seed"}
_EVOLUTION_KEYS = {*DiffusionConfig.model_fields, "features", "svd_dim", "replacement", "seed"}


class DiffgdaRecipe(MmdRecipe, DiffusionConfig):
    """A2GNN with its MMD, on the evolved source; weight = 0 leaves the MMD out."""

    method: str = "diffgda"
    features: Literal["raw", "svd"] = "svd"
    svd_dim: int = Field(default=64, ge=1)
    k_source: int = Field(default=0, ge=0)
    weight: float = Field(default=0.1, ge=0)
    replacement: Literal["diffusion", "random", "none"] = "diffusion"
    """Controls on the same nodes: rows and labels of other source nodes, or their own."""


def fit_networks(
    clean: tuple[Tensor, Tensor],
    ratio: Tensor,
    recipe: DiffgdaRecipe,
    *,
    folder: Path | None = None,
    resume: bool = False,
) -> tuple[Diffusion, FitResult]:
    """Noise, edges and guide, on source subgraphs at the times that the reverse pass visits, and as late again.

    clean: (b, n, D) and (b, n, n), on the device of the fit. ratio: (b, n).
    """
    device = clean[0].device
    diffusion = Diffusion(clean[0].shape[-1], drawn_generator(recipe, 6)).to(device)
    latest = min(1.0, 2 * recipe.start)

    def batches(step: int) -> tuple[NDArray[np.int64], torch.Generator]:
        rng = step_rng(recipe.seed, step)
        rows = rng.choice(len(clean[0]), min(recipe.network_batch, len(clean[0])), replace=False)
        return rows, torch.Generator().manual_seed(int(rng.integers(2**62)))

    def step(batch: tuple[NDArray[np.int64], torch.Generator]) -> StepResult:
        rows, generator = batch
        graphs = (clean[0][rows], clean[1][rows])
        t = (LAST + (latest - LAST) * torch.rand(len(rows), generator=generator)).to(device)
        loss = diffusion.loss(graphs, ratio[rows], t, drawn_noise(graphs, generator))
        return StepResult(loss.total(), {name: float(term.detach()) for name, term in vars(loss).items()})

    config = FitConfig(
        steps=recipe.network_steps,
        warmup=0,
        schedule="constant",
        weight_decay=0,
        ema=None,
        checkpoint_every=250,
        seed=recipe.seed,
    )
    groups = [ParameterGroup("diffusion", list(diffusion.parameters()), _NETWORK_LR)]
    with Tracker(folder, total=recipe.network_steps) if folder is not None else nullcontext() as tracker:
        learnt = fit(groups, batches, step, config=config, tracker=tracker, folder=folder, resume=resume)
    return diffusion, learnt


def networks_name(recipe: DiffgdaRecipe) -> str:
    """Equal for recipes whose networks are equal on equal graphs, so that fits can share them."""
    return sha256(recipe.model_dump_json(include=_NETWORK_KEYS).encode()).hexdigest()[:12]


def evolution_name(recipe: DiffgdaRecipe) -> str:
    """Equal for recipes that make one graph of equal graphs, whatever classifier they then fit on it."""
    return sha256(recipe.model_dump_json(include=_EVOLUTION_KEYS).encode()).hexdigest()[:12]


def own_rng(recipe: DiffgdaRecipe, purpose: int) -> np.random.Generator:
    """A stream of its own for each thing that is drawn."""
    return np.random.default_rng([recipe.seed, 0xD1FF, purpose])


def drawn_generator(recipe: DiffgdaRecipe, purpose: int) -> torch.Generator:
    """The same for tensors, on the CPU."""
    return torch.Generator().manual_seed(int(own_rng(recipe, purpose).integers(2**62)))
