"""Discovery of preference hints: which attributes speak for or against an item, for one user (PIDLR's first half).

The paper (arXiv 2601.18096) has two sides of hints, of the item and of the user, similar users' explicit interactions
where the user's own are silent, and instance-wise dual attention that yields credibilities. There is no official code:
everything else is a reconstruction. Ours:
1. statistics come from blocks of time before the row's own (`time_blocks`), or the labels leak;
2. tastes as damped means, beyond expectation to weigh and plain to show, and who counts as similar
   (`hint_statistics`, `similar_users`);
3. an attribute's vector is relation times tail; a user's is a map of embedding, liked items and their attributes, as
   often as they occur: of all attributes ever met, nearly everybody meets the common ones;
4. the logit adds the two biases, and the mean taste (the user's own, similar users') of the item's selected
   attributes, with learned slopes that start at 4, the slope of a probability at one half. Without the tastes' way of
   their own the network overfits before it learns what they mean (AUC on validation .734 instead of .738);
5. users' embeddings start at 0 and stay there for users without training rows: until there is more to say of
   somebody, their events decide who is similar.

Letters: b rows, s contexts, c candidates, d dimensions, a attributes.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from facetrail.models.recommend.hint_attention import DualAttention, Selection
from facetrail.models.recommend.hint_rows import Contexts, HintBatch
from facetrail.models.recommend.knowledge import Attributes

SLOPE = 4.0


class HintConfig(BaseModel):
    """The discovery network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=64, ge=2)
    """Of users, items, relations and tails."""
    n_similar: int = Field(default=20, ge=0)
    """Similar users whose tastes count; 0: own evidence alone."""
    n_hints: int = Field(default=5, ge=1)
    """M: hints of each side."""
    item_side: bool = True
    """Hints among the item's own attributes."""
    user_side: bool = True
    """Hints among the attributes with the strongest evidence of the user, whatever the item."""
    hard: bool = True
    """False: nothing is selected, every candidate is weighed."""
    soft: bool = True
    """False: what is selected counts alike."""
    null: bool = True
    """Whether "no hint" takes its share of the credibility."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of the hidden layer that makes the score."""


class Discovery(NamedTuple):
    """logits: (b,) of a like. item, user: what each side selected; None where the config has no such side."""

    logits: Tensor
    item: Selection | None
    user: Selection | None


class HintNetwork(nn.Module):
    """Scores rows and says which attributes it looked at."""

    relation_of: Tensor
    tail_of: Tensor

    def __init__(
        self, config: HintConfig, attributes: Attributes, n_users: int, n_items: int, *, generator: torch.Generator
    ) -> None:
        """generator: draws the weights, in a fixed order."""
        super().__init__()
        self.config, dim = config, config.dim
        relations, relation_of = np.unique(attributes.relations, return_inverse=True)
        tails, tail_of = np.unique(attributes.tails, return_inverse=True)
        self.register_buffer("relation_of", torch.from_numpy(relation_of.astype(np.int64)), persistent=False)
        self.register_buffer("tail_of", torch.from_numpy(tail_of.astype(np.int64)), persistent=False)
        self.users, self.items = nn.Embedding(n_users, dim), nn.Embedding(n_items, dim)
        self.relations, self.tails = nn.Embedding(len(relations), dim), nn.Embedding(len(tails), dim)
        self.user_map = nn.Linear(3 * dim, dim)
        self.item_attention = self._attention() if config.item_side else None
        self.user_attention = self._attention() if config.user_side else None
        self.hidden, self.out = nn.Linear(5 * dim, dim), nn.Linear(dim, 1)
        self.drop = nn.Dropout(config.dropout)
        self.slopes = nn.Parameter(torch.full((2,), SLOPE))
        self.taste_slopes = nn.Parameter(torch.full((2,), SLOPE))
        self._draw(generator)

    def forward(
        self, batch: HintBatch, *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Discovery:
        """generator: draws the noise of the hard attention, in training alone."""
        vectors = self.attribute_vectors()
        contexts = self._contexts(batch.users, batch.context, batch.liked, batch.traits, vectors)
        # index_select: the gradient of contexts[...] adds in the order of threads, and two runs would differ
        user, item = contexts.index_select(0, batch.context), self.items(batch.items)

        def look(side: DualAttention | None, numbers: Tensor, features: Tensor) -> Selection | None:
            if side is None or not len(vectors):
                return None
            selection: Selection = side(
                user, item, vectors, numbers, features, temperature=temperature, generator=generator
            )
            return selection

        of_item = look(self.item_attention, batch.item_side, batch.item_features)
        of_user = look(self.user_attention, batch.user_side[batch.context], batch.user_features[batch.context])
        nothing = torch.zeros_like(user)
        hints = [side.vector if side is not None else nothing for side in (of_item, of_user)]
        hidden = torch.relu(self.hidden(torch.cat([user, item, user * item, *hints], dim=-1)))
        logits = self.out(self.drop(hidden)).squeeze(-1) + batch.bias @ self.slopes
        if of_item is not None:
            logits = logits + _mean_taste(of_item, batch.item_features) @ self.taste_slopes
        return Discovery(logits, of_item, of_user)

    def attribute_vectors(self) -> Tensor:
        """(a, d) relation times tail."""
        vectors: Tensor = self.relations(self.relation_of) * self.tails(self.tail_of)
        return vectors

    @torch.no_grad()
    def user_vectors(self, contexts: Contexts) -> NDArray[np.float32]:
        """(s, d) E_u of each context, for finding similar users."""
        device = self.slopes.device

        def put(array: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(array).to(device)

        each = torch.arange(len(contexts.users), device=device)
        liked = (put(contexts.liked.rows), put(contexts.liked.starts[:-1]))
        traits = (put(contexts.traits.rows), put(contexts.traits.starts[:-1]))
        vectors = self._contexts(put(contexts.users), each, liked, traits, self.attribute_vectors())
        found: NDArray[np.float32] = vectors.cpu().numpy()
        return found

    def _contexts(
        self,
        users: Tensor,
        context: Tensor,
        liked: tuple[Tensor, Tensor],
        traits: tuple[Tensor, Tensor],
        vectors: Tensor,
    ) -> Tensor:
        """(s, d) E_u. A mean over nothing is 0."""
        owners = torch.empty(len(liked[1]), dtype=torch.long, device=users.device).scatter(0, context, users)
        # mean over an empty table is an error in torch, though no bag asks for any of its rows
        table = vectors if len(vectors) else vectors.new_zeros(1, self.config.dim)
        of_items = embedding_bag(liked[0], self.items.weight, liked[1], mode="mean")
        of_attributes = embedding_bag(traits[0], table, traits[1], mode="mean")
        mapped: Tensor = self.user_map(torch.cat([self.users(owners), of_items, of_attributes], dim=-1))
        return mapped

    def _attention(self) -> DualAttention:
        config = self.config
        return DualAttention(config.dim, config.n_hints, hard=config.hard, soft=config.soft, null=config.null)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name in ("items.weight", "tails.weight"):
                parameter.normal_(0, 0.1, generator=generator)
            elif name == "users.weight":
                parameter.zero_()
            elif name == "relations.weight":
                parameter.fill_(1.0)
            elif parameter.ndim == 2:
                bound = (6 / sum(parameter.shape)) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
        self.out.weight.mul_(0.1)  # the score starts close to what the biases say


def _mean_taste(side: Selection, features: Tensor) -> Tensor:
    """(b, 2) own and similar users' taste, a mean over the selected attributes; 0 where none is. features: (b, c, F).

    Not weighted by credibility: it falls with the null slot's share, and the slopes would have to learn by how much.
    """
    share = side.selected / side.selected.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("bc,bcf->bf", share, features[..., :2])


@torch.no_grad()
def start_from(network: HintNetwork, attributes: Attributes, items: NDArray[np.float32]) -> None:
    """Sets embeddings of items, (m, d), and those of tails to the mean of the items that have them."""
    device = network.slopes.device
    network.items.weight.copy_(torch.from_numpy(items).to(device))
    owners, found = attributes.spread(np.arange(attributes.n_items))
    tails = network.tail_of.cpu().numpy()[found]
    sums = np.zeros(tuple(network.tails.weight.shape))
    np.add.at(sums, tails, items[owners])
    counts = np.maximum(np.bincount(tails, minlength=len(sums)), 1)[:, None]
    network.tails.weight.copy_(torch.from_numpy((sums / counts).astype(np.float32)).to(device))


def translation_loss(network: HintNetwork, items: Tensor, attributes: Tensor, fakes: Tensor) -> Tensor:
    """TransE: item + relation is nearer to the tail than to a fake one by a margin of 1. All (n,): an item, one of its
    attributes, another attribute whose tail is the fake.
    """
    heads = network.items(items) + network.relations(network.relation_of[attributes])
    right = (heads - network.tails(network.tail_of[attributes])).norm(dim=-1)
    wrong = (heads - network.tails(network.tail_of[fakes])).norm(dim=-1)
    return torch.relu(1 + right - wrong).mean()
