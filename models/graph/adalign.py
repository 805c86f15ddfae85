"""Alignment of two graphs' node representations by their characteristic functions (ADAlign, arXiv 2602.10489).

Follows the paper: the discrepancy is looked at where a learned sampler of frequencies finds it largest; sampler and
encoder take turns, one maximising, one minimising. From the authors' code: the encoder (A2GNN's, `encoder.py`), the
discrepancy's two terms, the sampler's network, the same Adam for both players, one step each per epoch.

Ours, where the release does otherwise:
1. K distinct frequencies; the release's M = 2,048 are 128 distinct ones, each 16 times: the same value, 16 times the
   cost. Its random scales, which would make each repetition differ, are switched off; "scale-mixture" has them;
2. floors inside both roots; without them κ = 1 gives NaN where a frequency's amplitudes agree;
3. the source's representations serve both losses; the release runs a second pass with dropout drawn anew;
4. the encoder's loss does not reach the sampler; there it does, and the gradient is thrown away;
5. the sampler is as wide as the representations and draws from a generator of its own;
6. one configuration for all pairs of graphs; there it is searched per pair on the target's labels.
"""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from facetrail.models.graph.spectral import (
    CharacteristicFunction,
    FrequencySampler,
    SamplerKind,
    characteristic,
    discrepancies,
    nsd,
)


class SpectralConfig(BaseModel):
    """Where the discrepancy looks, and at what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kappa: float = Field(default=0.5, ge=0, le=1)
    """Share of the amplitudes against the phases; at 1/2 the discrepancy is mean |Ψ_S - Ψ_T| / √2."""
    frequencies: int = Field(default=16, ge=2)
    """Distinct ones an epoch."""
    sampler: SamplerKind = "tanh"
    """As released; "frozen" and "gaussian" are ablations."""


def ascend(sampler: FrequencySampler, optimiser: torch.optim.Optimizer, zs: Tensor, zt: Tensor, kappa: float) -> None:
    """One step of the sampler towards frequencies that tell the sides apart. zs: (n_s, d) · zt: (n_t, d)."""
    optimiser.zero_grad(set_to_none=True)
    loss = -nsd(sampler(), zs.detach(), zt.detach(), kappa)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def descend(sampler: FrequencySampler, zs: Tensor, zt: Tensor, kappa: float) -> tuple[Tensor, Tensor, dict[str, float]]:
    """The discrepancy for the encoder's step, the frequencies it was looked at with, and figures of both.

    Frequencies are drawn anew and taken as given.
    """
    with torch.no_grad():
        t = sampler()
    source, target = characteristic(t, zs), characteristic(t, zt)
    value = discrepancies(source, target, kappa).mean()
    figures = {"nsd": float(value.detach()), "mean_frequency": float(t.norm(dim=1).mean())}
    return value, t, figures | _spread("source_modulus", source) | _spread("target_modulus", target)


def _spread(name: str, psi: CharacteristicFunction) -> dict[str, float]:
    """At 1 everywhere the representations have collapsed, at 0 the frequencies are too high to see anything."""
    modulus = psi.modulus().detach()
    found = {"min": modulus.min(), "median": modulus.median(), "max": modulus.max()}
    return {f"{name}_{which}": float(value) for which, value in found.items()}
