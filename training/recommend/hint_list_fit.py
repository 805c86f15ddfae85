"""Fits the discovery network to lists: what a user liked next, among negatives, by a sampled softmax.

A row sees every event of training strictly before its own, not blocks of time as in the pair-wise fit: many users rate
all they ever rate in one sitting, and would have no history. What gives labels away there does not here: no statistic
of a row holds a later event, so the label is not the rest of a sum. Rows of the first block, from which the embeddings
start, train nothing. Ours.

An option's score is its log-popularity in training plus the network's logit, which has to say what popularity does not.
The sum over other items is estimated from negatives drawn by popularity, with the correction by log q; an item that the
user has taken up already is no option, in training as in use.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from facetrail.eval.recommend_metrics import ndcg
from facetrail.eval.recommend_options import KINDS, OptionLists, list_places, of_kind
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.hint_model import SeenRows
from facetrail.models.recommend.hint_rows import HintBatch, HintTable, contexts_of
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import HintNetwork
from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.similar_users import similar_users
from facetrail.models.recommend.time_blocks import EventLog, Ints, block_cuts, rolling_cuts
from facetrail.training.loop import ParameterGroup, StepResult, fit, step_rng
from facetrail.training.recommend.hint_batches import HintsRecipe, Rows, translations
from facetrail.training.recommend.hint_fit import beside, build_network

BEST = "NDCG@5"
LISTS_AT_ONCE = 512
"""Lists that are scored together: their tables stand in memory."""


class HintListsRecipe(HintsRecipe):
    """One training on lists. `batch` counts lists."""

    n_negatives: int = Field(default=50, ge=1)
    """Of a list."""


class ListBatch(NamedTuple):
    """b lists of 1 + k options, the target first. offset: (b, 1 + k) what is added to their logits."""

    rows: HintBatch
    offset: Tensor
    temperature: float
    noise: torch.Generator
    translations: Tensor


class ListBatches:
    """Batches as a function of the step's number and the network's weights, which say who is similar."""

    def __init__(
        self, data: Rows, attributes: Attributes, network: HintNetwork, recipe: HintListsRecipe, *, seed: int
    ) -> None:
        """Raises InvalidInput where no later row is liked by a user with a history."""
        log = data.log
        self._evidence, self._network, self._recipe, self._seed = Evidence(log, attributes), network, recipe, seed
        cuts, blocks = rolling_cuts(data.train, log), block_cuts(data.train.times, recipe.n_blocks)
        known = log.of_users(data.train.users, cuts).counts > 0
        self._rows = np.flatnonzero((data.train.labels > 0.5) & (blocks > 0) & known)
        if not len(self._rows):
            raise InvalidInput("no liked event has an earlier one of its user, so there is no list to learn from")
        self._cuts = cuts[self._rows]
        self._pairs = np.stack(attributes.spread(np.arange(attributes.n_items)))
        self._prior = log_popularity(data)
        self._draw = np.cumsum(np.exp(self._prior))  # items without an event are never drawn: nobody is asked of them

    def __call__(self, step: int) -> ListBatch:
        """The batch of a step."""
        recipe, log = self._recipe, self._evidence.log
        epoch, place = divmod(step, -(-len(self._rows) // recipe.batch))
        order = step_rng(self._seed, epoch).permutation(len(self._rows))
        chosen = np.sort(order[place * recipe.batch : (place + 1) * recipe.batch])
        rng = np.random.default_rng([self._seed, step, 1])
        users, cuts = log.events.users[self._rows[chosen]], self._cuts[chosen]
        targets = log.events.items[self._rows[chosen]]
        drawn = np.searchsorted(
            self._draw, rng.random((len(chosen), recipe.n_negatives)) * self._draw[-1], side="right"
        )
        options = np.concatenate([targets[:, None], drawn.astype(np.int64)], axis=1)
        device = self._network.slopes.device
        return ListBatch(
            self._table(users, options, cuts).batch(np.arange(options.size), device),
            torch.from_numpy(self._offset(users, options, cuts)).to(device),
            recipe.temperature(step),
            torch.Generator().manual_seed(int(rng.integers(2**62))),
            torch.from_numpy(translations(self._pairs, len(self._evidence.attributes), recipe, rng)).to(device),
        )

    def _table(self, users: Ints, options: Ints, cuts: Ints) -> HintTable:
        n = options.shape[1]
        contexts, context = contexts_of(self._evidence, users, cuts)
        similar = similar_users(self._evidence, contexts, self._network.user_vectors, self._network.config.n_similar)
        return HintTable(
            self._evidence, np.repeat(users, n), options.reshape(-1), contexts, np.repeat(context, n), similar
        )

    def _offset(self, users: Ints, options: Ints, cuts: Ints) -> NDArray[np.float32]:
        """The prior, less log(k q) for a negative; minus infinity for what is no option.

        Negatives are drawn by the prior itself, so of the two log k is left.
        """
        log = self._evidence.log
        found = np.full(options.shape, -np.log(self._recipe.n_negatives), np.float32)
        found[options == options[:, :1]] = -np.inf
        for row, (user, cut) in enumerate(zip(users.tolist(), cuts.tolist(), strict=True)):
            found[row, np.isin(options[row], log.events.items[log.history(user, cut)])] = -np.inf
        found[:, 0] = self._prior[options[:, 0]]
        return found


def log_popularity(data: Rows) -> Float64Array:
    """(m,) log share of each item among training's events; minus infinity for one without any."""
    with np.errstate(divide="ignore"):
        found: Float64Array = np.log(np.bincount(data.train.items, minlength=data.n_items) / len(data.train))
    return found


def fit_lists(
    data: Rows, attributes: Attributes, validation: OptionLists, recipe: HintListsRecipe, *, seed: int,
    device: torch.device, folder: Path | None = None, resume: bool = False,
) -> HintNetwork:  # fmt: skip
    """The network in evaluation mode, with the weights that are best on validation's lists of both kinds."""
    network = build_network(data, attributes, recipe, seed=seed, device=device)

    def step(batch: ListBatch) -> StepResult:
        network.train()
        found = network(batch.rows, temperature=batch.temperature, generator=batch.noise)
        logits = found.logits.view(batch.offset.shape) + batch.offset
        chosen = cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
        loss = chosen + beside(network, found, batch.translations, recipe)
        return StepResult(loss, {"choice": float(chosen.detach())})

    fit(
        [ParameterGroup("network", [p for p in network.parameters() if p.requires_grad], recipe.lr)],
        ListBatches(data, attributes, network, recipe, seed=seed),
        step,
        config=recipe.fit.model_copy(update={"seed": seed}),
        evaluate=lambda _: {BEST: _quality(option_scores(network, data, attributes, validation))},
        folder=folder,
        resume=resume,
    )
    return network.eval()


def option_scores(
    network: HintNetwork, data: Rows, attributes: Attributes, lists: OptionLists, *, prior: bool = True
) -> Float64Array:
    """(n, every option) scores, each list with every event strictly before its target; without prior the logits alone.

    Leaves the network in evaluation mode.
    """
    log, users, options = data.full_log, lists.users, lists.every_option
    evidence = Evidence(log, attributes)
    cuts = list_cuts(log, lists)
    found = []
    for start in range(0, len(lists), LISTS_AT_ONCE):
        part = slice(start, start + LISTS_AT_ONCE)
        n = options.shape[1]
        rows = (np.repeat(users[part], n), options[part].reshape(-1), np.repeat(cuts[part], n))
        found.append(SeenRows(network, evidence, *rows).logits.reshape(-1, n))
    return np.concatenate(found) + (log_popularity(data)[options] if prior else 0.0)


def list_cuts(log: EventLog, lists: OptionLists) -> Ints:
    """(n,) every event strictly before a list's target."""
    return np.searchsorted(log.events.times, lists.times, side="left").astype(np.int64)


def _quality(scores: Float64Array) -> float:
    n_options = (scores.shape[1] - 1) // len(KINDS) + 1
    return float(np.mean([ndcg(list_places(of_kind(scores, kind, n_options)), 5).mean() for kind in KINDS]))
