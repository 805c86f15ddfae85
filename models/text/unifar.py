"""UniFAR: one encoder for documents and questions, with facets.

After "UniFAR: A Unified Facet-Aware Retrieval Framework for Scientific Documents" (arXiv 2602.23766), which names the
three parts (adaptive multi-granularity aggregation, learnable facet anchors, joint training) without public code.
Every equation here is a reconstruction. What to know about ours:

1. It starts as the base: with `gate_scale` and `facet_scale` at 0, every vector is the mean-pooled base vector.
2. Attention looks at token states for questions and at sentence means for documents; heads are averaged before the
   softmax, so they scale the scores and do no more, and inference folds both maps into the anchors (`folded_anchors`).
3. What kind of text it is enters as a learned vector, zero at the start, added where the trained layers begin: the
   layers below are frozen, which lets training keep their states.
4. A sentence's place in the text adds to its facet scores, zero at the start: roles follow an order.
5. Title and text are two lines instead of `title [SEP] text`, for the base never saw the latter.

Letters: b texts, t tokens, u units, s sentences, k facets, d dimensions.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from facetrail.models.text.facets import GRANULARITIES
from facetrail.models.text.unifar_config import UnifarConfig as UnifarConfig

N_PLACES = 8
"""Places in a text that carry a score of their own for each facet; between them it is interpolated."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of padded texts belong.

    mask: (b, t) bool, True = a token · sentence, paragraph: (b, t) int64, -1 for special tokens and padding ·
    n_sentences, n_paragraphs: (b,) int64 · is_question: (b,) bool.
    Every text has a token, and a text of two or more sentences has one inside a sentence.
    """

    mask: Tensor
    sentence: Tensor
    paragraph: Tensor
    n_sentences: Tensor
    n_paragraphs: Tensor
    is_question: Tensor

    def to(self, device: torch.device) -> "Layout":
        """The same on another device."""
        return Layout(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class FacetState:
    """What the head makes of texts; every row of `single` and `facets` is a unit vector.

    pooled: (b, d) z_0, not normalised · single: (b, d) · facets: (b, k, d) · prior: (b, k) sums to 1 ·
    gate: (b, 4) over GRANULARITIES, sums to 1 · attention: (b, k, u) sums to 1 over units · roles: (b, u, k) log of the
    responsibilities · unit_mask: (b, u).
    """

    pooled: Tensor
    single: Tensor
    facets: Tensor
    prior: Tensor
    gate: Tensor
    attention: Tensor
    roles: Tensor
    unit_mask: Tensor


class UnifarHead(nn.Module):
    """Token states of the last layer to `FacetState`."""

    def __init__(self, config: UnifarConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        d, k = config.dim, len(config.facets)
        self.config = config

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) / d**0.5)

        self.token_map, self.token_query = drawn(d, d), drawn(d)
        self.sentence_query, self.paragraph_query = drawn(d), drawn(d)
        self.gate_in, self.gate_in_bias = drawn(config.gate_width, d + 4), nn.Parameter(torch.zeros(config.gate_width))
        self.gate_out = nn.Parameter(torch.zeros(len(GRANULARITIES), config.gate_width))
        self.gate_scale = nn.Parameter(torch.zeros(()))  # ρ
        self.anchors = nn.Parameter(torch.randn(k, d, generator=generator), requires_grad=config.anchors == "learned")
        self.query_map, self.key_map = nn.Parameter(torch.eye(d)), nn.Parameter(torch.eye(d))
        self.value_map, self.output_map = nn.Parameter(torch.eye(d)), nn.Parameter(torch.eye(d))
        self.place_map = nn.Parameter(torch.zeros(k, N_PLACES))
        self.facet_scale = nn.Parameter(torch.zeros(k))  # γ
        self.prior_map = nn.Parameter(torch.zeros(k, d))
        self.mixing_logit = nn.Parameter(torch.tensor(config.mixing).logit())  # λ = sigmoid
        self.question = nn.Parameter(torch.zeros(d))
        """Added to a question's tokens where the trained layers begin; the caller does that."""

    @property
    def mixing(self) -> Tensor:
        """λ, the share of the facet score."""
        return self.mixing_logit.sigmoid()

    def folded_anchors(self) -> Tensor:
        """Anchors behind both attention maps and the scale: attention scores are units @ its transpose. (k, d)."""
        heads = self.config.heads
        scale = heads * math.sqrt(self.config.dim / heads)
        return self.anchors @ self.query_map @ self.key_map.T / scale

    def forward(self, states: Tensor, layout: Layout) -> FacetState:
        """states: (b, t, d), padding of any value."""
        mask = layout.mask
        states = states.masked_fill(~mask.unsqueeze(-1), 0)
        mean = states.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)  # g_D
        sentences, has_sentence = group_means(states, layout.sentence, int(layout.n_sentences.max()))
        pooled, gate = self._pooled(states, mean, sentences, has_sentence, layout)
        units, unit_mask = attended_units(states, sentences, has_sentence, layout)
        scores = units @ self.folded_anchors().T + self._place_scores(units, layout)  # (b, u, k)
        hidden = ~unit_mask.unsqueeze(-1)
        attention = (scores / self.config.attention_temperature).masked_fill(hidden, float("-inf")).softmax(1)
        facets = self._facets(pooled, attention, units)
        # The spec's - log|u| is the same for every facet, so the softmax over facets would cancel it.
        strength = scores.masked_fill(hidden, float("-inf")).logsumexp(1)
        prior = (strength + mean @ self.prior_map.T).softmax(1)
        unit_pooled = functional.normalize(pooled, dim=1)
        single = functional.normalize(unit_pooled + torch.einsum("bk,bkd->bd", prior, facets), dim=1)
        roles = scores.log_softmax(2)
        return FacetState(pooled, single, facets, prior, gate, attention.transpose(1, 2), roles, unit_mask)

    def _place_scores(self, units: Tensor, layout: Layout) -> Tensor:
        """What a sentence's place says of its role, (b, u, k); nothing where tokens are looked at."""
        n_sentences = max(1, int(layout.n_sentences.max()))
        scores = sentence_places(layout, n_sentences).to(units) @ self.place_map.T
        scores = scores.masked_fill(by_token(layout).view(-1, 1, 1), 0)[:, : units.shape[1]]
        return functional.pad(scores, (0, 0, 0, units.shape[1] - scores.shape[1]))

    def _facets(self, pooled: Tensor, attention: Tensor, units: Tensor) -> Tensor:
        looked_at = torch.einsum("buk,bud->bkd", attention, units) @ self.value_map
        content = functional.layer_norm(looked_at, looked_at.shape[-1:]) @ self.output_map.T
        return functional.normalize(pooled.unsqueeze(1) + self.facet_scale.view(1, -1, 1) * content, dim=2)

    def _pooled(
        self, states: Tensor, mean: Tensor, sentences: Tensor, has_sentence: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """z_0 (b, d) and the gate (b, 4)."""
        if not self.config.gated:
            return mean, functional.one_hot(mean.new_zeros(len(mean), dtype=torch.long), len(GRANULARITIES)).to(mean)
        paragraphs, has_paragraph = group_means(states, layout.paragraph, int(layout.n_paragraphs.max()))
        tokens = attention_pool(states, torch.tanh(states @ self.token_map.T) @ self.token_query, layout.mask)
        parts = [mean, tokens]
        for groups, exists, query in (
            (sentences, has_sentence, self.sentence_query),
            (paragraphs, has_paragraph, self.paragraph_query),
        ):
            parts.append(attention_pool(groups, groups @ query, exists))
        sizes = [layout.mask.sum(1), layout.n_sentences, layout.n_paragraphs]
        features = torch.cat(
            [
                torch.stack([*((1 + n.to(mean)).log() for n in sizes), layout.is_question.to(mean)], 1),
                functional.layer_norm(mean, mean.shape[-1:]),
            ],
            1,
        )
        logits = functional.gelu(features @ self.gate_in.T + self.gate_in_bias) @ self.gate_out.T
        there = torch.ones_like(logits, dtype=torch.bool)
        there[:, 2], there[:, 3] = layout.n_sentences > 1, layout.n_paragraphs > 1
        gate = logits.masked_fill(~there, float("-inf")).softmax(1)
        shift = sum(gate[:, g, None] * (parts[g] - mean) for g in (1, 2, 3))
        return mean + self.gate_scale * shift, gate


def group_means(states: Tensor, group: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Means of tokens by group, and which groups have tokens. states: (b, t, d) · group: (b, t) → (b, g, d), (b, g)."""
    n_groups = max(1, n_groups)
    member = functional.one_hot(group.clamp_min(0), n_groups).to(states) * (group >= 0).unsqueeze(-1)  # (b, t, g)
    size = member.sum(1)
    return member.transpose(1, 2) @ states / size.clamp_min(1).unsqueeze(-1), size > 0


def attention_pool(rows: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax-weighted mean of rows; zeros where no row counts. rows: (b, n, d) · logits, mask: (b, n) → (b, d)."""
    empty = ~mask.any(1, keepdim=True)
    weights = logits.masked_fill(~mask & ~empty, float("-inf")).softmax(1)
    return (weights.masked_fill(~mask, 0).unsqueeze(1) @ rows).squeeze(1)


def by_token(layout: Layout) -> Tensor:
    """Which texts are looked at by token: questions and texts of one sentence. (b,) bool."""
    return layout.is_question | (layout.n_sentences <= 1)


def sentence_places(layout: Layout, n_sentences: int) -> Tensor:
    """Where each sentence stands in its text, the first of several lines (the title) left out of the count.

    → (b, s, N_PLACES): shares of the two nearest of evenly spaced places from the first sentence to the last.
    """
    is_titled = (layout.n_paragraphs > 1).unsqueeze(1)
    lead = ((layout.sentence + 1) * ((layout.paragraph == 0) & is_titled)).amax(1, keepdim=True)  # (b, 1)
    number = torch.arange(n_sentences, device=lead.device).unsqueeze(0)
    place = ((number - lead + 0.5) / (layout.n_sentences.unsqueeze(1) - lead).clamp_min(1)).clamp(0, 1)
    distance = place.unsqueeze(2) * (N_PLACES - 1) - torch.arange(N_PLACES, device=lead.device)
    return (1 - distance.abs()).clamp_min(0)


def attended_units(states: Tensor, sentences: Tensor, has_sentence: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """What facets look at: token states of questions and of texts of one sentence, else sentence means.

    → (b, u, d), (b, u)."""
    tokens = by_token(layout)
    if bool(tokens.all()):
        return states, layout.mask
    if not bool(tokens.any()):
        return sentences, has_sentence
    width = max(states.shape[1], sentences.shape[1])
    rows = [functional.pad(x, (0, 0, 0, width - x.shape[1])) for x in (states, sentences)]
    masks = [functional.pad(m, (0, width - m.shape[1])) for m in (layout.mask, has_sentence)]
    chosen = tokens.unsqueeze(-1)
    return torch.where(chosen.unsqueeze(-1), rows[0], rows[1]), torch.where(chosen, masks[0], masks[1])


def facet_scores(queries: Tensor, weights: Tensor, documents: Tensor, margin: float) -> Tensor:
    """s_K of every pair. queries: (q, k, d) · weights: (q, k) sum to 1 · documents: (n, k, d) → (q, n).

    A facet of the query takes the same facet of the document, or the best of the others less the margin.
    """
    cosines = torch.einsum("qkd,njd->qnkj", queries, documents)
    same = cosines.diagonal(dim1=2, dim2=3)  # (q, n, k)
    return torch.einsum("qk,qnk->qn", weights, torch.maximum(same, cosines.amax(3) - margin))


class Vectors(Protocol):
    """What scores are made of; `FacetState` is one."""

    @property
    def single(self) -> Tensor: ...
    @property
    def facets(self) -> Tensor: ...
    @property
    def prior(self) -> Tensor: ...


def pair_scores(
    query: Vectors, document: Vectors, mixing: Tensor | float, margin: float, weights: Tensor | None = None
) -> Tensor:
    """s of every pair: (1 - mixing) s_1 + mixing s_K. weights: (q, k), the query's prior when None → (q, n).

    Ours: weights that were given compare each facet with the same facet alone. Whoever asks for a method wants methods
    compared; a match of another facet less the margin would let the facet asked for win by the margin at most (in the
    planted world of the tests, R@1 .64 instead of 1.0).
    """
    if weights is None:
        by_facet = facet_scores(query.facets, query.prior, document.facets, margin)
    else:
        by_facet = facet_scores(query.facets, weights, document.facets, float("inf"))
    return (1 - mixing) * (query.single @ document.single.T) + mixing * by_facet
