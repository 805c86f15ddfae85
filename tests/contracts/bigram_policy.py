"""The smallest policy there is: the next token depends on the last one only. Exact, fast, trainable."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facetrail.models.language.records import DrawKey, Finish, Prompt, Rollout, Sampling
from facetrail.models.language.vocabulary import WordTokenizer


class BigramPolicy:
    """A table of logits (n_tokens, n_tokens): row = the last token, column = the next."""

    kind: Literal["local", "endpoint", "tiny"] = "tiny"
    name = "bigram"
    context = 1_000

    def __init__(self, words: Sequence[str], *, seed: int = 0, scale: float = 1.0) -> None:
        self.tokenizer = WordTokenizer.of(words)
        n = self.tokenizer.n_tokens
        self.module: nn.Module = nn.Embedding(n, n)
        self.table = next(self.module.parameters())
        with torch.no_grad():
            self.table.copy_(scale * torch.randn(n, n, generator=torch.Generator().manual_seed(seed)))
            self.table[:, [self.tokenizer.pad_id, 1]] = -30.0  # pad and begin token are never drawn

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.table.detach().numpy().tobytes()).hexdigest()

    def trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        return self.module.named_parameters()

    def generate(self, prompts: Sequence[Prompt], n: int, *, sampling: Sampling, key: DrawKey) -> list[Rollout]:
        return [self._one(prompt, sample, sampling, key) for prompt in prompts for sample in range(n)]

    @torch.no_grad()
    def _one(self, prompt: Prompt, sample: int, sampling: Sampling, key: DrawKey) -> Rollout:
        rng = key.generator(prompt.prompt_id, sample)
        last, ids, log_probs = self.tokenizer.encode_prompt(prompt.text)[-1], list[int](), list[float]()
        finish: Finish = "length"
        while len(ids) < sampling.max_new_tokens and finish == "length":
            values = (self.table[last] / (sampling.temperature or 1.0)).log_softmax(0)
            cumulative = values.double().exp().cumsum(0)
            last = int(values.argmax() if not sampling.temperature else (cumulative <= rng.random()).sum())
            ids.append(last)
            log_probs.append(float(values[last]))
            finish = "eos" if last == self.tokenizer.eos_id else "length"
        return Rollout(
            prompt_id=prompt.prompt_id,
            sample=sample,
            completion_ids=tuple(ids),
            text=self.tokenizer.decode(ids),
            finish=finish,
            log_probs=tuple(log_probs) if sampling.is_plain else (),
            temperature=sampling.temperature,
        )

    def log_probs(
        self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, mask: Tensor, *, temperature: float
    ) -> Tensor:
        before = torch.cat([prompt_ids[:, -1:], completion_ids[:, :-1]], 1)
        logits = self.module(before) / temperature
        found: Tensor = logits.log_softmax(-1).gather(-1, completion_ids.unsqueeze(-1)).squeeze(-1)
        return found.masked_fill(~mask, 0)

    def hidden_states(self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.module(completion_ids)
        return found

    def score(self, prompt: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        last = self.tokenizer.encode_prompt(prompt)[-1]
        sums = []
        for text in continuations:
            ids = [last, *self.tokenizer.encode(text)]
            values = self.table.detach().double().log_softmax(-1)
            sums.append(float(sum(values[a, b] for a, b in pairwise(ids))))
        return np.array(sums)
