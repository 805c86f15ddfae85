"""The folder of one run: its resolved recipe, what it was made of, its curves and checkpoints."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from facetrail.eval.evidence import describe_commit, describe_machine
from facetrail.indexing.durable import file_sha256, write_durably
from facetrail.models.errors import Conflict, NotFound
from facetrail.training.config import as_toml, differences, read_recipe

RECIPE_FILE = "recipe.toml"
RUN_FILE = "run.json"


def open_run(folder: Path, recipe: BaseModel, data: Mapping[str, str], *, resume: bool, accelerator: str = "") -> None:
    """Makes a run folder, or checks that an existing one is of the same recipe and data.

    data: name → sha256, see `data_hashes`. Raises Conflict where a run stands already and `resume` is False, or where
    it was made of something else; the sentence names the keys that differ.
    """
    if (folder / RECIPE_FILE).is_file():
        if not resume:
            raise Conflict(f"{folder} holds a run already; go on with --resume, or choose another folder")
        _refuse_another(folder, recipe, data)
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise Conflict(f"{folder} holds other files and no {RECIPE_FILE}; choose an empty folder for the run")
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "data": dict(data),
        "commit": describe_commit(),
        "facetrail": metadata.version("facetrail"),
        "machine": describe_machine(accelerator).model_dump(mode="json"),
    }
    write_durably(folder / RUN_FILE, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    write_durably(folder / RECIPE_FILE, as_toml(recipe).encode())  # last: with it the folder is a run's


def read_run(folder: Path) -> dict[str, Any]:
    """What `run.json` says. Raises NotFound where no run stands."""
    try:
        facts: dict[str, Any] = json.loads((folder / RUN_FILE).read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{folder} holds no run (there is no {RUN_FILE}); give the --out of a training") from None
    return facts


def data_hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """Name → sha256 of each file that a run reads."""
    for path in files.values():
        if not path.is_file():
            raise NotFound(f"{path} does not exist; fetch the data with `facetrail data get`, or correct --data")
    return {name: file_sha256(path) for name, path in sorted(files.items())}


def _refuse_another(folder: Path, recipe: BaseModel, data: Mapping[str, str]) -> None:
    before = read_recipe(folder / RECIPE_FILE, type(recipe))
    changed = differences(before, recipe)
    if changed:
        raise Conflict(f"{folder} was begun with another recipe ({'; '.join(changed)}); undo that, or start anew")
    old = read_run(folder)["data"]
    changed = sorted(name for name in old.keys() | data.keys() if old.get(name) != data.get(name))
    if changed:
        raise Conflict(f"{folder} was begun on other data ({', '.join(changed)}); bring it back, or start anew")
