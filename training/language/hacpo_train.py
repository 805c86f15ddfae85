"""`facetrail train hacpo`: several language models learn a task together and are saved apart.

Each agent has a folder of its own in the run: its start, its model, its figures. At inference nobody needs the others.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facetrail.models.language.hacpo import HacpoConfig
from facetrail.models.language.tasks import open_task
from facetrail.training.config import read_recipe
from facetrail.training.language.distributed import Processes
from facetrail.training.language.hacpo import SharedRollouts
from facetrail.training.language.policy_recipe import PolicyRecipe, TaskRecipe, TinyShape, WarmStart
from facetrail.training.language.run import MODEL_FOLDER, Run

DEFAULTS = Path(__file__).with_name("hacpo.toml")


class AgentRecipe(BaseModel):
    """One of the models; see `PolicyRecipe`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["tiny", "smollm2", "folder"] = "tiny"
    folder: str = ""
    adapter_rank: int = Field(default=0, ge=0)
    tiny: TinyShape = TinyShape()
    merged_seed: int | None = None
    warm_start: WarmStart = WarmStart()
    warm_options: dict[str, Any] = {}
    """Options of the task whose items the warm start imitates, beside the recipe's."""


class HacpoRecipe(TaskRecipe):
    """One joint training."""

    agents: dict[str, AgentRecipe] = Field(min_length=1)
    hacpo: HacpoConfig = HacpoConfig()
    delta_quantile: float | None = Field(default=None, ge=0, le=1)
    """Share of the first step's foreign rows that the lower bound discards; none: `hacpo.delta`."""

    @model_validator(mode="after")
    def _names_are_folders(self) -> "HacpoRecipe":
        for name in self.agents:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} names a folder of the run; use letters, digits, - and _")
        return self

    def of(self, name: str) -> PolicyRecipe:
        """What one agent's own training would be: the same task and loop, GSPO."""
        agent = self.agents[name]
        return PolicyRecipe.model_validate(
            {
                "algorithm": "gspo",
                **agent.model_dump(exclude={"warm_options"}),
                **self.model_dump(include=set(TaskRecipe.model_fields) - {"loop"}),
                "clip": {"lo": self.hacpo.lo, "hi": self.hacpo.hi},
                "loop": self.loop.model_dump(),
            }
        )


def train(
    data: Path, out: Path, *, overrides: Sequence[str] = (), resume: bool = False, seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Trains the agents and writes `out/NAME/model`, `out/NAME/report.json` of each; → what the command prints.

    Nothing is printed by any but the first of several processes. Raises InvalidInput (recipe, task), NotFound (data,
    model), Conflict (a run of another recipe).
    """
    recipe = read_recipe(DEFAULTS, HacpoRecipe, overrides).seeded(seed)
    shared = SharedRollouts(list(recipe.agents), recipe.hacpo, delta_quantile=recipe.delta_quantile)
    with Processes.joined() as processes:
        run = Run(recipe, data, out, resume=resume, device=device, processes=processes)
        learners = []
        for name, agent in recipe.agents.items():
            options = {**recipe.task_options, **agent.warm_options}
            imitated = open_task(recipe.task, **options) if agent.warm_options else None
            learners.append(run.learner(name, recipe.of(name), out / name, imitated=imitated))
        reports = run.fit(learners, advantage=shared, policy_loss=shared)
    return {name: {"model": str(out / name / MODEL_FOLDER), **report["test"]} for name, report in reports.items()}
