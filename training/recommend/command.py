"""`facetrail experiment hints` and `hints-lists`. Light to import: everything heavy loads inside the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def hints_command(load: Callable[[], Callable[..., dict[str, object]]], parts: str) -> Callable[..., None]:
    """The command of one of the two. load: imports the function that runs it · parts: what `--part` may be."""

    def command(
        data: Annotated[Path, Option(help="Folder of the collections it reads.", metavar="DIR")],
        out: Annotated[Path, Option(help="Folder for what it makes: plan, networks, scores.", metavar="DIR")],
        part: Annotated[str | None, Option(help=f"{parts}; left out: all of them.", metavar="NAME")] = None,
        overrides: Annotated[
            list[str] | None,
            Option(
                "--set",
                help="Change a value of the plan, as in tuning.n_shots=256; may be given again.",
                metavar="KEY=VALUE",
            ),
        ] = None,
        smoke: Annotated[bool, Option("--smoke", help="Every arm, a few steps: does it run?")] = False,
        seeds: Annotated[int | None, Option(help="Number of seeds; left out: the experiment's.", min=1)] = None,
        resume: Annotated[bool, Option("--resume", help="Go on with the first unit in --out that is missing.")] = False,
        as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of text.")] = False,
    ) -> None:
        from facetrail.training.cli import show_summary

        found = load()(data, out, part=part, overrides=overrides or (), smoke=smoke, seeds=seeds, resume=resume)
        show_summary(found, as_json=as_json)

    return command


def pairs_experiment() -> Callable[..., dict[str, object]]:
    """Does the user like this item?"""
    from facetrail.training.recommend.hints_experiment import run

    return run


def lists_experiment() -> Callable[..., dict[str, object]]:
    """Which of these items will the user like next?"""
    from facetrail.training.recommend.hint_lists import run

    return run
