"""What a UniFAR training is: the recipe's options, their defaults in `unifar.toml`."""

from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.text.unifar_config import UnifarConfig
from facetrail.training.loop import FitConfig
from facetrail.training.text.records import PairConfig
from facetrail.training.text.unifar_step import Objective


class UnifarRecipe(BaseModel):
    """One training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(ge=1)
    """Pairs in a step, all of one kind."""
    chunk: int = Field(default=0, ge=0)
    """Texts encoded at a time (gradient caching); 0: all of a step at once."""
    document_tokens: int = Field(default=128, ge=8, le=512)
    """Training cuts documents here; serving reads what the encoder's length allows."""
    question_tokens: int = Field(default=64, ge=8, le=512)
    n_role_texts: int = Field(default=4, ge=0)
    """Abstracts with labelled sentences that join each step."""
    n_split_documents: int = Field(default=3_000, ge=0)
    """Right texts that get facet targets: the base's vector of their title and each role's sentences."""
    n_dev_others: int = Field(default=500, ge=0)
    """Documents of a development set's pool beside the relevant ones and the queries' own; the first by hash."""
    lr_layers: float = Field(gt=0)
    lr_head: float = Field(gt=0)
    lr_scales: float = Field(gt=0)
    """Of the gate's and the facets' scales and of the mixing, which start at 0 and must move before all else."""
    averaging: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0)
    """Shares of the trained weights in the exported ones, the rest being the start's; the best on dev is kept."""
    head_steps: int = Field(default=0, ge=0)
    """Stage 0: steps of the head alone over the frozen base's last states, before the layers join; 0 leaves it out."""
    fit: FitConfig
    """Stage 1: the top layers and the head."""
    pairs: PairConfig = PairConfig()
    unifar: UnifarConfig = UnifarConfig()
    objective: Objective = Objective()
