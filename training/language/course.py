"""The run folder of an experiment on language models, and its units: one arm under one seed.

A unit is written whole; a run that was stopped goes on with the first one that is missing. Arms of one seed share start
weights, prompts, evaluation items and random numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.experiments.language_pictures import draw_over_meter, experiment_panels
from facetrail.eval.experiments.language_plan import AgentPlan, ArmPlan, LanguageExperiment
from facetrail.eval.experiments.language_result import ArmScores, solved_by_one
from facetrail.eval.language import answer, greedy_and_sampled
from facetrail.indexing.durable import write_durably
from facetrail.models.errors import InvalidInput
from facetrail.models.language.causal import TinyPolicy
from facetrail.models.language.hacpo import HacpoConfig
from facetrail.models.language.records import DrawKey, Prompt, Sampling, Task
from facetrail.models.language.tasks import open_task, open_tokenizer
from facetrail.training.language.hacpo import Imitation, SharedRollouts
from facetrail.training.language.hooks import Advantage, Agent, PolicyLoss
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, VerifierReward
from facetrail.training.language.policy_recipe import ALGORITHMS
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.supervised import Window, examples_of, fit_supervised
from facetrail.training.language.trainer import Trainer
from facetrail.training.loop import FitConfig
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

CONTEXT = 40
"""Positions of the tiny models: a prompt and its completion are shorter."""
EVALUATION_SEED = 90
PICTURE_FILE = "accuracy.png"


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
        start, by_one = self._measured(agents, self._items.test), {"start": self._solved_by_one(agents)}
        folder = self._out / "fits" / path.stem
        meters = self._train(self._plan.arms[arm], agents, folder, seed)
        end = self._measured(agents, self._items.test)
        by_one["end"] = self._solved_by_one(agents)
        curve = [row for row in read_curves(folder / CURVES_FILE) if any(key.startswith("eval/") for key in row)]
        for agent in agents:
            key = f"eval/{agent.name}/sampled"
            end[agent.name]["area"] = float(np.mean([row[key] for row in curve if key in row]))
        content = {
            "agents": end,
            "start": start,
            "meters": meters.figures(),
            "last": _means(read_curves(folder / CURVES_FILE), agents),
            "curve": curve,
        }
        if len(agents) > 1:
            content["solved_by_one"] = by_one
        path.parent.mkdir(exist_ok=True)
        write_durably(path, json.dumps(content).encode())

    def kept(self, arm: str, seed: int) -> dict[str, Any]:
        """What a unit came to."""
        found: dict[str, Any] = json.loads(self._path(arm, seed).read_bytes())
        return found

    def draw(self, seeds: Sequence[int]) -> None:
        """Accuracy over the plan's meter, arms as lines, as a picture in the run folder."""
        arms = {
            arm: [read_curves(self._out / "fits" / self._path(arm, seed).stem / CURVES_FILE) for seed in seeds]
            for arm in self._plan.arms
        }
        panels = experiment_panels(arms, list(self._plan.agents), self._plan.meter)
        draw_over_meter(self._out / PICTURE_FILE, panels, meter=self._plan.meter)

    def notes(self, scores: Mapping[str, ArmScores]) -> str:
        """What whoever reads the figures must know."""
        plan = self._plan
        loop = LoopConfig.model_validate(plan.loop)
        zero = sum(prompt.answer == "0" for prompt in self._items.test) / len(self._items.test)
        return (
            f"{plan.task} {plan.task_options}, {len(self._items.test)} held-out items; always answering 0 scores "
            f"{zero:.3f}. {loop.steps} steps of {loop.prompts} prompts and {loop.group} rollouts an agent, learning "
            f"rate {loop.lr:g}, one thread. `start`: sampled accuracy before training. `area`: mean of the sampled "
            f"accuracy on {plan.n_dev} development items over all evaluations.{self._exchange(scores)}"
        )

    def _exchange(self, scores: Mapping[str, ArmScores]) -> str:
        """Whether the agents had anything to learn from each other; empty where that was not measured."""
        runs = scores[self._plan.baseline].runs.values()
        shares = [run["solved_by_one"]["start"] for run in runs if "solved_by_one" in run]
        if not shares:
            return ""
        return (
            f" `solved_by_one`: share of the development items that exactly one agent solves (greedy); before training "
            f"{np.mean(shares):.3f}, over seeds {min(shares):.3f} to {max(shares):.3f}; below .2 there is little to "
            "exchange."
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

    def _solved_by_one(self, agents: Sequence[Agent]) -> float:
        sampling = Sampling(temperature=0.0, max_new_tokens=LoopConfig.model_validate(self._plan.loop).max_new_tokens)
        found = [
            answer(one.policy, self._task, self._items.dev, sampling=sampling, key=DrawKey(EVALUATION_SEED))
            for one in agents
        ]
        return solved_by_one([one.correct[:, 0] for one in found])

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
