"""Drawing tokens by inverse transform: which token comes depends on the row's own uniforms, never on its neighbours.

Ours throughout. A row's uniforms come from `DrawKey.generator`, all of them before the first token, so no global random
state exists and nothing drawn elsewhere moves a row. The token is the first whose cumulative probability, in float64
and in the order of ids, exceeds u times the total; a token of probability 0 adds nothing and can never be that first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.records import DrawKey, Finish, Sampling

DROP_BELOW = 0.75
"""Ended rows leave the batch once fewer than this share still write: copying the cache at every end costs more."""

PART = 128
"""Tokens of a prompt that are read at once while somebody listens: more would let nobody stop for a second."""


class Decoding(Protocol):
    """A batch that a model is writing, with its key-value cache."""

    def start(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Reads prompts padded on the left. ids: (n, p) int64 · mask: (n, p) bool → logits of the next token (n, v)."""

    def extend(self, ids: Tensor) -> Tensor:
        """Reads more of prompts without padding. ids: (n, t) int64 → logits of the next token (n, v)."""

    def judge(self, ids: Tensor) -> Tensor:
        """As `extend` → logits after each of the tokens (n, t, v)."""

    def step(self, tokens: Tensor) -> Tensor:
        """Appends one token to every row. tokens: (n,) int64 → logits of the next (n, v)."""

    def take(self, rows: Tensor) -> None:
        """Goes on with these rows, in this order; a row may occur twice. rows: (m,) int64."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One row as it was drawn. log_probs: under logits / temperature, empty where the sampling was not plain."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Row:
    """What to write: after which of the prompts, with which uniforms (limit,), and at most how many tokens."""

    prompt: int
    uniforms: np.ndarray[tuple[int], np.dtype[np.float64]]
    limit: int


def row_of(key: DrawKey, prompt_id: str, sample: int, *, prompt: int, limit: int, is_greedy: bool = False) -> Row:
    """A row with its own uniforms; fewer of them are the beginning of more. A greedy row needs none: all are 0."""
    uniforms = np.zeros(limit) if is_greedy else key.generator(prompt_id, sample).random(limit)
    return Row(prompt=prompt, uniforms=uniforms, limit=limit)


def check_sampling(sampling: Sampling) -> None:
    """Raises InvalidInput for a temperature, top_p or length that means nothing."""
    if not 0 <= sampling.temperature < float("inf"):
        raise InvalidInput(
            f"a temperature of {sampling.temperature} means nothing; use 0 (the likeliest token) or more",
            pointer="/temperature",
        )
    if not 0 < sampling.top_p <= 1:
        raise InvalidInput(f"top_p {sampling.top_p} is no share; use more than 0 and at most 1", pointer="/top_p")
    if sampling.max_new_tokens < 1:
        raise InvalidInput(
            f"a completion of {sampling.max_new_tokens} tokens is none; ask for 1 or more", pointer="/max_new_tokens"
        )


def sampler_name(sampling: Sampling) -> str:
    """What a rollout says of how it was drawn."""
    if sampling.is_plain:
        return "plain"
    return "greedy" if sampling.temperature == 0 else "top-p"


def draw(logits: Tensor, uniforms: Tensor, *, temperature: float, top_p: float = 1.0) -> tuple[Tensor, Tensor]:
    """One token a row. logits: (n, v) · uniforms: (n,) float64 in [0, 1) → tokens (n,) int64, log-probs (n,) float64.

    temperature 0: the likeliest, of equals the lowest id. The log-probs are those of logits / temperature without
    truncation (temperature 0: of the logits). Raises InvalidInput where the logits are no numbers.
    """
    log_probs = (logits.double() / (temperature or 1.0)).log_softmax(-1)
    if temperature == 0:
        best, tokens = log_probs.max(-1)
        _check_numbers(best)
        return logits.argmax(-1), best
    probabilities = log_probs.exp()
    if top_p < 1:
        probabilities = nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1]
    _check_numbers(total)
    # u < 1, so u · total < total even when rounded: some token always exceeds it.
    tokens = torch.searchsorted(cumulative, (uniforms * total).unsqueeze(1), right=True)
    return tokens.squeeze(1), log_probs.gather(1, tokens).squeeze(1)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The smallest set of likeliest tokens that holds top_p of the mass; the others become 0. (n, v) → (n, v).

    Of equally likely tokens the lower id goes in first. Not normalised.
    """
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = before < top_p * ordered.sum(-1, keepdim=True)
    kept[:, 0] = True
    return torch.zeros_like(probabilities).scatter(-1, ids, ordered * kept)


@torch.inference_mode()
def write(
    decoding: Decoding,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    *,
    sampling: Sampling,
    eos_id: int,
    pad_id: int,
    device: torch.device,
) -> list[Drawn]:
    """Writes every row to its end token or its limit. prompts: token ids, read once however many rows follow each."""
    longest, n = max(row.limit for row in rows), len(rows)
    uniforms = _side_by_side(rows, longest)
    limits = torch.tensor([row.limit for row in rows])
    tokens_of = torch.full((n, longest), pad_id)
    log_probs_of = torch.zeros(n, longest, dtype=torch.float64)
    ids, mask = left_padded(prompts, pad_id)
    chosen = torch.tensor([row.prompt for row in rows])
    logits = decoding.start(ids.to(device), mask.to(device))
    if not torch.equal(chosen, torch.arange(len(prompts))):
        decoding.take(chosen.to(device))
        logits = logits[chosen.to(device)]
    alive, writes = torch.arange(n), torch.ones(n, dtype=torch.bool)
    for t in range(longest):
        # On the CPU: the order of a sum on an accelerator is its own, and cumulative probabilities must not fall.
        tokens, log_probs = draw(
            logits.cpu(), uniforms[alive, t], temperature=sampling.temperature, top_p=sampling.top_p
        )
        tokens_of[alive, t], log_probs_of[alive, t] = tokens, log_probs
        writes = writes & (tokens != eos_id) & (limits[alive] > t + 1)
        n_writing = int(writes.sum())
        if n_writing == 0:
            break
        if n_writing < DROP_BELOW * len(alive):
            kept = writes.nonzero().squeeze(1)
            decoding.take(kept.to(device))
            alive, tokens, writes = alive[kept], tokens[kept], writes[kept]
        logits = decoding.step(tokens.to(device))
    return [
        _drawn(ids, log_probs, row.limit, eos_id, is_plain=sampling.is_plain)
        for row, ids, log_probs in zip(rows, tokens_of.tolist(), log_probs_of.tolist(), strict=True)
    ]


def write_one(
    decoding: Decoding, prompt: Sequence[int], row: Row, *, sampling: Sampling, eos_id: int, device: torch.device
) -> Iterator[int | None]:
    """One row's tokens as they are drawn, the end token included; the same as `write` draws.

    None stands for a part of the prompt that has been read. Whoever stops asking stops the model.
    """
    ids, uniforms = torch.tensor([prompt], device=device), torch.from_numpy(row.uniforms)
    # The mode is left at every yield: the reader's own tensors are no business of ours.
    with torch.inference_mode():
        logits = decoding.start(ids[:, :PART], torch.ones_like(ids[:, :PART], dtype=torch.bool))
    for first in range(PART, len(prompt), PART):
        yield None
        with torch.inference_mode():
            logits = decoding.extend(ids[:, first : first + PART])
    for t in range(row.limit):
        with torch.inference_mode():
            tokens, _ = draw(logits.cpu(), uniforms[t : t + 1], temperature=sampling.temperature, top_p=sampling.top_p)
        yield int(tokens)
        if int(tokens) == eos_id or t + 1 == row.limit:
            return
        with torch.inference_mode():
            logits = decoding.step(tokens.to(device))


def left_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids with padding before them, and where they are real. → (n, longest) int64, bool."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (longest - len(row)) + list(row) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(longest) >= longest - lengths.unsqueeze(1)


def _side_by_side(rows: Sequence[Row], longest: int) -> Tensor:
    """The uniforms of all rows, 0 beyond each one's limit. → (n, longest) float64."""
    uniforms = np.zeros((len(rows), longest))
    for held, row in zip(uniforms, rows, strict=True):
        held[: row.limit] = row.uniforms
    return torch.from_numpy(uniforms)


def _drawn(ids: list[int], log_probs: list[float], limit: int, eos_id: int, *, is_plain: bool) -> Drawn:
    """A row up to its end; what a carried row drew after it is thrown away."""
    ended = eos_id in ids[:limit]
    end = ids.index(eos_id) + 1 if ended else limit
    return Drawn(tuple(ids[:end]), tuple(log_probs[:end]) if is_plain else (), "eos" if ended else "length")


def _check_numbers(values: Tensor) -> None:
    if not values.isfinite().all():
        raise InvalidInput(
            "the model's logits are no numbers: its weights have diverged; lower the learning rate, or go back to an "
            "earlier checkpoint"
        )
