"""`facetrail train ...` and `facetrail experiment ...`. Light to import: a recipe loads when it is asked for."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from facetrail.training.graph.command import adapt_command
from facetrail.training.recommend.command import hints_command, lists_experiment, pairs_experiment

RECIPES = {
    "unifar": "facetrail.training.text.unifar:train",
    "policy": "facetrail.training.language.policy:train",
    "hacpo": "facetrail.training.language.hacpo_train:train",
    "recommender": "facetrail.training.recommend.recommender:train",
    "hints": "facetrail.training.recommend.hints:train",
    "hint-language": "facetrail.training.recommend.hint_language:train",
}
"""Name → the function that fits it: (data, out, *, overrides, resume, seed, device) → what came out."""
EXPERIMENTS = {
    "unifar": "facetrail.training.text.unifar_experiment:run",
    "unifar-controls": "facetrail.training.text.unifar_experiment:run_controls",
    "rl-core": "facetrail.training.language.experiment:run_rl_core",
    "hacpo": "facetrail.training.language.experiment:run_hacpo",
    "adalign": "facetrail.training.graph.adalign_experiment:run",
    "diffgda": "facetrail.training.graph.diffgda_experiment:run",
}
"""Name → the function that compares its arms: (data, out, *, smoke, seeds, resume) → what came out."""

Data = Annotated[Path, typer.Option(help="Folder of the collections it reads.", metavar="DIR")]
Out = Annotated[Path, typer.Option(help="Folder for what it makes: recipe, curves, checkpoints, model.", metavar="DIR")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

train_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train a model from a recipe.")
experiment_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train and compare the arms of an experiment."
)


@train_app.callback()
def _train_what() -> None:
    """Train a model from a recipe."""


@experiment_app.callback()
def _compare_what() -> None:
    """Train and compare the arms of an experiment."""


def train_command(target: str) -> Callable[..., None]:
    """The command that runs one of `RECIPES`."""

    def command(
        data: Data,
        out: Out,
        resume: Resume = False,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", help="Change a value of the recipe; may be given again.", metavar="KEY=VALUE"),
        ] = None,
        algorithm: Annotated[
            str | None, typer.Option("--recipe", help="Short for --set algorithm=NAME.", metavar="NAME")
        ] = None,
        seed: Annotated[int | None, typer.Option(help="Seed; left out: the recipe's.", min=0)] = None,
        device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU if there is one.")] = "auto",
        as_json: AsJson = False,
    ) -> None:
        train = _load(target)
        chosen = [*([f"algorithm={algorithm}"] if algorithm is not None else []), *(overrides or [])]
        show_summary(train(data, out, overrides=chosen, resume=resume, seed=seed, device=device), as_json=as_json)

    return command


def experiment_command(target: str) -> Callable[..., None]:
    """The command that runs one of `EXPERIMENTS`."""

    def command(
        data: Data,
        out: Out,
        smoke: Annotated[bool, typer.Option("--smoke", help="Every arm, a few steps: does it run?")] = False,
        seeds: Annotated[int | None, typer.Option(help="Number of seeds; left out: the experiment's.", min=1)] = None,
        resume: Resume = False,
        as_json: AsJson = False,
    ) -> None:
        run = _load(target)
        show_summary(run(data, out, smoke=smoke, seeds=seeds, resume=resume), as_json=as_json)

    return command


for _name, _target in RECIPES.items():
    train_app.command(_name, help=f"Trains {_name}.")(train_command(_target))
for _name, _target in EXPERIMENTS.items():
    experiment_app.command(_name, help=f"Compares the arms of {_name}.")(experiment_command(_target))
train_app.command("adapt")(adapt_command)
experiment_app.command(
    "hints", help="Compares hints by themselves, and in a language model's prompt: will it be liked?"
)(hints_command(pairs_experiment, "discovery and noise, without a language model, language or ablation"))
experiment_app.command("hints-lists", help="Compares hints on lists: what will be liked next?")(
    hints_command(lists_experiment, "scorers, without a language model, or language")
)


def _load(target: str) -> Callable[..., Mapping[str, Any]]:
    module, _, attribute = target.partition(":")
    function: Callable[..., Mapping[str, Any]] = getattr(importlib.import_module(module), attribute)
    return function


def show_summary(summary: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints what came out; nothing in the processes of a run that leave that to the first."""
    if not summary:
        return
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False, default=str))
        return
    width = max((len(key) for key in summary), default=0)
    for key, value in summary.items():
        text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
        typer.echo(f"{key:<{width}}  {text}")
