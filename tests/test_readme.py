"""The README keeps its word: its commands run, its table of commands is whole, its figures are those on disk."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from facetrail.app.cli import COMMANDS
from facetrail.eval.tables import all_results, replace_figures

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.timeout(900)
def test_every_command_that_is_marked_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"<!-- run -->\n```sh\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 2
    # A newcomer pastes block after block into one shell.
    script = "set -eu\n" + "\n".join(blocks)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=880,  # two dozen commands, each a process of its own
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "My own note" in done.stdout
    assert "every file is as it was written" in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 10_000


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
