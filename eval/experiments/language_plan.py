"""What an experiment on language models is, as a TOML file beside this one declares it before anything is run."""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.language.hacpo import Arm as HacpoArm

Measure = Literal["sampled", "greedy", "area"]
"""Accuracy at the end, of sampled or greedy answers; and the mean sampled accuracy over all evaluations."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AgentPlan(_Closed):
    """A tiny model and the supervised training it begins with."""

    dim: int = Field(ge=1)
    n_layers: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    merged_tokenizer: bool = False
    """Whether it reads by the second tokenizer: other ids, and `r ;` as one token."""
    mix: dict[str, float] = Field(default_factory=dict)
    """How often each operator occurs in what it imitates; empty: equally."""
    warm_steps: int = Field(ge=1)
    """Length of the learning rate's schedule: the longest it may take to reach the window."""
    window: tuple[float, float]
    """Supervised training ends at the first evaluation whose sampled accuracy on development items is at least the
    lower number; above the upper one the start is refused."""


class ArmPlan(_Closed):
    """One way of training. What it does not say is the experiment's."""

    description: str
    algorithm: str
    """A name of the policy recipe's algorithms; `hacpo` and `imitation` share rollouts between agents."""
    hacpo: HacpoArm = "full"
    """Which mechanisms are on."""
    loop: dict[str, Any] = Field(default_factory=dict)
    """Settings of the loop that differ from the experiment's."""


class Demand(_Closed):
    """`a` is at least `least_points` hundredths above `b`, in the mean over agents."""

    a: str
    b: str
    measure: Measure = "sampled"
    least_points: float = 0.0
    is_gain: bool = False
    """Whether the interval of the difference must lie above 0 as well."""
    each_agent: bool = False
    """Whether it is asked of every agent by itself and not of their mean."""


class LanguageExperiment(_Closed):
    """Agents, arms and demands, declared beforehand."""

    name: str
    claim: str
    seeds: tuple[int, ...] = Field(min_length=1)
    task: str
    task_options: dict[str, Any] = Field(default_factory=dict)
    n_train: int = Field(ge=1)
    n_dev: int = Field(ge=1)
    n_test: int = Field(ge=1)
    n_warm: int = Field(ge=1)
    """Items of the supervised start."""
    warm_lr: float = Field(gt=0)
    warm_batch: int = Field(ge=1)
    loop: dict[str, Any]
    """Settings of the loop that all arms share."""
    delta_quantile: float | None = None
    """Share of the first step's foreign rows that HACPO's bound discards."""
    meter: str
    """The meter by which arms are compared."""
    baseline: str
    agents: dict[str, AgentPlan] = Field(min_length=1)
    arms: dict[str, ArmPlan] = Field(min_length=1)
    demands: tuple[Demand, ...] = ()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        named = {self.baseline} | {name for demand in self.demands for name in (demand.a, demand.b)}
        if unknown := sorted(named - self.arms.keys()):
            raise ValueError(f"{unknown[0]!r} is not among the arms")
        if dotted := [name for name in (*self.arms, *self.agents) if "." in name]:
            raise ValueError(f"the name {dotted[0]!r} holds a dot, which separates sections in a recipe; rename it")
        return self


def read_language_experiment(name: str) -> LanguageExperiment:
    """The plan of an experiment. Raises NotFound for an unknown one, InvalidInput for a file of another shape."""
    path = Path(__file__).with_name(f"{name.replace('-', '_')}.toml")
    if not path.is_file():
        raise NotFound(f"there is no plan {path.name}; the experiments are those of `facetrail experiment --help`")
    try:
        return LanguageExperiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path.name} is not an experiment: {error}") from error
