"""Models before their first rollout: made, opened or warm-started, and how a folder keeps them."""

import inspect
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facetrail.eval.language import greedy_and_sampled
from facetrail.indexing.durable import write_durably
from facetrail.models.errors import InvalidInput
from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.huggingface import AdapterConfig
from facetrail.models.language.opening import open_policy
from facetrail.models.language.problems import GSM8K_FILES, WORD_PROBLEMS_FILE
from facetrail.models.language.records import Prompt, Task
from facetrail.models.language.tasks import TASKS, open_task, open_tokenizer
from facetrail.training.language.hooks import Agent
from facetrail.training.language.meters import Meters
from facetrail.training.language.policy_recipe import PolicyRecipe, TaskRecipe
from facetrail.training.language.supervised import Window, examples_of, fit_supervised
from facetrail.training.loop import FitConfig
from facetrail.training.tracking import Tracker

START_FOLDER, WARM_FOLDER = "start", "warm-start"
EVALUATION_SEED = 0
"""Of items and draws of evaluations: the same in every run, so that runs are paired."""
DATA_FILES = {"word-problems": {"train": WORD_PROBLEMS_FILE}, "gsm8k": GSM8K_FILES}


def files_of(task: str, data: Path) -> dict[str, Path]:
    """The files that a task reads."""
    return {f"{task}/{name}": data / path for name, path in DATA_FILES.get(task, {}).items()}


def start(
    recipe: PolicyRecipe,
    task: Task,
    dev: Sequence[Prompt],
    out: Path,
    *,
    device: str,
    resume: bool,
    imitated: Task | None = None,
) -> tuple[CausalPolicy, Mapping[str, Any]]:
    """The policy before the first rollout, and what its warm start came to; kept in `out/start` where there was one.

    imitated: the task whose items it imitates; None: the task itself.
    """
    folder, facts = out / START_FOLDER, out / WARM_FOLDER / "result.json"
    if facts.is_file() and folder.is_dir():
        found: dict[str, Any] = json.loads(facts.read_bytes())
        return _reopened(recipe, folder, device), found
    policy = new_policy(recipe, task, device)
    if not recipe.warm_start.steps:
        return policy, {}
    warm, meters = recipe.warm_start, Meters()
    items = (imitated or task).prompts(recipe.n_items, seed=recipe.loop.seed)
    config = FitConfig(
        steps=warm.steps, warmup=0, schedule="constant", weight_decay=0, ema=None, max_norm=1.0, max_bad_steps=10,
        eval_every=warm.eval_every, checkpoint_every=warm.eval_every, seed=recipe.loop.seed,
    )  # fmt: skip
    with Tracker(out / WARM_FOLDER, total=warm.steps) as tracker:
        result = fit_supervised(
            policy,
            examples_of(policy, imitated or task, items),
            config=config,
            lr=warm.lr,
            batch=warm.batch,
            meters=meters,
            evaluate=lambda: measures_of(recipe, policy, task, dev),
            window=Window("sampled", warm.low, warm.high) if warm.low is not None else None,
            tracker=tracker,
            folder=out / WARM_FOLDER,
            resume=resume,
        )
    if folder.is_dir():  # written, but the facts beside it were not
        shutil.rmtree(folder)
    _write(policy, folder)
    warm_facts = {"steps": meters.optimiser_steps, "measures": dict(result.measures), "grad_tokens": meters.grad_tokens}
    write_durably(facts, (json.dumps(warm_facts, indent=1) + "\n").encode())
    return policy, warm_facts


def measures_of(recipe: PolicyRecipe, policy: CausalPolicy, task: Task, dev: Sequence[Prompt]) -> dict[str, float]:
    return greedy_and_sampled(policy, task, dev, sampling=recipe.loop.sampling, seed=EVALUATION_SEED)


def task_of(recipe: TaskRecipe, data: Path) -> Task:
    reads_data = recipe.task in TASKS and "data" in inspect.signature(TASKS[recipe.task]).parameters
    return open_task(recipe.task, **recipe.task_options, **({"data": data} if reads_data else {}))


def new_policy(recipe: PolicyRecipe, task: Task, device: str) -> CausalPolicy:
    if recipe.model == "tiny":
        if recipe.adapter_rank:
            raise InvalidInput("a tiny model trains whole; set adapter_rank to 0", pointer="/adapter_rank")
        policy = TinyPolicy.new(
            open_tokenizer(task, merged_seed=recipe.merged_seed), seed=recipe.loop.seed, **recipe.tiny.model_dump()
        )
        policy.module.to(device)
        return policy
    return open_policy(_name(recipe), adapter=_adapter(recipe), device=device)


def _reopened(recipe: PolicyRecipe, folder: Path, device: str) -> CausalPolicy:
    """The warm-started policy, from its folder: an adapter's holds nothing else."""
    if recipe.adapter_rank:
        return open_policy(_name(recipe), adapter=folder, device=device)
    return open_policy(str(folder), device=device)


def agent_of(name: str, recipe: PolicyRecipe, policy: CausalPolicy, out: Path, device: str) -> Agent:
    """With a KL, the reference is the start once more."""
    if not recipe.loop.kl_weight:
        return Agent(name, policy)
    if (out / START_FOLDER).is_dir():
        return Agent(name, policy, _reopened(recipe, out / START_FOLDER, device))
    if recipe.model == "tiny":
        raise InvalidInput(
            "the KL would hold the policy to random weights; give a warm start (warm_start.steps) or set "
            "loop.kl_weight to 0",
            pointer="/loop/kl_weight",
        )
    return Agent(name, policy, open_policy(_name(recipe), adapter=_adapter(recipe), device=device))


def _name(recipe: PolicyRecipe) -> str:
    return recipe.model if recipe.model == "smollm2" else recipe.folder


def _adapter(recipe: PolicyRecipe) -> AdapterConfig | None:
    return AdapterConfig(rank=recipe.adapter_rank, seed=recipe.loop.seed) if recipe.adapter_rank else None


def save_policy(policy: CausalPolicy, folder: Path) -> None:
    """Writes the model; one that a sitting before this has left is of the same run and makes way."""
    if folder.is_dir():
        shutil.rmtree(folder)
    _write(policy, folder)


def _write(policy: CausalPolicy, folder: Path) -> None:
    assert isinstance(policy, TinyPolicy | LocalPolicy)  # the two kinds that `open_policy` and `new_policy` make
    policy.save(folder)
