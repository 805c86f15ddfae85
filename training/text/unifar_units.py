"""What UniFAR's experiments train: each unit is one training and the arms that are judged from it."""

from dataclasses import dataclass
from typing import Any

from facetrail.models.text.facets import FACETS
from facetrail.training.text.unifar_arm import ArmConfig

UNIFAR = ("U1", "UK")
"""UniFAR's single vector, and its facet vectors: one training."""


@dataclass(frozen=True)
class Unit:
    """One training and the arms that are judged from it. Two configs: one model for documents, one for questions."""

    name: str
    arms: tuple[str, ...]
    configs: tuple[ArmConfig, ...] = (ArmConfig(),)
    most_sentences: int = 0
    permuted: bool = False
    first_seed_only: bool = False
    probed: bool = False


def _head_unit(name: str, **config: Any) -> Unit:
    return Unit(name, (name,), (ArmConfig(layers=False, **config),), probed=True)


UNITS = (
    Unit("U", UNIFAR, probed=True),
    Unit("B", ("B", "B3"), (ArmConfig(head="mean"),), most_sentences=len(FACETS)),
    Unit("B2", ("B2",), (ArmConfig(head="projections"),)),
)
"""What the claim rests on."""
CONTROLS = (
    _head_unit("U/head"),
    _head_unit("U/head minus gate", without=("gate",)),
    _head_unit("U/head minus facet KL", without=("facet",)),
    _head_unit("U/head minus alignment KL", without=("alignment",)),
    _head_unit("U/head minus distillation KL", without=("distillation",)),
    _head_unit("U/head minus split", without=("split",)),
    _head_unit("U/head minus anchor init", without=("roles",)),
    _head_unit("U/head frozen anchors", without=("roles",), frozen_anchors=True),
    Unit("permuted", ("U permuted pairs",), permuted=True, first_seed_only=True),
    Unit(
        "C",
        ("C",),
        (ArmConfig(head="mean", kinds=("dd",)), ArmConfig(head="mean", kinds=("qd",))),
        first_seed_only=True,
    ),
)
