"""Fits a node classifier on a labelled source graph with an unlabelled target graph in view.

The optimiser is Adam with L2 in the gradient, as in the released code of A2GNN. The loop's AdamW without decay is that
Adam once the step has added L2 itself, so the one loop serves, and with it resuming bit for bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from facetrail.models.graph.adapted import AdaptedModel, ClassifierConfig, class_probabilities
from facetrail.models.graph.encoder import EncoderConfig, GraphEncoder
from facetrail.models.graph.features import JointSvd
from facetrail.models.graph.graph_data import GraphData, check_pair
from facetrail.models.graph.propagation import graph_tensors
from facetrail.models.graph.selection import (
    Selection,
    choose_epoch,
    information,
    mean_entropy,
    warn_if_unbalanced,
)
from facetrail.training.graph.alignment import Alignment
from facetrail.training.graph.calibration import fit_temperature, held_out
from facetrail.training.graph.recipe import AdaptRecipe, AlignedRecipe
from facetrail.training.graph.trace import Trace
from facetrail.training.loop import FitConfig, ParameterGroup, Recorder, StepResult
from facetrail.training.loop import fit as run_loop

_COPIED = 10
"""Epochs after each of which the moving average is the weights themselves."""
_DECAY = 0.9


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit came to: three kinds of weights to choose from without target labels."""

    final: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    """Moving average of the weights after each epoch."""
    trace: Trace
    recipe: AdaptRecipe
    source: GraphData
    """As the encoder read it."""
    seconds: float
    """Wall time of the loop, evaluations included."""
    config: ClassifierConfig
    held_out: Tensor
    """Numbers of the source nodes kept from the loss for the temperature; empty without calibration."""

    def model(self, selection: Selection | None = None, svd: JointSvd | None = None) -> AdaptedModel:
        """The classifier under a selection; None: the recipe's. svd: what made both graphs' features, if it did."""
        encoder = GraphEncoder(self.config.encoder, torch.Generator())
        encoder.load_state_dict(self._weights(selection or self.recipe.selection))
        encoder.eval()
        config = self.config
        if len(self.held_out):
            temperature = fit_temperature(encoder, self.source, self.recipe.k_source, self.held_out)
            config = config.model_copy(update={"temperature": temperature})
        if svd is not None:
            config = config.model_copy(update={"has_svd": True, "feature_space": svd.of_space})
        return AdaptedModel(config, encoder, svd)

    def _weights(self, selection: Selection) -> Mapping[str, Tensor]:
        if selection == "final":
            return self.final
        if selection == "ema":
            return self.average
        return self.trace.weights(self.chosen_epoch(selection))

    def chosen_epoch(self, selection: Selection) -> int:
        """Of `infomax` and `entropy`. Warns where `infomax` is a poor guess."""
        if selection == "infomax" and self.source.y is not None and not self.config.several_labels:
            warn_if_unbalanced(self.source.y, len(self.config.class_names))
        return choose_epoch(selection, self.trace)


def fit(
    source: GraphData,
    target: GraphData,
    recipe: AdaptRecipe,
    *,
    align: Alignment | None = None,
    folder: Path | None = None,
    tracker: Recorder | None = None,
    resume: bool = False,
    device: str = "cpu",
) -> Fitted:
    """Fits on the graphs as they are; `methods.adapt` makes features and alignment from the recipe first.

    The target's labels, if it has any, are removed before anything else. folder: where trace and checkpoints go; None
    keeps the trace in memory. Raises InvalidInput for a pair that does not fit together, and Diverged at the first
    epoch whose loss or gradient is not finite.
    """
    check_pair(source, target)
    run = _Run(source, target.unlabelled(), recipe, align, folder, device)
    result = run_loop(
        run.groups,
        lambda step: step + 1,
        run.epoch,
        config=_loop_config(recipe),
        tracker=tracker,
        evaluate=run.evaluate,
        folder=folder,
        resume=resume,
        state={"encoder": run, **({"alignment": align} if align is not None else {})},
    )
    run.average_in(recipe.epochs)
    return Fitted(
        {name: value.detach().cpu().clone() for name, value in run.net.state_dict().items()},
        {name: value.cpu() for name, value in run.average.items()},
        run.trace,
        recipe,
        source,
        result.seconds,
        _classifier_config(run.net.config, source, recipe),
        run.held_out,
    )


class _Run:
    """The networks and counters of one fit; a `Resumable` part of it."""

    def __init__(
        self,
        source: GraphData,
        target: GraphData,
        recipe: AdaptRecipe,
        align: Alignment | None,
        folder: Path | None,
        device: str,
    ) -> None:
        assert source.y is not None
        self._recipe = recipe
        self._weight = recipe.weight if align is not None and isinstance(recipe, AlignedRecipe) else 0.0
        self._align = align if self._weight else None
        self._source, self._target = graph_tensors(source, device=device), graph_tensors(target, device=device)
        self._several = source.y.ndim == 2
        labelled = torch.arange(len(source.ids)) if self._several else torch.from_numpy(source.y >= 0).nonzero()[:, 0]
        self.held_out = held_out(labelled, recipe)
        self._rows = labelled[~torch.isin(labelled, self.held_out)].to(device)
        self._y = torch.from_numpy(source.y).to(device)[self._rows]
        shape = EncoderConfig(
            n_features=source.n_features,
            n_classes=source.n_classes,
            dim=recipe.dim,
            n_layers=recipe.n_layers,
            dropout=recipe.dropout,
        )
        self.net = GraphEncoder(shape, torch.Generator().manual_seed(recipe.seed)).to(device)
        self.trace = Trace(folder / "trace" if folder is not None else None)
        self.average = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
        self._epoch = self._n_averaged = 0

    @property
    def groups(self) -> list[ParameterGroup]:
        """All that the optimiser steps."""
        groups = [ParameterGroup("encoder", list(self.net.parameters()), self._recipe.lr)]
        if self._align is not None and self._align.parameters:
            groups.append(ParameterGroup("alignment", list(self._align.parameters), self._recipe.lr))
        return groups

    def epoch(self, epoch: int) -> StepResult:
        """Loss and gradients of one epoch, from 1."""
        self.average_in(epoch - 1)
        self._epoch = epoch
        net, recipe = self.net.train(), self._recipe
        logits, z = net(self._source, recipe.k_source)
        loss = self._source_loss(logits[self._rows])
        metrics = {"source_loss": float(loss.detach())}
        if self._align is not None:
            aligned = self._align(z, net.encode(self._target, recipe.k_target), epoch)
            loss = loss + self._weight * aligned.discrepancy
            metrics |= aligned.metrics
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.groups:
            for parameter in group.parameters:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach(), alpha=recipe.weight_decay)
        return StepResult(loss.detach(), metrics)

    @torch.no_grad()
    def average_in(self, epoch: int) -> None:
        """Takes the weights after an epoch into their average, once; the loop has no call after its optimiser step."""
        if self._n_averaged >= epoch:
            return
        self._n_averaged = epoch
        for name, value in self.net.state_dict().items():
            if epoch <= _COPIED:
                self.average[name].copy_(value)
            else:
                self.average[name].mul_(_DECAY).add_(value, alpha=1 - _DECAY)

    def evaluate(self, _: bool) -> Mapping[str, float]:
        """Keeps the epoch in the trace; measures that need no label."""
        if self._epoch == 0:
            self.trace.forget(after=0)
        probabilities = class_probabilities(self.net, self._target, self._recipe.k_target, several_labels=self._several)
        if self._epoch:
            self.trace.keep(self._epoch, probabilities, self.net.state_dict())
        if self._several:
            return {}
        return {"information": information(probabilities), "entropy": mean_entropy(probabilities)}

    def state(self) -> Mapping[str, Any]:
        """Average and counters; weights, moments and torch's generators are the loop's."""
        average = {f"average/{name}": value for name, value in self.average.items()}
        return {"epoch": self._epoch, "n_averaged": self._n_averaged, **average}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; the trace forgets what came later."""
        self._epoch, self._n_averaged = state["epoch"], state["n_averaged"]
        for name, value in self.average.items():
            value.copy_(state[f"average/{name}"])
        self.trace.forget(after=self._epoch)

    def _source_loss(self, logits: Tensor) -> Tensor:
        if self._several:
            return binary_cross_entropy_with_logits(logits, self._y.to(logits.dtype))
        return cross_entropy(logits, self._y)


def _classifier_config(shape: EncoderConfig, source: GraphData, recipe: AdaptRecipe) -> ClassifierConfig:
    return ClassifierConfig(
        encoder=shape,
        class_names=source.class_names or tuple(str(c) for c in range(source.n_classes)),
        k=recipe.k_target,
        several_labels=source.y is not None and source.y.ndim == 2,
        feature_space=source.feature_space,
    )


def _loop_config(recipe: AdaptRecipe) -> FitConfig:
    return FitConfig(
        steps=recipe.epochs,
        warmup=0.0,
        schedule="constant",
        max_norm=float("inf"),
        weight_decay=0.0,
        ema=None,
        eval_every=recipe.trace_every,
        checkpoint_every=recipe.checkpoint_every,
        max_bad_steps=1,
        seed=recipe.seed,
    )
