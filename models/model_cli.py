"""`facetrail model ...`. Light to import: readers and exporters load inside the commands."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

model_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Describe, verify and export trained models.")

Source = Annotated[str, typer.Argument(help="Name of a model, or its folder.", metavar="NAME|FOLDER")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@model_app.callback()
def _model_what() -> None:
    """Describe, verify and export trained models."""


@model_app.command()
def info(source: Source, as_json: AsJson = False) -> None:
    """Says what a model is and where it comes from, and verifies every byte of its tensors."""
    from facetrail.models.checkpoint import open_tensors, read_manifest
    from facetrail.models.text.locate import unifar_folder

    folder = unifar_folder(source) or Path(source).expanduser()
    manifest = read_manifest(folder)
    with open_tensors(folder, manifest) as tensors:
        n_tensors = len(tensors.keys())
    facts: dict[str, Any] = {
        "folder": str(folder),
        **manifest.model_dump(mode="json"),
        "n_tensors": n_tensors,
        "verified": True,
    }
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    for key, value in facts.items():
        typer.echo(f"{key:<16}{json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")
    typer.echo("every tensor is as it was written")


@model_app.command()
def export(
    source: Source,
    to: Annotated[Literal["sentence-transformers", "onnx"], typer.Option(help="Form to write.")],
    out: Annotated[Path, typer.Option(help="Folder to make.", metavar="DIR")],
    as_json: AsJson = False,
) -> None:
    """Writes a model in a form that other programs read."""
    from facetrail.models.text.unifar_export import export_model

    facts = export_model(source, to, out)
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, default=str))
        return
    for key, value in facts.items():
        typer.echo(f"{key:<16}{value}")
