"""Builds the wheel, installs it into a clean environment and checks that it is whole and works there.

    python tests/check_packaging.py

The editable install of a checkout finds every file whether it is packaged or not; only a wheel shows what is missing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("app", "eval", "indexing", "models", "training")
DATA_SUFFIXES = {".jsonl", ".tsv", ".html", ".css", ".js", ".svg", ".toml", ".typed", ".safetensors", ".json", ".md"}


def package_folders() -> set[str]:
    """Every folder with modules below the five layers, as a package name."""
    return {
        "facetrail." + ".".join(file.parent.relative_to(ROOT).parts)
        for layer in LAYERS
        for file in (ROOT / layer).rglob("*.py")
    }


def listed_packages() -> set[str]:
    """What pyproject.toml ships."""
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])


def expected_files() -> set[str]:
    """Modules and data files that the wheel must hold, as paths inside it."""
    return {
        f"facetrail/{file.relative_to(ROOT)}"
        for layer in LAYERS
        for file in (ROOT / layer).rglob("*")
        if file.is_file() and (file.suffix == ".py" or file.suffix in DATA_SUFFIXES) and "results" not in file.parts
    }


def build_wheel(folder: Path) -> Path:
    """Builds from a copy of the tracked files, so that leftovers of other builds cannot fill a gap."""
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in tracked.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(folder), str(source)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return next(folder.glob("*.whl"))


def main() -> None:
    forgotten = package_folders() - listed_packages()
    if forgotten:
        sys.exit(f"packages missing from pyproject.toml: {', '.join(sorted(forgotten))}")
    with tempfile.TemporaryDirectory(prefix="facetrail-wheel-") as scratch:
        folder = Path(scratch)
        wheel = build_wheel(folder)
        missing = expected_files() - set(zipfile.ZipFile(wheel).namelist())
        if missing:
            sys.exit(f"files missing from the wheel: {', '.join(sorted(missing))}")
        environment = folder / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        python = environment / "bin" / "python"
        install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
        constraints = ["--constraint", str(ROOT / "docker" / "constraints.txt")]
        subprocess.run([str(Path(sys.executable).with_name("uv")), *install[1:], *constraints, str(wheel)], check=True)
        facetrail = environment / "bin" / "facetrail"
        # Away from the checkout, so that nothing but the wheel can answer.
        run = {"cwd": scratch, "check": True, "env": {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}}
        subprocess.run([str(facetrail), "--version"], **run)  # type: ignore[call-overload]
        subprocess.run([str(facetrail), "demo", "--check"], **run)  # type: ignore[call-overload]
    print("the wheel is whole and works in a clean environment")


if __name__ == "__main__":
    main()
