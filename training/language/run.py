"""A post-training from its run folder to its report, for one model or several that learn together."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetrail.eval.experiments.language_pictures import draw_over_meter, points
from facetrail.eval.language import answer, constant_accuracy
from facetrail.indexing.durable import write_durably
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.records import DrawKey, Sampling, Task
from facetrail.training.language.distributed import Processes
from facetrail.training.language.hooks import Advantage, PolicyLoss, Sampler
from facetrail.training.language.meters import Meters
from facetrail.training.language.parts import VerifierReward
from facetrail.training.language.policy_recipe import PolicyRecipe, TaskRecipe
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.start import (
    EVALUATION_SEED,
    agent_of,
    files_of,
    measures_of,
    save_policy,
    start,
    task_of,
)
from facetrail.training.language.trainer import Trainer
from facetrail.training.run_folder import data_hashes, open_run
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

MODEL_FOLDER, REPORT_FILE, PICTURE_FILE = "model", "report.json", "accuracy.png"


@dataclass(frozen=True, slots=True)
class Learner:
    """One model of a run: the recipe of its own training, and the folder of its start, model and report."""

    name: str
    recipe: PolicyRecipe
    policy: CausalPolicy
    warm: Mapping[str, Any]
    """What its warm start came to."""
    folder: Path


class Run:
    """A run folder, the task and the processes at work on it."""

    def __init__(
        self, recipe: TaskRecipe, data: Path, out: Path, *, resume: bool, device: str, processes: Processes
    ) -> None:
        """Makes the folder, or takes up an existing one.

        Raises InvalidInput (task), NotFound (data), Conflict (a run of another recipe, or one not to be resumed).
        """
        self._recipe, self._out, self._resume, self._processes = recipe, out, resume, processes
        self._device = device_of(device)
        hashes = data_hashes(files_of(recipe.task, data))
        processes.by_first(lambda: open_run(out, recipe, hashes, resume=resume, accelerator=self._device))
        self._task = task_of(recipe, data)
        self._dev = self._task.prompts(recipe.n_dev, seed=EVALUATION_SEED, split="dev")

    def learner(self, name: str, recipe: PolicyRecipe, folder: Path, *, imitated: Task | None = None) -> Learner:
        """A model before its first rollout. imitated: the task of its warm start, if not the run's."""

        def begun() -> tuple[CausalPolicy, Mapping[str, Any]]:
            return start(
                recipe, self._task, self._dev, folder, device=self._device, resume=self._resume, imitated=imitated
            )

        policy, warm = self._processes.first_before_others(begun)
        return Learner(name, recipe, policy, warm, folder)

    def fit(
        self,
        learners: Sequence[Learner],
        *,
        advantage: Advantage,
        policy_loss: PolicyLoss,
        sampler: Sampler | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Trains the models and writes model, report and picture; → the reports by name, in the first process alone."""
        loop = self._recipe.loop
        with Tracker(self._out, total=loop.steps) if self._processes.is_first else nullcontext() as tracker:
            trainer = Trainer(
                [agent_of(one.name, one.recipe, one.policy, one.folder, self._device) for one in learners],
                PromptStream(self._task.prompts(self._recipe.n_items, seed=loop.seed), seed=loop.seed),
                config=loop,
                reward=VerifierReward(self._task),
                advantage=advantage,
                policy_loss=policy_loss,
                sampler=sampler,
                evaluate=lambda: self._measured(learners),
                tracker=tracker,
                folder=self._out,
                processes=self._processes,
            )
            trainer.run(resume=self._resume)
        return self._reports(learners, trainer.meters) if self._processes.is_first else {}

    def _measured(self, learners: Sequence[Learner]) -> dict[str, float]:
        return {
            self._prefix(one) + measure: value
            for one in learners
            for measure, value in measures_of(one.recipe, one.policy, self._task, self._dev).items()
        }

    def _prefix(self, learner: Learner) -> str:
        """A model with a folder of its own has measures of its own among the run's."""
        return "" if learner.folder == self._out else f"{learner.name}/"

    def _reports(self, learners: Sequence[Learner], meters: Meters) -> dict[str, dict[str, Any]]:
        rows, reports = read_curves(self._out / CURVES_FILE), dict[str, dict[str, Any]]()
        for one in learners:
            mine = _rows_of(self._prefix(one), rows)
            reports[one.name] = _report_of(one.recipe, one.policy, self._task, meters, one.warm, mine)
            write_durably(one.folder / REPORT_FILE, (json.dumps(reports[one.name], indent=1) + "\n").encode())
            save_policy(one.policy, one.folder / MODEL_FOLDER)
        self._draw(rows, [self._prefix(one) for one in learners])
        return reports

    def _draw(self, rows: Sequence[Mapping[str, Any]], prefixes: Sequence[str]) -> None:
        """Accuracy over the meter, a line for each model and measure; under it what each keeps of others' rows."""
        meter, measures = self._recipe.meter, [p + measure for p in prefixes for measure in ("greedy", "sampled")]
        panels = {
            "accuracy on development items": {name: [points(rows, f"eval/{name}", meter)] for name in measures},
            "share of others' rows kept": {
                prefix.rstrip("/"): [points(rows, f"train/{prefix}foreign_kept", meter)] for prefix in prefixes
            },
        }
        draw_over_meter(self._out / PICTURE_FILE, panels, meter=meter)


def _report_of(
    recipe: PolicyRecipe,
    policy: CausalPolicy,
    task: Task,
    meters: Meters,
    warm: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Figures on held-out items, and the way there over the recipe's meter."""
    items = task.prompts(recipe.n_test, seed=EVALUATION_SEED, split="test")
    key = DrawKey(EVALUATION_SEED, "test")
    greedy_sampling = Sampling(temperature=0.0, max_new_tokens=recipe.loop.max_new_tokens)
    greedy = answer(policy, task, items, sampling=greedy_sampling, key=key)
    sampled = answer(policy, task, items, n=recipe.pass_k, sampling=recipe.loop.sampling, key=key)
    curves = [points(rows, f"eval/{measure}", recipe.meter) for measure in ("greedy", "sampled")]
    return {
        "algorithm": recipe.algorithm,
        "task": task.name,
        "test": {
            "greedy": greedy.accuracy,
            "sampled": sampled.accuracy,
            f"pass@{recipe.pass_k}": sampled.pass_at(recipe.pass_k),
            "tokens": float(sampled.n_tokens.mean()),
            "always_the_commonest_answer": constant_accuracy(items),
        },
        "n_test": len(items),
        "warm_start": dict(warm),
        "meter": recipe.meter,
        "curve": [{recipe.meter: x, "greedy": a, "sampled": b} for (x, a), (_, b) in zip(*curves, strict=True)],
        "meters": meters.figures(),
        "warnings": [{"step": row["step"], "text": row["note"]} for row in rows if "note" in row],
    }


def _rows_of(prefix: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The curves of one model, under the names that a run of it alone would have."""
    note = prefix.replace("/", ": ")
    return [
        {key.replace(f"eval/{prefix}", "eval/"): value for key, value in row.items()}
        for row in rows
        if "note" not in row or str(row["note"]).startswith(note)
    ]


def device_of(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
