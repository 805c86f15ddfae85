"""The nouns of post-training: what is asked, what a policy wrote, and what was made of it."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

Kind = Literal["local", "endpoint", "tiny"]
"""What speaks: a folder of weights, a server, or a small model made from a config."""
Finish = Literal["eos", "length", "forced"]
"""How a completion ended: by its own end token, at the limit, or by a sampler that closed it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One item of a task.

    text: what every agent reads, whatever its tokenizer · answer: what the verifier compares with, as text · steps: the
    results that a full derivation contains, in order; empty where a task has none · facts: what else a verifier needs.
    """

    prompt_id: str
    text: str
    answer: str
    steps: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion and its verdict.

    completion_ids: the generated tokens, the end token included where one was drawn · text: their decoding without the
    end token · log_probs: of each token under the policy that drew it, at `temperature` and without truncation; empty
    where the sampler was not plain and behaviour log-probs must be computed · reward: None means no verdict: kept for
    the log, left out of the group's statistics, advantage 0 · failure: why a reward is missing or 0, for people.
    """

    prompt_id: str
    sample: int
    completion_ids: tuple[int, ...]
    text: str
    finish: Finish
    source_id: str = ""
    """The agent that wrote it."""
    policy_version: int = 0
    """Optimiser steps of that agent when it wrote it."""
    log_probs: tuple[float, ...] = ()
    sampler: str = "plain"
    temperature: float = 1.0
    reward: float | None = None
    reward_parts: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    born_step: int = 0
    n_used: int = 0
    """How often it has been trained on before."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one completion. parts: further named scores in [0, 1], outside the reward."""

    reward: float | None
    failure: str = ""
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. temperature 0 takes the likeliest token, of equals the lowest id."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64

    @property
    def is_plain(self) -> bool:
        """Whether the log-probs seen while drawing are those of the policy at the temperature."""
        return self.top_p >= 1.0 and self.temperature > 0


@dataclass(frozen=True, slots=True)
class DrawKey:
    """Names a stream of random numbers, so that no sampler depends on what was drawn elsewhere or before.

    Row i draws from a generator seeded by a hash of (seed, stream, step, agent, prompt_id, sample).
    """

    seed: int
    stream: str = "rollouts"
    step: int = 0
    agent: str = ""

    def generator(self, prompt_id: str, sample: int) -> np.random.Generator:
        """The row's own generator."""
        parts = (str(self.seed), self.stream, str(self.step), self.agent, prompt_id, str(sample))
        # Lengths before the parts: ("a", "bc") and ("ab", "c") must differ.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        digest = hashlib.sha256(text.encode()).digest()
        # The first 16 bytes as four words, lowest first: NumPy seeds by them twice as fast as by one integer.
        return np.random.default_rng(np.frombuffer(digest[15::-1], "<u4"))


class Tokenizer(Protocol):
    """Text to ids and back. `decode(encode(text)) == text` for any text over its vocabulary."""

    pad_id: int
    bos_id: int | None
    eos_id: int

    @property
    def n_tokens(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone: no token is added. Raises InvalidInput for text it cannot express."""

    def encode_prompt(self, text: str) -> list[int]:
        """Ids a model reads before it writes: begin token or chat template included."""

    def decode(self, ids: "list[int] | tuple[int, ...]") -> str:
        """Text of ids; pad and end tokens vanish, every other token, `</think>` among them, stays."""


class Task(Protocol):
    """Items with verifiable answers."""

    name: str

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        """n different items. Splits never share an item: `train`, `dev`, `test`."""

    def canonical(self, prompt: Prompt) -> str:
        """A right completion in full, without the end token: what supervised training imitates."""

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict: ...
