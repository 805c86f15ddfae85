"""What a policy training is: the recipe's options, their defaults in `policy.toml`, and the algorithms by name."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facetrail.models.language.advantages import AdvantageName
from facetrail.models.language.policy_losses import Aggregation, ClipConfig, PolicyLossName
from facetrail.training.language.endpoint_sampler import EndpointRecipe
from facetrail.training.language.loop_config import LoopConfig

AlgorithmName = Literal["grpo", "dr_grpo", "rloo", "gspo", "reinforce"]


class Algorithm(BaseModel):
    """An algorithm is an advantage, a loss, an aggregation and a clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    advantage: AdvantageName
    policy_loss: PolicyLossName
    aggregation: Aggregation
    clip: ClipConfig = ClipConfig(lo=0.2, hi=0.28)


ALGORITHMS: dict[AlgorithmName, Algorithm] = {
    "grpo": Algorithm(advantage="grpo", policy_loss="ppo_clip", aggregation="row_mean"),
    "dr_grpo": Algorithm(advantage="dr_grpo", policy_loss="ppo_clip", aggregation="fixed_length"),
    "rloo": Algorithm(advantage="rloo", policy_loss="ppo_clip", aggregation="row_sum"),
    # Ratios of whole completions move less than those of tokens; at a learning rate of 1e-6 take 3e-4 and 4e-4.
    "gspo": Algorithm(advantage="grpo", policy_loss="gspo", aggregation="row_mean", clip=ClipConfig(lo=0.02, hi=0.03)),
    "reinforce": Algorithm(advantage="batch_mean", policy_loss="reinforce", aggregation="token_mean"),
}


class TinyShape(BaseModel):
    """A decoder made for the task's own words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=64, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_heads: int = Field(default=4, ge=1)
    context: int = Field(default=64, ge=2)


class WarmStart(BaseModel):
    """Supervised training on right completions before the first rollout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=0, ge=0)
    """0: none."""
    batch: int = Field(default=64, ge=1)
    lr: float = Field(default=2e-3, gt=0)
    eval_every: int = Field(default=25, ge=1)
    low: float | None = Field(default=None, ge=0, le=1)
    """Stop once sampled accuracy on dev items is at least this; None: after `steps`."""
    high: float = Field(default=1.0, ge=0, le=1)
    """Beyond this the start is refused."""


class TaskRecipe(BaseModel):
    """What is learnt, for how long, and on what it is judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "modchain"
    task_options: dict[str, Any] = {}
    n_items: int = Field(default=4096, ge=1)
    """Training items in the pool."""
    n_dev: int = Field(default=200, ge=1)
    """Items of each evaluation on the way."""
    n_test: int = Field(default=1000, ge=1)
    """Held-out items of the final figures."""
    pass_k: int = Field(default=4, ge=1)
    """Completions of each held-out item, for sampled accuracy and pass@k."""
    meter: Literal["rollout_tokens", "grad_tokens", "optimiser_steps", "n_rollouts"] = "rollout_tokens"
    """What the report's curve and the picture run over."""
    loop: LoopConfig

    def seeded(self, seed: int | None) -> Self:
        """The recipe with another seed; None: as it is."""
        return self if seed is None else self.model_copy(update={"loop": self.loop.model_copy(update={"seed": seed})})


class PolicyRecipe(TaskRecipe):
    """One training run."""

    model: Literal["tiny", "smollm2", "folder"] = "tiny"
    folder: str = ""
    """Of `model = "folder"`: a transformers model or one that this command has made."""
    adapter_rank: int = Field(default=0, ge=0)
    """Above 0, a low-rank adapter learns and the model itself stays; not for tiny models."""
    algorithm: AlgorithmName = "grpo"
    clip: ClipConfig
    """Left out: the algorithm's."""
    tiny: TinyShape = TinyShape()
    merged_seed: int | None = None
    """Of a tiny model's second kind of tokenizer: other ids, and frequent pairs of words as one token; None: the first
    kind."""
    warm_start: WarmStart = WarmStart()
    endpoint: EndpointRecipe = EndpointRecipe()
    """A server that writes the rollouts."""

    @model_validator(mode="before")
    @classmethod
    def _take_from_algorithm(cls, values: Any) -> Any:
        """What the recipe leaves open is the algorithm's, and stands in the resolved recipe."""
        chosen = ALGORITHMS.get(values.get("algorithm", "grpo")) if isinstance(values, dict) else None
        if chosen is None:
            return values
        loop = {"aggregation": chosen.aggregation, **values.get("loop", {})}
        return {**values, "loop": loop, "clip": {**chosen.clip.model_dump(), **values.get("clip", {})}}
