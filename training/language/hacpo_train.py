"""`facetrail train hacpo`: several language models learn a task together and are saved apart.

Each agent has a folder of its own in the run: its start, its model, its figures. At inference nobody needs the others.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facetrail.indexing.durable import write_durably
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.hacpo import HacpoConfig
from facetrail.models.language.tasks import open_task
from facetrail.training.config import read_recipe
from facetrail.training.language.hacpo import SharedRollouts
from facetrail.training.language.hooks import VerifierReward
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.policy import (
    MODEL_FOLDER,
    REPORT_FILE,
    agent_of,
    device_of,
    files_of,
    measures_of,
    report_of,
    save_policy,
    start,
    task_of,
)
from facetrail.training.language.policy_recipe import PolicyRecipe, TinyShape, WarmStart
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.trainer import Trainer
from facetrail.training.run_folder import data_hashes, open_run
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

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


class HacpoRecipe(BaseModel):
    """One joint training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: dict[str, AgentRecipe] = Field(min_length=1)
    hacpo: HacpoConfig = HacpoConfig()
    delta_quantile: float | None = Field(default=None, ge=0, le=1)
    """Share of the first step's foreign rows that the lower bound discards; none: `hacpo.delta`."""
    task: str = "modchain"
    task_options: dict[str, Any] = {}
    n_items: int = Field(default=4096, ge=1)
    n_dev: int = Field(default=200, ge=1)
    n_test: int = Field(default=1000, ge=1)
    pass_k: int = Field(default=4, ge=1)
    loop: LoopConfig

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
                **self.model_dump(include={"task", "task_options", "n_items", "n_dev", "n_test", "pass_k"}),
                "clip": {"lo": self.hacpo.lo, "hi": self.hacpo.hi},
                "loop": self.loop.model_dump(),
            }
        )


def train(
    data: Path, out: Path, *, overrides: Sequence[str] = (), resume: bool = False, seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Trains the agents and writes `out/NAME/model` and `out/NAME/report.json` of each; → what the command prints.

    Raises InvalidInput (recipe, task), NotFound (data, model), Conflict (a run of another recipe).
    """
    recipe = read_recipe(DEFAULTS, HacpoRecipe, overrides)
    if seed is not None:
        recipe = recipe.model_copy(update={"loop": recipe.loop.model_copy(update={"seed": seed})})
    place = device_of(device)
    open_run(out, recipe, data_hashes(files_of(recipe.task, data)), resume=resume, accelerator=place)
    recipes = {name: recipe.of(name) for name in recipe.agents}
    task = task_of(next(iter(recipes.values())), data)
    dev = task.prompts(recipe.n_dev, seed=0, split="dev")
    policies: dict[str, CausalPolicy] = {}
    warm: dict[str, Mapping[str, Any]] = {}
    for name, agent in recipe.agents.items():
        imitated = task
        if agent.warm_options:
            imitated = open_task(recipe.task, **{**recipe.task_options, **agent.warm_options})
        policies[name], warm[name] = start(
            recipes[name], task, dev, out / name, device=place, resume=resume, imitated=imitated
        )
    shared = SharedRollouts(list(recipe.agents), recipe.hacpo, delta_quantile=recipe.delta_quantile)

    def measure() -> dict[str, float]:
        found = {name: measures_of(recipes[name], policy, task, dev) for name, policy in policies.items()}
        return {f"{name}/{key}": value for name, values in found.items() for key, value in values.items()}

    with Tracker(out, total=recipe.loop.steps) as tracker:
        trainer = Trainer(
            [agent_of(name, recipes[name], policy, out / name, place) for name, policy in policies.items()],
            PromptStream(task.prompts(recipe.n_items, seed=recipe.loop.seed), seed=recipe.loop.seed),
            config=recipe.loop,
            reward=VerifierReward(task),
            advantage=shared,
            policy_loss=shared,
            evaluate=measure,
            tracker=tracker,
            folder=out,
        )
        trainer.run(resume=resume)
    rows, printed = read_curves(out / CURVES_FILE), dict[str, Any]()
    for name, policy in policies.items():
        report = report_of(recipes[name], policy, task, trainer.meters, warm[name], _rows_of(name, rows))
        write_durably(out / name / REPORT_FILE, (json.dumps(report, indent=1) + "\n").encode())
        save_policy(policy, out / name / MODEL_FOLDER)
        printed[name] = {"model": str(out / name / MODEL_FOLDER), **report["test"]}
    return printed


def _rows_of(name: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The curves of one agent, under the names that a run of it alone would have."""
    found = []
    for row in rows:
        mine = {key.replace(f"eval/{name}/", "eval/"): value for key, value in row.items()}
        if "note" not in row or str(row["note"]).startswith(f"{name}: "):
            found.append(mine)
    return found
