"""The loop: micro-batches add up, and each seam takes what a future system needs of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from contracts.bigram_policy import BigramPolicy
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.causal import LocalPolicy
from facetrail.models.language.huggingface import AdapterConfig, with_adapter
from facetrail.models.language.policy_losses import Aggregation, ClipConfig, PolicyTerms
from facetrail.models.language.records import Finish, Prompt, Rollout, Verdict
from facetrail.models.language.vocabulary import WordTokenizer
from facetrail.training.language.hooks import Agent, LossTerms, PolicyLoss, Reward, Sampler, Scheduler, Step, Update
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, PlainSampler, VerifierReward, WeightedReward
from facetrail.training.language.rollouts import Batch, PromptStream, Sample, from_plain, log_probs_of, to_plain
from facetrail.training.language.trainer import Trainer

WORDS = ("a", "b", "c")
PROMPTS = [Prompt(f"p{i}", WORDS[i % 3], answer="b") for i in range(12)]
CONFIG = LoopConfig(steps=3, prompts=4, group=4, max_new_tokens=6, lr=1e-2, minibatches=2, eval_every=1)


class CountTask:
    """Reward: share of a completion's words that are the answer."""

    name = "count"

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        return PROMPTS[:n]

    def canonical(self, prompt: Prompt) -> str:
        return "b b"

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
        words = completion.split()
        return Verdict(words.count(prompt.answer) / max(1, len(words)))


class Log:
    """Keeps the rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.notes: list[str] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((step, dict(values)))

    def note(self, step: int, text: str) -> None:
        self.notes.append(text)

    def rewind(self, step: int) -> None:
        self.rows = [row for row in self.rows if row[0] <= step]


def trainer(config: LoopConfig = CONFIG, *, agents: Sequence[Agent] | None = None, **parts: Any) -> Trainer:
    settings: dict[str, Any] = {
        "reward": VerifierReward(CountTask()),
        "advantage": GroupAdvantage("grpo"),
        "policy_loss": NamedLoss("ppo_clip", ClipConfig()),
        **parts,
    }
    agents = agents or [Agent("policy", BigramPolicy(WORDS))]
    return Trainer(agents, PromptStream(PROMPTS, seed=0), config=config, **settings)


def weights(run: Trainer, agent: int = 0) -> Tensor:
    return next(run.agents[agent].policy.module.parameters()).detach()


def test_reward_rises() -> None:
    log = Log()
    run = trainer(CONFIG.model_copy(update={"steps": 15, "lr": 0.1}), tracker=log)
    run.run()
    rewards = [row["train/reward"] for _, row in log.rows]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 1
    assert log.rows[0][1]["train/ratio_error"] < 1e-5


@pytest.mark.parametrize("how", ["row_mean", "token_mean", "row_sum", "fixed_length"])
def test_micro_batches_equal_one_batch(how: Aggregation) -> None:
    found = []
    for rows in (0, 3):
        log = Log()
        config = CONFIG.model_copy(update={"aggregation": how, "micro_rows": rows, "kl_weight": 0.1})
        reference = BigramPolicy(WORDS, seed=5)
        run = trainer(config, agents=[Agent("policy", BigramPolicy(WORDS), reference)], tracker=log)
        run.run(until=1)
        found.append((weights(run), log.rows[0][1]))
    (whole, a), (parts, b) = found
    assert torch.allclose(whole, parts, atol=1e-6, rtol=0)
    for name in ("train/loss", "train/gradient_norm", "train/kl", "train/clipped"):
        assert a[name] == pytest.approx(b[name], abs=1e-6)
    assert a["train/kl"] > 0


def test_rollouts_without_verdict_get_no_gradient_and_are_counted() -> None:
    class Silent(CountTask):
        def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
            return Verdict(None, "timeout")

    log = Log()
    run = trainer(reward=VerifierReward(Silent()), tracker=log)
    before = weights(run).clone()
    run.run(until=1)
    assert torch.equal(weights(run), before)
    assert log.rows[0][1]["train/no_verdict"] == 1.0


def test_infinite_reward_stops_the_run_and_names_the_rollout() -> None:
    class Broken(CountTask):
        def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
            return Verdict(float("nan") if prompt.prompt_id == "p3" else 0.0)

    run = trainer(CONFIG.model_copy(update={"prompts": 12}), reward=VerifierReward(Broken()))
    with pytest.raises(InvalidInput, match=r"rollout 0 of prompt 'p3' by 'policy' is nan"):
        run.run()


class Searcher(Sampler):
    """As SAGE: the first completion of each prompt is the longest of three searched ones, from another stream."""

    name = "searcher"

    def sample(self, agent: Agent, step: Step) -> list[Rollout]:
        plain = PlainSampler().sample(agent, step)
        key = step.key(agent.name, "search")
        tried = agent.policy.generate(step.prompts, 3, sampling=step.config.sampling, key=key)
        step.meters.search_tokens += sum(len(one.completion_ids) for one in tried)
        for i, _ in enumerate(step.prompts):
            best = max(tried[3 * i : 3 * i + 3], key=lambda one: len(one.completion_ids))
            plain[i * step.config.group] = replace(best, sample=0, sampler="search", log_probs=())
        return plain


def test_search_hook_leaves_plain_samples_alone_and_gets_behaviour_log_probs() -> None:
    seen: dict[str, list[Rollout]] = {}

    class Watch(GroupAdvantage):
        def credit(self, learner: Agent, step: Step) -> list[Sample]:
            seen.setdefault(str(len(seen)), step.rollouts[learner.name])
            return super().credit(learner, step)

    log = Log()
    trainer(advantage=Watch("grpo"), tracker=Log()).run(until=1)
    run = trainer(advantage=Watch("grpo"), sampler=Searcher(), tracker=log)
    run.run(until=1)
    plain, mixed = seen["0"], seen["1"]
    assert [one for i, one in enumerate(plain) if i % 4] == [one for i, one in enumerate(mixed) if i % 4]
    assert {one.sampler for one in mixed[::4]} == {"search"}
    assert run.meters.search_tokens > 0
    searched = sum(len(one.completion_ids) for one in mixed[::4])
    assert run.meters.forward_tokens == searched + 2 * 4  # each prompt: begin token and one word
    assert log.rows[0][1]["train/ratio_error"] < 1e-5


class HeadReward(Reward):
    """As R2M: a linear head on the policy's mean state, trained after the policy on fresh states."""

    name, needs_hidden, needs_fresh_hidden = "head", True, True

    def __init__(self) -> None:
        self.head = torch.nn.Linear(6, 1, bias=False)
        torch.nn.init.constant_(self.head.weight, 0.1)
        self.optimiser = torch.optim.Adam(self.head.parameters(), lr=1e-2)
        self.seen: list[tuple[int, int]] = []

    def score(
        self, agent: Agent, rollouts: Sequence[Rollout], step: Step, hidden: Sequence[Tensor] | None
    ) -> list[Verdict]:
        assert hidden is not None
        assert [len(states) for states in hidden] == [len(one.completion_ids) for one in rollouts]
        step.meters.reward_tokens += sum(map(len, hidden))
        return [Verdict(self.head(states.mean(0)).item()) for states in hidden]

    def after_update(self, learner: Agent, update: Update, step: Step) -> None:
        assert not any(states.requires_grad for states in update.hidden)
        self.seen.append((len(update.samples), len(update.hidden)))
        values = torch.stack([self.head(states.mean(0)) for states in update.hidden])
        self.optimiser.zero_grad()
        values.square().mean().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def state(self) -> Mapping[str, Any]:
        return {"weight": self.head.weight.detach().clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.head.weight.data.copy_(state["weight"])


def test_learned_reward_sees_hidden_states_and_trains_after_the_update() -> None:
    reward = HeadReward()
    before = reward.head.weight.detach().clone()
    run = trainer(
        CONFIG.model_copy(update={"epochs": 2}),
        reward=WeightedReward([(reward, 1.0), (VerifierReward(CountTask()), 0.5)]),
    )
    run.run(until=2)
    assert reward.seen == [(16, 16), (16, 16)]
    assert not torch.equal(before, reward.head.weight)
    assert run.meters.reward_tokens == run.meters.rollout_tokens
    assert run.meters.optimiser_steps == 2 * 2 * 2
    assert "hook-head" in run._state.facts()["parts"]


class Replay(Scheduler):
    """As the rollout bandit: half fresh samples, half from the last rounds, scored by the policy as it is now."""

    name = "replay"

    def __init__(self) -> None:
        self.buffer: list[Sample] = []
        self.ages: list[int] = []
        self.rewards: list[float] = []

    def after_rollouts(self, step: Step) -> None:
        known = [one.reward for one in step.rollouts["policy"] if one.reward is not None]
        self.rewards.append(sum(known) / len(known))

    def choose(self, learner: Agent, samples: Sequence[Sample], step: Step) -> list[Sample]:
        old = self.buffer[:8]
        now = log_probs_of(learner.policy, old, temperature=1.0, rows=0, meters=step.meters)
        assert [len(values) for values in now] == [len(one.completion_ids) for one in old]
        self.buffer = [replace(one, rollout=replace(one.rollout, n_used=one.rollout.n_used + 1)) for one in samples]
        self.ages.append(max((step.number - one.rollout.born_step for one in old), default=0))
        return [*samples[:8], *old]

    def state(self) -> Mapping[str, Any]:
        return {"buffer": [to_plain(one) for one in self.buffer], "ages": self.ages, "rewards": self.rewards}

    def load(self, state: Mapping[str, Any]) -> None:
        self.buffer = [from_plain(one) for one in state["buffer"]]
        self.ages, self.rewards = list(state["ages"]), list(state["rewards"])


def test_scheduler_may_bring_back_old_samples() -> None:
    scheduler = Replay()
    run = trainer(scheduler=scheduler)
    run.run()
    assert scheduler.ages == [0, 1, 1]
    assert len(scheduler.rewards) == 3
    assert run.meters.forward_tokens > 0
    assert {one.rollout.n_used for one in scheduler.buffer} == {1}


def test_custom_policy_loss_sees_updates_of_the_pass() -> None:
    class Imitate(PolicyLoss):
        name = "imitate"

        def __init__(self) -> None:
            self.calls: list[int] = []

        def terms(self, log_probs: Tensor, batch: Batch, *, n_updates: int, step: Step) -> LossTerms:
            self.calls.append(n_updates)
            values = -log_probs * (batch.rewards > 0).unsqueeze(1)
            policy = PolicyTerms(values, n_clipped=0, n_counted=int(batch.mask.sum()), max_ratio_error=0.0)
            return LossTerms(policy, {"imitated": (float((batch.rewards > 0).sum()), float(len(batch.rewards)))})

    loss, log = Imitate(), Log()
    trainer(CONFIG.model_copy(update={"epochs": 2, "micro_rows": 4}), policy_loss=loss, tracker=log).run(until=2)
    assert loss.calls == [0, 0, 1, 1, 2, 2, 3, 3] * 2
    assert 0 < log.rows[0][1]["train/imitated"] <= 1


def test_two_agents_learn_in_turn_from_fixed_rollouts_and_never_mix_blocks() -> None:
    order: list[tuple[str, tuple[int, ...]]] = []

    class Shared(GroupAdvantage):
        """Own samples first, then the other's, which carry no behaviour log-probs."""

        def credit(self, learner: Agent, step: Step) -> list[Sample]:
            assert set(step.rollouts) == {"a", "b"}
            own = super().credit(learner, step)
            other = next(agent for agent in step.agents if agent is not learner)
            foreign = super().credit(other, step)
            return [*own, *(replace(s, is_own=False, behaviour_log_probs=(), block=1) for s in foreign)]

    class Watch(NamedLoss):
        def terms(self, log_probs: Tensor, batch: Batch, *, n_updates: int, step: Step) -> LossTerms:
            order.append((str(n_updates), tuple(batch.is_own.int().unique().tolist())))
            return super().terms(log_probs, batch, n_updates=n_updates, step=step)

    log = Log()
    agents = [Agent("a", BigramPolicy(WORDS, seed=1)), Agent("b", BigramPolicy(WORDS, seed=2), lr=0.0)]
    run = trainer(agents=agents, advantage=Shared("grpo"), policy_loss=Watch("reinforce", ClipConfig()), tracker=log)
    before = weights(run, 1).clone()
    run.run(until=1)
    assert order == [("0", (1,)), ("1", (1,)), ("2", (0,)), ("3", (0,))] * 2
    assert torch.equal(weights(run, 1), before)  # its own learning rate is 0
    assert {"train/a/loss", "train/b/loss"} <= log.rows[0][1].keys()


def test_agents_that_share_weights_are_refused() -> None:
    policy = BigramPolicy(WORDS)
    with pytest.raises(InvalidInput, match="of their own"):
        trainer(agents=[Agent("a", policy), Agent("b", policy)])


def test_a_trainer_goes_on_where_it_stopped() -> None:
    whole, parts = trainer(), trainer()
    whole.run()
    parts.run(until=1)
    parts.run()
    assert parts.step == 3
    assert torch.equal(weights(whole), weights(parts))


def test_only_the_adapter_of_a_transformers_model_learns() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=6, max_position_embeddings=32, **shape))
    policy = LocalPolicy(with_adapter(network, AdapterConfig(rank=2)).eval(), WordTokenizer.of(WORDS), name="tiny")
    before = {name: p.detach().clone() for name, p in policy.module.named_parameters()}
    log = Log()
    run = trainer(agents=[Agent("policy", policy)], tracker=log)
    run.run(until=1)
    moved = {name for name, p in policy.module.named_parameters() if not torch.equal(p.detach(), before[name])}
    learning = {name for name, _ in policy.trainable()}
    assert moved
    assert moved <= learning < before.keys()
    assert len(run._state.tensors()) == 4 * len(
        learning
    )  # weights, two moments, a count; the model itself is not saved
    assert log.rows[0][1]["train/ratio_error"] < 1e-5
