"""What the commands share: common options, and options that are parsed here because they are more than a word."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from facetrail.models.errors import InvalidInput

Folder = Annotated[Path, typer.Argument(help="Folder of the collection.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def parse_filter_option(text: str | None) -> dict[str, Any] | None:
    """The JSON of --filter."""
    if text is None:
        return None
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f'--filter is not JSON ({error}); try --filter \'{{"year": {{"gte": 2020}}}}\'') from error
    if not isinstance(tree, dict):
        raise InvalidInput('--filter must be a JSON object, for instance \'{"topic": "graph learning"}\'')
    return tree


def parse_facet_options(given: Sequence[str]) -> dict[str, float] | Literal["auto"] | None:
    """`["method=.8", "result=.2"]` → weights; `["auto"]` → "auto"; nothing → None. The names are the collection's."""
    if not given:
        return None
    if list(given) == ["auto"]:
        return "auto"
    weights: dict[str, float] = {}
    for option in given:
        name, _, number = option.partition("=")
        name = name.strip()
        try:
            weight = float(number)
        except ValueError as error:
            raise InvalidInput(
                f"--facet {option!r} is not NAME=WEIGHT; try --facet method=.8 --facet result=.2, or --facet auto alone"
            ) from error
        if name in weights:
            raise InvalidInput(f"--facet {name} is given twice; give each facet one weight")
        weights[name] = weight
    return weights
