"""Rollouts from a real server on this machine: it trains as well as the policy's own, and may fail without loss."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.bigram_policy import BigramPolicy
from contracts.policy_server import PolicyServer, Tells, serving
from fastapi import Response
from torch import Tensor

from facetrail.models.errors import FacetrailError, InvalidInput, Unavailable
from facetrail.models.language.policy_losses import ClipConfig
from facetrail.models.language.records import Finish, Prompt, Rollout, Verdict
from facetrail.training.language.endpoint_sampler import FROM_SERVER, RECOMPUTED, EndpointRecipe, EndpointSampler
from facetrail.training.language.hooks import Agent, Sampler, Step
from facetrail.training.language.loop_config import LoopConfig
from facetrail.training.language.parts import GroupAdvantage, NamedLoss, VerifierReward
from facetrail.training.language.rollouts import PromptStream
from facetrail.training.language.trainer import Trainer
from facetrail.training.state import checkpoint_folders

WORDS = ("a", "b", "c")
PROMPTS = [Prompt(f"p{i}", WORDS[i % 3], answer="b") for i in range(12)]
CONFIG = LoopConfig(steps=4, prompts=4, group=4, max_new_tokens=6, lr=1e-2, eval_every=10)
ASKED_A_STEP = 16


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


class Log:
    """Keeps the rows, and the rollouts of every step."""

    name = "log"

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, step: int, values: dict[str, float]) -> None:
        self.rows.append(dict(values))

    def note(self, step: int, text: str) -> None:
        return

    def rewind(self, step: int) -> None:
        return


class Keeping(EndpointSampler):
    """Keeps what it has handed on."""

    seen: list[Rollout]

    def sample(self, agent: Agent, step: Step) -> list[Rollout]:
        self.seen = super().sample(agent, step)
        return self.seen


def run_of(
    policy: BigramPolicy, sampler: Sampler | None, *, config: LoopConfig = CONFIG, folder: Path | None = None
) -> tuple[Trainer, Log]:
    log = Log()
    trainer = Trainer(
        [Agent("policy", policy)],
        PromptStream(PROMPTS, seed=0),
        config=config,
        reward=VerifierReward(Words()),
        advantage=GroupAdvantage("grpo"),
        policy_loss=NamedLoss("ppo_clip", ClipConfig()),
        sampler=sampler,
        tracker=log,  # type: ignore[arg-type]
        folder=folder,
    )
    return trainer, log


def sampler_of(server: PolicyServer, **options: Any) -> Keeping:
    return Keeping(EndpointRecipe(url=server.url, model="bigram", **options))


def table(policy: BigramPolicy) -> Tensor:
    return policy.table.detach().clone()


@pytest.fixture
def policy() -> BigramPolicy:
    return BigramPolicy(WORDS)


@pytest.fixture
def server(policy: BigramPolicy, monkeypatch: pytest.MonkeyPatch) -> Iterator[PolicyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(PolicyServer(policy)) as found:
        yield found


def test_training_through_a_server_that_follows_the_policy_gains_as_much(
    policy: BigramPolicy, server: PolicyServer
) -> None:
    config = CONFIG.model_copy(update={"steps": 15, "lr": 0.1})
    gains = []
    for own, sampler in ((policy, sampler_of(server)), (BigramPolicy(WORDS), None)):
        trainer, log = run_of(own, sampler, config=config)
        trainer.run()
        rewards = [row["train/reward"] for row in log.rows]
        gains.append(sum(rewards[-3:]) - sum(rewards[:3]))
        assert max(row["train/ratio_error"] for row in log.rows if "train/ratio_error" in row) < 1e-5
        assert trainer.meters.forward_tokens == 0, "nobody had to compute a log-prob anew"
    assert server.n_asked == 15 * ASKED_A_STEP
    assert gains[0] > 1
    assert gains[0] == pytest.approx(gains[1], abs=0.5)


@pytest.mark.parametrize(
    ("tells", "options", "loop", "label"),
    [
        ("ids", {}, {}, FROM_SERVER),
        ("tokens", {}, {}, FROM_SERVER),
        ("tokens", {"api": "chat"}, {}, FROM_SERVER),
        ("ids", {"api": "chat"}, {}, FROM_SERVER),
        ("nothing", {}, {}, RECOMPUTED),
        ("ids", {"log_probs": False}, {}, RECOMPUTED),
        ("ids", {}, {"temperature": 0.7}, RECOMPUTED),
        ("ids", {}, {"top_p": 0.9}, RECOMPUTED),
    ],
)
def test_log_probs_are_the_servers_or_the_policys_and_the_record_says_which(
    policy: BigramPolicy, server: PolicyServer, tells: Tells, options: dict[str, Any], loop: dict[str, Any], label: str
) -> None:
    server.tells, sampler = tells, sampler_of(server, **options)
    trainer, log = run_of(policy, sampler, config=CONFIG.model_copy(update=loop))
    trainer.run(until=1)
    assert {one.sampler for one in sampler.seen} == {label}
    assert {bool(one.log_probs) for one in sampler.seen} == {label == FROM_SERVER}
    assert log.rows[0]["train/endpoint/recomputed"] == float(label == RECOMPUTED)
    n_tokens = sum(len(one.completion_ids) for one in sampler.seen) + 2 * ASKED_A_STEP
    assert trainer.meters.forward_tokens == (n_tokens if label == RECOMPUTED else 0)
    assert log.rows[0]["train/ratio_error"] < 1e-5


def test_a_server_with_older_weights_gives_ratios_other_than_one(policy: BigramPolicy, server: PolicyServer) -> None:
    server.policy = BigramPolicy(WORDS, seed=9)
    trainer, log = run_of(policy, sampler_of(server))
    trainer.run(until=1)
    assert log.rows[0]["train/ratio_error"] > 0.1


BREAKDOWNS = [
    (Response("<html>"), "does not speak the OpenAI protocol: its answer is no JSON", Unavailable),
    (Response('{"choices": [{"text": 3}]}'), "its answer holds no text", Unavailable),
    (
        Response('{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [0.5]}}]}'),
        "log-prob of 'a' is 0.5",
        Unavailable,
    ),
    (Response('{"choices": [{"text": "a", "logprobs": {"tokens": 3}}]}'), "log-probs are not of", Unavailable),
    (Response("{}", 500), "failed with status 500", Unavailable),
    (Response('{"choices": [{"text": "hello"}]}'), r"prompt 'p\d+' with text that the policy has no", InvalidInput),
]


@pytest.mark.parametrize(("reply", "said", "kind"), BREAKDOWNS)
def test_nonsense_ends_the_run_in_one_sentence_and_resuming_gives_the_undisturbed_run(
    policy: BigramPolicy,
    server: PolicyServer,
    reply: Response,
    said: str,
    kind: type[FacetrailError],
    tmp_path: Path,
) -> None:
    config = CONFIG.model_copy(update={"checkpoint_every": 2})
    start = table(policy)
    run_of(policy, sampler_of(server), config=config)[0].run()
    undisturbed = table(policy)
    with torch.no_grad():
        policy.table.copy_(start)
    server.answer, server.n_asked, server.breaks_after = reply, 0, 3 * ASKED_A_STEP + 5
    trainer, _ = run_of(policy, sampler_of(server), config=config, folder=tmp_path)
    with pytest.raises(kind, match=said) as caught:
        trainer.run()
    assert "\n" not in str(caught.value)
    newest = checkpoint_folders(tmp_path / "checkpoints")[0]
    # A server may come back, so the third step is kept as well; text without tokens is the wrong model.
    assert newest.name == ("step-00000003" if kind is Unavailable else "step-00000002")
    server.breaks_after = 10**9
    trainer, _ = run_of(policy, sampler_of(server), config=config, folder=tmp_path)
    trainer.run(resume=True)
    assert torch.equal(table(policy), undisturbed)


def test_a_slow_server_is_not_waited_for(policy: BigramPolicy, server: PolicyServer, tmp_path: Path) -> None:
    server.breaks_after, server.release = ASKED_A_STEP, threading.Event()
    trainer, _ = run_of(policy, sampler_of(server, timeout=0.5), folder=tmp_path)
    try:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.5 s; raise the timeout"):
            trainer.run()
    finally:
        server.release.set()
    assert checkpoint_folders(tmp_path / "checkpoints")[0].name == "step-00000001"


def test_a_server_that_goes_down_is_named(policy: BigramPolicy, tmp_path: Path) -> None:
    with serving(PolicyServer(policy)) as server:
        trainer, _ = run_of(policy, sampler_of(server), folder=tmp_path)
        trainer.run(until=1)
    with pytest.raises(Unavailable, match="no server answers at http://127"):
        trainer.run()
    assert checkpoint_folders(tmp_path / "checkpoints")[0].name == "step-00000001"


def test_an_unset_key_and_a_missing_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(InvalidInput, match="NO_SUCH_KEY holds no API key"):
        EndpointRecipe(url="http://127.0.0.1:1/v1", model="m", key_variable="NO_SUCH_KEY").open()
    with pytest.raises(InvalidInput, match="which model"):
        EndpointRecipe(url="http://127.0.0.1:1/v1").open()
