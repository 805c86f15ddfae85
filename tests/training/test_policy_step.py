"""The benchmark of a training step: what it counts, what it demands, and that both sides still run."""

from pathlib import Path
from statistics import median

import pytest
import torch

from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.modchain import ModChain
from facetrail.models.language.vocabulary import WordTokenizer
from facetrail.training.benchmarks.policy_step import OURS, PEER, judged
from facetrail.training.benchmarks.policy_step_arms import (
    Setting,
    Timing,
    Watched,
    by_facetrail,
    by_trl,
    warm_started,
)

TASK = ModChain(n=2)
SETTING = Setting(prompts=2, group=4, length=6, n_updates=2, steps=3, seed=0)
PROMPTS = TASK.prompts(6, seed=0)


class Ticks:
    """A clock that says how often it was asked: every counted step then lasts 1."""

    def __init__(self) -> None:
        self.n_asked = 0

    def __call__(self) -> float:
        self.n_asked += 1
        return float(self.n_asked)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy-step") / "start"
    warm_started(TASK, folder, steps=2, seed=0)
    return folder


def measures(*, ms: float, tokens: float = 10.0, updates: float = 2.0) -> dict[str, float]:
    values = {"ms": ms, "tokens a rollout": tokens, "optimiser steps": updates}
    return {f"{name} (2 updates a step)": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("mine", "met"),
    [
        (measures(ms=100.0), [True, True, True]),
        (measures(ms=100.1), [False, True, True]),
        (measures(ms=50.0, tokens=9.4), [True, False, True]),
        (measures(ms=50.0, updates=1.0), [True, True, False]),
    ],
)
def test_a_step_must_be_no_slower_at_equal_work(mine: dict[str, float], met: list[bool]) -> None:
    rows = judged({OURS: mine, PEER: measures(ms=100.0)}, [2])
    assert [row["met"] for row in rows] == met


def test_the_reward_is_the_tasks_verdict_and_is_kept() -> None:
    watched, prompt = Watched(TASK), PROMPTS[0]
    right = TASK.canonical(prompt)
    assert watched.verify(prompt, right, "eos") == TASK.verify(prompt, right, "eos")
    assert watched.verify(prompt, right, "length").reward == 0
    assert watched.rewards == [1.0, 0.0]


@pytest.mark.parametrize("kind", ["tiny", "local"])
def test_our_side_times_every_step_but_the_first(kind: str, folder: Path) -> None:
    def start() -> LocalPolicy | TinyPolicy:
        if kind == "tiny":
            return TinyPolicy.new(WordTokenizer.of(TASK.vocabulary), seed=0)
        return LocalPolicy.open(folder)

    timing = Timing()
    by_facetrail(start, TASK, PROMPTS)(SETTING, Ticks(), timing)
    assert timing.seconds == [1.0, 1.0]
    assert timing.updates == [6]
    assert 1 <= timing.tokens[0] <= 6
    assert timing.figures()["ms"] == 1e3 * median(timing.seconds)


@pytest.mark.slow
def test_trl_does_as_many_steps_from_the_same_folder(folder: Path) -> None:
    pytest.importorskip("trl")
    timing = Timing()
    by_trl(folder, TASK, PROMPTS)(SETTING, Ticks(), timing)
    assert timing.seconds == [1.0, 1.0]
    assert timing.updates == [6]
    assert 1 <= timing.tokens[0] <= 6
