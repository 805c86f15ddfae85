"""The seam of a method that brings source and target representations together, and the two baselines behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from facetrail.models.graph.baselines import domain_loss, drawn_rows, mmd, reversal_coefficient, reverse_gradient
from facetrail.training.graph.recipe import AdversarialRecipe, MmdRecipe


@dataclass(frozen=True)
class Aligned:
    """What one epoch's alignment computed."""

    discrepancy: Tensor
    """Scalar, before its weight; gradients reach both sides' representations."""
    metrics: dict[str, float] = field(default_factory=dict)
    """For the curves, already detached."""


class Alignment(Protocol):
    """Called once an epoch, in training mode, before the encoder's step; never where its weight is 0.

    A method with a network of its own may take that network's step inside the call, on detached representations, and
    draws only from generators of its own. What `state` gives is stored with every checkpoint (`Resumable`).
    """

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """Those that the encoder's optimiser steps too; empty where there are none."""

    def __call__(self, source: Tensor, target: Tensor, epoch: int) -> Aligned:
        """source: (n_s, dim) · target: (n_t, dim), after ReLU and dropout · epoch: from 1."""

    def state(self) -> Mapping[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


class MmdAlignment:
    """MMD between rows drawn from both sides."""

    parameters: Sequence[nn.Parameter] = ()

    def __init__(self, recipe: MmdRecipe) -> None:
        self._n_drawn = recipe.n_drawn
        self._generator = own_generator(recipe.seed)

    def __call__(self, source: Tensor, target: Tensor, epoch: int) -> Aligned:
        drawn = [drawn_rows(side, self._n_drawn, self._generator) for side in (source, target)]
        discrepancy = mmd(*drawn)
        return Aligned(discrepancy, {"mmd": float(discrepancy.detach())})

    def state(self) -> Mapping[str, Any]:
        """Where the drawing stands."""
        return {"generator": self._generator.get_state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._generator.set_state(state["generator"])


class AdversarialAlignment:
    """A linear domain classifier, trained by the encoder's optimiser, whose gradient reaches the encoder reversed."""

    def __init__(self, recipe: AdversarialRecipe, device: str) -> None:
        self._epochs = recipe.epochs
        self._head = nn.Linear(recipe.dim, 2, device="meta").to_empty(device="cpu")
        nn.init.xavier_uniform_(self._head.weight, generator=own_generator(recipe.seed))
        nn.init.zeros_(self._head.bias)
        self._head.to(device)

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """Of the domain classifier."""
        return list(self._head.parameters())

    def __call__(self, source: Tensor, target: Tensor, epoch: int) -> Aligned:
        coefficient = reversal_coefficient(epoch / self._epochs)
        loss = domain_loss(*(self._head(reverse_gradient(side, coefficient)) for side in (source, target)))
        return Aligned(loss, {"domain_loss": float(loss.detach()), "reversal": coefficient})

    def state(self) -> Mapping[str, Any]:
        """Nothing: its parameters are the encoder's optimiser's."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""


def own_generator(seed: int) -> torch.Generator:
    """For what is drawn beside the encoder: another stream than its weights', so that neither shifts the other."""
    return torch.Generator().manual_seed(seed + 1_000_003)
