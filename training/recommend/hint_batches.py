"""Rows of the pair-wise task and the batches that the discovery network of hints learns from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from facetrail.models.recommend.hint_rows import HintBatch, HintTable, SimilarUsers, contexts_of
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import HintConfig, HintNetwork
from facetrail.models.recommend.knowledge import AttributeConfig, Attributes
from facetrail.models.recommend.similar_users import similar_users
from facetrail.models.recommend.time_blocks import EventLog, Ints, Ratings, block_cuts, joined
from facetrail.training.loop import FitConfig, step_rng


class HintsRecipe(BaseModel):
    """One training of the discovery network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(default=2_048, ge=1)
    """Rows of a step."""
    lr: float = Field(default=1e-3, gt=0)
    n_blocks: int = Field(default=5, ge=2)
    """Blocks of time; rows of the first train nothing, for nothing is known before them."""
    temperature_start: float = Field(default=1.0, gt=0)
    """Of the hard attention's noise; falls linearly."""
    temperature_end: float = Field(default=0.3, gt=0)
    translation: float = Field(default=0.1, ge=0)
    """Weight of the graph's own loss (TransE)."""
    n_translations: int = Field(default=1_024, ge=1)
    """(item, attribute) pairs of a step for it."""
    belief: float = Field(default=0.02, ge=0)
    """Price of credibility: hints have to improve the score by more than this to be believed (ours)."""
    fit: FitConfig
    network: HintConfig = HintConfig()
    attributes: AttributeConfig = AttributeConfig()

    def temperature(self, step: int) -> float:
        """Of one step."""
        done = step / max(1, self.fit.steps - 1)
        return self.temperature_start + (self.temperature_end - self.temperature_start) * done


@dataclass(frozen=True)
class Rows:
    """What to fit and to measure on, each part ordered by time and later than the one before."""

    train: Ratings
    validation: Ratings
    test: Ratings
    n_users: int
    n_items: int

    @property
    def log(self) -> EventLog:
        """Training's events."""
        return EventLog(self.train, self.n_users, self.n_items)

    @property
    def full_log(self) -> EventLog:
        """Every part's events; averages are damped towards training's mean all the same."""
        every = joined([self.train, self.validation, self.test]).ordered()
        return EventLog(every, self.n_users, self.n_items, n_prior=len(self.train))


class TrainBatch(NamedTuple):
    """labels: (b,) · translations: (3, n) items, attributes, fakes · noise: seeded for the step."""

    rows: HintBatch
    labels: Tensor
    temperature: float
    noise: torch.Generator
    translations: Tensor


class TrainBatches:
    """Batches of the rows from block 2 on. Who is similar is found anew as each epoch begins, and part of the state."""

    def __init__(
        self, data: Rows, attributes: Attributes, network: HintNetwork, recipe: HintsRecipe, *, seed: int
    ) -> None:
        self._evidence, self._network, self._recipe, self._seed = Evidence(data.log, attributes), network, recipe, seed
        cuts = block_cuts(data.train.times, recipe.n_blocks)
        self._rows = data.train.take(cuts > 0)
        self._contexts, self._context = contexts_of(self._evidence, self._rows.users, cuts[cuts > 0])
        self._pairs = np.stack(attributes.spread(np.arange(attributes.n_items)))
        self._epoch = -1
        self._similar: SimilarUsers | None = None
        self._table: HintTable | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches that see each row once; the last may be smaller."""
        return -(-len(self._rows) // self._recipe.batch)

    def __call__(self, step: int) -> TrainBatch:
        """The batch of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch or self._table is None:
            self._begin(epoch)
        order = step_rng(self._seed, epoch).permutation(len(self._rows))
        chosen = np.sort(order[place * self._recipe.batch : (place + 1) * self._recipe.batch])
        device, recipe = self._network.slopes.device, self._recipe
        rng = np.random.default_rng([self._seed, step, 1])
        assert self._table is not None
        return TrainBatch(
            self._table.batch(chosen, device),
            torch.from_numpy(self._rows.labels[chosen].astype(np.float32)).to(device),
            recipe.temperature(step),
            torch.Generator().manual_seed(int(rng.integers(2**62))),
            torch.from_numpy(translations(self._pairs, len(self._evidence.attributes), recipe, rng)).to(device),
        )

    def state(self) -> Mapping[str, Any]:
        """Who is similar in this epoch: weights have moved since it began."""
        if self._similar is None:
            return {"epoch": -1}
        return {
            "epoch": self._epoch,
            "users": torch.from_numpy(self._similar.users),
            "weights": torch.from_numpy(self._similar.weights),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """As `state` gave it."""
        self._epoch = int(state["epoch"])
        if self._epoch >= 0:
            self._tabulate(SimilarUsers(state["users"].numpy(), state["weights"].numpy()))

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        k = self._network.config.n_similar
        if k or self._table is None:
            self._tabulate(similar_users(self._evidence, self._contexts, self._network.user_vectors, k))

    def _tabulate(self, similar: SimilarUsers) -> None:
        self._similar = similar
        rows = self._rows
        self._table = HintTable(self._evidence, rows.users, rows.items, self._contexts, self._context, similar)


def translations(pairs: Ints, n_attributes: int, recipe: HintsRecipe, rng: np.random.Generator) -> Ints:
    """(3, n) items, attributes of theirs, and attributes at random; for the graph's own loss. pairs: (2, all)."""
    n = pairs.shape[1]
    if not n or not recipe.translation:
        return np.empty((3, 0), np.int64)
    items, attributes = pairs[:, rng.integers(n, size=recipe.n_translations)]
    return np.stack([items, attributes, rng.integers(n_attributes, size=len(items))])
