"""DiffGDA in the loop of graph adaptation: how a source graph evolves before the classifier is fitted."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetrail.models.graph.diffgda import RATIO_LIMITS, Decoded, Diffusion, decode
from facetrail.models.graph.diffgda_subgraphs import (
    Evolved,
    Nodes,
    dense_edges,
    dense_labels,
    dense_latents,
    draw_disjoint,
    draw_subgraphs,
    merge,
)
from facetrail.models.graph.graph_data import GraphData
from facetrail.training.graph.diffgda_networks import DiffgdaRecipe, drawn_generator, fit_networks, own_rng
from facetrail.training.graph.diffgda_ratio import DomainSide, Ratio, domain_auc, fit_ratio, held_out_nodes

N_SUBGRAPHS = 160
"""Of each graph, to learn from; they may overlap."""
ALIKE = 0.55
"""Up to this AUC of the domains there is nothing to evolve towards."""


@dataclass(frozen=True)
class EvolutionReport:
    """What became of the source. Both AUCs are of the classifier that guides, which the guidance may fool."""

    n_replaced: int
    skipped: str = ""
    """Why nothing was replaced."""
    domain_auc: float | None = None
    """Source against target, held-out nodes."""
    evolved_auc: float | None = None
    """Replaced nodes against the target's."""
    clipped_share: float | None = None
    """Of the source's nodes whose ratio lies at a limit."""
    label_kept: float | None = None
    """Share of the replaced nodes whose label is the old one."""
    edge_overlap: float | None = None
    """Share of the edges within the replaced subgraphs that were there before."""
    start_correlation: float | None = None
    """Of the evolved features with those that the reverse pass started from; near 1 it went nowhere."""
    seconds: Mapping[str, float] | None = None
    """Per stage: ratio, networks, sampling."""


@dataclass(frozen=True, eq=False)
class Evolution:
    """An evolved source, and how it came about."""

    before: GraphData
    evolved: Evolved
    nodes: Nodes
    """(b, m) of the subgraphs that were to be replaced."""
    report: EvolutionReport


def evolve(
    source: GraphData,
    target: GraphData,
    recipe: DiffgdaRecipe,
    *,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
) -> Evolution:
    """Replaces a share of the source's nodes by what the guided diffusion makes of them.

    The target's labels are not looked at. folder: where the networks' checkpoints and curves go. Raises InvalidInput
    for a source whose nodes have several classes, and NotFinite.
    """
    target = target.unlabelled()
    m = min(recipe.n_nodes, len(source.ids) // 2, len(target.ids) // 2)
    replaced = draw_disjoint(source, m, round(recipe.share * len(source.ids)), own_rng(recipe, 0))
    if not len(replaced) or recipe.replacement == "none":
        return _unchanged(source, replaced, EvolutionReport(0, "no node was to be replaced"))
    if recipe.replacement == "random":
        mixed = _randomised(source, replaced, own_rng(recipe, 1))
        label_kept, edge_overlap = _kept(source, mixed, replaced)
        report = EvolutionReport(replaced.size, label_kept=label_kept, edge_overlap=edge_overlap)
        return Evolution(source, mixed, replaced, report)
    clock = _Clock()
    ours = draw_subgraphs(source, m, N_SUBGRAPHS, own_rng(recipe, 2))
    theirs = draw_subgraphs(target, m, N_SUBGRAPHS, own_rng(recipe, 3))
    sides = tuple(
        _side(graph, nodes, own_rng(recipe, 4 + number), device)
        for number, (graph, nodes) in enumerate(((source, ours), (target, theirs)))
    )
    ratio = fit_ratio(*sides, seed=recipe.seed)
    clock.lap("ratio")
    if ratio.auc <= ALIKE:
        told = f"the graphs are alike (domain AUC {ratio.auc:.3f}), so there is nothing to evolve towards"
        warnings.warn(f"{told}; the source is used as it is", stacklevel=2)
        return _unchanged(source, replaced, EvolutionReport(0, told, ratio.auc))
    clipped = _clipped_share(ratio, sides[0])
    clean = _graphs(source, ours, recipe.label_scale, device)
    diffusion, learnt = fit_networks(clean, ratio.of(sides[0].z, sides[0].edges), recipe, folder=folder, resume=resume)
    clock.lap("networks")
    clock.laps["networks"] = round(learnt.seconds, 2)  # of all sittings
    begun, decoded = _carried(diffusion, source, replaced, recipe, device)
    evolved = merge(source, replaced, decoded)
    clock.lap("sampling")
    auc = domain_auc(
        ratio.classifier(decoded.z, decoded.edges.float() * 2 - 1).detach().flatten(),
        ratio.classifier(sides[1].z, sides[1].edges).detach().flatten(),
    )
    label_kept, edge_overlap = _kept(source, evolved, replaced)
    report = EvolutionReport(
        int(evolved.replaced.sum()),
        domain_auc=ratio.auc,
        evolved_auc=auc,
        clipped_share=clipped,
        label_kept=label_kept,
        edge_overlap=edge_overlap,
        start_correlation=_correlation(decoded.z, begun[..., : decoded.z.shape[-1]]),
        seconds=clock.laps,
    )
    return Evolution(source, evolved, replaced, report)


def report_figures(report: EvolutionReport) -> dict[str, Any]:
    """What of a report is known, for JSON."""
    return {name: value for name, value in asdict(report).items() if value not in (None, "")}


def _carried(
    diffusion: Diffusion, source: GraphData, nodes: Nodes, recipe: DiffgdaRecipe, device: str
) -> tuple[Tensor, Decoded]:
    """Features that the reverse pass started from, and what it made of the subgraphs."""
    clean = _graphs(source, nodes, recipe.label_scale, device)
    ended, begun = diffusion.carry(
        clean,
        start=recipe.start,
        n_steps=recipe.reverse_steps,
        guidance=recipe.guidance,
        generator=drawn_generator(recipe, 7),
    )
    assert source.y is not None
    n_edges = (clean[1] > 0).sum(dim=(1, 2)) // 2
    y = torch.from_numpy(source.y[nodes]).to(device)
    return begun[0], decode(ended, y, n_edges, source.n_classes)


def _graphs(graph: GraphData, nodes: Nodes, label_scale: float, device: str) -> tuple[Tensor, Tensor]:
    u = torch.cat([dense_latents(graph, nodes), dense_labels(graph, nodes, label_scale)], dim=-1)
    return u.to(device), dense_edges(graph, nodes).to(device)


def _side(graph: GraphData, nodes: Nodes, rng: np.random.Generator, device: str) -> DomainSide:
    held_out = torch.from_numpy(held_out_nodes(len(graph.ids), rng)[nodes])
    return DomainSide(dense_latents(graph, nodes).to(device), dense_edges(graph, nodes).to(device), held_out.to(device))


def _randomised(source: GraphData, nodes: Nodes, rng: np.random.Generator) -> Evolved:
    assert source.y is not None
    x, y = dense_latents(source, np.arange(len(source.ids))[None])[0].numpy(), source.y.copy()
    replaced = nodes.ravel()
    others = rng.choice(len(y), len(replaced))
    x[replaced], y[replaced] = x[others], source.y[others]
    mask = np.zeros(len(y), bool)
    mask[replaced] = True
    return Evolved(replace(source, x=x, y=y), mask, np.ones(len(y), np.float32))


def _unchanged(source: GraphData, nodes: Nodes, report: EvolutionReport) -> Evolution:
    n = len(source.ids)
    return Evolution(source, Evolved(source, np.zeros(n, bool), np.ones(n, np.float32)), nodes, report)


def _clipped_share(ratio: Ratio, source: DomainSide) -> float:
    found = ratio.of(source.z, source.edges)
    share = float(((found <= RATIO_LIMITS[0]) | (found >= RATIO_LIMITS[1])).float().mean())
    if share > 0.99:
        warnings.warn(
            f"the domains are separable ({share:.1%} of the source's ratios lie at a limit), so the guidance is weak; "
            "try --set svd_dim=32",
            stacklevel=3,
        )
    return share


def _kept(source: GraphData, evolved: Evolved, nodes: Nodes) -> tuple[float, float]:
    """Shares of the replaced nodes' labels and of their subgraphs' edges that are the old ones."""
    assert source.y is not None
    assert evolved.graph.y is not None
    same = (source.y == evolved.graph.y)[evolved.replaced]
    before, after = dense_edges(source, nodes) > 0, dense_edges(evolved.graph, nodes) > 0
    n_edges = int(before.sum())
    return float(same.mean()), float((before & after).sum()) / n_edges if n_edges else 1.0


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Ends a stage."""
        now = time.monotonic()
        self.laps[name], self._at = round(now - self._at, 2), now
