"""Characteristic functions of two sets of representations, and how far apart they are (NSD of ADAlign).

The discrepancy and the sampler's network follow the authors' code; where it differs stands in `adalign.py`. Letters: K
frequencies, n rows, d dimensions.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from facetrail.models.errors import InvalidInput

EPS = 1e-12
"""Floor below every root: without it a frequency at which both sides agree has no finite gradient."""
SamplerKind = Literal["tanh", "scale-mixture", "frozen", "gaussian"]
"""tanh: the network's output. scale-mixture: that times Gaussians drawn anew. The other two do not learn."""
_MOST_ANGLES = 20_000_000
"""Beyond as many products t·z, both sides together, frequencies are taken in parts."""
_N_DRAWS = 16
_GAUSSIAN_VARIANCE = 0.4
"""Gives |t| the length that an untrained tanh sampler gives it, about 7 at d = 128."""


@dataclass(frozen=True, eq=False)
class CharacteristicFunction:
    """Ψ(t) = mean of exp(j t·z) over rows, at K frequencies."""

    re: Tensor
    """(K,)."""
    im: Tensor
    """(K,)."""

    def modulus(self, eps: float = EPS) -> Tensor:
        """|Ψ|, (K,), with the floor `eps` inside the root."""
        return (self.re.square() + self.im.square() + eps).sqrt()


def nsd(t: Tensor, zs: Tensor, zt: Tensor, kappa: float, eps: float = EPS, chunk: int | None = None) -> Tensor:
    """Neural spectral discrepancy: mean over t of sqrt(κ·amplitude + (1 - κ)·phase + eps) → scalar, ≥ 0.

    t: (K, d) · zs: (n_s, d) · zt: (n_t, d), representations of any kind. kappa: in [0, 1]; 1 compares the moduli of
    the characteristic functions (scale, spread, correlation), 0 their phases (location). chunk: frequencies at once;
    None: as many as memory bears. The value does not depend on it. At least float32, under autocast too.
    Raises InvalidInput for a side without rows and for widths that differ.
    """
    if not 0 <= kappa <= 1:
        raise InvalidInput(f"kappa is {kappa}; give a share between 0 (phases) and 1 (amplitudes)")
    at_once = chunk or max(1, _MOST_ANGLES // max(1, len(zs) + len(zt)))
    source, target = characteristic(t, zs, at_once), characteristic(t, zt, at_once)
    return discrepancies(source, target, kappa, eps).mean()


def characteristic(t: Tensor, z: Tensor, chunk: int | None = None) -> CharacteristicFunction:
    """Ψ of the rows z at the frequencies t, `chunk` of them at once. Gradients reach both.

    Raises InvalidInput for no rows, no frequencies and widths that differ.
    """
    if len(z) == 0 or len(t) == 0 or t.shape[1:] != z.shape[1:]:
        raise InvalidInput(
            f"frequencies {tuple(t.shape)} and rows {tuple(z.shape)} need the same width and one row at least; "
            "compare representations of one encoder"
        )
    with torch.autocast(z.device.type, enabled=False):
        t, z = (part.float() if part.dtype in (torch.float16, torch.bfloat16) else part for part in (t, z))
        means: Tensor = _Means.apply(t, z, chunk or max(1, _MOST_ANGLES // len(z)))  # type: ignore[no-untyped-call]
    return CharacteristicFunction(means[0], means[1])


def discrepancies(
    source: CharacteristicFunction, target: CharacteristicFunction, kappa: float, eps: float = EPS
) -> Tensor:
    """What each frequency sees between the sides, (K,)."""
    ours, theirs = source.modulus(eps), target.modulus(eps)
    amplitude = (theirs - ours).square()
    phase = 2 * (ours * theirs - source.re * target.re - source.im * target.im)
    mixed: Tensor = kappa * amplitude + (1 - kappa) * phase.clamp_min(eps) + eps
    return mixed.sqrt()


def gaussian_frequencies(n: int, dim: int, variance: float, generator: torch.Generator) -> Tensor:
    """(n, dim) of N(0, variance·I), on the generator's device."""
    return math.sqrt(variance) * torch.randn(n, dim, generator=generator, device=generator.device)


class FrequencySampler(nn.Module):
    """Draws frequencies; its parameters, if it learns, ascend the discrepancy.

    A network of three blocks turns Gaussian noise into rows with every |t_j| < 1; batch norm counts the rows of the
    draw at hand, always.
    """

    def __init__(self, dim: int, n_frequencies: int, kind: SamplerKind, generator: torch.Generator) -> None:
        """generator: on the CPU and the sampler's own; draws the weights first, then every draw's noise.

        Raises InvalidInput for fewer than two rows, which batch norm cannot normalise.
        """
        super().__init__()
        if n_frequencies < 2:
            raise InvalidInput(f"the sampler draws {n_frequencies} frequencies, but needs two rows; ask for more")
        self._shape, self._kind, self._generator = (n_frequencies, dim), kind, generator
        self.network = _network(dim, generator) if kind != "gaussian" else nn.Sequential()
        self.requires_grad_(kind in ("tanh", "scale-mixture"))
        self._here: Tensor
        self.register_buffer("_here", torch.empty(0), persistent=False)

    def forward(self) -> Tensor:
        """(K, d) frequencies, of a scale mixture (16 K, d), drawn anew."""
        n, dim = self._shape
        if self._kind == "gaussian":
            return self._placed(gaussian_frequencies(n, dim, _GAUSSIAN_VARIANCE, self._generator))
        rows: Tensor = self.network(self._placed(gaussian_frequencies(n, dim, 1.0, self._generator)))
        if self._kind != "scale-mixture":
            return rows
        scales = gaussian_frequencies(_N_DRAWS * n, dim, 1 / dim, self._generator)
        return rows.repeat(_N_DRAWS, 1) * self._placed(scales)

    def _placed(self, drawn: Tensor) -> Tensor:
        return drawn.to(self._here.device)


class _Means(torch.autograd.Function):
    """(2, K), real and imaginary part of Ψ. Keeps no angle: the backward pass needs their sines anew in any case."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, z: Tensor, chunk: int) -> Tensor:
        ctx.save_for_backward(t, z)
        ctx.chunk = chunk
        means = []
        for part in torch.split(t, chunk):
            angles = part @ z.T  # (chunk, n)
            means.append(torch.stack([angles.cos().mean(dim=1), angles.sin().mean(dim=1)]))
        return torch.cat(means, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        t, z = ctx.saved_tensors
        of_t, of_z = [], torch.zeros_like(z)
        for part, (re, im) in zip(torch.split(t, ctx.chunk), torch.split(gradient, ctx.chunk, dim=1), strict=True):
            angles = part @ z.T
            slope = (im[:, None] * angles.cos() - re[:, None] * angles.sin()) / len(z)  # (chunk, n)
            if ctx.needs_input_grad[0]:
                of_t.append(slope @ z)
            if ctx.needs_input_grad[1]:
                of_z.addmm_(slope.T, part)
        return torch.cat(of_t) if of_t else None, of_z if ctx.needs_input_grad[1] else None, None


def _network(dim: int, generator: torch.Generator) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for activation in (nn.LeakyReLU(0.2), nn.LeakyReLU(0.2), nn.Tanh()):
        linear = nn.Linear(dim, dim, device="meta").to_empty(device="cpu")  # torch's own start draws from all's stream
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(dim**-0.5), dim**-0.5, generator=generator)
        blocks += [linear, nn.BatchNorm1d(dim, track_running_stats=False), activation]
    return nn.Sequential(*blocks)
