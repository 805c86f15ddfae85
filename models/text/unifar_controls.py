"""Two heads to compare UniFAR's with: they make the same `FacetState`, so the training code is the same.

`MeanHead` is the mean-pooled base with nothing learned above it. Every facet is its one vector, so s is the plain
cosine, and only the losses on scores teach anything.

`ProjectionHead` gives as many vectors as UniFAR and knows no facets: what it wins comes from more vectors.
Equal: k + 1 vectors, each equal to the base at first, learned shifts γ_k of z_0, a learned prior, the way `single` and
the scores are made, the question vector, λ. Different: the shift is a projection P_k of the text's mean, where UniFAR's
looks at units through anchors; no granularity gate (z_0 is the mean); attention and roles are uniform and teach
nothing. P_k is drawn: from identities, all k vectors would get the same gradient and stay one vector for ever.
Parameters: k · d² here, 5 · d² plus some thousand there, about four fifths at four facets.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from facetrail.models.text.facets import GRANULARITIES
from facetrail.models.text.unifar import FacetState, Layout, UnifarConfig, attended_units, group_means


class MeanHead(nn.Module):
    """Arm B: token states to their mean, under every name that `FacetState` has."""

    def __init__(self, config: UnifarConfig) -> None:
        super().__init__()
        self.config = config
        self.question = nn.Parameter(torch.zeros(config.dim))
        """Added to a question's tokens where the trained layers begin; the caller does that."""

    @property
    def mixing(self) -> Tensor:
        """λ; it changes nothing here, both scores being the same cosine."""
        return torch.full((), self.config.mixing).to(self.question)

    def forward(self, states: Tensor, layout: Layout) -> FacetState:
        """states: (b, t, d), padding of any value."""
        mean, units_of = _mean(states, layout), _uniform(states, layout, len(self.config.facets))
        single = functional.normalize(mean, dim=1)
        k = len(self.config.facets)
        prior = mean.new_full((len(mean), k), 1 / k)
        return FacetState(mean, single, single.unsqueeze(1).expand(-1, k, -1), prior, _ungated(mean), *units_of)


class ProjectionHead(nn.Module):
    """Arm B2: token states to k free projections of their mean."""

    def __init__(self, config: UnifarConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        d, k = config.dim, len(config.facets)
        self.config = config
        self.projections = nn.Parameter(torch.randn(k, d, d, generator=generator) / d**0.5)  # P
        self.facet_scale = nn.Parameter(torch.zeros(k))  # γ
        self.prior_map = nn.Parameter(torch.zeros(k, d))
        self.mixing_logit = nn.Parameter(torch.tensor(config.mixing).logit())
        self.question = nn.Parameter(torch.zeros(d))
        """Added to a question's tokens where the trained layers begin; the caller does that."""

    @property
    def mixing(self) -> Tensor:
        """λ, the share of the facet score."""
        return self.mixing_logit.sigmoid()

    def forward(self, states: Tensor, layout: Layout) -> FacetState:
        """states: (b, t, d), padding of any value."""
        mean, units_of = _mean(states, layout), _uniform(states, layout, len(self.config.facets))
        shifts = torch.einsum("kij,bj->bki", self.projections, mean) * self.facet_scale.view(1, -1, 1)
        facets = functional.normalize(mean.unsqueeze(1) + shifts, dim=2)
        prior = (mean @ self.prior_map.T).softmax(1)
        single = functional.normalize(mean, dim=1) + torch.einsum("bk,bkd->bd", prior, facets)
        return FacetState(mean, functional.normalize(single, dim=1), facets, prior, _ungated(mean), *units_of)


def _mean(states: Tensor, layout: Layout) -> Tensor:
    states = states.masked_fill(~layout.mask.unsqueeze(-1), 0)
    return states.sum(1) / layout.mask.sum(1, keepdim=True).clamp_min(1)


def _ungated(mean: Tensor) -> Tensor:
    return functional.one_hot(mean.new_zeros(len(mean), dtype=torch.long), len(GRANULARITIES)).to(mean)


def _uniform(states: Tensor, layout: Layout, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Attention, log roles and mask over UniFAR's units, where every unit counts alike."""
    sentences, has_sentence = group_means(states.detach(), layout.sentence, int(layout.n_sentences.max()))
    mask = attended_units(states.detach(), sentences, has_sentence, layout)[1]
    attention = (mask / mask.sum(1, keepdim=True).clamp_min(1)).to(states).unsqueeze(1).expand(-1, k, -1)
    roles = states.new_full((*mask.shape, k), 1 / k).log()
    return attention, roles, mask
