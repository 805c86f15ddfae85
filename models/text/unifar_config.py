"""What a UniFAR encoder is, readable without torch."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facetrail.models.text.facets import FACETS


class UnifarConfig(BaseModel):
    """What a UniFAR encoder is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=384, ge=1)
    facets: tuple[str, ...] = FACETS
    heads: int = Field(default=4, ge=1)
    """Scales attention scores by 1 / (heads · sqrt(dim / heads))."""
    gate_width: int = Field(default=64, ge=1)
    """Hidden units of the granularity gate."""
    margin: float = Field(default=0.05, ge=0)
    """Cosine that a match costs when another facet of the document gave it."""
    attention_temperature: float = Field(default=1.0, gt=0)
    mixing: float = Field(default=0.3, gt=0, lt=1)
    """Share of the facet score at the start of training."""
    trained_layers: int = Field(default=2, ge=0)
    """Transformer layers, counted from the top, that differ from the base."""
    max_sentences: int = Field(default=32, ge=1)
    """Later sentences join the last one."""
    max_paragraphs: int = Field(default=8, ge=1)
    anchors: Literal["learned", "frozen"] = "learned"
    """`frozen` is a control: anchors stay where they were drawn."""
    gated: bool = True
    """False is a control: the document's mean alone."""

    @model_validator(mode="after")
    def _heads_share_the_dimension(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {self.dim} dimensions; choose a divisor")
        return self
