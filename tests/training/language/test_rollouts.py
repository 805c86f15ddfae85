"""The stream of prompts, padding, verdicts and what a sample survives."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.language.records import Prompt, Rollout, Verdict
from facetrail.training.language.hooks import Agent, Reward, Step
from facetrail.training.language.parts import WeightedReward
from facetrail.training.language.rollouts import (
    PromptStream,
    Sample,
    collate,
    from_plain,
    group_ids,
    judged,
    padded,
    to_plain,
)
from facetrail.training.language.update import minibatches

PROMPTS = [Prompt(f"p{i}", "a", "b") for i in range(10)]
CPU = torch.device("cpu")


def rollout(prompt_id: str = "p0", sample: int = 0, ids: tuple[int, ...] = (5, 2)) -> Rollout:
    return Rollout(prompt_id, sample, ids, "x", "eos", log_probs=tuple(-0.1 * i for i in ids))


def sample(prompt_ids: tuple[int, ...], ids: tuple[int, ...], block: int = 0) -> Sample:
    one = rollout(ids=ids)
    return Sample(one, prompt_ids, ids, advantage=0.5, behaviour_log_probs=one.log_probs, block=block)


def test_stream_covers_its_pool_once_a_pass_in_a_new_order() -> None:
    stream = PromptStream(PROMPTS, seed=1)
    first = [one.prompt_id for _ in range(5) for one in stream.take(2)]
    second = [one.prompt_id for _ in range(5) for one in stream.take(2)]
    assert sorted(first) == sorted(second) == sorted(one.prompt_id for one in PROMPTS)
    assert first != second


def test_stream_never_gives_a_prompt_twice_in_a_step() -> None:
    stream = PromptStream(PROMPTS, seed=1)
    for _ in range(20):
        assert len({one.prompt_id for one in stream.take(7)}) == 7


def test_stream_goes_on_from_its_state() -> None:
    stream, other = PromptStream(PROMPTS, seed=1), PromptStream(PROMPTS, seed=1)
    for _ in range(4):
        stream.take(3)
    other.load(json.loads(json.dumps(stream.state())))
    assert [stream.take(3) for _ in range(6)] == [other.take(3) for _ in range(6)]
    with pytest.raises(Conflict, match="10 prompts"):
        PromptStream(PROMPTS[:9], seed=1).load(stream.state())
    with pytest.raises(InvalidInput, match="make the pool larger"):
        stream.take(11)
    with pytest.raises(InvalidInput, match="share an id"):
        PromptStream([*PROMPTS, PROMPTS[0]], seed=1)


def test_prompts_are_padded_left_and_completions_right() -> None:
    batch = collate([sample((1, 7), (5, 2)), sample((1, 7, 8), (5, 6, 2))], pad_id=0, device=CPU)
    assert batch.prompt_ids.tolist() == [[0, 1, 7], [1, 7, 8]]
    assert batch.prompt_mask.tolist() == [[False, True, True], [True, True, True]]
    assert batch.completion_ids.tolist() == [[5, 2, 0], [5, 6, 2]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.behaviour_log_probs[0].tolist() == pytest.approx([-0.5, -0.2, 0.0])
    assert batch.n_tokens == 10
    assert padded([], 0, left=True)[0].shape == (0, 0)


def test_own_samples_without_log_probs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="0 behaviour log-probs"):
        collate([replace(sample((1,), (5, 2)), behaviour_log_probs=())], pad_id=0, device=CPU)


def test_verdicts_are_attached_and_bad_ones_named() -> None:
    verdicts = [Verdict(1.0, parts={"process": 0.5}), Verdict(None, "timeout")]
    first, second = judged([rollout(), rollout(sample=1)], verdicts)
    assert (first.reward, first.reward_parts, second.reward, second.failure) == (1.0, {"process": 0.5}, None, "timeout")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="rollout 3 of prompt 'p7'"):
            judged([rollout("p7", 3)], [Verdict(bad)])
    with pytest.raises(InvalidInput, match="1 rollouts got 0 verdicts"):
        judged([rollout()], [])


def test_groups_are_of_one_prompt_and_step() -> None:
    rollouts = [rollout("p1"), rollout("p0"), rollout("p1", 1), replace(rollout("p1"), born_step=3)]
    assert group_ids(rollouts).tolist() == [0, 1, 0, 2]


def test_samples_survive_json() -> None:
    one = replace(sample((1, 7), (5, 2)), source_mean_log_prob=-0.1234567890123)
    assert from_plain(json.loads(json.dumps(to_plain(one)))) == one


def test_minibatches_keep_blocks_apart_and_every_sample_once() -> None:
    rows = [sample((1, i), (5, 2), block=i % 2) for i in range(10)]
    parts = minibatches(rows, 2, np.random.default_rng(0))
    assert [{one.block for one in part} for part in parts] == [{0}, {0}, {1}, {1}]
    assert [len(part) for part in parts] == [2, 3, 2, 3]
    assert sorted(one.prompt_ids for part in parts for one in part) == sorted(one.prompt_ids for one in rows)
    assert minibatches(rows[::2], 1, None) == [rows[::2]]
    assert minibatches(rows[:1], 4, None) == [rows[:1]]


class Constant(Reward):
    """Says the same of all."""

    def __init__(self, name: str, reward: float | None) -> None:
        self.name, self._reward = name, reward

    def score(self, agent: Agent, rollouts, step: Step, hidden):  # type: ignore[no-untyped-def]
        return [Verdict(self._reward, "" if self._reward is not None else "no verdict", {"x": 0.25}) for _ in rollouts]


def test_rewards_are_summed_with_their_weights() -> None:
    both = WeightedReward([(Constant("a", 1.0), 2.0), (Constant("b", 0.5), -1.0)])
    (verdict,) = both.score(None, [rollout()], None, None)  # type: ignore[arg-type]
    assert verdict == Verdict(1.5, "", {"a": 1.0, "b": 0.5, "a/x": 0.25, "b/x": 0.25})
    silent = WeightedReward([(Constant("a", 1.0), 2.0), (Constant("b", None), 1.0)])
    (verdict,) = silent.score(None, [rollout()], None, None)  # type: ignore[arg-type]
    assert (verdict.reward, verdict.failure) == (None, "no verdict")
    with pytest.raises(InvalidInput, match="share a name"):
        WeightedReward([(Constant("a", 1.0), 2.0), (Constant("a", 0.5), 1.0)])
