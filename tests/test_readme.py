"""The README keeps its word: its commands run, its table of commands is whole, its figures are those on disk."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from facetrail.app.cli import COMMANDS, app
from facetrail.eval.benchmarks.service import free_port, running
from facetrail.eval.tables import all_results, replace_figures

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"(<!-- run -->\n)?```(sh|python)\n(.*?)```", README, flags=re.DOTALL)
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "HF_HUB_OFFLINE": "1",
}


def run(script: str, folder: Path, timeout: float) -> str:
    """What a shell prints; its last errors where it fails."""
    done = subprocess.run(
        ["bash", "-c", f"set -eu\n{script}"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def pasted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder after every marked block, pasted one after the other into one shell, and what they printed."""
    folder = tmp_path_factory.mktemp("readme")
    script = "\n".join(text for is_run, _, text in BLOCKS if is_run)
    return folder, run(script, folder, 880)  # two dozen commands, each a process of its own


@pytest.mark.timeout(900)
def test_every_command_that_is_marked_runs(pasted: tuple[Path, str]) -> None:
    folder, printed = pasted
    assert "My own note" in printed
    assert "every file is as it was written" in printed
    assert (folder / "report.html").stat().st_size > 10_000


@pytest.mark.timeout(900)
def test_the_service_and_both_python_blocks_answer_as_shown(
    pasted: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl, which the README's block calls")
    folder, _ = pasted
    serving = next(text for _, _, text in BLOCKS if "facetrail serve papers" in text)
    port = free_port()
    first, *asked = without_comments(serving)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", ENVIRONMENT["PATH"])
    monkeypatch.setenv("FACETRAIL_LANGUAGE_TIMEOUT", "120")  # other tests run beside this one
    with running([*shlex.split(first), "--port", str(port)], port):
        answers = run("\n".join(f"{line}; echo" for line in asked).replace(":8000", f":{port}"), folder, 120)
        assert [len(json.loads(line)["hits"]) for line in answers.splitlines()] == [3, 10]
        python = "\n".join(text for _, language, text in BLOCKS if language == "python").replace(":8000", f":{port}")
        printed = run(f"{shlex.quote(sys.executable)} - <<'END'\n{python}\nEND", folder, 300).splitlines()
        assert len(printed) >= 5  # three hits, an id, an answer
        assert printed[3] == json.loads(answers.splitlines()[0])["hits"][0]["id"]


def without_comments(block: str) -> list[str]:
    """The commands of a block, each on one line."""
    joined = block.replace("\\\n", " ")
    return [line.partition(" # ")[0].strip() for line in joined.splitlines() if line.strip()]


OTHERS = [line for is_run, _, text in BLOCKS if not is_run for line in without_comments(text)]


@pytest.mark.parametrize("line", [line for line in OTHERS if line.startswith("facetrail ")])
def test_every_other_command_is_understood(line: str) -> None:
    """They need research data or hours; their options are read, and their experiments have smoke tests."""
    command, words = get_command(app), shlex.split(line)[1:]
    while hasattr(command, "get_command"):
        command = command.get_command(None, words.pop(0))
        assert command is not None, line
    command.make_context(command.name, words)  # raises where an option is unknown or one is missing


def test_the_two_first_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    first = README.split("## Start")[1].split("```")[1]
    assert re.findall(r"^make (\w+)", first, flags=re.MULTILINE) == ["demo", "test"]
    for word in re.findall(r"^make ([\w-]+)", README + (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{word}:", makefile, flags=re.MULTILINE), word


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_table(command: str) -> None:
    assert f"`facetrail {command}" in README


def test_the_figures_are_those_on_disk() -> None:
    assert replace_figures(README, all_results()) == README
