"""What a training of a graph classifier is made of; a method with values of its own extends `AdaptRecipe`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.graph.selection import Selection


class AdaptRecipe(BaseModel):
    """Training on the source alone, and what every method shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "source-only"
    """A name of `methods.METHODS`, which fixes the class of the recipe."""
    features: Literal["raw", "svd"] = "raw"
    """svd: coordinates of a joint SVD of both graphs' features."""
    svd_dim: int = Field(default=128, ge=1)
    """Coordinates at most; only with features = svd."""
    dim: int = Field(default=128, ge=1)
    n_layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    k_source: int = Field(default=10, ge=0)
    """Propagation steps of a layer on the source."""
    k_target: int = Field(default=10, ge=0)
    lr: float = Field(default=0.005, gt=0)
    """Of Adam; constant."""
    weight_decay: float = Field(default=0.005, ge=0)
    """L2: added to the gradient, not decoupled."""
    epochs: int = Field(default=100, ge=1)
    """Each one full-batch step."""
    trace_every: int = Field(default=10, ge=1)
    """Epochs between the predictions and weights that are kept; the last epoch's are too."""
    selection: Selection = "ema"
    """Which weights are used; none of the rules reads a target label."""
    calibrate: Literal["source"] | None = None
    """source: a tenth of the source's labels leave the loss and fit one temperature. No promise under shift."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Epochs that a power cut may cost."""
    seed: int = Field(default=0, ge=0)


class AlignedRecipe(AdaptRecipe):
    """A method that adds a weighted discrepancy between the domains' representations."""

    weight: float = Field(default=1.0, ge=0)
    """Of the discrepancy; 0 is training on the source alone, bit for bit."""


class MmdRecipe(AlignedRecipe):
    """A2GNN's loss."""

    method: str = "mmd"
    n_drawn: int = Field(default=500, ge=2)
    """Rows of each side, drawn anew every epoch; the released code takes 1,000, five times."""


class AdversarialRecipe(AlignedRecipe):
    """A domain classifier behind reversed gradients."""

    method: str = "adversarial"
    weight: float = Field(default=0.1, ge=0)
