"""Folders of transformers as our seams see them: the tokenizer, the cache, the network and its low-rank adapter.

Nothing is downloaded: a folder holds everything or is refused.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.language.conversation import Message
from facetrail.models.language.decoder import positions_of
from facetrail.models.language.output_matrix import refine

Dtype = Literal["float32", "bfloat16", "float16"]
ADAPTER_CONFIG = "adapter_config.json"


class AdapterConfig(BaseModel):
    """A low-rank adapter (LoRA, arXiv 2106.09685): the only weights that learn beside a frozen model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    """The adapter's output is scaled by alpha / rank."""
    targets: tuple[str, ...] = ()
    """Names of the linear layers it stands beside; empty: all of them but the output."""
    seed: int = 0
    """Of the adapter's first weights."""


class HuggingFaceTokenizer:
    """A tokenizer of transformers. `</think>` and other special tokens are content; only pad and end vanish."""

    pad_id: int
    bos_id: int | None
    eos_id: int

    def __init__(self, tokenizer: Any) -> None:
        """Raises InvalidInput for a tokenizer without an end token, or without the compiled form."""
        if tokenizer.eos_token_id is None:
            raise InvalidInput("the tokenizer has no end token, so no completion could end; set its eos_token")
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise InvalidInput("the tokenizer is of the slow kind; save it as tokenizer.json first")
        self._tokenizer = tokenizer
        self.eos_id, self.bos_id = int(tokenizer.eos_token_id), tokenizer.bos_token_id
        self.pad_id = self.eos_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        is_control = tokenizer.unk_token_id in (self.eos_id, self.pad_id, self.bos_id)
        self._unknown_id: int | None = None if is_control else tokenizer.unk_token_id

    @property
    def n_tokens(self) -> int:
        return len(self._tokenizer)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the compiled tokenizer, the chat template and the control tokens."""
        parts = [
            self._tokenizer.backend_tokenizer.to_str(),
            self._tokenizer.chat_template,
            [self.pad_id, self.bos_id, self.eos_id],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of the text, nothing added. Raises InvalidInput where a part of it has no token."""
        ids = list[int](self._tokenizer.encode(text, add_special_tokens=False))
        if self.eos_id in ids or self.pad_id in ids:
            # The text spells a control token, which would vanish again in decoding; as plain characters it stays.
            ids = list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
        if self._unknown_id is not None and self._unknown_id in ids:
            raise InvalidInput(f"the tokenizer has no token for a part of {text[:80]!r}; leave that part out")
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """As a user's message in the chat template, where there is one; else with the model's own begin token."""
        if self._tokenizer.chat_template:
            message = [{"role": "user", "content": text}]
            return list(
                self._tokenizer.apply_chat_template(
                    message, add_generation_prompt=True, tokenize=True, return_dict=False
                )
            )
        ids = list[int](self._tokenizer.encode(text))
        return ids[:-1] if ids and ids[-1] == self.eos_id else ids  # some add an end, which would end the prompt

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation up to where the answer begins; without a chat template the turns one below the other.

        Raises InvalidInput for turns that the template refuses.
        """
        from jinja2.exceptions import TemplateError

        if not self._tokenizer.chat_template:
            return self.encode_prompt("\n\n".join(message.content for message in messages))
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return list(
                self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
            )
        except TemplateError as error:
            raise InvalidInput(
                f"the model's chat template refuses these messages ({_first_line(error)}); try them without a system "
                "message, user and assistant in turns",
                pointer="/messages",
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        kept = [i for i in ids if i not in (self.pad_id, self.eos_id)]
        return str(self._tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files into a folder."""
        self._tokenizer.save_pretrained(folder)


class CachedTransformer:
    """A batch that a transformers model is writing, with the cache of its own kind."""

    def __init__(self, model: Any, *, context: int) -> None:
        self._model, self._context = model, context

    def start(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Reads prompts padded on the left. ids: (n, p) · mask: (n, p) bool → logits of the next token (n, v)."""
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self._model.config)
        self._position = mask.sum(1)
        self._mask = None if mask.all() else mask.long()
        return self._read(ids, positions_of(mask, self._context))[:, -1]

    def extend(self, ids: Tensor) -> Tensor:
        """Reads more of prompts without padding. ids: (n, t) → logits of the next token (n, v)."""
        return self.judge(ids, n_last=1)[:, -1]

    def judge(self, ids: Tensor, *, n_last: int = 0) -> Tensor:
        """As `extend` → logits after each of the tokens (n, t, v), or after the last ones alone."""
        positions = self._position.unsqueeze(1) + torch.arange(ids.shape[1], device=ids.device)
        logits = self._read(ids, positions.clamp_max(self._context - 1), n_last=n_last or ids.shape[1])
        self._position = self._position + ids.shape[1]
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Appends one token to every row. tokens: (n,) int64 → logits of the next (n, v)."""
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        logits = self._read(tokens.unsqueeze(1), self._position.clamp_max(self._context - 1).unsqueeze(1))
        self._position = self._position + 1
        return logits[:, -1]

    def take(self, rows: Tensor) -> None:
        """Goes on with these rows, in this order; a row may occur twice. rows: (m,) int64."""
        self._cache.batch_select_indices(rows)
        self._position = self._position[rows]
        self._mask = None if self._mask is None else self._mask[rows]

    def _read(self, ids: Tensor, positions: Tensor, *, n_last: int = 1) -> Tensor:
        found = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=n_last,
        )
        logits: Tensor = found.logits
        return logits


def open_network(folder: Path, *, dtype: Dtype, device: str) -> tuple[Any, HuggingFaceTokenizer]:
    """The causal model and the tokenizer of a transformers folder, from its files alone.

    Raises NotFound (no such folder), Damaged (its files cannot be read), InvalidInput (not a causal language model).
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise NotFound(f"{folder} holds no config.json; give a folder saved by transformers")
    try:
        with _without_progress_bar():
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype=getattr(torch, dtype), attn_implementation="sdpa"
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except ValueError as error:
        # transformers says so of classes that it cannot map to a causal model, and of files that contradict each other.
        raise InvalidInput(f"{folder} cannot be opened as a causal language model: {_first_line(error)}") from error
    except (OSError, SafetensorError) as error:
        raise Damaged(f"{folder} is incomplete or unreadable ({_first_line(error)}); copy the folder again") from error
    if isinstance(output := model.get_output_embeddings(), nn.Linear):
        refine(output)
    return model.eval().to(device), HuggingFaceTokenizer(tokenizer)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """transformers draws a bar for weights that open within a second, into the output of whoever asked."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def with_adapter(model: Any, config: AdapterConfig) -> Any:
    """The model, frozen, with a new adapter that changes nothing yet."""
    from peft import LoraConfig, get_peft_model

    targets = list(config.targets) or "all-linear"
    lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets, task_type="CAUSAL_LM")
    try:
        # peft draws from the global generator, whose state is put back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return get_peft_model(model, lora)
    except ValueError as error:
        raise InvalidInput(f"no adapter fits: {_first_line(error)}", pointer="/adapter/targets") from error


def with_saved_adapter(model: Any, folder: Path) -> Any:
    """The model, frozen, with the adapter of a folder, which goes on learning."""
    from peft import PeftModel

    if not (folder / ADAPTER_CONFIG).is_file():
        raise NotFound(f"{folder} holds no {ADAPTER_CONFIG}; give the folder of a saved adapter")
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
