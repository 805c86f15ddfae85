"""Runs mypy over the whole package: it cannot follow the editable finder, so it reads a git-ignored tree of links.

python tests/check_types.py [mypy options]      # --links-only: make the links and leave
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("app", "eval", "indexing", "models", "training")


def link_tree() -> Path:
    """Makes build/links/facetrail/<layer> point at the five folders; returns build/links."""
    package = ROOT / "build" / "links" / "facetrail"
    package.mkdir(parents=True, exist_ok=True)
    for layer in LAYERS:
        link = package / layer
        if not link.is_symlink():
            link.symlink_to(ROOT / layer, target_is_directory=True)
    return package.parent


if __name__ == "__main__":
    link_tree()
    if sys.argv[1:] == ["--links-only"]:
        sys.exit(0)
    sys.exit(subprocess.run([sys.executable, "-m", "mypy", *sys.argv[1:]], cwd=ROOT, check=False).returncode)
