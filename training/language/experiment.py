"""`facetrail experiment rl-core` and `hacpo`: arms of post-training from one start, judged on held-out items.

An arm under a seed is one unit of work whose measures are written to the run folder; a run that was stopped goes on
with the first unit that has none. Arms of one seed share start weights, prompts, evaluation items and random numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetrail.eval.experiments.language_plan import AgentPlan, ArmPlan, LanguageExperiment, read_language_experiment
from facetrail.eval.experiments.language_result import ArmScores, write_language_result
from facetrail.eval.language import greedy_and_sampled
from facetrail.indexing.durable import write_durably
from facetrail.models.errors import InvalidInput
from facetrail.models.language.causal import TinyPolicy
from facetrail.models.language.hacpo import HacpoConfig
from facetrail.models.language.records import Prompt, Sampling, Task
from facetrail.models.language.tasks import open_task, open_tokenizer
from facetrail.training.language.hacpo import Imitation, SharedRollouts
from facetrail.training.language.hooks import Advantage, Agent, GroupAdvantage, NamedLoss, PolicyLoss, VerifierReward
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.policy_recipe import ALGORITHMS
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.supervised import Window, examples_of, fit_supervised
from facetrail.training.language.trainer import Trainer
from facetrail.training.loop import FitConfig
from facetrail.training.run_folder import open_run
from facetrail.training.tracking import Tracker, read_curves

CONTEXT = 40
"""Positions of the tiny models: a prompt and its completion are shorter."""
SMOKE = {"n_train": 64, "n_dev": 8, "n_test": 8, "n_warm": 64, "warm_batch": 8}
EVALUATION_SEED = 90


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
    path = write_language_result(
        plan,
        scores,
        command=f"facetrail experiment {name} --data DATA --out RUN --seeds {len(chosen)}",
        notes=course.notes(),
        folder=out if smoke else None,
    )
    return {"result": str(path), "arms": len(scores), "seeds": len(chosen), "run": str(out)}


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


@dataclass(frozen=True, slots=True)
class Items:
    """The experiment's items. dev chooses the start and draws curves, test is looked at once an arm."""

    train: list[Prompt]
    dev: list[Prompt]
    test: list[Prompt]


class Course:
    """The run folder of an experiment and what its units share."""

    def __init__(self, plan: LanguageExperiment, out: Path) -> None:
        self._plan, self._out = plan, out
        self._task: Task = open_task(plan.task, **plan.task_options)
        self._items = Items(
            self._task.prompts(plan.n_train, seed=0),
            self._task.prompts(plan.n_dev, seed=0, split="dev"),
            self._task.prompts(plan.n_test, seed=0, split="test"),
        )

    def unit(self, arm: str, seed: int) -> None:
        """One arm under one seed, unless it has been done."""
        path = self._path(arm, seed)
        if path.is_file():
            return
        agents = [Agent(name, self._start(name, agent, seed)) for name, agent in self._plan.agents.items()]
        start = self._measured(agents, self._items.test)
        folder = self._out / "fits" / path.stem
        meters = self._train(self._plan.arms[arm], agents, folder, seed)
        end = self._measured(agents, self._items.test)
        curve = [row for row in read_curves(folder / "curves.jsonl") if any(key.startswith("eval/") for key in row)]
        for agent in agents:
            key = f"eval/{agent.name}/sampled"
            end[agent.name]["area"] = float(np.mean([row[key] for row in curve if key in row]))
        content = {
            "agents": end,
            "start": start,
            "meters": meters.figures(),
            "last": _means(read_curves(folder / "curves.jsonl"), agents),
            "curve": curve,
        }
        path.parent.mkdir(exist_ok=True)
        write_durably(path, json.dumps(content).encode())

    def kept(self, arm: str, seed: int) -> dict[str, Any]:
        """What a unit came to."""
        found: dict[str, Any] = json.loads(self._path(arm, seed).read_bytes())
        return found

    def notes(self) -> str:
        """What whoever reads the figures must know."""
        plan = self._plan
        loop = LoopConfig.model_validate(plan.loop)
        zero = sum(prompt.answer == "0" for prompt in self._items.test) / len(self._items.test)
        return (
            f"{plan.task} {plan.task_options}, {len(self._items.test)} held-out items; always answering 0 scores "
            f"{zero:.3f}. {loop.steps} steps of {loop.prompts} prompts and {loop.group} rollouts an agent, learning "
            f"rate {loop.lr:g}, one thread. `start`: sampled accuracy before training. `area`: mean of the sampled "
            f"accuracy on {plan.n_dev} development items over all evaluations."
        )

    def _train(self, arm: ArmPlan, agents: Sequence[Agent], folder: Path, seed: int) -> Meters:
        algorithm = ALGORITHMS["gspo" if arm.algorithm in ("hacpo", "imitation") else _known(arm.algorithm)]
        loop = LoopConfig.model_validate({"aggregation": algorithm.aggregation, **self._plan.loop, **arm.loop})
        advantage, policy_loss = self._parts(arm, [agent.name for agent in agents])
        with Tracker(folder, total=loop.steps, quiet=True) as tracker:
            trainer = Trainer(
                agents,
                PromptStream(self._items.train, seed=seed),
                config=loop.model_copy(update={"seed": seed}),
                reward=VerifierReward(self._task),
                advantage=advantage,
                policy_loss=policy_loss,
                evaluate=lambda: self._flat(agents),
                tracker=tracker,
            )
            trainer.run()
        return trainer.meters

    def _parts(self, arm: ArmPlan, agents: Sequence[str]) -> tuple[Advantage, PolicyLoss]:
        if arm.algorithm not in ("hacpo", "imitation"):
            algorithm = ALGORITHMS[_known(arm.algorithm)]
            return GroupAdvantage(algorithm.advantage), NamedLoss(algorithm.policy_loss, algorithm.clip)
        clip = ALGORITHMS["gspo"].clip
        if arm.algorithm == "imitation":
            imitation = Imitation(clip)
            return imitation, imitation
        config = HacpoConfig(lo=clip.lo, hi=clip.hi).arm(arm.hacpo)
        shared = SharedRollouts(agents, config, delta_quantile=self._plan.delta_quantile)
        return shared, shared

    def _start(self, name: str, agent: AgentPlan, seed: int) -> TinyPolicy:
        """The agent's warm start, trained once a seed and kept."""
        folder = self._out / "starts" / f"{name}-{seed}"
        if folder.is_dir():
            return TinyPolicy.open(folder)
        tokenizer = open_tokenizer(self._task, merged_seed=7 if agent.merged_tokenizer else None)
        policy = TinyPolicy.new(
            tokenizer, seed=seed, name=name, dim=agent.dim, n_layers=agent.n_layers, n_heads=agent.n_heads,
            context=CONTEXT,
        )  # fmt: skip
        plan, options = self._plan, dict(self._plan.task_options)
        rich = open_task(plan.task, **options, mix=agent.mix) if agent.mix else self._task
        low, high = agent.window
        fit_supervised(
            policy,
            examples_of(policy, rich, rich.prompts(plan.n_warm, seed=seed)),
            config=FitConfig(steps=agent.warm_steps, eval_every=10, checkpoint_every=agent.warm_steps, seed=seed),
            lr=plan.warm_lr,
            batch=plan.warm_batch,
            meters=Meters(),
            evaluate=lambda: self._measured([Agent(name, policy)], self._items.dev)[name],
            window=Window("sampled", low, high),
        )
        folder.parent.mkdir(exist_ok=True)
        policy.save(folder)
        return policy

    def _measured(self, agents: Sequence[Agent], items: list[Prompt]) -> dict[str, dict[str, float]]:
        loop = LoopConfig.model_validate(self._plan.loop)
        sampling = Sampling(temperature=loop.temperature, max_new_tokens=loop.max_new_tokens)
        return {
            agent.name: greedy_and_sampled(agent.policy, self._task, items, sampling=sampling, seed=EVALUATION_SEED)
            for agent in agents
        }

    def _flat(self, agents: Sequence[Agent]) -> Mapping[str, float]:
        found = self._measured(agents, self._items.dev)
        return {f"{agent}/{name}": value for agent, values in found.items() for name, value in values.items()}

    def _path(self, arm: str, seed: int) -> Path:
        slug = arm.lower().replace(" ", "-")
        return self._out / "scores" / f"{slug}-{seed}.json"


def _known(name: str) -> Any:
    if name not in ALGORITHMS:
        raise InvalidInput(f"there is no algorithm {name!r}; known are {', '.join(ALGORITHMS)}, hacpo and imitation")
    return name


def _means(rows: Sequence[Mapping[str, Any]], agents: Sequence[Agent]) -> dict[str, float]:
    """Means over all steps and agents of what tells whether sharing could work."""
    found = {}
    for name in ("foreign_kept", "foreign_ratio", "foreign_positive", "zero_variance"):
        prefix = [f"train/{agent.name}/{name}" if len(agents) > 1 else f"train/{name}" for agent in agents]
        values = [row[key] for row in rows for key in prefix if row.get(key) is not None]
        if values:
            found[name] = float(np.mean(values))
    return found
