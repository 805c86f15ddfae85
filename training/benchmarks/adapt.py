"""What adapting one citation graph to another costs: processor time and peak memory of a whole fit.

python -m facetrail.training.benchmarks.adapt DATA/citation-graphs [--epochs 100] [--rounds 3]

ACMv9 to Citationv1 with the default recipe of `facetrail train adapt`. Each arm runs in a process of its own on one
thread; the CPU seconds are those of the fit, from loaded graphs to the last epoch, evaluations and trace included, and
the peak is the process's, imports included. Medians over rounds, in which the arms take turns.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from facetrail.eval.evidence import write_result
from facetrail.eval.graph_data import KNOWN, load_known
from facetrail.training.graph.methods import DomainAdapter, method_recipe
from facetrail.training.tracking import Tracker

SOURCE, TARGET = "acmv9", "citationv1"
SECONDS, MB = "CPU seconds", "peak MB"
ARMS = {
    "ADAlign 10/10": ("adalign", 10, "ten propagations on both graphs"),
    "ADAlign 0/10": ("adalign", 0, "none on the source"),
    "MMD 10/10": ("mmd", 10, "kernel MMD in the place of the spectral discrepancy"),
    "source-only 10/10": ("source-only", 10, "no alignment"),
}
AT_MOST = {"ADAlign 10/10": {SECONDS: 40.0, MB: 900.0}, "ADAlign 0/10": {SECONDS: 30.0, MB: 900.0}}


def fitted(arm: str, data: Path, epochs: int) -> dict[str, float]:
    """One fit in this process."""
    torch.set_num_threads(1)
    method, k_source, _ = ARMS[arm]
    recipe = method_recipe(method, (f"k_source={k_source}", f"epochs={epochs}"))
    source, target = (load_known(name, data.resolve().parent) for name in (SOURCE, TARGET))
    with tempfile.TemporaryDirectory(prefix="facetrail-") as place:
        folder = Path(place) / "run"
        with Tracker(folder, total=epochs) as tracker:
            started = time.process_time()
            DomainAdapter(recipe).fit(source, target.unlabelled(), folder=folder, tracker=tracker)
            seconds = time.process_time() - started
    return {SECONDS: seconds, MB: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}


def judged(measures: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """The demands."""
    return [
        {
            "a": arm,
            "measure": measure,
            "difference": measures[arm][measure] - limit,
            "demand": f"at most {limit:g}; measured {measures[arm][measure]:.0f}",
            "met": measures[arm][measure] <= limit,
        }
        for arm, limits in AT_MOST.items()
        for measure, limit in limits.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes eval/results/adapt.json; exit code 1 where a demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.training.benchmarks.adapt", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("data", type=Path, help="folder of the citation graphs")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    parser.add_argument("--arm", choices=ARMS, default=None, help="measure one arm in this process; print it")
    options = parser.parse_args(arguments)
    if options.arm is not None:
        print(json.dumps(fitted(options.arm, options.data, options.epochs)))
        return 0
    rounds: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for _ in range(options.rounds):
        for arm, found in rounds.items():
            found.append(_in_a_process(arm, options))
    measures = {
        arm: {m: round(median(one[m] for one in found), 2) for m in (SECONDS, MB)} for arm, found in rounds.items()
    }
    rows = judged(measures)
    path = write_result(
        "adapt",
        claim="Adapting a citation graph of nine thousand nodes to another takes half a minute of one core.",
        data=[
            {"name": f"citation-graphs/{file}", "sha256": sha256}
            for name in (SOURCE, TARGET)
            for file, sha256 in KNOWN[name].sha256.items()
        ],
        arms={
            arm: {"description": text, "measures": measures[arm], "meters": {"epochs": options.epochs}}
            for arm, (_, _, text) in ARMS.items()
        },
        comparisons=rows,
        seeds=[0],
        meter={"name": "epochs", "equal_within": 0.0},
        command=f"python -m facetrail.training.benchmarks.adapt citation-graphs --rounds {options.rounds}",
        notes=f"Medians of {options.rounds} rounds, one thread, each fit in its own process.",
        shown=[SECONDS, MB],
        folder=options.out,
    )
    for row in rows:
        print(f"{'met ' if row['met'] else 'MISS'} {row['a']}, {row['measure']}: {row['demand']}")
    print(path)
    return 0 if all(row["met"] for row in rows) else 1


def _in_a_process(arm: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "facetrail.training.benchmarks.adapt", str(options.data)]
    done = subprocess.run(
        [*command, "--epochs", str(options.epochs), "--arm", arm], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
