"""From prompts to what an agent learns from: stream of prompts, verdicts, padded batches, passes without gradient."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.language.advantages import reward_tensor, zero_variance_rate
from facetrail.models.language.policy import Policy
from facetrail.models.language.records import DrawKey, Prompt, Rollout, Tokenizer, Verdict
from facetrail.training.language.meters import Meters


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion as one agent learns from it, in that agent's tokens."""

    rollout: Rollout
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    advantage: float
    behaviour_log_probs: tuple[float, ...] = ()
    """Of each completion token under the policy that drew it; empty for another agent's completion."""
    is_own: bool = True
    source_mean_log_prob: float = 0.0
    """Over the source's own tokens; read where the completion is another agent's."""
    weight: float = 1.0
    """Of the completion in the loss, for losses that weigh."""
    block: int = 0
    """Minibatches never mix blocks, and lower blocks come first: own completions 0, other agents' from 1 on."""

    @property
    def n_tokens(self) -> int:
        """Prompt and completion tokens."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """n samples as tensors. Prompts (n, p) are padded on the left, completions (n, t) on the right."""

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    mask: Tensor
    """(n, t) bool: generated tokens, the end token included."""
    behaviour_log_probs: Tensor
    """(n, t) float32, or float64 where the weights are; 0 at padding and at other agents' completions."""
    advantages: Tensor
    """(n,) of the same dtype, as the three that follow."""
    weights: Tensor
    source_mean_log_probs: Tensor
    rewards: Tensor
    is_own: Tensor
    """(n,) bool."""

    @property
    def n_tokens(self) -> int:
        """Real tokens of prompts and completions."""
        return int(self.prompt_mask.sum()) + int(self.mask.sum())


def own_sample(prompt: Prompt, rollout: Rollout, tokenizer: Tokenizer, advantage: float) -> Sample:
    """An agent's own rollout, its ids as sampled."""
    return Sample(
        rollout=rollout,
        prompt_ids=tuple(tokenizer.encode_prompt(prompt.text)),
        completion_ids=rollout.completion_ids,
        advantage=advantage,
        behaviour_log_probs=rollout.log_probs,
    )


def collate(
    samples: Sequence[Sample], *, pad_id: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Batch:
    """Pads samples to one batch. dtype: of everything real-valued.

    Raises InvalidInput for an own completion without a log-prob for each token.
    """
    for sample in samples:
        if sample.is_own and len(sample.behaviour_log_probs) != len(sample.completion_ids):
            raise InvalidInput(
                f"{named(sample.rollout)} has {len(sample.completion_ids)} tokens and "
                f"{len(sample.behaviour_log_probs)} behaviour log-probs; compute them when it is sampled"
            )
    prompts, prompt_mask = padded([s.prompt_ids for s in samples], pad_id, left=True)
    completions, mask = padded([s.completion_ids for s in samples], pad_id, left=False)
    behaviour = torch.zeros(completions.shape, dtype=dtype)
    for row, sample in enumerate(samples):
        behaviour[row, : len(sample.behaviour_log_probs)] = torch.tensor(sample.behaviour_log_probs, dtype=dtype)
    rewards = [0.0 if s.rollout.reward is None else s.rollout.reward for s in samples]
    return Batch(
        prompt_ids=prompts.to(device),
        prompt_mask=prompt_mask.to(device),
        completion_ids=completions.to(device),
        mask=mask.to(device),
        behaviour_log_probs=behaviour.to(device),
        advantages=torch.tensor([s.advantage for s in samples], dtype=dtype, device=device),
        weights=torch.tensor([s.weight for s in samples], dtype=dtype, device=device),
        source_mean_log_probs=torch.tensor([s.source_mean_log_prob for s in samples], dtype=dtype, device=device),
        rewards=torch.tensor(rewards, dtype=dtype, device=device),
        is_own=torch.tensor([s.is_own for s in samples], dtype=torch.bool, device=device),
    )


def padded(rows: Sequence[tuple[int, ...]], pad_id: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Rows of ids, padded on one side, and where they are real. → (n, longest) int64, bool."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))[:, None]
    longest = int(lengths.max(initial=0))
    places = np.arange(longest)
    real = places >= longest - lengths if left else places < lengths
    ids = np.full(real.shape, pad_id, np.int64)
    ids[real] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    return torch.from_numpy(ids), torch.from_numpy(real)


def judged(rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]) -> list[Rollout]:
    """The rollouts with their verdicts. Raises InvalidInput for a reward that is infinite or no number."""
    if len(rollouts) != len(verdicts):
        raise InvalidInput(f"{len(rollouts)} rollouts got {len(verdicts)} verdicts; a reward answers for every rollout")
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        if verdict.reward is not None and not math.isfinite(verdict.reward):
            raise InvalidInput(
                f"the reward of {named(rollout)} is {verdict.reward}; a reward must be finite, or None where there is "
                "no verdict"
            )
    return [
        replace(rollout, reward=verdict.reward, reward_parts=dict(verdict.parts), failure=verdict.failure)
        for rollout, verdict in zip(rollouts, verdicts, strict=True)
    ]


def group_ids(rollouts: Sequence[Rollout]) -> Tensor:
    """A number for each rollout, equal for rollouts of one prompt and step. → (n,) int64."""
    numbers: dict[tuple[int, str], int] = {}
    keys = [(rollout.born_step, rollout.prompt_id) for rollout in rollouts]
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys], dtype=torch.int64)


def figures_of(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What an agent's rollouts look like. Entropy is estimated from the log-probs of plainly drawn tokens."""
    rewards, valid = reward_tensor([one.reward for one in rollouts], dtype=torch.float64)
    log_probs = [value for one in rollouts if one.sampler == "plain" for value in one.log_probs]
    n = max(1, len(rollouts))
    return {
        "reward": float(rewards[valid].mean()) if valid.any() else math.nan,
        "reward_std": float(rewards[valid].std(correction=0)) if valid.any() else math.nan,
        "no_verdict": sum(one.reward is None for one in rollouts) / n,
        "zero_variance": zero_variance_rate(rewards, group_ids(rollouts), valid),
        "entropy": -sum(log_probs) / len(log_probs) if log_probs else math.nan,
        "cut": sum(one.finish == "length" for one in rollouts) / n,
        "tokens": sum(len(one.completion_ids) for one in rollouts) / n,
    }


def named(rollout: Rollout) -> str:
    """How a message names a rollout."""
    source = f" by {rollout.source_id!r}" if rollout.source_id else ""
    return f"rollout {rollout.sample} of prompt {rollout.prompt_id!r}{source}"


@torch.no_grad()
def log_probs_of(
    policy: Policy, samples: Sequence[Sample], *, temperature: float, rows: int, meters: Meters
) -> list[tuple[float, ...]]:
    """Log-prob of each completion token under the policy as it is now. rows: at a time; 0: all at once."""
    found: list[tuple[float, ...]] = []
    for part, batch in _batches(policy, samples, rows):
        values = policy.log_probs(
            batch.prompt_ids, batch.prompt_mask, batch.completion_ids, batch.mask, temperature=temperature
        )
        meters.forward_tokens += batch.n_tokens
        found += [tuple(row[: len(s.completion_ids)].tolist()) for row, s in zip(values, part, strict=True)]
    return found


@torch.no_grad()
def hidden_of(policy: Policy, samples: Sequence[Sample], *, rows: int, meters: Meters) -> list[Tensor]:
    """Last states at each sample's completion tokens, (t_i, d) each, without a graph."""
    found: list[Tensor] = []
    for part, batch in _batches(policy, samples, rows):
        values = policy.hidden_states(batch.prompt_ids, batch.prompt_mask, batch.completion_ids, batch.mask)
        meters.forward_tokens += batch.n_tokens
        found += [row[: len(s.completion_ids)].clone() for row, s in zip(values, part, strict=True)]
    return found


def to_plain(sample: Sample) -> dict[str, Any]:
    """A sample as JSON holds it, for hooks that keep old ones in their state."""
    return asdict(sample)


def from_plain(values: Mapping[str, Any]) -> Sample:
    """The sample that `to_plain` was given."""
    fields, rollout = dict(values), dict(values["rollout"])
    for name in ("completion_ids", "log_probs"):
        rollout[name] = tuple(rollout[name])
    for name in ("prompt_ids", "completion_ids", "behaviour_log_probs"):
        fields[name] = tuple(fields[name])
    return Sample(**{**fields, "rollout": Rollout(**rollout)})


class PromptStream:
    """A pool of prompts in an order drawn anew for each pass over it; the position is its whole state.

    A step never holds a prompt twice: what is left of a pass and too short for a step is left out.
    """

    def __init__(self, prompts: Sequence[Prompt], *, seed: int) -> None:
        if len({prompt.prompt_id for prompt in prompts}) != len(prompts):
            raise InvalidInput("two prompts of the pool share an id; give every item its own")
        self._prompts, self._seed = tuple(prompts), seed
        self.n_passes, self.position = 0, 0

    def take(self, n: int) -> list[Prompt]:
        """The next n prompts. Raises InvalidInput where the pool is smaller."""
        if n > len(self._prompts):
            raise InvalidInput(f"a step takes {n} prompts and the pool has {len(self._prompts)}; make the pool larger")
        if self.position + n > len(self._prompts):
            self.n_passes, self.position = self.n_passes + 1, 0
        order = DrawKey(self._seed, "prompts", self.n_passes).generator("", 0).permutation(len(self._prompts))
        taken = [self._prompts[i] for i in order[self.position : self.position + n]]
        self.position += n
        return taken

    def state(self) -> Mapping[str, Any]:
        """Position, and the pool's size to know it by."""
        return {"n_passes": self.n_passes, "position": self.position, "n_prompts": len(self._prompts)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved position. Raises Conflict for another pool."""
        if state["n_prompts"] != len(self._prompts):
            raise Conflict(
                f"the checkpoint's pool had {state['n_prompts']} prompts, this one has {len(self._prompts)}; bring the "
                "pool back or start in another folder"
            )
        self.n_passes, self.position = state["n_passes"], state["position"]


def _batches(policy: Policy, samples: Sequence[Sample], rows: int) -> Iterator[tuple[Sequence[Sample], Batch]]:
    device = next(policy.module.parameters()).device
    step = rows or max(1, len(samples))
    for start in range(0, len(samples), step):
        # Behaviour log-probs are what these passes find out: none is asked for.
        part = [replace(s, is_own=False, behaviour_log_probs=()) for s in samples[start : start + step]]
        yield part, collate(part, pad_id=policy.tokenizer.pad_id, device=device)
