"""`facetrail train` and `facetrail experiment`: what reaches a recipe, and what does not load for a help text."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from facetrail.app.cli import main
from facetrail.training import cli

FAKE = """
def train(data, out, *, overrides, resume, seed, device):
    return {"data": str(data), "overrides": list(overrides), "resume": resume, "seed": seed, "device": device}

def run(data, out, *, smoke, seeds, resume):
    return {"out": str(out), "smoke": smoke, "seeds": seeds, "resume": resume}
"""


def spoken(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(list(argv))
    output = capsys.readouterr()
    assert exit_.value.code == 0, output.err
    return output.out


def test_options_reach_the_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_recipe.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    train, experiment = cli.train_command("a_recipe:train"), cli.experiment_command("a_recipe:run")
    monkeypatch.setattr(cli.train_app.registered_commands[0], "callback", train)
    monkeypatch.setattr(cli.experiment_app.registered_commands[0], "callback", experiment)
    places = ("--data", "d", "--out", "o", "--json")
    sets = ("--set", "a=1", "--set", "b.c=x")
    said = spoken(capsys, "train", "unifar", *places, *sets, "--seed", "3", "--device", "cpu", "--resume")
    assert json.loads(said) == {
        "data": "d", "overrides": ["a=1", "b.c=x"], "resume": True, "seed": 3, "device": "cpu",
    }  # fmt: skip
    said = spoken(capsys, "train", "unifar", *places)
    assert json.loads(said) == {"data": "d", "overrides": [], "resume": False, "seed": None, "device": "auto"}
    said = spoken(capsys, "experiment", "unifar", *places, "--smoke", "--seeds", "2")
    assert json.loads(said) == {"out": "o", "smoke": True, "seeds": 2, "resume": False}
    assert "smoke   False" in spoken(capsys, "experiment", "unifar", *places[:-1])


@pytest.mark.parametrize("target", [*cli.RECIPES.values(), *cli.EXPERIMENTS.values()])
def test_every_recipe_takes_what_the_command_gives(target: str) -> None:
    module, _, attribute = target.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    given = (
        ["overrides", "resume", "seed", "device"] if target in cli.RECIPES.values() else ["smoke", "seeds", "resume"]
    )
    assert list(parameters) == ["data", "out", *given]


@pytest.mark.parametrize(
    "argv",
    [["train"], ["train", "unifar"], ["experiment", "unifar"], ["experiment", "hints"], ["model", "export"]],
)
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    program = (
        "import sys; from facetrail.app.cli import main\n"
        f"try: main({[*argv, '--help']})\n"
        "except SystemExit as left: assert left.code == 0\n"
        "assert not {'torch', 'numpy', 'matplotlib', 'tensorboardX'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, stdout=subprocess.DEVNULL)
