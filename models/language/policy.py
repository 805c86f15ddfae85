"""The two seams of language models: what answers text, and what can be trained."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from facetrail.models.language.records import DrawKey, Kind, Prompt, Rollout, Sampling, Tokenizer


class LanguageModel(Protocol):
    """Whatever writes text: a folder of weights, a server, or a small model made from a config."""

    kind: Kind
    name: str

    def generate(self, prompts: Sequence[Prompt], n: int, *, sampling: Sampling, key: DrawKey) -> list[Rollout]:
        """n completions of each prompt, those of the first prompt first."""

    def score(self, prompt: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        """Sum of the log-probs of each continuation after the prompt. → (len(continuations),)."""


class Policy(LanguageModel, Protocol):
    """A language model whose weights are here.

    Rows are padded: prompt_ids (n, p) on the left, completion_ids (n, t) on the right; the masks are True at real
    tokens, and position ids count real tokens only. `module` holds every parameter.
    """

    tokenizer: Tokenizer

    @property
    def module(self) -> nn.Module:
        """The network."""

    @property
    def context(self) -> int:
        """The most tokens of prompt and completion together."""

    @property
    def fingerprint(self) -> str:
        """Hash of config, weights and tokenizer."""

    def log_probs(
        self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, mask: Tensor, *, temperature: float
    ) -> Tensor:
        """Log-prob of each completion token under logits / temperature. → (n, t) float32, 0 where mask is False."""

    def hidden_states(self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, mask: Tensor) -> Tensor:
        """Last states (after the final norm) at the completion's tokens. → (n, t, d)."""

    def trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The parameters that learn: all, or an adapter's."""
