"""One agent's pass over the samples of a step: minibatches, micro-batches, loss, clipping, optimiser.

The denominators of a loss are those of the whole optimiser step, so that micro-batches add up to the same gradient.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.policy_losses import KL_ESTIMATORS, Denominators, aggregate
from facetrail.training.language.distributed import ALONE, Processes
from facetrail.training.language.hooks import Agent, LossTerms, PolicyLoss, Step, Update
from facetrail.training.language.rollouts import Batch, Sample, collate, hidden_of
from facetrail.training.loop import Diverged
from facetrail.training.state import Progress


@dataclass
class PassFigures:
    """What one pass came to, summed over its optimiser steps."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    n_skipped: int = 0
    """Optimiser steps left out because loss or gradient was not finite."""
    n_clipped: int = 0
    n_counted: int = 0
    first_ratio_error: float = 0.0
    """max |ratio - 1| at the first minibatch."""
    first_is_fresh: bool = True
    """Whether the first minibatch was drawn plainly in this step: its ratios are then 1 but for rounding."""
    kl_sum: float = 0.0
    n_kl: int = 0
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def clipped_rate(self) -> float:
        """Share of tokens (rows for GSPO) whose gradient the clip took."""
        return self.n_clipped / self.n_counted if self.n_counted else 0.0

    def figures(self) -> dict[str, float]:
        """What the log shows."""
        found = {
            "loss": _mean(self.losses),
            "gradient_norm": _mean(self.norms),
            "clipped": self.clipped_rate,
            "ratio_error": self.first_ratio_error,
            "skipped": self.n_skipped,
        }
        if self.n_kl:
            found["kl"] = self.kl_sum / self.n_kl
        return found | {name: top / bottom if bottom else 0.0 for name, (top, bottom) in self.sums.items()}

    def take_in(self, other: "PassFigures") -> None:
        """Adds what another process has seen of the same optimiser steps; losses and norms are the same in both."""
        self.n_clipped += other.n_clipped
        self.n_counted += other.n_counted
        self.first_ratio_error = max(self.first_ratio_error, other.first_ratio_error)
        self.kl_sum += other.kl_sum
        self.n_kl += other.n_kl
        self._add_sums(other.sums)

    def add(self, terms: LossTerms, *, is_first: bool) -> None:
        """Takes in a micro-batch."""
        self.n_clipped += terms.policy.n_clipped
        self.n_counted += terms.policy.n_counted
        if is_first:
            self.first_ratio_error = max(self.first_ratio_error, terms.policy.max_ratio_error)
        self._add_sums(terms.sums)

    def _add_sums(self, sums: Mapping[str, tuple[float, float]]) -> None:
        for name, (top, bottom) in sums.items():
            before = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (before[0] + top, before[1] + bottom)


class AgentPass:
    """Trains one agent on the samples of one step."""

    def __init__(
        self,
        learner: Agent,
        step: Step,
        optimiser: torch.optim.Optimizer,
        policy_loss: PolicyLoss,
        progress: Progress,
        *,
        keeps_hidden: bool,
        processes: Processes = ALONE,
    ) -> None:
        self._learner, self._step, self._optimiser, self._policy_loss = learner, step, optimiser, policy_loss
        self._progress, self._keeps_hidden, self._processes = progress, keeps_hidden, processes
        self._parameters = [p for _, p in learner.policy.trainable()]
        self._device = self._parameters[0].device
        # Half precision computes its log-probs in float32.
        self._dtype = torch.float64 if self._parameters[0].dtype == torch.float64 else torch.float32
        self.n_updates = 0
        self.figures = PassFigures()

    def run(self, samples: Sequence[Sample]) -> Update:
        """All epochs. The samples of the last one, in its order, with their states if they are kept."""
        config, trained, hidden = self._step.config, list[Sample](), list[Tensor]()
        for epoch in range(config.epochs):
            is_last = epoch == config.epochs - 1
            rng = self._step.key(self._learner.name, "order").generator("", epoch)
            for minibatch in minibatches(samples, config.minibatches, rng if config.order == "shuffled" else None):
                if is_last:
                    trained += minibatch
                    hidden += self._states(minibatch) if self._keeps_hidden else []
                self._optimise(minibatch)
        for rank, figures in enumerate(self._processes.gathered(self.figures)):
            if rank != self._processes.rank:
                self.figures.take_in(figures)
        return Update(trained, hidden)

    def _states(self, minibatch: Sequence[Sample]) -> list[Tensor]:
        rows, meters = self._step.config.micro_rows, self._step.meters
        return hidden_of(self._learner.policy, minibatch, rows=rows, meters=meters)

    def _optimise(self, minibatch: Sequence[Sample]) -> None:
        config, meters = self._step.config, self._step.meters
        if not self.figures.losses:
            self.figures.first_is_fresh = all(
                s.rollout.born_step == self._step.number and s.rollout.sampler == "plain" for s in minibatch
            )
        denominators = Denominators(
            n_rows=sum(bool(s.completion_ids) for s in minibatch),
            n_tokens=sum(len(s.completion_ids) for s in minibatch),
        )
        self._optimiser.zero_grad(set_to_none=True)
        loss = sum(self._processes.gathered(self._backward(self._processes.share(minibatch), denominators)))
        self._processes.sum_gradients(self._parameters)
        n_tokens = sum(sample.n_tokens for sample in minibatch)
        meters.grad_tokens += n_tokens
        meters.forward_tokens += n_tokens if config.kl_weight else 0
        reached = [p for p in self._parameters if p.grad is not None]
        if not reached:
            raise InvalidInput(
                f"the loss of agent {self._learner.name!r} depends on none of its trainable parameters; look for a "
                "detach in the policy or its loss"
            )
        norm = float(torch.nn.utils.clip_grad_norm_(reached, config.max_norm))
        if math.isfinite(loss) and math.isfinite(norm):
            self._optimiser.step()
            meters.optimiser_steps += 1
            self.n_updates += 1
            self._progress.n_bad_in_a_row = 0
        else:
            self._skip(loss, norm)
        self.figures.losses.append(loss)
        self.figures.norms.append(norm)

    def _backward(self, rows: Sequence[Sample], denominators: Denominators) -> float:
        """Gradients of these rows' share of the loss, micro-batch by micro-batch; → that share."""
        loss, step = 0.0, self._step.config.micro_rows or max(1, len(rows))
        for start in range(0, len(rows), step):
            pad_id = self._learner.policy.tokenizer.pad_id
            part = collate(rows[start : start + step], pad_id=pad_id, device=self._device, dtype=self._dtype)
            share = self._loss(part, denominators)
            share.backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
        return loss

    def _skip(self, loss: float, norm: float) -> None:
        progress = self._progress
        progress.n_skipped += 1
        progress.n_bad_in_a_row += 1
        self.figures.n_skipped += 1
        if progress.n_bad_in_a_row >= self._step.config.max_bad_steps:
            raise Diverged(
                f"step {self._step.number} ends {progress.n_bad_in_a_row} optimiser steps in a row without a finite "
                f"loss and gradient (loss {loss:.4g}, norm {norm:.4g}); lower the learning rate"
            )

    def _loss(self, batch: Batch, denominators: Denominators) -> Tensor:
        """This micro-batch's share of the optimiser step's loss."""
        config = self._step.config
        log_probs = self._log_probs(batch)
        terms = self._policy_loss.terms(log_probs, batch, n_updates=self.n_updates, step=self._step)
        self.figures.add(terms, is_first=not self.figures.losses)
        values = terms.policy.values
        if config.kl_weight:
            kl = KL_ESTIMATORS[config.kl](log_probs, self._reference_log_probs(batch), batch.mask)
            self.figures.kl_sum += float(kl.detach().sum())
            self.figures.n_kl += int(batch.mask.sum())
            values = values + config.kl_weight * kl
        return aggregate(values, batch.mask, denominators, how=config.aggregation, max_tokens=config.max_new_tokens)

    def _log_probs(self, batch: Batch) -> Tensor:
        return self._learner.policy.log_probs(
            batch.prompt_ids,
            batch.prompt_mask,
            batch.completion_ids,
            batch.mask,
            temperature=self._step.config.temperature,
        )

    @torch.no_grad()
    def _reference_log_probs(self, batch: Batch) -> Tensor:
        reference = self._learner.reference
        if reference is None:
            raise InvalidInput(
                f"agent {self._learner.name!r} has no reference to measure a KL to; give it one or set kl_weight to 0"
            )
        return reference.log_probs(
            batch.prompt_ids,
            batch.prompt_mask,
            batch.completion_ids,
            batch.mask,
            temperature=self._step.config.temperature,
        )


def minibatches(samples: Sequence[Sample], n: int, rng: np.random.Generator | None) -> list[list[Sample]]:
    """Each block, lower numbers first, in n parts of nearly equal size. rng: shuffles inside blocks; None: as given."""
    found = []
    for block in sorted({sample.block for sample in samples}):
        rows = [sample for sample in samples if sample.block == block]
        if rng is not None:
            rows = [rows[i] for i in rng.permutation(len(rows))]
        cuts = [round(i * len(rows) / n) for i in range(n + 1)]
        found += [rows[a:b] for a, b in pairwise(cuts) if b > a]
    return found


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
