"""What the experiment on lists is, as `hint_lists.toml` declares it before anything is run."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facetrail.models.language.huggingface import AdapterConfig, Dtype
from facetrail.models.recommend.hint_prompts import PromptConfig, Slot

PLAN_FILE = Path(__file__).with_name("hint_lists.toml")
ScorerName = Literal["constant", "popularity", "item mean", "item-knn", "ease", "ease+markov", "lightgcn", "sasrec"]
SEEDED: tuple[ScorerName, ...] = ("lightgcn", "sasrec")
"""Scorers that differ from seed to seed."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ListNetwork(_Closed):
    """A discovery network by itself."""

    description: str
    fitted: Literal["lists", "pairs"] = "lists"
    """`pairs`: on whether what was rated was liked, as in the pair-wise experiment."""
    network: dict[str, Any] = Field(default_factory=dict)
    """Fields of the network that differ from its recipe's."""
    attributes: Literal["all", "named", "swapped"] = "all"
    """Of the items: their own, those of them that have a name to show, or those of another item."""


class ListLanguageArm(_Closed):
    """A language model tuned on lists that differ from the other arms' in their hint slot alone."""

    description: str
    slot: Slot


class ListComparison(_Closed):
    """`a` against `b`, by Hit@1 among both kinds of negatives."""

    a: str
    b: str
    is_gain: bool = False
    """Whether it must be higher among both kinds, with a corrected p below .05."""


class ListPart(_Closed):
    """One table, in a result of its own. Parts share what has been fitted and scored."""

    claim: str
    scorers: tuple[ScorerName, ...] = ()
    networks: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    """Of a language model; with any, all arms are measured on a sample of the lists."""
    n_options: int | None = Field(default=None, ge=2)
    """Of the lists; None: as many as the experiment draws, and half of them."""
    blends: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """Name → two arms, weighed on validation."""
    comparisons: tuple[ListComparison, ...]
    """One family for Holm's correction."""

    @property
    def every_arm(self) -> tuple[str, ...]:
        """In the order of tables."""
        return (*self.scorers, *self.networks, *self.arms, *self.blends)


class HintListsExperiment(_Closed):
    """Lists, arms and parts, declared beforehand."""

    name: str
    seeds: tuple[int, ...] = Field(min_length=1)
    train_share: float = Field(gt=0, lt=1)
    validation_share: float = Field(gt=0, lt=1)
    least: float
    """A rating that counts as liked."""
    n_options: int = Field(ge=2)
    """Of a list, the target among them."""
    per_user: int = Field(ge=3)
    """Lists of one user in test at most; in validation a third of it."""
    n_resamples: int = Field(default=2_000, ge=10)
    language_model: str
    """`smollm2`, a folder of transformers, or `tiny` for a run that only shows that everything runs."""
    dtype: Dtype = "float32"
    n_lists: int = Field(ge=2)
    """Lists of test that every arm of a language model scores, drawn once, evenly over users."""
    n_shuffles: int = Field(default=3, ge=1)
    """Orders of a list's options that a language model's scores are a mean of."""
    discovery: tuple[str, ...] = ()
    """Changes to the recipe of a fit to lists, as `--set` takes them."""
    pairs: tuple[str, ...] = ()
    """Changes to the recipe of `train hints`, for networks fitted on pairs."""
    recommender: tuple[str, ...] = ()
    """Changes to the recipe of `train recommender`, for the scorers."""
    tuning: dict[str, Any]
    """As the recipe of `train hint-language` has it."""
    adapter: AdapterConfig = AdapterConfig()
    prompt: PromptConfig = PromptConfig()
    scorers: dict[ScorerName, str]
    """Name → description."""
    networks: dict[str, ListNetwork]
    arms: dict[str, ListLanguageArm]
    parts: dict[str, ListPart] = Field(min_length=1)

    def description(self, name: str) -> str:
        """Of an arm; empty for blends, whose names say all."""
        arm = self.networks.get(name) or self.arms.get(name)
        return arm.description if arm is not None else dict[str, str](**self.scorers).get(name, "")

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        known = {*self.scorers, *self.networks, *self.arms}
        if len(known) < len(self.scorers) + len(self.networks) + len(self.arms):
            raise ValueError("two arms share a name")
        for part in self.parts.values():
            own = {*part.scorers, *part.networks, *part.arms}
            named = {name for one in part.comparisons for name in (one.a, one.b)} - {*part.blends}
            named |= {name for pair in part.blends.values() for name in pair}
            if unknown := sorted(((own | named) - known) | (named - own)):
                raise ValueError(f"{unknown[0]!r} is not among the arms")
            if blended := sorted({name for pair in part.blends.values() for name in pair} & {*self.arms}):
                raise ValueError(
                    f"{blended[0]!r} asks a language model, which scores no list of validation to weigh by"
                )
            if (part.n_options or 2) > self.n_options:
                raise ValueError(f"lists of {part.n_options} options, where {self.n_options} are drawn")
        return self
