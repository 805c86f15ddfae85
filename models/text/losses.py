"""The losses of training an encoder: pure functions of tensors.

Cosines come unscaled; `temperature` divides them. A batch holds pairs of one kind, so that a model cannot tell
positives by their style.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div


def contrastive(
    scores: Tensor, backward: Tensor, unknown: Tensor, weights: Tensor | None = None, *, temperature: float = 0.05
) -> Tensor:
    """InfoNCE in both directions over in-batch and hard negatives.

    scores: (b, b + h), row i's positive is column i, hard negatives last · backward: (b, b), the right texts looking
    for their left ones · unknown: (b, b + h) bool, pairs that may be relevant and leave the denominator ·
    weights: (b,).
    A batch of one without hard negatives teaches nothing and costs 0.
    """
    n = len(scores)
    if scores.shape[1] == 1:
        return scores.sum() * 0
    target = torch.arange(n, device=scores.device)
    unknown = unknown.clone()
    unknown[target, target] = False
    forward = cross_entropy((scores / temperature).masked_fill(unknown, float("-inf")), target, reduction="none")
    hidden = unknown[:, :n].T
    back = cross_entropy((backward / temperature).masked_fill(hidden, float("-inf")), target, reduction="none")
    both = (forward + back) / 2
    return both.mean() if weights is None else (both * weights).sum() / weights.sum().clamp_min(1e-9)


def false_negatives(base_scores: Tensor, related: Tensor, *, slack: float = 0.05) -> Tensor:
    """Pairs that the frozen base scores nearly like the positive, and pairs known to be related. → (b, m) bool.

    base_scores: (b, m), column i is row i's positive · related: (b, m) bool: same id, same title, linked.
    """
    positive = base_scores.diagonal().unsqueeze(1)
    return (base_scores > positive - slack) | related


def role_divergence(target: Tensor, log_roles: Tensor, mask: Tensor) -> Tensor:
    """KL(target ‖ roles) over labelled units. target: (b, u, k) sums to 1 · log_roles: (b, u, k) · mask: (b, u)."""
    per_unit = kl_div(log_roles, target, reduction="none").sum(-1)
    return (per_unit * mask).sum() / mask.sum().clamp_min(1)


def alignment(query_facets: Tensor, positive_facets: Tensor, prior: Tensor, *, temperature: float = 0.05) -> Tensor:
    """KL(π* ‖ π): π* is the share of each facet in the match with the positive, taken as given.

    query_facets, positive_facets: (b, k, d) · prior: (b, k).
    """
    wanted = ((query_facets * positive_facets).sum(-1) / temperature).softmax(1).detach()
    return kl_div(prior.clamp_min(1e-9).log(), wanted, reduction="batchmean")


def split_distance(facets: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    """1 - cosine of each facet vector to the base's vector of the title and that role's sentences, where it occurs.

    facets, targets: (b, k, d) unit rows · present: (b, k) bool. No role present at all: 0.
    """
    distance = 1 - (facets * targets).sum(-1)
    return (distance * present).sum() / present.sum().clamp_min(1)


def diversity(anchors: Tensor, mean_prior: Tensor, role_prior: Tensor, *, above: float = 0.3) -> Tensor:
    """Squared excess of anchor cosines over `above`, and the batch's mean prior kept near that of labelled text.

    anchors: (k, d) · mean_prior, role_prior: (k,) sum to 1.
    """
    unit = torch.nn.functional.normalize(anchors, dim=1)
    cosines = unit @ unit.T
    others = ~torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    excess = (cosines[others] - above).clamp_min(0).square().mean() if len(anchors) > 1 else cosines.sum() * 0
    drift = (mean_prior * (mean_prior.clamp_min(1e-9).log() - role_prior.clamp_min(1e-9).log())).sum()
    return excess + 0.01 * drift


def distillation(base_scores: Tensor, scores: Tensor, *, temperature: float = 0.05) -> Tensor:
    """KL of the base's row-wise softmax to the model's: what the base knew is kept. both: (b, m)."""
    wanted = (base_scores / temperature).log_softmax(1)
    return kl_div((scores / temperature).log_softmax(1), wanted, reduction="batchmean", log_target=True)
