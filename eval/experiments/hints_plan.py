"""What the experiment on preference hints is, as `hints.toml` declares it before anything is run."""

import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facetrail.models.errors import InvalidInput
from facetrail.models.language.huggingface import AdapterConfig
from facetrail.models.recommend.hint_prompts import PromptConfig, Slot

PLAN_FILE = Path(__file__).with_name("hints.toml")
CLOSED = ("item mean", "item + user mean", "bias logistic")
"""Arms without anything learnt by gradient, scored on all rows."""
DISCOVERY = "discovery"
"""The arm of the discovery network alone, scored on all rows."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LanguageArm(_Closed):
    """A language model tuned on prompts that differ from the other arms' in their hint slot alone."""

    description: str
    slot: Slot
    network: dict[str, Any] = Field(default_factory=dict)
    """Fields of the discovery network that differ from its recipe's."""


class Comparison(_Closed):
    """`a` against `b`, in AUC and UAUC."""

    a: str
    b: str
    least_relative: float = 0.0
    """Demanded of the mean relative gain over both measures, whose interval must lie above 0; 0 demands nothing."""
    is_gain: bool = False
    """Whether each measure must be higher with a corrected p below .05."""


class Floor(_Closed):
    """A figure that an arm must reach."""

    arm: str
    measure: str
    least: float


class HintsExperiment(_Closed):
    """Arms, comparisons and demands, declared beforehand."""

    name: str
    claim: str
    seeds: tuple[int, ...] = Field(min_length=1)
    language_model: str
    """`smollm2`, a folder of transformers, or `tiny` for a run that only shows that everything runs."""
    n_test: int = Field(ge=2)
    """Rows of test that every arm of a language model scores, drawn once, evenly over users."""
    n_validation: int = Field(ge=2)
    """Rows of validation, drawn once, on which blends are weighed."""
    n_resamples: int = Field(default=2_000, ge=10)
    """Of users, for intervals and tests."""
    discovery: tuple[str, ...] = ()
    """Changes to the recipe of `train hints`, as its `--set` takes them."""
    tuning: dict[str, Any]
    """As the recipe of `train hint-language` has it."""
    adapter: AdapterConfig = AdapterConfig()
    prompt: PromptConfig = PromptConfig()
    arms: dict[str, LanguageArm] = Field(min_length=1)
    blends: dict[str, str]
    """Name → the arm that is blended with the bias logistic."""
    comparisons: tuple[Comparison, ...]
    """One family for Holm's correction, under frozen knowledge."""
    floors: tuple[Floor, ...] = ()

    @property
    def every_arm(self) -> tuple[str, ...]:
        """In the order of tables."""
        return (*CLOSED, DISCOVERY, *self.arms, *self.blends)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(set(self.every_arm)) < len(self.every_arm):
            raise ValueError("two arms share a name")
        named = [*self.blends.values(), *(f.arm for f in self.floors)]
        named += [name for one in self.comparisons for name in (one.a, one.b)]
        if unknown := sorted(set(named) - set(self.every_arm)):
            raise ValueError(f"{unknown[0]!r} is not among the arms")
        if dotted := [name for name in self.every_arm if "." in name or "/" in name]:
            raise ValueError(f"the name {dotted[0]!r} holds a dot or a slash, which no file may be named by; rename it")
        return self


def read_hints_experiment(path: Path = PLAN_FILE) -> HintsExperiment:
    """The plan. Raises InvalidInput for a file of another shape."""
    try:
        return HintsExperiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path.name} is not an experiment: {error}") from error
