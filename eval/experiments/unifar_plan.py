"""What UniFAR's experiment is: arms, sets, measures, statistics and demands, as `unifar.toml` declares them."""

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facetrail.models.errors import InvalidInput

PREREGISTERED = Path(__file__).with_name("unifar.toml")
UNTRAINED = ("A0", "A1", "B0")
"""BM25, the base, and the base with predicted roles: no seed plays a part."""


class Closed(BaseModel):
    """Frozen, and no field but those named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmPlan(Closed):
    """How an arm's vectors become rankings."""

    scorer: Literal["lexical", "single", "facets", "sentences", "fused"]
    description: str
    of: str = ""
    """The arm that is fused with BM25."""


class Demand(Closed):
    """`a` is at least `least_points` hundredths above `b`, or above 0 without one."""

    a: str
    b: str | None = None
    sets: tuple[str, ...] = ()
    """Empty: every set."""
    measure: str = ""
    """Empty: each set's primary one."""
    least_points: float


class ProbePlan(Closed):
    """What is demanded of the facet probe, and of which arm."""

    arm: str
    least_points: float | None = None
    """None: reported, not demanded; so for the roles."""
    least_role_accuracy: float | None = Field(None, ge=0, le=1)


class Controls(Closed):
    """Arms that the claim does not rest on, trained and judged in a run of their own."""

    name: str
    claim: str
    seeds: tuple[int, ...] = Field(min_length=1)
    family: tuple[tuple[str, str], ...]
    probe: ProbePlan
    arms: dict[str, ArmPlan]


class UnifarExperiment(Closed):
    """What is run and judged, declared beforehand."""

    name: str
    claim: str
    seeds: tuple[int, ...] = Field(min_length=1)
    sets: tuple[str, ...] = Field(min_length=1)
    distractors: Literal["all"] | int
    """Documents added to the pools of SciTLDR and ACM-CR."""
    measures: tuple[str, ...]
    primary: dict[str, str]
    """Set → the measure of its comparisons."""
    depth: int = Field(ge=1)
    """Documents of a ranking."""
    rescore_depth: int = Field(ge=1)
    """Documents whose further vectors are looked at."""
    margin: float = Field(ge=0)
    """Cosine that a match of another facet costs."""
    n_randomisations: int = Field(ge=1)
    facet_shares: tuple[float, ...]
    """Shares of the facet score that are tried, each under both priors."""
    sentence_shares: tuple[float, ...]
    fusion_weights: tuple[float, ...]
    choose_by: str
    mixing_dev: tuple[str, ...]
    fusion_dev: tuple[str, ...]
    family: tuple[tuple[str, str], ...]
    """Pairs that are tested on every set."""
    arms: dict[str, ArmPlan]
    probe: ProbePlan
    demands: tuple[Demand, ...]
    controls: Controls

    def of_controls(self) -> Self:
        """The controls as an experiment: the same sets and judging, without demands, beside the untrained arms."""
        controls = self.controls
        changed = {name: getattr(controls, name) for name in ("name", "claim", "seeds", "family", "probe")}
        untrained = {name: self.arms[name] for name in UNTRAINED}
        return self.model_copy(update={**changed, "arms": untrained | controls.arms, "demands": ()})

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        named = {name for pair in (*self.family, *self.controls.family) for name in pair}
        named |= {self.probe.arm, self.controls.probe.arm, *UNTRAINED}
        named |= {name for demand in self.demands for name in (demand.a, demand.b) if name is not None}
        named |= {arm.of for arm in self.arms.values() if arm.scorer == "fused"}
        if unknown := sorted(named - self.arms.keys() - self.controls.arms.keys()):
            raise ValueError(f"{unknown[0]!r} is not among the arms")
        if without := [name for name in self.sets if self.primary.get(name) not in self.measures]:
            raise ValueError(f"set {without[0]!r} has no primary measure among {list(self.measures)}")
        if 2 * len(self.facet_shares) != len(self.sentence_shares):
            raise ValueError("arms are tuned by as many trials: twice as many sentence_shares as facet_shares")
        return self


def read_experiment(path: Path = PREREGISTERED) -> UnifarExperiment:
    """Raises InvalidInput where the file has not the shape of the experiment."""
    try:
        return UnifarExperiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path.name} is not an experiment: {error}") from error
