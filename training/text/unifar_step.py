"""One step of UniFAR's joint training: the losses of a batch of pairs of one kind, weighted and summed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from facetrail.models.text import losses
from facetrail.models.text.unifar import UnifarHead, pair_scores
from facetrail.training.gradient_cache import cached_backward
from facetrail.training.loop import StepResult
from facetrail.training.text.unifar_model import States, UnifarModel


class Objective(BaseModel):
    """Weights of the losses; 0 leaves one out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    document_pairs: float = Field(default=1.0, ge=0)
    question_pairs: float = Field(default=1.0, ge=0)
    facet: float = Field(default=0.5, ge=0)
    """Roles of labelled sentences, and the prior of questions whose facet is known."""
    alignment: float = Field(default=0.1, ge=0)
    split: float = Field(default=1.0, ge=0)
    diversity: float = Field(default=0.05, ge=0)
    distillation: float = Field(default=0.2, ge=0)
    temperature: float = Field(default=0.05, gt=0)
    alignment_after: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps before alignment begins: at the start its target is uniform and teaches nothing."""


@dataclass(frozen=True)
class PairBatch:
    """Pairs of one kind, as rows of the stores.

    left, right: (b,) · negatives: (h,) rows of the document store · related: (b, b + h) bool, known to belong
    together · weights: (b,) · facet: (b,) facet of the question, -1 unknown · split: (b, k, d) base vectors of the
    right text's facets, zeros where absent, None without any.
    """

    kind: str
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    negatives: NDArray[np.int64]
    related: NDArray[np.bool_]
    weights: NDArray[np.float32]
    facet: NDArray[np.int64]
    split: NDArray[np.float32] | None
    labelled: NDArray[np.int64]
    """Rows of the role store whose sentences carry labels."""
    progress: float
    """Share of the steps already done."""


@dataclass(frozen=True)
class Stores:
    """Where the rows of a batch point to."""

    questions: States
    documents: States
    roles: States
    targets: NDArray[np.float32]
    """(role texts, sentences, k) soft labels; rows of zeros where a sentence has none."""


@dataclass(frozen=True)
class Encoded:
    """The vectors of texts that scores are made of; see `FacetState`."""

    single: Tensor
    facets: Tensor
    prior: Tensor

    def __getitem__(self, rows: slice) -> "Encoded":
        return Encoded(self.single[rows], self.facets[rows], self.prior[rows])


class UnifarStep:
    """Loss of one `PairBatch`, and with `chunk` its gradient as well, taken `chunk` texts at a time."""

    def __init__(
        self, model: UnifarModel, stores: Stores, objective: Objective, role_prior: Tensor, *, chunk: int = 0
    ) -> None:
        self._model, self._stores, self._objective, self._chunk = model, stores, objective, chunk
        self._role_prior = role_prior.to(model.device)

    def __call__(self, batch: PairBatch) -> StepResult:
        """Metrics are the losses before weighting."""
        n, metrics = len(batch.left), dict[str, float]()
        asks = batch.kind == "qd"
        sides = [
            (self._stores.questions if asks else self._stores.documents, batch.left, asks),
            (self._stores.documents, np.concatenate([batch.right, batch.negatives]), False),
        ]

        def loss(outputs: Mapping[str, Tensor]) -> Tensor:
            both = Encoded(**outputs)
            parts = self._losses(batch, both[:n], both[n:])
            metrics.update({name: float(value.detach()) for name, (_, value) in parts.items()})
            return torch.stack([weight * value for weight, value in parts.values()]).sum()

        if self._chunk:
            chunks = [
                (store, rows[i : i + self._chunk], is_question)
                for store, rows, is_question in sides
                for i in range(0, len(rows), self._chunk)
            ]
            return StepResult(cached_backward(self._encode, chunks, loss), metrics)
        left, found = (self._encode(side) for side in sides)
        return StepResult(loss({name: torch.cat([left[name], found[name]]) for name in left}), metrics)

    def _encode(self, part: tuple[States, NDArray[np.int64], bool]) -> dict[str, Tensor]:
        store, rows, is_question = part
        state = self._model.encode(store, rows, is_question=is_question)
        return {"single": state.single, "facets": state.facets, "prior": state.prior}

    def _losses(self, batch: PairBatch, left: Encoded, found: Encoded) -> dict[str, tuple[float, Tensor]]:
        """Name → (weight, loss)."""
        objective, head, n = self._objective, self._model.head, len(batch.left)
        scores = self._scores(batch, left, found)
        base = self._base_scores(batch)
        temperature = objective.temperature
        unknown = losses.false_negatives(base, self._tensor(batch.related))
        pairs = losses.contrastive(
            scores, scores[:, :n].T, unknown, self._tensor(batch.weights), temperature=temperature
        )
        by_kind = objective.question_pairs if batch.kind == "qd" else objective.document_pairs
        listed = {
            "pairs": (by_kind, pairs),
            "distillation": (
                objective.distillation,
                losses.distillation(base, scores, temperature=temperature),
            ),
        }
        if isinstance(head, UnifarHead):
            listed |= self._facet_losses(batch, left, found)
        return listed

    def _scores(self, batch: PairBatch, left: Encoded, found: Encoded) -> Tensor:
        """(b, b + h); questions whose facet is known are scored as if a person had asked for it."""
        head = self._model.head
        scores = pair_scores(left, found, head.mixing, head.config.margin)
        known = np.flatnonzero(batch.facet >= 0)
        if not len(known) or not isinstance(head, UnifarHead):
            return scores
        rows, asked = self._tensor(known), self._tensor(batch.facet[known])
        weights = one_hot(asked, len(head.config.facets)).to(scores)
        some = Encoded(left.single[rows], left.facets[rows], left.prior[rows])
        return scores.index_copy(0, rows, pair_scores(some, found, head.mixing, head.config.margin, weights))

    def _base_scores(self, batch: PairBatch) -> Tensor:
        left_store = self._stores.questions if batch.kind == "qd" else self._stores.documents
        documents = self._stores.documents.base[np.concatenate([batch.right, batch.negatives])]
        return self._tensor(left_store.base[batch.left] @ documents.T)

    def _facet_losses(self, batch: PairBatch, left: Encoded, found: Encoded) -> dict[str, tuple[float, Tensor]]:
        head, objective, n = self._model.head, self._objective, len(batch.left)
        listed: dict[str, tuple[float, Tensor]] = {}
        if objective.facet and len(batch.labelled):
            listed["facet"] = (objective.facet, self._labelled(batch, left))
        if objective.alignment and batch.progress >= objective.alignment_after:
            loss = losses.alignment(left.facets, found.facets[:n], left.prior, temperature=objective.temperature)
            listed["alignment"] = (objective.alignment, loss)
        if objective.split and batch.split is not None:
            targets = self._tensor(batch.split)
            present = targets.abs().sum(-1) > 0
            listed["split"] = (objective.split, losses.split_distance(found.facets[:n], targets, present))
        if objective.diversity:
            assert isinstance(head, UnifarHead)
            mean_prior = torch.cat([left.prior, found.prior]).mean(0)
            listed["diversity"] = (objective.diversity, losses.diversity(head.anchors, mean_prior, self._role_prior))
        return listed

    def _labelled(self, batch: PairBatch, left: Encoded) -> Tensor:
        """KL on labelled sentences, and on the prior of the questions whose facet is known."""
        state = self._model.encode(self._stores.roles, batch.labelled, is_question=False)
        width = state.roles.shape[1]
        wanted = self._tensor(self._stores.targets[batch.labelled][:, :width])
        roles, units = state.roles[:, : wanted.shape[1]], state.unit_mask[:, : wanted.shape[1]]
        loss = losses.role_divergence(wanted, roles, (wanted.sum(-1) > 0) & units)
        known = np.flatnonzero(batch.facet >= 0)
        if len(known):
            log_prior = left.prior[known].clamp_min(1e-9).log()
            loss = loss + nll_loss(log_prior, self._tensor(batch.facet[known]))
        return loss

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._model.device)
