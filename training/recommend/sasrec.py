"""Fits a SASRec: windows of histories, a loss over every position that has a next item, early stop on validation.

A history of n items has n - 1 transitions. Each epoch cuts them anew into windows of at most `length`, every transition
in exactly one, and puts windows of like length into a batch.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from facetrail.eval.recommend_metrics import ndcg, places, recall
from facetrail.eval.recommend_splits import Predictions
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, Scorer
from facetrail.models.recommend.sasrec import Sasrec, SasrecConfig, SasrecScorer
from facetrail.models.recommend.sequence_losses import full_softmax, one_negative, sampled_softmax
from facetrail.training.loop import FitConfig, FitResult, ParameterGroup, Recorder, StepResult, fit, step_rng

BEST = "NDCG@10"
_POOL = 16
"""Batches among which windows are sorted by length."""
_SCORES = 4_000_000
"""Scores held at a time in an evaluation."""


class SasrecRecipe(BaseModel):
    """One training of a SASRec; its shape is `SasrecConfig`'s, the number of items is the data's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=64, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=2, ge=1)
    length: int = Field(default=100, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    loss: Literal["softmax", "sampled", "one_negative"] = "softmax"
    """`sampled` is for more than 50,000 items, `one_negative` the weak baseline."""
    n_negatives: int = Field(default=1_000, ge=1)
    """Of `sampled`, a batch."""
    batch: int = Field(default=128, ge=1)
    """Windows in a step."""
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    ema: float | None = Field(default=0.999, ge=0, lt=1)
    warmup_steps: int = Field(default=100, ge=0)
    max_norm: float = Field(default=1.0, gt=0)
    epochs: int = Field(default=100, ge=1)
    """At most: the early stop usually comes first."""
    patience: int = Field(default=5, ge=1)
    """Evaluations in a row without a better NDCG@10 that end the fit."""
    evaluations_per_epoch: int = Field(default=1, ge=1)
    n_validation: int = Field(default=2_000, ge=1)
    """Histories that an evaluation scores, at most."""
    seed: int = Field(default=0, ge=0)

    def model(self, n_items: int) -> SasrecConfig:
        """The shape for a data set."""
        return SasrecConfig(
            n_items=n_items,
            dim=self.dim,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            length=self.length,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class Batch:
    """Windows padded on the right."""

    ids: Tensor
    """(b, t) int64, 0 where padding."""
    targets: Tensor
    """(n,) int64: the next item of every real place, row after row."""
    negatives: Tensor
    """(n,) for `one_negative`, (k,) for `sampled`, else empty."""


class Windows:
    """Batches as a function of the step's number."""

    def __init__(self, train: Interactions, recipe: SasrecRecipe) -> None:
        self._items, self._recipe = train.items, recipe
        sizes = np.diff(train.starts) - 1
        has_any = sizes > 0
        if not has_any.any():
            raise InvalidInput("no history has two events, so there is no next item to learn; give longer histories")
        self._first, self._sizes = train.starts[:-1][has_any], sizes[has_any]
        self._n_windows = -(-self._sizes // recipe.length)
        self.steps_per_epoch = math.ceil(int(self._n_windows.sum()) / recipe.batch)
        self._n_items = train.n_items
        self._epoch = lru_cache(maxsize=1)(self._cut)

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first, sizes = self._epoch(epoch)
        rows = slice(place * self._recipe.batch, (place + 1) * self._recipe.batch)
        first, sizes = first[rows], sizes[rows]
        places = np.arange(sizes.max())
        real = places < sizes[:, None]
        at = np.where(real, first[:, None] + places, 0)
        targets = self._items[at[real] + 1]
        return Batch(
            torch.from_numpy(np.where(real, self._items[at] + 1, 0)),
            torch.from_numpy(targets),
            torch.from_numpy(self._negatives(targets, step_rng(self._recipe.seed + 1, step))),
        )

    def _cut(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First event and number of transitions of every window of an epoch, in the order of its batches."""
        length, rng = self._recipe.length, step_rng(self._recipe.seed, epoch)
        # The grid of windows is shifted to the left by at most what it has to spare, so their number never changes.
        shift = rng.integers(0, self._n_windows * length - self._sizes + 1)
        user = np.repeat(np.arange(len(self._sizes)), self._n_windows)
        number = np.arange(len(user)) - np.repeat(np.cumsum(self._n_windows) - self._n_windows, self._n_windows)
        begin = np.maximum(number * length - shift[user], 0)
        end = np.minimum((number + 1) * length - shift[user], self._sizes[user])
        order = rng.permutation(len(user))
        pool = np.arange(len(user)) // (_POOL * self._recipe.batch)
        order = order[np.lexsort(((end - begin)[order], pool))]
        *whole, rest = np.array_split(order, range(self._recipe.batch, len(order), self._recipe.batch))
        order = np.concatenate([*(whole[i] for i in rng.permutation(len(whole))), rest])  # only the last may be short
        return self._first[user[order]] + begin[order], (end - begin)[order]

    def _negatives(self, targets: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        if self._recipe.loss == "sampled":
            return rng.integers(0, self._n_items, self._recipe.n_negatives)
        if self._recipe.loss == "one_negative":
            drawn = rng.integers(0, self._n_items - 1, len(targets))
            return drawn + (drawn >= targets)
        return np.empty(0, np.int64)


def fit_sasrec(
    train: Interactions,
    validation: Predictions,
    recipe: SasrecRecipe,
    *,
    folder: Path,
    tracker: Recorder | None = None,
    resume: bool = False,
    device: str = "cpu",
) -> tuple[Sasrec, FitResult]:
    """The model with the weights that were best on validation, and how the fit went.

    folder: where checkpoints go. Raises InvalidInput where there is nothing to learn or to validate on.
    """
    asked = sampled(validation, recipe.n_validation, rng=np.random.default_rng(recipe.seed))
    batches = Windows(train, recipe)
    model = Sasrec(recipe.model(train.n_items), seed=recipe.seed).to(device)
    model.prior.copy_(log_popularity(train))
    step = TrainingStep(model, recipe, device)
    result = fit(
        [ParameterGroup("model", list(model.parameters()), recipe.lr)],
        batches,
        step,
        config=_fit_config(recipe, batches.steps_per_epoch),
        tracker=tracker,
        evaluate=lambda _: validation_measures(SasrecScorer(model), asked),
        folder=folder,
        resume=resume,
    )
    model.eval()
    return model, result


def sampled(asked: Predictions, n: int, *, rng: np.random.Generator) -> Predictions:
    """At most n of the questions, in their order."""
    rows = np.sort(rng.choice(len(asked), min(n, len(asked)), replace=False))
    sizes = np.diff(asked.starts)[rows]
    events = [asked.events[asked.starts[row] : asked.starts[row + 1]] for row in rows]
    return replace(
        asked,
        users=asked.users[rows],
        stops=asked.stops[rows],
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        events=np.concatenate([np.empty(0, np.int64), *events]),
    )


def validation_measures(scorer: Scorer, asked: Predictions) -> dict[str, float]:
    """R@1, R@10 and NDCG@10 over all items but those of the history; a mean over questions.

    Raises InvalidInput where nothing is asked.
    """
    if not len(asked):
        raise InvalidInput(
            "validation asks nothing, so nothing can be chosen by it; give longer histories or other cuts"
        )
    values: dict[str, list[NDArray[np.float64]]] = {"R@1": [], "R@10": [], BEST: []}
    step = max(1, _SCORES // scorer.n_items)
    for begin in range(0, len(asked), step):
        rows = range(begin, min(begin + step, len(asked)))
        histories = [asked.history(row) for row in rows]
        histories = [history[history < scorer.n_items] for history in histories]
        scores = scorer.scores(histories)
        for row, history in zip(scores, histories, strict=True):
            row[history] = -np.inf
        starts = asked.starts[begin : rows.stop + 1]
        found = places(scores, starts - starts[0], asked.targets[starts[0] : starts[-1]])
        values["R@1"].append(recall(found, 1))
        values["R@10"].append(recall(found, 10))
        values[BEST].append(ndcg(found, 10))
    return {name: float(np.concatenate(parts).mean()) for name, parts in values.items()}


class TrainingStep:
    """The loss of one batch."""

    def __init__(self, model: Sasrec, recipe: SasrecRecipe, device: str) -> None:
        self._model, self._recipe, self._device = model, recipe, device
        self._log_q = torch.full((model.config.n_items,), -math.log(model.config.n_items), device=device)

    def __call__(self, batch: Batch) -> StepResult:
        model, table = self._model.train(), self._model.table
        ids, targets = batch.ids.to(self._device), batch.targets.to(self._device)
        states = model(ids)[ids != 0]  # scores are computed where a next item exists, and nowhere else
        negatives = batch.negatives.to(self._device)
        if self._recipe.loss == "softmax":
            return StepResult(full_softmax(states, targets, table))
        if self._recipe.loss == "sampled":
            return StepResult(sampled_softmax(states, targets, table, negatives, self._log_q))
        return StepResult(one_negative(states, targets, table, negatives))


def log_popularity(train: Interactions) -> Tensor:
    """(m,) log share of each item among the events, one added to every count."""
    counts = torch.from_numpy(np.bincount(train.items, minlength=train.n_items)) + 1
    return (counts / counts.sum()).log()


def _fit_config(recipe: SasrecRecipe, steps_per_epoch: int) -> FitConfig:
    every = max(1, steps_per_epoch // recipe.evaluations_per_epoch)
    steps = every * recipe.epochs * recipe.evaluations_per_epoch
    return FitConfig(
        steps=steps,
        warmup=min(1.0, recipe.warmup_steps / steps),
        schedule="constant",  # where an early stop ends the fit is not known beforehand
        max_norm=recipe.max_norm,
        weight_decay=recipe.weight_decay,
        ema=recipe.ema,
        eval_every=every,
        checkpoint_every=every,
        best=BEST,
        patience=recipe.patience,
        seed=recipe.seed,
    )
