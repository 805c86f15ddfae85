"""Learning is real: GRPO gains on held-out chains under three seeds, and rewards dealt out at random teach nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facetrail.eval.language import answer
from facetrail.models.language.causal import TinyPolicy
from facetrail.models.language.policy_losses import ClipConfig
from facetrail.models.language.records import DrawKey, Rollout, Sampling, Task, Verdict
from facetrail.models.language.tasks import open_task, open_tokenizer
from facetrail.training.language.hooks import Agent, Reward, Step
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, VerifierReward
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.supervised import Window, examples_of, fit_supervised
from facetrail.training.language.trainer import Trainer
from facetrail.training.loop import FitConfig

N = 2
"""Operations of a chain: one core trains a start and six runs in minutes."""
LOOP = LoopConfig(
    steps=40, prompts=16, group=8, max_new_tokens=2 * N + 4, lr=3e-4, eval_every=100, checkpoint_every=100
)
SEEDS = (1, 2, 3)


class ShuffledReward(Reward):
    """The verifier's verdicts, dealt out anew among the rollouts of a step."""

    name = "shuffled"

    def __init__(self, inner: VerifierReward) -> None:
        self._inner = inner

    def config(self) -> Mapping[str, Any]:
        return self._inner.config()

    def score(
        self, agent: Agent, rollouts: Sequence[Rollout], step: Step, hidden: Sequence[Tensor] | None
    ) -> list[Verdict]:
        verdicts = self._inner.score(agent, rollouts, step, hidden)
        order = step.key(agent.name, "shuffle").generator("", 0).permutation(len(verdicts))
        return [verdicts[i] for i in order]


def sampled(policy: TinyPolicy, task: Task) -> float:
    """Accuracy on 500 held-out items, two draws of each."""
    items = task.prompts(500, seed=0, split="test")
    return answer(policy, task, items, n=2, sampling=Sampling(max_new_tokens=2 * N + 4), key=DrawKey(90)).accuracy


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that solves 60 to 80 % of the chains."""
    task = open_task("modchain", n=N)
    policy = TinyPolicy.new(open_tokenizer(task), seed=0, dim=64, n_layers=2, n_heads=4, context=32)
    dev = task.prompts(300, seed=0, split="dev")
    fit_supervised(
        policy,
        examples_of(policy, task, task.prompts(4096, seed=0)),
        config=FitConfig(
            steps=2000, warmup=0, schedule="constant", weight_decay=0, ema=None, eval_every=5, checkpoint_every=2000
        ),
        lr=2e-3,
        batch=64,
        meters=Meters(),
        evaluate=lambda: {
            "sampled": answer(policy, task, dev, sampling=Sampling(max_new_tokens=2 * N + 4), key=DrawKey(0)).accuracy
        },
        window=Window("sampled", 0.6, 0.8),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("start") / "model"
    policy.save(folder)
    return folder


def gain(start: Path, *, seed: int, shuffled: bool) -> float:
    task, policy = open_task("modchain", n=N), TinyPolicy.open(start)
    reward = VerifierReward(task)
    before = sampled(policy, task)
    Trainer(
        [Agent("policy", policy)],
        PromptStream(task.prompts(4096, seed=seed), seed=seed),
        config=LOOP.model_copy(update={"seed": seed}),
        reward=ShuffledReward(reward) if shuffled else reward,
        advantage=GroupAdvantage("grpo"),
        policy_loss=NamedLoss("ppo_clip", ClipConfig(lo=0.2, hi=0.28)),
    ).run()
    return sampled(policy, task) - before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_grpo_gains_under_three_seeds_and_shuffled_rewards_teach_nothing(start: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        gains = [gain(start, seed=seed, shuffled=False) for seed in SEEDS]
        controls = [gain(start, seed=seed, shuffled=True) for seed in SEEDS]
    finally:
        torch.set_num_threads(threads)
    # On 500 items one seed's gain is known to about 2 points: the size is asked of the mean, the sign of each.
    assert sum(gains) / len(gains) >= 0.05, gains
    assert min(gains) > 0, gains
    assert max(controls) < 0.02, controls
