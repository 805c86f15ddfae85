"""Twenty steps equal ten, a checkpoint, another trainer and ten more: every tensor and every line of the log."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.bigram_policy import BigramPolicy
from safetensors.torch import load_file

from facetrail.models.errors import Conflict
from facetrail.models.language.policy_losses import ClipConfig
from facetrail.models.language.records import Finish, Prompt, Verdict
from facetrail.training import state as state_module
from facetrail.training.language.hooks import Agent, Scheduler, Step
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, VerifierReward
from facetrail.training.language.rollouts import PromptStream, Sample, from_plain, to_plain
from facetrail.training.language.trainer import Trainer
from facetrail.training.state import TENSORS_FILE, checkpoint_folders
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

WORDS = ("a", "b", "c")
PROMPTS = [Prompt(f"p{i}", WORDS[i % 3], answer="b") for i in range(10)]
CONFIG = LoopConfig(
    steps=20, prompts=4, group=4, max_new_tokens=6, lr=1e-2, kl_weight=0.05, checkpoint_every=10, eval_every=5, epochs=2
)


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


class Buffer(Scheduler):
    """Trains on the last two steps' samples; a tensor and plain values in its state."""

    name = "buffer"

    def __init__(self) -> None:
        self.kept: list[Sample] = []
        self.sum = torch.zeros(1)

    def choose(self, learner: Agent, samples: Any, step: Step) -> list[Sample]:
        chosen = [*samples, *self.kept]
        self.kept = list(samples)
        self.sum = self.sum + len(chosen)
        return chosen

    def state(self) -> Mapping[str, Any]:
        return {"kept": [to_plain(one) for one in self.kept], "sum": self.sum}

    def load(self, state: Mapping[str, Any]) -> None:
        self.kept, self.sum = [from_plain(one) for one in state["kept"]], state["sum"]


def run(
    folder: Path, *, until: int | None = None, resume: bool = False, config: LoopConfig = CONFIG, lo: float = 0.2
) -> Trainer:
    with closing(Tracker(folder, total=config.steps, quiet=True)) as tracker:  # no picture: it takes seconds
        agents = [
            Agent(name, BigramPolicy(WORDS, seed=seed), BigramPolicy(WORDS, seed=seed))
            for seed, name in enumerate(("first", "second"))
        ]
        trainer = Trainer(
            agents,
            PromptStream(PROMPTS, seed=config.seed),
            config=config,
            reward=VerifierReward(Words()),
            advantage=GroupAdvantage("grpo"),
            policy_loss=NamedLoss("ppo_clip", ClipConfig(lo=lo)),
            scheduler=Buffer(),
            evaluate=lambda: {"weight": float(next(agents[0].policy.module.parameters()).detach()[3, 4])},
            tracker=tracker,
            folder=folder,
        )
        trainer.run(resume=resume, until=until)
    return trainer


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.endswith("seconds")}
        for row in read_curves(folder / CURVES_FILE)
    ]


def newest(folder: Path) -> Path:
    return checkpoint_folders(folder / "checkpoints")[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def assert_equal_runs(a: Path, b: Path) -> None:
    first, second = load_file(newest(a) / TENSORS_FILE), load_file(newest(b) / TENSORS_FILE)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(name.startswith("parts/hook-buffer/") for name in first)
    assert lines(a) == lines(b)


def test_resumed_run_equals_the_uninterrupted_one(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, until=10)
    trainer = run(tmp_path, resume=True)
    assert trainer.step == 20
    assert_equal_runs(whole, tmp_path)


def test_lines_after_the_checkpoint_are_forgotten(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, until=13)
    shutil.rmtree(newest(tmp_path))  # the power went before step 13 reached the disk
    run(tmp_path, resume=True)
    assert_equal_runs(whole, tmp_path)


def test_kill_while_writing_leaves_the_previous_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for a process that was killed."""

    real, calls = state_module.sync_tree, []

    def sync(folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise Killed
        real(folder)

    monkeypatch.setattr(state_module, "sync_tree", sync)
    with pytest.raises(Killed):
        run(tmp_path)
    monkeypatch.undo()
    assert [path.name for path in checkpoint_folders(tmp_path / "checkpoints")] == ["step-00000010"]
    run(tmp_path, resume=True)
    assert_equal_runs(whole, tmp_path)


def test_other_configuration_is_refused_with_what_differs(whole: Path) -> None:
    with pytest.raises(Conflict, match=r"loop\.lr: 0\.01 → 0\.02"):
        run(whole, resume=True, config=CONFIG.model_copy(update={"lr": 0.02}))
    with pytest.raises(Conflict, match=r"hooks\.policy_loss\.clip\.lo: 0\.2 → 0\.1"):
        run(whole, resume=True, lo=0.1)
    with pytest.raises(Conflict, match=r"loop\.steps: 20 → 30"):
        run(whole, resume=True, config=CONFIG.model_copy(update={"steps": 30}))


def test_folder_with_a_run_is_not_begun_anew(whole: Path) -> None:
    with pytest.raises(Conflict, match="resume it"):
        run(whole)
