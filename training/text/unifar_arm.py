"""Fits one arm: UniFAR itself or a control, on the same pairs, in the same order, for the same steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from facetrail.models.text.top_layers import TopLayers
from facetrail.models.text.unifar import UnifarHead
from facetrail.models.text.unifar_config import UnifarConfig
from facetrail.models.text.unifar_controls import MeanHead, ProjectionHead
from facetrail.training.loop import FitResult, ParameterGroup, Recorder, fit
from facetrail.training.text.unifar_batches import Batches
from facetrail.training.text.unifar_dev import dev_measures
from facetrail.training.text.unifar_model import Head, UnifarModel
from facetrail.training.text.unifar_prepare import Prepared
from facetrail.training.text.unifar_recipe import UnifarRecipe
from facetrail.training.text.unifar_step import Objective, UnifarStep


class ArmConfig(BaseModel):
    """What sets an arm apart; everything else is the recipe's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Literal["facets", "mean", "projections"] = "facets"
    layers: bool = True
    """False: only the head learns, over the frozen base's last states."""
    kinds: tuple[Literal["dd", "qd"], ...] = ("dd", "qd")
    """Kinds of pairs it sees; one kind alone is half of the control that trains two models."""
    without: tuple[Literal["gate", "facet", "alignment", "distillation", "split", "diversity", "roles"], ...] = ()
    """Parts and losses left out. `roles`: anchors as drawn instead of from labelled sentences."""
    frozen_anchors: bool = False
    """Random anchors that never move."""

    def unifar(self, config: UnifarConfig) -> UnifarConfig:
        """The encoder's config of this arm."""
        return config.model_copy(
            update={
                "gated": config.gated and "gate" not in self.without,
                "anchors": "frozen" if self.frozen_anchors else config.anchors,
                "trained_layers": config.trained_layers if self.layers else 0,
            }
        )

    def objective(self, objective: Objective) -> Objective:
        """The loss weights of this arm."""
        zero: dict[str, float] = {name: 0.0 for name in self.without if name in Objective.model_fields}
        return objective.model_copy(update=zero)


@dataclass(frozen=True)
class Trained:
    """A fitted arm, its weights averaged as dev chose. measures: dev of the weights in `model`."""

    model: UnifarModel
    averaging: float
    measures: Mapping[str, float]
    result: FitResult


def build_model(prepared: Prepared, arm: ArmConfig, config: UnifarConfig, *, seed: int) -> UnifarModel:
    """The model at step 0: it gives the base's vectors."""
    config = arm.unifar(config)
    generator = torch.Generator().manual_seed(seed)
    n_layers = config.trained_layers
    top = TopLayers(prepared.base_tensors, prepared.base_config, n_layers) if n_layers else None
    head: Head
    if arm.head == "mean":
        head = MeanHead(config)
    elif arm.head == "projections":
        head = ProjectionHead(config, generator=generator)
    else:
        head = UnifarHead(config, generator=generator)
        if "roles" not in arm.without and not arm.frozen_anchors:
            head.load_state_dict({**head.state_dict(), **prepared.roles.maps})
    return UnifarModel(top, head)


def parameter_groups(model: UnifarModel, recipe: UnifarRecipe) -> list[ParameterGroup]:
    """Layers, maps and scales at their own rates; scales do not decay, for 0 means the base and not simplicity."""
    scales = {"gate_scale", "facet_scale", "mixing_logit"}
    named = [(name, p) for name, p in model.head.named_parameters() if p.requires_grad]
    groups = [
        ParameterGroup("layers", list(model.top.parameters()) if model.top is not None else [], recipe.lr_layers),
        ParameterGroup("head", [p for name, p in named if name not in scales], recipe.lr_head),
        ParameterGroup("scales", [p for name, p in named if name in scales], recipe.lr_scales, weight_decay=0.0),
    ]
    return [group for group in groups if group.parameters]


def fit_arm(
    prepared: Prepared,
    recipe: UnifarRecipe,
    arm: ArmConfig,
    *,
    seed: int,
    device: torch.device,
    tracker: Recorder | None = None,
    folder: Path | None = None,
    resume: bool = False,
    head: Mapping[str, Tensor] | None = None,
) -> Trained:
    """Fits, then averages with the start. `seed` draws the head and the order of the pairs.

    head: the state of a head that was fitted before, where the training goes on from it.
    """
    model = build_model(prepared, arm, recipe.unifar, seed=seed).to(device)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if head is not None:
        model.head.load_state_dict(head)
    stores, dev = prepared.stores(final=not arm.layers), prepared.dev(final=not arm.layers)
    batches = Batches(
        prepared.table.of_kinds(arm.kinds),
        prepared.neighbours,
        len(stores.targets),
        size=recipe.batch,
        n_roles=recipe.n_role_texts,
        steps=recipe.fit.steps,
        seed=seed,
    )
    step = UnifarStep(model, stores, arm.objective(recipe.objective), prepared.roles.prior, chunk=recipe.chunk)
    result = fit(
        parameter_groups(model, recipe),
        batches,
        step,
        config=recipe.fit.model_copy(update={"seed": seed}),
        tracker=tracker,
        evaluate=lambda _: dev_measures(model, dev),
        folder=folder,
        resume=resume,
    )
    share, measures = average_with_start(model, start, recipe.averaging, lambda: dev_measures(model, dev))
    return Trained(model, share, measures, result)


def average_with_start(
    model: UnifarModel, start: Mapping[str, Tensor], shares: Sequence[float], measure: Callable[[], Mapping[str, float]]
) -> tuple[float, dict[str, float]]:
    """Leaves the model at the share of its trained layers that is best on dev; → (share, measures).

    What is averaged is what has a counterpart in the base: the layers, and the question vector that enters below them.
    The head has none; scaled down with the layers, its facets would fall back into one another.
    A share that loses nothing on any development set goes before one that is better on average: a model is used on
    collections that resemble none of its pairs.
    """
    end = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tried = []
    model.load_state_dict(dict(start))
    before = dict(measure())
    for share in shares:
        model.load_state_dict(_averaged(start, end, share))
        tried.append((share, dict(measure())))
    best = max(tried, key=lambda pair: (loses_nothing(pair[1], before), pair[1]["dev"]))
    model.load_state_dict(_averaged(start, end, best[0]))
    return best


def _averaged(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    return {
        name: torch.lerp(start[name], tensor, share) if name.startswith("top.") or name == "head.question" else tensor
        for name, tensor in end.items()
    }


def loses_nothing(measures: Mapping[str, float], before: Mapping[str, float]) -> bool:
    """Whether the single vector, which ordinary search uses, is as good as before on every development set."""
    return all(measures[name] >= before[name] for name in before if name.endswith("/s_1"))
