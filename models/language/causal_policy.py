"""What all policies with weights share: writing with a key-value cache, and log-probs and states by one full pass.

The two agree to rounding (1e-5 in float32), so that a policy's ratio to itself is 1.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facetrail.models.errors import InvalidInput
from facetrail.models.language.conversation import Message, Piece, Usage
from facetrail.models.language.records import DrawKey, Finish, Kind, Prompt, Rollout, Sampling, Tokenizer
from facetrail.models.language.sampling import Decoding, check_sampling, row_of, sampler_name, write, write_one


class CausalPolicy(ABC):
    """A kind says how it reads a batch in full, and how it reads with a cache; the rest is here."""

    kind: Kind
    name: str
    tokenizer: Tokenizer
    module: nn.Module
    rows_at_once: int
    """Rows written side by side; more of them need more memory. No row depends on it."""

    @property
    @abstractmethod
    def context(self) -> int: ...

    @abstractmethod
    def save(self, folder: Path) -> object:
        """Writes a folder that opens again, whole or not at all. Raises Conflict where something stands already."""

    @abstractmethod
    def _identity(self) -> str:
        """Everything but weights and tokenizer that decides what the model says."""

    @abstractmethod
    def _decoding(self, room: int) -> Decoding: ...

    @abstractmethod
    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last states. ids: (n, s), 0 where mask (n, s) is False → (n, s, d)."""

    @abstractmethod
    def _last_logits(self, ids: Tensor, mask: Tensor, n_last: int) -> Tensor:
        """Logits at the last n places. → (n, n_last, v)."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of config, tokenizer and weights, the names of the weights included."""
        digest = hashlib.sha256(f"{self.kind}\n{self._identity()}\n{self.tokenizer.fingerprint}\n".encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The parameters that learn: all, or an adapter's."""
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def generate(self, prompts: Sequence[Prompt], n: int, *, sampling: Sampling, key: DrawKey) -> list[Rollout]:
        """n completions of each prompt, those of the first prompt first.

        A completion that reaches the context's end finishes by "length". Raises InvalidInput for a prompt that leaves
        no room for a token.
        """
        check_sampling(sampling)
        encoded = [self.tokenizer.encode_prompt(prompt.text) for prompt in prompts]
        for prompt, ids in zip(prompts, encoded, strict=True):
            self._check_prompt(prompt.prompt_id, len(ids))
        # Prompts of about one length share a batch, which keeps padding small.
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        jobs = [(i, sample) for i in order for sample in range(n)]
        found: dict[tuple[int, int], Rollout] = {}
        for first in range(0, len(jobs), self.rows_at_once):
            part = jobs[first : first + self.rows_at_once]
            found |= zip(part, self._write(prompts, encoded, part, sampling, key), strict=True)
        return [found[i, sample] for i in range(len(prompts)) for sample in range(n)]

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these messages make."""
        return len(self._chat_ids(messages))

    def stream(self, messages: Sequence[Message], *, sampling: Sampling, key: DrawKey) -> Iterator[Piece]:
        """The answer as it is written. Raises InvalidInput for messages that leave no room for a token."""
        check_sampling(sampling)
        prompt = self._chat_ids(messages)
        self._check_prompt("chat", len(prompt))
        limit = min(sampling.max_new_tokens, self.context - len(prompt))
        row = row_of(key, "chat", 0, prompt=0, limit=limit, is_greedy=sampling.temperature == 0)
        tokens = write_one(
            self._decoding(len(prompt) + limit),
            prompt,
            row,
            sampling=sampling,
            eos_id=self.tokenizer.eos_id,
            device=self.device,
        )
        return self._pieces(tokens, len(prompt))

    def _pieces(self, tokens: Iterator[int | None], n_prompt: int) -> Iterator[Piece]:
        ids, said = list[int](), ""
        for token in tokens:
            if token is None:
                yield Piece()
                continue
            ids.append(token)
            text = self.tokenizer.decode(ids)
            # A character of several tokens shows as U+FFFD until its last one is there.
            new = "" if text.endswith("\ufffd") else text[len(said) :]
            said += new
            yield Piece(new)
        finish: Finish = "eos" if ids[-1] == self.tokenizer.eos_id else "length"
        yield Piece(self.tokenizer.decode(ids)[len(said) :], finish, Usage(n_prompt, len(ids)))

    def _chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt of a conversation; where a model knows no turns, their texts in a row."""
        return self.tokenizer.encode_prompt(" ".join(message.content for message in messages))

    def score(self, prompt: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        """Sum of the log-probs of each continuation after the prompt. → (len(continuations),).

        Prompt and continuation are encoded apart, and no end token is scored; an empty continuation scores 0. The
        prompt is read once.
        """
        prompt_ids = self.tokenizer.encode_prompt(prompt)
        rows = [self.tokenizer.encode(text) for text in continuations]
        scores, longest = np.zeros(len(rows)), max(map(len, rows), default=0)
        if not longest:
            return scores
        read = torch.tensor([prompt_ids], device=self.device)
        real = torch.ones_like(read) > 0
        self._joined(read, real, read.new_zeros(1, longest), read.new_ones(1, longest) > 0)  # refuses what has no room
        for first in range(0, len(rows), self.rows_at_once):
            part = rows[first : first + self.rows_at_once]
            with torch.inference_mode():
                scores[first : first + len(part)] = self._after(read, real, part).cpu().numpy()
        return scores

    def _after(self, prompt: Tensor, real: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
        """(n,) float64 log-probs of token rows after one prompt, (1, p), which is read once for all of them."""
        longest = max(map(len, rows))
        if not longest:
            return torch.zeros(len(rows), dtype=torch.float64)
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        there = torch.tensor([[place < len(row) for place in range(longest)] for row in rows], device=self.device)
        decoding = self._decoding(longest)
        logits = decoding.start(prompt, real).unsqueeze(1).expand(len(rows), 1, -1)
        if longest > 1:
            decoding.take(torch.zeros(len(rows), dtype=torch.long, device=self.device))
            # Nobody reads what is said behind the end of a row: what is judged there does not look at it.
            logits = torch.cat([logits, decoding.judge(ids[:, :-1])], 1)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        found = wide.gather(2, ids.unsqueeze(2)).squeeze(2) - wide.logsumexp(2)
        return found.masked_fill(~there, 0).double().sum(1)

    def log_probs(
        self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, mask: Tensor, *, temperature: float
    ) -> Tensor:
        """Log-prob of each completion token under logits / temperature. → (n, t), 0 where mask is False.

        float32, or float64 where the weights are. Raises InvalidInput for a row longer than the context.
        """
        if not 0 < temperature < float("inf"):
            raise InvalidInput(f"log-probs at temperature {temperature} mean nothing; use a number above 0")
        ids, real = self._joined(prompt_ids, prompt_mask, completion_ids, mask)
        places = slice(prompt_ids.shape[1], None)
        # The logits of a token stand one place before it.
        logits = self._last_logits(ids, real, completion_ids.shape[1] + 1)[:, :-1]
        wide = logits if logits.dtype == torch.float64 else logits.float()
        found = (wide / temperature).log_softmax(-1).gather(2, ids[:, places, None]).squeeze(2)
        return found.masked_fill(~real[:, places], 0)

    def hidden_states(self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, mask: Tensor) -> Tensor:
        """Last states (after the final norm) at the completion's tokens. → (n, t, d), 0 where mask is False."""
        ids, real = self._joined(prompt_ids, prompt_mask, completion_ids, mask)
        places = slice(prompt_ids.shape[1], None)
        return self._states(ids, real)[:, places].masked_fill(~real[:, places, None], 0)

    def _write(
        self,
        prompts: Sequence[Prompt],
        encoded: Sequence[Sequence[int]],
        jobs: Sequence[tuple[int, int]],
        sampling: Sampling,
        key: DrawKey,
    ) -> list[Rollout]:
        """One rollout for each (prompt, sample)."""
        wanted = list(dict.fromkeys(i for i, _ in jobs))
        place = {i: j for j, i in enumerate(wanted)}
        limits = [min(sampling.max_new_tokens, self.context - len(encoded[i])) for i, _ in jobs]
        rows = [
            row_of(
                key,
                prompts[i].prompt_id,
                sample,
                prompt=place[i],
                limit=limit,
                is_greedy=sampling.temperature == 0,
            )
            for (i, sample), limit in zip(jobs, limits, strict=True)
        ]
        drawn = write(
            self._decoding(max(limits)),
            [encoded[i] for i in wanted],
            rows,
            sampling=sampling,
            eos_id=self.tokenizer.eos_id,
            pad_id=self.tokenizer.pad_id,
            device=self.device,
        )
        return [
            Rollout(
                prompt_id=prompts[i].prompt_id,
                sample=sample,
                completion_ids=one.ids,
                text=self.tokenizer.decode(one.ids),
                finish=one.finish,
                source_id=key.agent or self.name,
                log_probs=one.log_probs,
                sampler=sampler_name(sampling),
                temperature=sampling.temperature,
            )
            for (i, sample), one in zip(jobs, drawn, strict=True)
        ]

    def _joined(
        self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Prompt and completion as one row, and where it is real. Whatever stood at padding is 0 from here on."""
        if not prompt_mask.shape[1] or not prompt_mask[:, -1].all():
            raise InvalidInput("a row has no prompt that ends where its completion begins; pad prompts on the left")
        real = torch.cat([prompt_mask, mask], 1).to(self.device)
        ids = torch.cat([prompt_ids, completion_ids], 1).to(self.device).masked_fill(~real, 0)
        longest = int(real.sum(1).max()) if real.numel() else 0
        if longest > self.context:
            raise InvalidInput(
                f"a prompt and its completion have {longest} tokens together, and {self.name} reads "
                f"{self.context}; shorten them"
            )
        return ids, real

    def _check_prompt(self, prompt_id: str, n_tokens: int) -> None:
        if not n_tokens:
            raise InvalidInput(f"prompt {prompt_id!r} is empty for {self.name}, which then has nothing to go on from")
        if n_tokens >= self.context:
            raise InvalidInput(
                f"prompt {prompt_id!r} has {n_tokens} tokens, and {self.name} reads at most {self.context} of prompt "
                "and completion together; shorten it"
            )
