"""The two sides of `policy_step`: our loop and TRL's trainer, told the same and watched with the same clock."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from facetrail.eval.benchmarks.generation import small_llama
from facetrail.models.language.causal import LocalPolicy
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.modchain import ModChain
from facetrail.models.language.policy_losses import ClipConfig
from facetrail.models.language.records import Finish, Prompt, Verdict
from facetrail.training.language.hooks import Agent
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, VerifierReward
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.trainer import Trainer

LR = 3e-4
WARM_ROWS, WARM_LR = 64, 2e-3
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Setting:
    """What both sides are told."""

    prompts: int
    group: int
    length: int
    """Most tokens of a completion."""
    n_updates: int
    """Optimiser steps for the rollouts of a step."""
    steps: int
    seed: int

    @property
    def rows(self) -> int:
        """Rollouts of a step."""
        return self.prompts * self.group


@dataclass
class Timing:
    """Seconds of each counted step; tokens a rollout, mean reward and optimiser steps of each round."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Medians of the steps, means of the rounds."""
        return {
            "ms": 1e3 * median(self.seconds),
            "tokens a rollout": mean(self.tokens),
            "reward": mean(self.rewards),
            "optimiser steps": mean(self.updates),
        }


Round = Callable[[Setting, Clock, Timing], None]
"""One round of an arm, from the start weights; its first step warms up and is not counted."""


class Watched:
    """The task as both sides use it for rewards, with its verdicts kept."""

    def __init__(self, task: ModChain) -> None:
        self.name, self._task = task.name, task
        self.rewards: list[float] = []

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        """The task's items."""
        return self._task.prompts(n, seed=seed, split=split)

    def canonical(self, prompt: Prompt) -> str:
        """The task's solution."""
        return self._task.canonical(prompt)

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
        """The task's verdict."""
        verdict = self._task.verify(prompt, completion, finish)
        self.rewards.append(verdict.reward or 0.0)
        return verdict


def warm_started(task: ModChain, folder: Path, *, steps: int, seed: int) -> None:
    """Writes a small Llama that has imitated right completions: its rollouts end, and some of them are right."""
    model, tokenizer = small_llama(task, seed=seed, scale=1.0)
    items = [(one.text, task.canonical(one)) for one in task.prompts(steps * WARM_ROWS, seed=seed)]
    n_prompt = len(tokenizer.encode_prompt(items[0][0]))  # chains of one task are equally long
    rows = torch.tensor([tokenizer.encode_prompt(text) + tokenizer.encode(right) for text, right in items])
    rows = torch.nn.functional.pad(rows, (0, 1), value=tokenizer.eos_id)
    labels = rows.clone()
    labels[:, :n_prompt] = -100  # transformers' mark of a place without a loss
    optimiser = torch.optim.AdamW(model.parameters(), lr=WARM_LR, weight_decay=0)
    for ids, wanted in zip(torch.split(rows, WARM_ROWS), torch.split(labels, WARM_ROWS), strict=True):
        optimiser.zero_grad()
        model(input_ids=ids, labels=wanted).loss.backward()
        optimiser.step()
    LocalPolicy(model, tokenizer, name="start").save(folder)


def by_facetrail(start: Callable[[], CausalPolicy], task: ModChain, prompts: Sequence[Prompt]) -> Round:
    """Our loop, without tracker and folder."""

    def run(setting: Setting, clock: Clock, timing: Timing) -> None:
        watched = Watched(task)
        loop = Trainer(
            [Agent("policy", start())],
            PromptStream(prompts, seed=setting.seed),
            config=LoopConfig(
                steps=setting.steps,
                prompts=setting.prompts,
                group=setting.group,
                max_new_tokens=setting.length,
                minibatches=setting.n_updates,
                lr=LR,
                seed=setting.seed,
            ),
            reward=VerifierReward(watched),
            advantage=GroupAdvantage("grpo"),
            policy_loss=NamedLoss("ppo_clip", ClipConfig()),
        )
        ends = [clock()]
        for number in range(setting.steps):
            loop.run(until=number + 1)
            ends.append(clock())
        _keep(timing, ends, loop.meters.rollout_tokens, watched, loop.meters.optimiser_steps)

    return run


def by_trl(folder: Path, task: ModChain, prompts: Sequence[Prompt]) -> Round:
    """GRPOTrainer, with everything off that is not training."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.trainer.grpo_trainer import GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    dataset = Dataset.from_list([{"prompt": prompt.text} for prompt in prompts])
    prompt_of = {prompt.text: prompt for prompt in prompts}

    def run(setting: Setting, clock: Clock, timing: Timing) -> None:
        watched, ends, lengths = Watched(task), list[float](), list[int]()

        class Watch(TrainerCallback):
            """Begins of our steps, each of which is n_updates of TRL's, and the end of the last."""

            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step % setting.n_updates == 0:
                    ends.append(clock())

            def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                ends.append(clock())

        def reward(
            prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any
        ) -> list[float | None]:
            lengths.extend(map(len, completion_ids))
            ended: list[Finish] = ["eos" if ids[-1] == tokenizer.eos_token_id else "length" for ids in completion_ids]
            rows = zip(prompts, completions, ended, strict=True)
            return [watched.verify(prompt_of[text], written, finish).reward for text, written, finish in rows]

        with tempfile.TemporaryDirectory() as out:
            found = GRPOTrainer(
                AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, attn_implementation="sdpa"),
                reward,
                args=_trl_config(setting, out),
                train_dataset=dataset,
                processing_class=tokenizer,
                callbacks=[Watch()],
            ).train()
        _keep(timing, ends, sum(lengths), watched, found.global_step)

    return run


def _trl_config(setting: Setting, out: str) -> Any:
    from trl.trainer.grpo_config import GRPOConfig

    return GRPOConfig(
        output_dir=out,
        max_steps=setting.steps * setting.n_updates,
        per_device_train_batch_size=setting.rows // setting.n_updates,
        steps_per_generation=setting.n_updates,
        num_generations=setting.group,
        max_completion_length=setting.length,
        shuffle_dataset=False,
        loss_type="grpo",
        epsilon=ClipConfig().lo,
        epsilon_high=ClipConfig().hi,
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=setting.seed,
        use_cpu=True,
        # What costs time and is no part of the comparison.
        bf16=False,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _keep(timing: Timing, ends: Sequence[float], n_tokens: int, watched: Watched, n_updates: int) -> None:
    timing.seconds += [after - before for before, after in pairwise(ends[1:])]
    timing.tokens.append(n_tokens / len(watched.rewards))
    timing.rewards.append(mean(watched.rewards))
    timing.updates.append(n_updates)
