"""HACPO on the loop: its limit cases, the order of its rows, agents of two tokenizers, and resume."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facetrail.models.errors import Conflict
from facetrail.models.language.causal import TinyPolicy
from facetrail.models.language.hacpo import HacpoConfig
from facetrail.models.language.policy_losses import ClipConfig
from facetrail.models.language.records import Finish, Prompt, Verdict
from facetrail.models.language.tasks import open_task, open_tokenizer
from facetrail.training.language.distributed import ALONE
from facetrail.training.language.drawing import drawn, verified
from facetrail.training.language.hacpo import Imitation, SharedRollouts
from facetrail.training.language.hooks import Advantage, Agent, LossTerms, PolicyLoss, Step
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.meters import Meters
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, PlainSampler, VerifierReward
from facetrail.training.language.rollouts import Batch, PromptStream
from facetrail.training.language.trainer import Trainer
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

TASK = open_task("modchain", n=2)
PROMPTS = TASK.prompts(40, seed=0)
CONFIG = LoopConfig(steps=4, prompts=4, group=4, minibatches=2, max_new_tokens=8, lr=1e-2, eval_every=1)
CLIP = ClipConfig(lo=0.02, hi=0.03)
HACPO = HacpoConfig(lo=0.02, hi=0.03, delta=0.9)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Evens:
    """Reward 1 where the completion has an even number of words: tiny untrained models hit and miss it."""

    name = "evens"

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        return PROMPTS[:n]

    def canonical(self, prompt: Prompt) -> str:
        return ""

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
        return Verdict(float(len(completion.split()) % 2 == 0))


def agents_of(n: int = 2) -> list[Agent]:
    made = []
    for place in range(n):
        tokenizer = open_tokenizer(TASK, merged_seed=None if place == 0 else 3)
        policy = TinyPolicy.new(tokenizer, seed=place, name=f"agent{place}", dim=16, n_layers=1, n_heads=2, context=32)
        made.append(Agent(f"agent{place}", policy))
    return made


def trainer_of(
    agents: list[Agent], advantage: Advantage, loss: PolicyLoss, *, config: LoopConfig = CONFIG, **more: Any
) -> Trainer:
    return Trainer(
        agents, PromptStream(PROMPTS, seed=1), config=config, reward=VerifierReward(Evens()), advantage=advantage,
        policy_loss=loss, **more,
    )  # fmt: skip


def step_of(agents: list[Agent], hook: SharedRollouts | None = None, *, number: int = 0) -> Step:
    """A step whose rollouts have been drawn and judged."""
    step = Step(number, CONFIG, PROMPTS[:4], agents, Meters())
    for agent in agents:
        rollouts, _ = drawn(agent, step, PlainSampler(), policy_version=0, processes=ALONE)
        step.rollouts[agent.name] = verified(agent, rollouts, step, VerifierReward(Evens()))
    if hook is not None:
        hook.after_rollouts(step)
    return step


def weights_of(agents: list[Agent]) -> list[Tensor]:
    return [tensor.clone() for agent in agents for tensor in agent.policy.module.state_dict().values()]


def test_one_agent_alone_is_gspo_bit_for_bit() -> None:
    config = CONFIG.model_copy(update={"steps": 10})
    plain, shared = agents_of(1), agents_of(1)
    trainer_of(plain, GroupAdvantage("grpo"), NamedLoss("gspo", CLIP), config=config).run()
    hook = SharedRollouts(["agent0"], HACPO)
    trainer_of(shared, hook, hook, config=config).run()
    before = weights_of(agents_of(1))
    assert not torch.equal(before[0], weights_of(plain)[0])
    assert all(torch.equal(a, b) for a, b in zip(weights_of(plain), weights_of(shared), strict=True))


class Watched(SharedRollouts):
    """Notes who wrote the rows of each minibatch, and how many updates came before it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[tuple[bool, bool, int]] = []

    def terms(self, log_probs: Tensor, batch: Batch, *, n_updates: int, step: Step) -> LossTerms:
        self.seen.append((bool(batch.is_own.all()), bool(batch.is_own.any()), n_updates))
        return super().terms(log_probs, batch, n_updates=n_updates, step=step)


def test_own_rows_come_first_are_never_mixed_and_updates_count_anew_for_each_learner() -> None:
    agents = agents_of()
    hook = Watched(["agent0", "agent1"], HACPO)
    trainer_of(agents, hook, hook, config=CONFIG.model_copy(update={"steps": 1})).run()
    one_learner = [(True, True, 0), (True, True, 1), (False, False, 2), (False, False, 3)]
    assert hook.seen == one_learner * 2


def test_a_foreign_completion_is_read_in_the_learners_tokens_and_keeps_its_verdict() -> None:
    agents = agents_of()
    hook = SharedRollouts(["agent0", "agent1"], HACPO)
    step = step_of(agents, hook)
    samples = hook.credit(agents[0], step)
    foreign = [sample for sample in samples if not sample.is_own]
    assert len(foreign) == len(step.rollouts["agent1"]) == 16
    lengths = 0
    for sample, rollout in zip(foreign, step.rollouts["agent1"], strict=True):
        assert sample.rollout is rollout
        text = agents[0].policy.tokenizer.decode(sample.completion_ids)
        if len(sample.completion_ids) < CONFIG.max_new_tokens:
            assert text == rollout.text
        else:  # what is longer in the learner's tokens is cut on the right
            assert rollout.text.startswith(text)
        assert sample.source_mean_log_prob == pytest.approx(sum(rollout.log_probs) / len(rollout.log_probs))
        lengths += len(sample.completion_ids) != len(rollout.completion_ids)
    assert lengths, "the two tokenizers cut no completion differently, so nothing was shown"
    own = [sample for sample in samples if sample.is_own]
    assert [s.completion_ids for s in own] == [r.completion_ids for r in step.rollouts["agent0"]]


def test_the_first_step_sets_the_bound_so_that_the_asked_share_is_discarded() -> None:
    agents = agents_of()
    hook = SharedRollouts(["agent0", "agent1"], HACPO, delta_quantile=0.3)
    step = step_of(agents, hook)
    ratios = torch.cat([hook._foreign_ratios(agent, step) for agent in agents])
    delta = hook.state()["delta"]
    assert float((ratios < 1 - delta).double().mean()) == pytest.approx(0.3, abs=0.05)
    again = SharedRollouts(["agent0", "agent1"], HACPO, delta_quantile=0.3)
    again.load(hook.state())
    again.after_rollouts(step_of(agents, number=1))
    assert again.state()["delta"] == delta


def test_weights_follow_the_capability_of_the_source() -> None:
    agents = agents_of()
    hook = SharedRollouts(["agent0", "agent1"], HACPO)
    step = step_of(agents, hook)
    ratio = hook.capability.ratio("agent1", "agent0")
    assert ratio != 1
    weights = {sample.is_own: sample.weight for sample in hook.credit(agents[0], step)}
    assert weights == {True: 1.0, False: pytest.approx(ratio)}


def test_dropping_the_end_token_takes_it_from_ids_log_probs_and_the_sources_mean() -> None:
    agents = agents_of()
    hook = SharedRollouts(["agent0", "agent1"], HACPO.model_copy(update={"drop_end_token": True}))
    step = step_of(agents, hook)
    eos = agents[0].policy.tokenizer.eos_id
    ended = [s for s in hook.credit(agents[0], step) if s.rollout.finish == "eos" and len(s.rollout.log_probs) > 1]
    assert ended
    for sample in ended:
        assert eos not in sample.completion_ids or len(sample.completion_ids) == 1
        if sample.is_own:
            assert sample.behaviour_log_probs == sample.rollout.log_probs[:-1]
        else:
            rest = sample.rollout.log_probs[:-1]
            assert sample.source_mean_log_prob == pytest.approx(sum(rest) / len(rest))


def test_imitation_takes_only_right_completions_of_others_and_learns_their_tokens() -> None:
    agents = agents_of()
    hook = Imitation(CLIP)
    step = step_of(agents)
    samples = hook.credit(agents[0], step)
    foreign = [sample for sample in samples if not sample.is_own]
    assert foreign
    assert all(sample.rollout.reward == 1 for sample in foreign)
    before = weights_of(agents)
    trainer_of(agents, hook, hook, config=CONFIG.model_copy(update={"steps": 1})).run()
    assert not torch.equal(before[0], weights_of(agents)[0])


def run(folder: Path, *, until: int | None = None, resume: bool = False, names: tuple[str, ...] = ()) -> list[Agent]:
    agents = agents_of()
    hook = SharedRollouts(names or [agent.name for agent in agents], HACPO, delta_quantile=0.3)
    config = CONFIG.model_copy(update={"checkpoint_every": 2, "epochs": 2})
    with closing(Tracker(folder, total=config.steps, quiet=True)) as tracker:  # no picture: it takes seconds
        trainer_of(agents, hook, hook, config=config, folder=folder, tracker=tracker).run(until=until, resume=resume)
    return agents


def test_a_resumed_run_of_two_agents_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", until=2)
    resumed = run(tmp_path / "cut", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(resumed), strict=True))

    def rows(name: str) -> list[Mapping[str, Any]]:
        found = read_curves(tmp_path / name / CURVES_FILE)
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in found]

    assert rows("whole") == rows("cut")


def test_a_checkpoint_of_other_agents_is_refused(tmp_path: Path) -> None:
    run(tmp_path, until=2)
    hook = SharedRollouts(["agent0", "stranger"], HACPO)
    with pytest.raises(Conflict, match="stranger"):
        hook.load(SharedRollouts(["agent0", "agent1"], HACPO).state())
