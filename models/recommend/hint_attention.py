"""Instance-wise dual attention: a hard one selects a few attributes, a soft one says how far to believe each.

That there are two, and that they yield credibilities, is the paper's; their form is a reconstruction. Ours:
1. hard: Gumbel top-M with a straight-through gradient, no noise outside training;
2. soft: a softmax over what was selected and one learned null slot, without which a lone weak attribute would always
   get weight 1; the slot starts level with M hints of the strength WORTH, so evidence has to earn what it gets;
3. keys, energies and values read the statistics beside the attribute's vector. Without them a liked and a disliked
   attribute would say the same.
4. to both logits a learned multiple of the strength |p| + |p^C| is added. A key is linear in the statistics, so it
   could look for likes or for dislikes, never for both;
5. the statistics are brought to one size by fixed factors.

Letters: b rows, c candidates, a attributes, d dimensions, M hints, F = N_FEATURES.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from facetrail.models.recommend.hint_statistics import N_FEATURES

MASKED = -1e9
"""Logit of what does not exist: finite, so that a row without candidates stays finite."""


STRENGTH = 10.0
"""What the multiples of an attribute's strength start at; strong tastes are about .3."""
WORTH = 0.3
"""Strength at which as many hints as may be selected share the credibility evenly with the null slot."""
_SIZES = (10.0, 10.0, 0.5, 0.5, 0.25)
"""Factors of the five statistics."""


class Selection(NamedTuple):
    """What one side of the attention came to.

    credibility: (b, c), 0 where not selected; with null it sums to 1 · null: (b,) share of "no hint", 1 where nothing
    was to select · selected: (b, c) bool · logits: (b, c) of the hard attention · vector: (b, d).
    """

    credibility: Tensor
    null: Tensor
    selected: Tensor
    logits: Tensor
    vector: Tensor


class DualAttention(nn.Module):
    """Selects and weighs the candidates of one side (of the item, or of the user)."""

    def __init__(self, dim: int, n_hints: int, *, hard: bool, soft: bool, null: bool) -> None:
        """hard False selects every candidate; soft False weighs all selected alike; null False drops the slot."""
        super().__init__()
        self.n_hints, self.hard, self.soft = n_hints, hard, soft
        self.query, self.key = nn.Linear(2 * dim, dim), nn.Linear(dim + N_FEATURES, dim, bias=False)
        self.of_user, self.of_item = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.of_attribute = nn.Linear(dim + N_FEATURES, dim, bias=False)
        self.energy = nn.Linear(dim, 1, bias=False)
        self.value = nn.Linear(dim + N_FEATURES, dim, bias=False)
        self.key_strength = nn.Parameter(torch.tensor(STRENGTH))
        self.energy_strength = nn.Parameter(torch.tensor(STRENGTH))
        self.null_energy = nn.Parameter(torch.tensor(math.log(n_hints) + STRENGTH * WORTH)) if null else None

    def forward(
        self, user: Tensor, item: Tensor, table: Tensor, numbers: Tensor, features: Tensor,
        *, temperature: float = 1.0, generator: torch.Generator | None = None,
    ) -> Selection:  # fmt: skip
        """user, item: (b, d) · table: (a, d) vectors of all attributes · numbers: (b, c) candidates, -1 pads ·
        features: (b, c, F). generator: draws the noise of training; None: no noise, for use.
        """
        mask, numbers = numbers >= 0, numbers.clamp(min=0)
        strength = features[..., :2].abs().sum(dim=-1)
        features = features * features.new_tensor(_SIZES)
        query = self.query(torch.cat([user, item], dim=-1))
        logits = self._logits(query, table, numbers, features) + self.key_strength * strength
        n_chosen = min(self.n_hints, logits.shape[-1]) if self.hard else logits.shape[-1]
        gate, top = self._gate(logits, mask, n_chosen, temperature, generator)
        # embedding(), for the gradient of table[...] adds in the order of threads: two runs would differ
        of_vector = embedding(numbers.gather(-1, top), table)
        of_features = features.gather(1, top.unsqueeze(-1).expand(-1, -1, N_FEATURES))
        told = torch.cat([of_vector, of_features], dim=-1)
        weights, null = self._weigh(self._energies(user, item, told, strength.gather(-1, top)), mask.gather(-1, top))
        weights = weights * gate.gather(-1, top)
        vector = torch.einsum("bc,bcd->bd", weights, self.value(told))
        credibility = torch.zeros_like(logits).scatter(-1, top, weights)
        return Selection(credibility, null, gate.detach() > 0.5, logits, vector)

    def _logits(self, query: Tensor, table: Tensor, numbers: Tensor, features: Tensor) -> Tensor:
        """(b, c) query · key, the table's share of it worked out once for all rows."""
        of_vector, of_features = self.key.weight[:, :-N_FEATURES], self.key.weight[:, -N_FEATURES:]
        products = (query @ (table @ of_vector.T).T).gather(-1, numbers)
        found: Tensor = products + torch.einsum("bf,bcf->bc", query @ of_features, features)
        return found / math.sqrt(query.shape[-1])

    def _gate(
        self, logits: Tensor, mask: Tensor, n_chosen: int, temperature: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """→ (b, c): 1 for the top M, 0 for others, with the gradient of min(1, M softmax); (b, M): where they are."""
        if generator is not None and self.hard:
            uniform = torch.rand(logits.shape, generator=generator, device=generator.device).to(logits.device)
            logits = logits - temperature * torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
        masked = logits.masked_fill(~mask, MASKED)
        top = masked.topk(n_chosen, dim=-1).indices
        hard = torch.zeros_like(logits).scatter(-1, top, 1.0) * mask
        if not self.hard:
            return hard, top
        likely = (n_chosen * torch.softmax(masked / temperature, dim=-1)).clamp(max=1.0) * mask
        return hard + (likely - likely.detach()), top  # the bracket is exactly 0

    def _energies(self, user: Tensor, item: Tensor, told: Tensor, strength: Tensor) -> Tensor:
        if not self.soft:
            return told.new_zeros(told.shape[:2])
        mixed = (self.of_user(user) + self.of_item(item)).unsqueeze(1) + self.of_attribute(told)
        energies: Tensor = self.energy(torch.tanh(mixed)).squeeze(-1) + self.energy_strength * strength
        return energies

    def _weigh(self, energies: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """energies, mask: (b, M) of what was selected → (b, M) weights, (b,) null."""
        masked = energies.masked_fill(~mask, MASKED)
        if self.null_energy is None:
            return torch.softmax(masked, dim=-1) * mask, (~mask.any(dim=-1)).to(masked.dtype)
        slot = self.null_energy.expand(len(masked), 1)
        weights = torch.softmax(torch.cat([masked, slot], dim=-1), dim=-1)
        return weights[:, :-1] * mask, weights[:, -1]
