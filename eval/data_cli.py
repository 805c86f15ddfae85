"""`facetrail data ...`. Light to import: everything heavy loads inside the commands."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facetrail.models.errors import Conflict, Damaged, InvalidInput, NotFound

if TYPE_CHECKING:
    from facetrail.eval.checks import CollectionCheck

data_app = typer.Typer(no_args_is_help=True, help="List, check and get collections; nothing is ever downloaded.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@data_app.command("list")
def list_collections(as_json: AsJson = False) -> None:
    """Lists the built-in sample and the research collections that facetrail's experiments use."""
    from facetrail.eval.checks import known_collections

    known = {
        "sample": {"about": "short abstracts written for facetrail, built in", "licence": "Apache-2.0", "files": {}}
    }
    known |= known_collections()
    if as_json:
        print_json({"collections": [{"name": name, **about} for name, about in known.items()]})
        return
    for name, about in known.items():
        typer.echo(f"{name:20} {about['about']} ({about['licence']})")


@data_app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of collections, or one collection.", metavar="FOLDER")],
    present: Annotated[
        bool, typer.Option("--present", help="Check what is there; absent collections are fine.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Reads every row of every collection; exit 3 where something is damaged, 4 where something is missing."""
    from facetrail.eval.checks import check_folder

    checks = check_folder(folder, only_present=present)
    if as_json:
        print_json({"folder": folder.name, "collections": [_check_object(found) for found in checks]})
    else:
        from facetrail.eval.show import show_checks

        show_checks(checks, stream=sys.stdout)
    damaged = [found.name for found in checks if found.damaged]
    missing = [found.name for found in checks if found.missing]
    if damaged:
        raise Damaged(f"damaged in {folder}: {', '.join(damaged)}; put whole copies there and check again")
    if missing:
        raise NotFound(
            f"missing in {folder}: {', '.join(missing)}; put them there, or check what is there with --present"
        )


@data_app.command()
def get(
    name: Annotated[str, typer.Argument(help="sample, or the name of a research collection.", metavar="NAME")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; must not exist.", metavar="DIR")] = None,
) -> None:
    """Writes the built-in sample to a folder, or says where a research collection comes from."""
    from facetrail.eval.checks import known_collections

    known = known_collections()
    if name in known:
        raise NotFound(
            f"{name} ({known[name]['about']}; {known[name]['licence']}) is not part of facetrail, and nothing is "
            "downloaded: get it from its publishers and name its folder, in BEIR layout, with --data"
        )
    if name != "sample":
        raise NotFound(f"there is no collection {name!r}; `facetrail data list` names them")
    if out is None:
        raise InvalidInput("say where the sample goes: `facetrail data get sample --out DIR`")
    if out.exists():
        raise Conflict(f"{out} exists already; choose another --out")
    typer.echo(f"{_copy_sample(out)} files of the sample collection in {out}")


def _copy_sample(out: Path) -> int:
    from importlib import resources

    source, copied = resources.files("facetrail.indexing.sample"), 0
    for part in (source, source.joinpath("qrels")):
        target = out / "qrels" if part.name == "qrels" else out
        target.mkdir(parents=True)
        for file in part.iterdir():
            if file.is_file() and file.name.endswith((".jsonl", ".tsv", ".md")):
                (target / file.name).write_bytes(file.read_bytes())
                copied += 1
    return copied


def _check_object(found: "CollectionCheck") -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.kind,
        "state": found.state,
        **found.counts,
        "rows": found.rows,
        "missing": found.missing,
        "damaged": found.damaged,
        "notes": found.notes,
    }


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False))
