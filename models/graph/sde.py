"""Noising by a variance-preserving stochastic differential equation, and its reverse (Song et al., ICLR 2021).

X_t = a_t X_0 + s_t z, with a_t = exp(-B/2), s_t² = 1 - exp(-B) and B the integral of β(t) = β0 + t (β1 - β0). This
module knows no graph: a state is a tuple of tensors that move together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from facetrail.models.errors import FacetrailError, InvalidInput

State: TypeAlias = tuple[Tensor, ...]
"""What moves together, for instance features and edges; time is one for all."""
LAST = 1e-3
"""Time at which the reverse pass ends: at 0 the score has no finite value."""


class NotFinite(FacetrailError):
    """The reverse pass left the finite numbers."""


@dataclass(frozen=True)
class Schedule:
    """How fast noise comes in; t in [0, 1]."""

    beta_0: float = 0.1
    beta_1: float = 20.0

    def beta(self, t: float) -> float:
        """Rate at time t."""
        return self.beta_0 + t * (self.beta_1 - self.beta_0)

    def a(self, t: Tensor) -> Tensor:
        """What is left of the start at time t."""
        return (-self._integral(t) / 2).exp()

    def s(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return (-torch.expm1(-self._integral(t))).sqrt()

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_0 * t + (self.beta_1 - self.beta_0) * t.square() / 2


def reverse(
    state: State,
    direction: Callable[[State, float], State],
    noise: Callable[[], State],
    *,
    start: float,
    n_steps: int,
    schedule: Schedule,
    settle: Callable[[State], State] = lambda state: state,
) -> State:
    """Euler-Maruyama from `start` down to `LAST` in equal steps; the last one without noise.

    direction: (state, t) → ∇ log of the density to be reached, guidance included, part by part. noise: a standard
    normal draw of the state's shapes. settle: what must hold after every step. Raises NotFinite.
    """
    if not LAST < start <= 1 or n_steps < 1:
        raise InvalidInput(
            f"a reverse pass from {start} in {n_steps} steps: start in ({LAST}, 1], with one step or more"
        )
    dt = (start - LAST) / n_steps
    for step in range(n_steps):
        t = start - step * dt
        beta, is_last = schedule.beta(t), step == n_steps - 1
        pushes = direction(state, t)
        drawn = tuple(torch.zeros_like(part) for part in state) if is_last else noise()
        state = settle(
            tuple(
                x + beta * (x / 2 + push) * dt + math.sqrt(beta * dt) * z
                for x, push, z in zip(state, pushes, drawn, strict=True)
            )
        )
        if not all(bool(part.isfinite().all()) for part in state):
            raise NotFinite(
                f"the reverse pass left the finite numbers at t = {t:.3f}; take more steps, or less guidance, or an "
                "earlier start"
            )
    return state
