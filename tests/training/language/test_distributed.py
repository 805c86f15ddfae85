"""Two processes learn what one would: weights, meters, log; one of them writes; errors and resuming are shared."""

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.bigram_policy import BigramPolicy
from safetensors.torch import load_file

from facetrail.models.errors import Unavailable
from facetrail.models.language.policy_losses import ClipConfig
from facetrail.models.language.records import Finish, Prompt, Rollout, Verdict
from facetrail.training.language.distributed import ALONE, Processes
from facetrail.training.language.hooks import Agent, Step
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, PlainSampler, VerifierReward
from facetrail.training.language.policy import train
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.trainer import Trainer
from facetrail.training.state import TENSORS_FILE, checkpoint_folders
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

WORDS = ("a", "b", "c")
PROMPTS = [Prompt(f"p{i}", WORDS[i % 3], answer="b") for i in range(12)]
CONFIG = LoopConfig(
    steps=3, prompts=5, group=3, max_new_tokens=6, lr=1e-2, kl_weight=0.1, eval_every=1, checkpoint_every=1
)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")


class Words:
    """Reward: share of a completion's words that are the answer."""

    name = "words"

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        return PROMPTS[:n]

    def canonical(self, prompt: Prompt) -> str:
        return "b"

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
        words = completion.split()
        return Verdict(words.count(prompt.answer) / max(1, len(words)))


class Fails(PlainSampler):
    """The second process's server goes down in the third step; plain draws that pass for another sampler's."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def sample(self, agent: Agent, step: Step) -> list[Rollout]:
        if self._rank == 1 and step.number == 2:
            raise Unavailable("the server is down")
        step.meters.search_tokens += 10
        return super().sample(agent, step)


def run(
    processes: Processes, folder: Path, *, config: LoopConfig = CONFIG, until: int | None = None, resume: bool = False,
    fails: bool = False,
) -> None:  # fmt: skip
    with closing(Tracker(folder / f"log-{processes.rank}", total=3, quiet=True)) as tracker:
        agents = [
            Agent(name, BigramPolicy(WORDS, seed=seed), BigramPolicy(WORDS, seed=5))
            for seed, name in enumerate(("first", "second"))
        ]
        Trainer(
            agents,
            PromptStream(PROMPTS, seed=0),
            config=config,
            reward=VerifierReward(Words()),
            advantage=GroupAdvantage("grpo"),
            policy_loss=NamedLoss("ppo_clip", ClipConfig()),
            sampler=Fails(processes.rank if fails else 0),
            evaluate=lambda: {"rank": float(processes.rank)},
            tracker=tracker,
            folder=folder,
            processes=processes,
        ).run(resume=resume, until=until)


def in_two(work: Callable[[Processes], None]) -> list[int]:
    """Does the work in two processes, connected as a launcher would; → their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def body(rank: int) -> None:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(where | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"})
        torch.set_num_threads(1)
        with Processes.joined() as processes:
            work(processes)

    context = multiprocessing.get_context("fork")
    started = [context.Process(target=body, args=(rank,)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    return [-1 if process.exitcode is None else process.exitcode for process in started]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint_folders(folder / "checkpoints")[0] / TENSORS_FILE)


def rows(folder: Path) -> list[dict[str, Any]]:
    found = read_curves(folder / "log-0" / CURVES_FILE)
    return [{name: value for name, value in row.items() if not name.endswith("seconds")} for row in found]


def without_searches(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "meter/search_tokens"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aggregation": "token_mean", "micro_rows": 2, "epochs": 2},
        {"aggregation": "fixed_length", "temperature": 0.7, "top_p": 0.9},
        {"prompts": 1, "group": 2},  # minibatches of one row: a process has none
    ],
)
def test_two_processes_learn_what_one_does(changes: dict[str, Any], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update=changes)
    run(ALONE, tmp_path / "one", config=config)
    assert in_two(lambda processes: run(processes, tmp_path / "two", config=config)) == [0, 0]
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        if name.startswith("weights/"):
            assert torch.allclose(one[name], two[name], atol=1e-6, rtol=0), name
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert without_searches(a) == pytest.approx(without_searches(b), abs=1e-5, nan_ok=True)
    assert not read_curves(tmp_path / "two" / "log-1" / CURVES_FILE), "the second process was to write nothing"


def test_resumed_processes_end_as_undisturbed_ones(tmp_path: Path) -> None:
    assert in_two(lambda processes: run(processes, tmp_path / "whole")) == [0, 0]
    assert in_two(lambda processes: run(processes, tmp_path / "parts", until=1)) == [0, 0]
    assert in_two(lambda processes: run(processes, tmp_path / "parts", resume=True)) == [0, 0]
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_what_one_process_meets_with_is_raised_in_both_and_costs_no_step(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"checkpoint_every": 10})

    def work(processes: Processes) -> None:
        with pytest.raises(Unavailable, match="the server is down"):
            run(processes, tmp_path / "down", config=config, fails=True)

    assert in_two(work) == [0, 0]
    assert [path.name for path in checkpoint_folders(tmp_path / "down" / "checkpoints")] == ["step-00000002"]
    assert in_two(lambda processes: run(processes, tmp_path / "down", config=config, resume=True)) == [0, 0]
    assert in_two(lambda processes: run(processes, tmp_path / "whole", config=config)) == [0, 0]
    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "down")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_first_works_before_the_others(tmp_path: Path) -> None:
    def work(processes: Processes) -> None:
        def write_or_find() -> str:
            if processes.is_first:
                assert not (tmp_path / "made").exists()
                (tmp_path / "made").write_text("found")
            return (tmp_path / "made").read_text()

        assert processes.first_before_others(write_or_find) == "found"
        assert processes.by_first(lambda: processes.rank + 7) == 7
        assert processes.gathered(processes.rank) == [0, 1]
        assert len(processes.share("abcde")) == (2, 3)[processes.rank]

    assert in_two(work) == [0, 0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_under_torchrun(tmp_path: Path) -> None:
    sets = [
        "task_options.n=1", "n_items=64", "n_dev=16", "n_test=16", "pass_k=2", "tiny.dim=16", "tiny.n_layers=1",
        "warm_start.steps=20", "warm_start.low=none", "warm_start.batch=32", "loop.steps=3", "loop.prompts=4",
        "loop.group=4", "loop.max_new_tokens=6", "loop.eval_every=1", "loop.checkpoint_every=1",
    ]  # fmt: skip
    options = [part for value in sets for part in ("--set", value)]
    launched = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--no-python",
         sys.executable, "-m", "facetrail.app.cli", "train", "policy", "--data", str(tmp_path), "--device", "cpu",
         "--out", str(tmp_path / "two"), *options],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("sampled") == 1, "only the first was to print"
    train(tmp_path, tmp_path / "one", overrides=sets, device="cpu")
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    for name in one:
        if name.startswith("weights/"):
            assert torch.allclose(one[name], two[name], atol=1e-6, rtol=0), name
