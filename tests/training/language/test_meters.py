"""Meters against a hand count, with a policy whose completions have known lengths."""

import torch
from contracts.bigram_policy import BigramPolicy

from facetrail.models.language.policy_losses import ClipConfig
from facetrail.models.language.records import Finish, Prompt, Verdict
from facetrail.training.language.hooks import Agent
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, VerifierReward
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.trainer import Trainer

WORDS = ("one", "two", "end")


class AnyTask:
    """Rewards everything."""

    name = "any"

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        return []

    def canonical(self, prompt: Prompt) -> str:
        return ""

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
        return Verdict(1.0)


def scripted() -> BigramPolicy:
    """After `one` always `two`, then `end`, then the end token: 3 tokens after `one`, 2 after `two`."""
    policy = BigramPolicy(WORDS)
    with torch.no_grad():
        policy.table.fill_(-200.0)
        chain = policy.tokenizer.encode("one two end")
        for a, b in zip(chain, [*chain[1:], policy.tokenizer.eos_id], strict=True):
            policy.table[a, b] = 0.0
    return policy


def test_hand_count() -> None:
    prompts = [Prompt("p1", "one", ""), Prompt("p2", "two two", "")]
    # kl_weight > 0: one pass of the reference a row. top_p < 1: one pass for behaviour log-probs a rollout.
    config = LoopConfig(steps=2, prompts=2, group=3, max_new_tokens=8, minibatches=2, kl_weight=0.1, top_p=0.9, lr=0.0)
    run = Trainer(
        [Agent("policy", scripted(), scripted())],
        PromptStream(prompts, seed=0),
        config=config,
        reward=VerifierReward(AnyTask()),
        advantage=GroupAdvantage("dr_grpo"),
        policy_loss=NamedLoss("ppo_clip", ClipConfig()),
    )
    run.run()
    completion_tokens = 2 * 3 * (3 + 2)  # steps · group · (after `one` + after `two`)
    prompt_tokens = 2 * 3 * (2 + 3)  # begin token and one word; begin token and two
    assert run.meters.n_rollouts == 12
    assert run.meters.rollout_tokens == completion_tokens
    assert run.meters.grad_tokens == completion_tokens + prompt_tokens
    assert run.meters.forward_tokens == 2 * (completion_tokens + prompt_tokens)
    assert run.meters.optimiser_steps == 4
    assert (run.meters.search_tokens, run.meters.reward_tokens) == (0, 0)
    assert run.meters.wall_seconds > 0
    assert run.meters.flops(10) == 10 * (2 * (30 + 2 * 60) + 6 * 60)


def test_meters_go_on_from_their_state() -> None:
    meters, other = Meters(rollout_tokens=5, wall_seconds=1.5), Meters()
    other.load(meters.state())
    assert other == meters
    assert other.figures()["rollout_tokens"] == 5.0
