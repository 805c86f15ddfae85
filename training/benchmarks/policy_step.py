"""How long one whole training step takes beside TRL's GRPOTrainer: the same weights, prompts, sizes and reward.

python -m facetrail.training.benchmarks.policy_step [--prompts 16] [--group 8] [--steps 6] [--rounds 5] [--threads 1]

A step is everything from one batch of prompts to the next: sampling, rewards, advantages, loss, optimiser. Both sides
open one transformers folder, a small Llama warm-started on modchain, and train all its weights by GRPO in float32:
clip, learning rate, rollouts and optimiser steps are the same. Our own decoder of about the same size is shown beside
them, from random weights, so its completions are of other lengths.

Arms take turns by rounds, each round from the start weights; its first step warms up and is not counted. Medians over
all other steps are reported. One thread is judged by CPU seconds, more by wall. TRL runs without what is no part of a
step (checkpoints, logs, gradient checkpointing), ours without tracker and folder.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from facetrail.eval.evidence import write_result
from facetrail.models.errors import InvalidInput
from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.modchain import ModChain
from facetrail.models.language.vocabulary import WordTokenizer
from facetrail.training.benchmarks.policy_step_arms import (
    Clock,
    Round,
    Setting,
    Timing,
    by_facetrail,
    by_trl,
    warm_started,
)

PEER, OURS, TINY = "trl", "facetrail-local", "facetrail-tiny"
SAME_TOKENS = 0.05
"""Tokens of a rollout may differ by this share: the sides draw other random numbers."""
DESCRIPTIONS = {
    PEER: "trl.GRPOTrainer with transformers' generate",
    OURS: "our loop with LocalPolicy, on the same folder",
    TINY: "our loop with TinyPolicy: our own decoder of about the same size, from random weights",
}


def measured(arms: dict[str, Round], setting: Setting, rounds: int, clock: Clock) -> dict[str, Timing]:
    """Every arm once a round, in turn."""
    timings = {name: Timing() for name in arms}
    for number in range(rounds):
        for name in list(arms) if number % 2 == 0 else list(reversed(arms)):
            arms[name](setting, clock, timings[name])
    return timings


def judged(measures: dict[str, dict[str, float]], updates: Sequence[int]) -> list[dict[str, Any]]:
    """The demands at every number of optimiser steps: no slower than TRL, at equal work."""
    rows: list[dict[str, Any]] = []
    for n in updates:
        mine, theirs = (_at(measures[name], n) for name in (OURS, PEER))
        ratio = mine["ms"] / theirs["ms"]
        demand = f"at most TRL's; measured {ratio:.2f} of it"
        rows.append(_row(_named("ms", n), mine["ms"] - theirs["ms"], demand, met=ratio <= 1))
        gap = mine["tokens a rollout"] - theirs["tokens a rollout"]
        is_same = abs(gap) <= SAME_TOKENS * theirs["tokens a rollout"]
        rows.append(_row(_named("tokens a rollout", n), gap, f"equal within {SAME_TOKENS:.0%}", met=is_same))
        gap = mine["optimiser steps"] - theirs["optimiser steps"]
        rows.append(_row(_named("optimiser steps", n), gap, "equal", met=gap == 0))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and writes eval/results/policy-step.json; exit code 1 where a demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.training.benchmarks.policy_step", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--length", type=int, default=14, help="most tokens of a completion")
    parser.add_argument("--updates", type=int, nargs="+", default=[1, 2], help="optimiser steps in a step")
    parser.add_argument("--steps", type=int, default=6, help="of a round; the first is not counted")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-steps", type=int, default=300, help="supervised steps of 64 rows before any round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    options = parser.parse_args(arguments)
    if options.steps < 2:
        raise InvalidInput("a round's first step is not counted; give --steps 2 or more")
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    task = ModChain()
    # As many as a round takes, so that both sides train on the same ones, whatever their order.
    prompts = task.prompts(options.prompts * options.steps, seed=options.seed, split="dev")
    measures: dict[str, dict[str, float]] = {name: {} for name in DESCRIPTIONS}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "start"
        warm_started(task, folder, steps=options.warm_steps, seed=options.seed)
        rows = options.prompts * options.group
        tokenizer = WordTokenizer.of(task.vocabulary)
        arms = {
            PEER: by_trl(folder, task, prompts),
            OURS: by_facetrail(lambda: LocalPolicy.open(folder, rows_at_once=rows), task, prompts),
            TINY: by_facetrail(lambda: TinyPolicy.new(tokenizer, seed=options.seed), task, prompts),
        }
        for n in options.updates:
            setting = Setting(options.prompts, options.group, options.length, n, options.steps, options.seed)
            for name, timing in measured(arms, setting, options.rounds, clock).items():
                measures[name] |= {_named(measure, n): value for measure, value in timing.figures().items()}
    found = judged(measures, options.updates)
    path = write_result(
        "policy-step",
        claim="A whole training step of GRPO is no slower than TRL's, on the same weights.",
        data=[{"name": "modchain(4), generated", "sha256": ""}],
        arms={
            name: {"description": DESCRIPTIONS[name], "measures": measures[name], "meters": {"rollouts a step": rows}}
            for name in arms
        },
        comparisons=found,
        seeds=[options.seed],
        meter={"name": "rollouts a step", "equal_within": 0.0},
        command=" ".join(["python -m facetrail.training.benchmarks.policy_step", *(arguments or sys.argv[1:])]),
        notes=f"Medians of {options.rounds * (options.steps - 1)} steps in {options.rounds} interleaved rounds on "
        f"{options.threads} thread(s), {'CPU' if options.threads == 1 else 'wall'} seconds. One machine, one run.",
        folder=options.out,
    )
    for row in found:
        print(f"{'met ' if row['met'] else 'MISS'} {row['a']}: {row['measure']} {row['demand']}")
    print(path)
    return 0 if all(row["met"] for row in found) else 1


def _named(measure: str, n_updates: int) -> str:
    return f"{measure} ({n_updates} update{'s' if n_updates > 1 else ''} a step)"


def _at(measures: dict[str, float], n_updates: int) -> dict[str, float]:
    return {name: measures[_named(name, n_updates)] for name in ("ms", "tokens a rollout", "optimiser steps")}


def _row(measure: str, difference: float, demand: str, *, met: bool) -> dict[str, Any]:
    return {"a": OURS, "b": PEER, "measure": measure, "difference": difference, "demand": demand, "met": met}


if __name__ == "__main__":
    sys.exit(main())
