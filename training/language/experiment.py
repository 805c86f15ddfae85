"""`facetrail experiment rl-core` and `hacpo`: arms of post-training from one start, judged on held-out items.

What an arm under a seed does is in `course.py`.
"""

from pathlib import Path
from typing import Any

import torch

from facetrail.eval.experiments.language_plan import LanguageExperiment, read_language_experiment
from facetrail.eval.experiments.language_result import ArmScores, write_language_result
from facetrail.training.language.course import PICTURE_FILE, Course
from facetrail.training.run_folder import open_run

SMOKE = {"n_train": 64, "n_dev": 8, "n_test": 8, "n_warm": 64, "warm_batch": 8}


def run_hacpo(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """`facetrail experiment hacpo`; the data folder is not read, the task makes its items."""
    return run_experiment("hacpo", out, smoke=smoke, seeds=seeds, resume=resume)


def run_rl_core(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """`facetrail experiment rl-core`."""
    return run_experiment("rl-core", out, smoke=smoke, seeds=seeds, resume=resume)


def run_experiment(name: str, out: Path, *, smoke: bool, seeds: int | None, resume: bool) -> dict[str, Any]:
    """Trains and judges every arm under every seed; → what the command prints."""
    plan = smaller(read_language_experiment(name)) if smoke else read_language_experiment(name)
    chosen = plan.seeds[: 1 if smoke else seeds]
    open_run(out, plan, {}, resume=resume)
    torch.set_num_threads(1)  # so small a model only waits for a second one
    course = Course(plan, out)
    for seed in chosen:
        for arm in plan.arms:
            course.unit(arm, seed)
    scores = {arm: ArmScores({seed: course.kept(arm, seed) for seed in chosen}) for arm in plan.arms}
    course.draw(chosen)
    path = write_language_result(
        plan,
        scores,
        command=f"facetrail experiment {name} --data DATA --out RUN --seeds {len(chosen)}",
        notes=course.notes(scores),
        folder=out if smoke else None,
    )
    return {
        "result": str(path),
        "picture": str(out / PICTURE_FILE),
        "arms": len(scores),
        "seeds": len(chosen),
        "run": str(out),
    }


def smaller(plan: LanguageExperiment) -> LanguageExperiment:
    """Every arm of the plan in seconds: does it run?"""
    agents = {
        name: agent.model_copy(update={"warm_steps": 3, "window": (0.0, 1.0)}) for name, agent in plan.agents.items()
    }
    loop = {**plan.loop, "steps": 2, "prompts": 4, "group": 2, "eval_every": 1}
    arms = {
        name: arm.model_copy(update={"loop": {k: v for k, v in arm.loop.items() if k != "group"}})
        for name, arm in plan.arms.items()
    }
    return plan.model_copy(update={**SMOKE, "agents": agents, "loop": loop, "arms": arms})
