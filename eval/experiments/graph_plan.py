"""What an experiment on graph adaptation is, as a TOML file beside this one declares it before anything is run."""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facetrail.models.errors import InvalidInput, NotFound

Measure = Literal["micro", "macro", "probe_auc"]
"""F1 of the fit, or how well an independent classifier tells the source it trained on from the target."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GraphArm(_Closed):
    """One way of training; what it does not set is its method's default."""

    description: str
    method: str
    """A name of `training.graph.methods.METHODS`."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values of the recipe that differ."""


class GraphDemand(_Closed):
    """Of the final epoch: `a`, or `a` less `b`, comes to `least` or more."""

    a: str
    b: str = ""
    """Empty: `a` by itself."""
    measure: Measure = "micro"
    task: str = ""
    """Empty: all tasks of the part."""
    of: Literal["mean", "tasks_above", "worst_task"] = "mean"
    """The mean over tasks, the number of tasks at which `a` is above `b`, or the smallest difference of a task."""
    least: float
    """Hundredths of the measure, or a number of tasks."""


class GraphPart(_Closed):
    """One table: tasks, seeds and arms that are compared with each other. Parts share the fits that they have alike."""

    claim: str
    tasks: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    arms: tuple[str, ...] = Field(min_length=1)
    set: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method → values of its recipes on these tasks, which no part without them may share."""
    compared: tuple[tuple[str, str], ...] = ()
    """Pairs of arms; the first is told task by task too."""
    demands: tuple[GraphDemand, ...] = ()
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Row → task → Micro-F1 in hundredths: best epochs on target labels, so not to be compared with final ones."""


class GraphExperiment(_Closed):
    """Tasks, arms and parts, declared beforehand."""

    name: str
    disclosure: str = ""
    """What was chosen after target scores had been seen."""
    smoke_task: str
    """Of small graphs."""
    smoke_set: dict[str, Any]
    """Values of every recipe in a smoke run."""
    smoke_of: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method → values of its recipes in a smoke run."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values of every recipe; the arm's own win."""
    pictured: str = ""
    """The arm whose learned frequencies are drawn."""
    tasks: dict[str, tuple[str, str]]
    """Name → source and target, graphs of `eval.graph_data.KNOWN`."""
    arms: dict[str, GraphArm]
    parts: dict[str, GraphPart] = Field(min_length=1)
    """Name → part; the first one's result bears the experiment's name alone."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        for name, part in self.parts.items():
            arms = {*part.arms}
            pairs = {one for pair in part.compared for one in pair} | {d.a for d in part.demands}
            named = pairs | {d.b for d in part.demands if d.b}
            if unknown := sorted((named - arms) | (arms - self.arms.keys())):
                raise ValueError(f"part {name!r}: {unknown[0]!r} is not among its arms")
            if alone := [d.a for d in part.demands if d.of != "mean" and not d.b]:
                raise ValueError(f"part {name!r}: a demand on the tasks of {alone[0]!r} needs an arm b")
            asked = {d.task for d in part.demands if d.task} | {t for row in part.published.values() for t in row}
            if unknown := sorted((asked - {*part.tasks}) | ({*part.tasks} - self.tasks.keys())):
                raise ValueError(f"part {name!r}: {unknown[0]!r} is not among its tasks")
        for task in self.tasks:
            if len({str(part.set) for part in self.parts.values() if task in part.tasks}) > 1:
                raise ValueError(f"parts that share the task {task!r} must set the same values")
        if self.smoke_task not in self.tasks or (self.pictured and self.pictured not in self.arms):
            raise ValueError("the smoke task and the pictured arm must be among the tasks and arms")
        return self

    def result_name(self, part: str) -> str:
        """Of the part's file."""
        return self.name if part == next(iter(self.parts)) else f"{self.name}-{part}"

    def smaller(self) -> "GraphExperiment":
        """Every arm of every part on the smoke task under one seed: does it run?"""
        small = {
            name: part.model_copy(
                update={
                    "tasks": (self.smoke_task,),
                    "seeds": part.seeds[:1],
                    "demands": tuple(d for d in part.demands if not d.task),
                    "published": {},
                    "set": {m: {**part.set.get(m, {}), **self.smoke_of.get(m, {})} for m in part.set | self.smoke_of},
                }
            )
            for name, part in self.parts.items()
        }
        return self.model_copy(update={"parts": small, "set": {**self.set, **self.smoke_set}})


def read_graph_experiment(name: str) -> GraphExperiment:
    """The plan of an experiment. Raises NotFound for an unknown one, InvalidInput for a file of another shape."""
    path = Path(__file__).with_name(f"{name}.toml")
    if not path.is_file():
        raise NotFound(f"there is no plan {path.name}; the experiments are those of `facetrail experiment --help`")
    try:
        return GraphExperiment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path.name} is not an experiment on graphs: {error}") from error
