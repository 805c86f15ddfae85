"""`facetrail experiment hints`. Light to import: everything heavy loads inside the command."""

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def hints_command(
    data: Annotated[Path, Option(help="Folder of the collections it reads.", metavar="DIR")],
    out: Annotated[Path, Option(help="Folder for what it makes: plan, networks, scores.", metavar="DIR")],
    part: Annotated[
        str | None,
        Option(help="discovery, without a language model, or language; left out: both.", metavar="NAME"),
    ] = None,
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
    """Compares the arms of hints: the discovery by itself, and in a language model's prompt."""
    from facetrail.training.cli import show_summary
    from facetrail.training.recommend.hints_experiment import run

    found = run(data, out, part=part, overrides=overrides or (), smoke=smoke, seeds=seeds, resume=resume)
    show_summary(found, as_json=as_json)
