"""Fits the discovery network of preference hints on blocks of time, and scores rows with it, frozen or rolling."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.linalg import svds  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from facetrail.eval.recommend_metrics import auc, user_auc
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.hint_rows import HintTable, SimilarUsers, contexts_of
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import Discovery, HintNetwork, start_from, translation_loss
from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.similar_users import similar_users
from facetrail.models.recommend.time_blocks import EventLog, Ints, Ratings, block_cuts, frozen_cuts, rolling_cuts
from facetrail.training.loop import FitResult, ParameterGroup, Recorder, StepResult, fit
from facetrail.training.recommend.hint_batches import HintsRecipe, Rows, TrainBatch, TrainBatches

SCORED_AT_ONCE = 4_096


@dataclass(frozen=True)
class Scored:
    """Rows scored by a network. logits: (r,) · the table and similar users they were scored with."""

    logits: NDArray[np.float64]
    table: HintTable
    similar: SimilarUsers


class Scoring:
    """Scores rows at their cuts; who is similar is found anew each time, from the network's weights."""

    def __init__(self, evidence: Evidence, rows: Ratings, cuts: Ints) -> None:
        self.evidence, self.rows = evidence, rows
        self._contexts, self._context = contexts_of(evidence, rows.users, cuts)

    @torch.no_grad()
    def __call__(self, network: HintNetwork) -> Scored:
        """Leaves the network in evaluation mode."""
        network.eval()
        k = network.config.n_similar
        similar = similar_users(self.evidence, self._contexts, network.user_vectors, k)
        table = HintTable(self.evidence, self.rows.users, self.rows.items, self._contexts, self._context, similar)
        device, numbers = network.slopes.device, np.arange(len(table))
        parts = [numbers[start : start + SCORED_AT_ONCE] for start in range(0, len(numbers), SCORED_AT_ONCE)]
        logits = [network(table.batch(part, device)).logits.double().cpu().numpy() for part in parts]
        return Scored(np.concatenate([*logits, np.empty(0)]), table, similar)

    def measures(self, network: HintNetwork) -> dict[str, float]:
        """AUC and UAUC."""
        logits = self(network).logits
        users = user_auc(self.rows.users, logits, self.rows.labels)
        return {"AUC": auc(logits, self.rows.labels), "UAUC": users.mean}


def frozen(data: Rows, attributes: Attributes, part: Ratings) -> Scoring:
    """A later part, with all that training knows and nothing more."""
    log = data.log
    return Scoring(Evidence(log, attributes), part, frozen_cuts(part, log))


def rolling(data: Rows, attributes: Attributes, part: Ratings) -> Scoring:
    """A later part, each row with every event strictly before it."""
    log = data.full_log
    return Scoring(Evidence(log, attributes), part, rolling_cuts(part, log))


def start_embeddings(
    log: EventLog, cut: int, evidence: Evidence, dim: int, *, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(items, d) from what the biases leave of the first block, by singular vectors, and small random numbers.

    Rows of that block train nothing, so no row finds its own label in an embedding.
    """
    events = log.events.take(slice(0, cut))
    cuts = np.full(len(events), cut, np.int64)
    left = events.labels - evidence.biases(events.users, events.items, cuts).expected
    table = coo_array((left, (events.users, events.items)), shape=(log.n_users, log.n_items)).tocsr()
    items = rng.normal(0, 0.1, (log.n_items, dim))
    rank = min(dim, *(n - 1 for n in table.shape))
    if rank < 1:
        raise InvalidInput("one user or one item alone gives nothing to learn from; give more of them")
    _, sizes, directions = svds(table, k=rank, v0=rng.normal(size=min(table.shape)))
    items[:, :rank] += directions.T * np.sqrt(sizes)
    return items.astype(np.float32)


def build_network(
    data: Rows, attributes: Attributes, recipe: HintsRecipe, *, seed: int, device: torch.device
) -> HintNetwork:
    """The network at step 0."""
    log = data.log
    cuts = block_cuts(data.train.times, recipe.n_blocks)
    network = HintNetwork(
        recipe.network, attributes, data.n_users, data.n_items, generator=torch.Generator().manual_seed(seed)
    )
    first = int(cuts[cuts > 0].min())
    rng = np.random.default_rng(seed)
    start_from(
        network, attributes, start_embeddings(log, first, Evidence(log, attributes), recipe.network.dim, rng=rng)
    )
    return network.to(device)


def fit_discovery(
    data: Rows,
    attributes: Attributes,
    recipe: HintsRecipe,
    *,
    seed: int,
    device: torch.device | None = None,
    tracker: Recorder | None = None,
    folder: Path | None = None,
    resume: bool = False,
) -> tuple[HintNetwork, FitResult]:
    """Fits on training, keeping the weights that are best on validation (frozen). → the network in evaluation mode."""
    network = build_network(data, attributes, recipe, seed=seed, device=device or torch.device("cpu"))
    batches = TrainBatches(data, attributes, network, recipe, seed=seed)
    validation = frozen(data, attributes, data.validation)

    def step(batch: TrainBatch) -> StepResult:
        network.train()
        found = network(batch.rows, temperature=batch.temperature, generator=batch.noise)
        likes = binary_cross_entropy_with_logits(found.logits, batch.labels)
        loss = likes + beside(network, found, batch.translations, recipe)
        return StepResult(loss, {"likes": float(likes.detach())})

    result = fit(
        [ParameterGroup("network", [p for p in network.parameters() if p.requires_grad], recipe.lr)],
        batches,
        step,
        config=recipe.fit.model_copy(update={"seed": seed}),
        tracker=tracker,
        evaluate=lambda _: validation.measures(network),
        folder=folder,
        resume=resume,
        state={"similar": batches},
    )
    network.eval()
    return network, result


def beside(network: HintNetwork, found: Discovery, translations: Tensor, recipe: HintsRecipe) -> Tensor:
    """What every loss of the network adds: the price of credibility, and the graph's own loss (TransE)."""
    loss = network.slopes.new_zeros(())
    for side in (found.item, found.user):
        if side is not None:
            loss = loss + recipe.belief * (1 - side.null.mean())
    if translations.shape[1]:
        loss = loss + recipe.translation * translation_loss(network, *translations)
    return loss
