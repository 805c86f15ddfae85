"""What the experiment on preference hints is, as `hints.toml` declares it before anything is run."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facetrail.models.language.huggingface import AdapterConfig, Dtype
from facetrail.models.recommend.hint_prompts import PromptConfig, Slot

PLAN_FILE = Path(__file__).with_name("hints.toml")
CLOSED = ("item mean", "item + user mean", "bias logistic")
"""Arms without anything learnt by gradient, scored on all rows and part of every table."""
BIAS_LOGISTIC = CLOSED[-1]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkArm(_Closed):
    """A discovery network by itself, scored on all rows; the controls are told beforehand what may come out."""

    description: str
    network: dict[str, Any] = Field(default_factory=dict)
    """Fields of the network that differ from its recipe's."""
    attributes: Literal["all", "random", "swapped"] = "all"
    """Of the items: their own, a few of them at random, or those of another item."""
    fake: float = Field(default=0.0, ge=0)
    """Attributes of other items that every item gets beside its own, as a share of these."""
    labels: Literal["true", "shuffled"] = "true"
    """`shuffled`: permuted inside training, inside validation and inside test, so that there is nothing to learn. Test
    is permuted too: against true labels, even a network that learnt nothing moves with every user's own level."""
    scores_by: Literal["network", "signs"] = "network"
    """`signs`: by how many of the hints shown say "likes", less those that say "dislikes": what hints tell a reader who
    knows nothing else."""


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


class Bound(_Closed):
    """Where a figure of an arm, as the mean over seeds, must lie."""

    arm: str
    measure: str
    least: float
    most: float = 1.0


class Erosion(_Closed):
    """What fake attributes cost `a` in AUC at frozen knowledge, beside what they cost `b`. Both: (without, with)."""

    a: tuple[str, str]
    b: tuple[str, str]
    most: float
    """Share of b's loss that a's may be."""


class HintsPart(_Closed):
    """One table, in a result of its own. Parts share what has been fitted and scored."""

    claim: str
    rows: Literal["all", "sample"]
    """Of test: all of them, or those that arms of a language model score too."""
    arms: tuple[str, ...] = Field(min_length=1)
    """Beside the closed forms."""
    blends: dict[str, str] = Field(default_factory=dict)
    """Name → the arm that is blended with the bias logistic."""
    comparisons: tuple[Comparison, ...]
    """One family for Holm's correction, under frozen knowledge."""
    bounds: tuple[Bound, ...] = ()
    erosions: tuple[Erosion, ...] = ()

    @property
    def every_arm(self) -> tuple[str, ...]:
        """In the order of tables."""
        return (*CLOSED, *self.arms, *self.blends)


class HintsExperiment(_Closed):
    """Arms, parts and demands, declared beforehand."""

    name: str
    seeds: tuple[int, ...] = Field(min_length=1)
    language_model: str
    """`smollm2`, a folder of transformers, or `tiny` for a run that only shows that everything runs."""
    dtype: Dtype = "float32"
    """Of the language model's frozen weights. The adapter's are float32."""
    n_test: int = Field(ge=2)
    """Rows of test that every arm of a language model scores, drawn once, evenly over users."""
    n_validation: int = Field(ge=2)
    """Rows of validation, drawn once, on which blends with a language model are weighed."""
    n_resamples: int = Field(default=2_000, ge=10)
    """Of users, for intervals and tests."""
    discovery: tuple[str, ...] = ()
    """Changes to the recipe of `train hints`, as its `--set` takes them."""
    tuning: dict[str, Any]
    """As the recipe of `train hint-language` has it."""
    adapter: AdapterConfig = AdapterConfig()
    prompt: PromptConfig = PromptConfig()
    networks: dict[str, NetworkArm] = Field(min_length=1)
    arms: dict[str, LanguageArm] = Field(min_length=1)
    parts: dict[str, HintsPart] = Field(min_length=1)

    def description(self, name: str) -> str:
        """Of an arm; empty for closed forms and blends, whose names say all."""
        arm = self.networks.get(name) or self.arms.get(name)
        return arm.description if arm is not None else ""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        known = {*self.networks, *self.arms}
        shuffled = {name for name, arm in self.networks.items() if arm.labels == "shuffled"}
        if len({*CLOSED, *known}) < len(CLOSED) + len(self.networks) + len(self.arms):
            raise ValueError("two arms share a name")
        for part in self.parts.values():
            compared = {name for one in part.comparisons for name in (one.a, one.b)} | set(part.blends.values())
            eroded = {name for one in part.erosions for name in (*one.a, *one.b)}
            named = compared | eroded | {bound.arm for bound in part.bounds}
            if unknown := sorted(({*part.arms} - known) | (named - {*part.every_arm})):
                raise ValueError(f"{unknown[0]!r} is not among the arms")
            if part.rows == "all" and (some := sorted({*part.arms} & {*self.arms})):
                raise ValueError(f"{some[0]!r} asks a language model, which scores a sample of the rows only")
            if wrong := sorted(compared & shuffled):
                raise ValueError(f"{wrong[0]!r} has labels of its own, so nothing can be compared or blended with it")
            if dotted := [name for name in part.every_arm if "." in name or "/" in name]:
                raise ValueError(f"the name {dotted[0]!r} holds a dot or a slash, which no file may be named by")
        return self
