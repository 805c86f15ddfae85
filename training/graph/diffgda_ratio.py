"""How much denser the target is than the source at a node, from a classifier that tells their subgraphs apart.

A fifth of each graph's nodes leaves the loss, wherever they occur; on them the fit is stopped, the temperature chosen
and the AUC taken. Holding out whole subgraphs would not do: what lies far from the rest is unlike it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from facetrail.eval.graph import score_graph
from facetrail.models.graph.diffgda import RATIO_LIMITS
from facetrail.models.graph.diffgda_networks import DomainClassifier
from facetrail.training.loop import FitConfig, ParameterGroup, StepResult, fit, step_rng

HELD_OUT = 0.2
TEMPERATURES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_STEPS, _BATCH, _LR, _WEIGHT_DECAY, _EVERY = 200, 16, 5e-3, 1e-3, 20


@dataclass(frozen=True, eq=False)
class DomainSide:
    """Subgraphs of one graph as the classifier reads them. Letters: b subgraphs, m nodes."""

    z: Tensor
    """(b, m, latent width), without labels."""
    edges: Tensor
    """(b, m, m)."""
    held_out: Tensor
    """(b, m) bool."""


@dataclass(frozen=True, eq=False)
class Ratio:
    """A fitted ratio of densities."""

    classifier: DomainClassifier
    temperature: float
    auc: float
    """Of telling held-out nodes apart; at 0.5 the graphs are alike."""

    @torch.no_grad()
    def of(self, z: Tensor, edges: Tensor) -> Tensor:
        """(b, m) target over source density, within `RATIO_LIMITS`."""
        odds: Tensor = self.classifier(z, edges) / self.temperature
        return odds.exp().clamp(*RATIO_LIMITS)


def held_out_nodes(n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,) a fifth of them, one at least."""
    chosen = np.zeros(n, bool)
    chosen[rng.permutation(n)[: max(1, round(HELD_OUT * n))]] = True
    return chosen


def fit_ratio(source: DomainSide, target: DomainSide, *, seed: int) -> Ratio:
    """Both sides on one device. The batches are balanced, so that the odds are the ratio of densities."""
    sides = (source, target)
    generator = torch.Generator().manual_seed(seed)
    classifier = DomainClassifier(source.z.shape[-1], generator).to(source.z.device)

    def step(rows: list[NDArray[np.int64]]) -> StepResult:
        losses = []
        for domain, (side, chosen) in enumerate(zip(sides, rows, strict=True)):
            logits = classifier(side.z[chosen], side.edges[chosen])[~side.held_out[chosen]]
            losses.append(binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(domain))))
        return StepResult(torch.stack(losses).mean())

    def batches(number: int) -> list[NDArray[np.int64]]:
        rng = step_rng(seed, number)
        return [rng.choice(len(side.z), min(_BATCH, len(side.z)), replace=False) for side in sides]

    def evaluate(_: bool) -> Mapping[str, float]:
        return {"held_out_loss": _loss(_held_out_logits(classifier, sides), 1.0)}

    config = FitConfig(
        steps=_STEPS,
        warmup=0,
        schedule="constant",
        max_norm=float("inf"),
        weight_decay=_WEIGHT_DECAY,
        ema=None,
        eval_every=_EVERY,
        best="held_out_loss",
        best_is="min",
        seed=seed,
    )
    fit([ParameterGroup("domain", list(classifier.parameters()), _LR)], batches, step, config=config, evaluate=evaluate)
    logits = _held_out_logits(classifier, sides)
    temperature = min(TEMPERATURES, key=lambda one: _loss(logits, one))
    return Ratio(classifier, temperature, domain_auc(*logits))


def domain_auc(source: Tensor, target: Tensor) -> float:
    """Of log odds that should be larger on the target. both: (n,) of different n."""
    odds = torch.cat([source, target]).sigmoid().cpu().numpy()
    y = np.arange(len(odds)) >= len(source)
    found = score_graph(np.stack([1 - odds, odds], axis=1), y.astype(np.int64)).roc_auc
    assert found is not None
    return found


@torch.no_grad()
def _held_out_logits(classifier: DomainClassifier, sides: tuple[DomainSide, DomainSide]) -> tuple[Tensor, Tensor]:
    ours, theirs = (classifier(side.z, side.edges)[side.held_out] for side in sides)
    return ours, theirs


def _loss(logits: tuple[Tensor, Tensor], temperature: float) -> float:
    """Cross-entropy, both sides of equal weight."""
    parts = [
        binary_cross_entropy_with_logits(side / temperature, torch.full_like(side, float(domain)))
        for domain, side in enumerate(logits)
    ]
    return float(torch.stack(parts).mean())
