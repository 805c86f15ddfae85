"""The two kinds of policy: `tiny`, made from a config, and `local`, any causal model in a transformers folder."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from facetrail.models.checkpoint import ModelManifest, open_tensors, read_manifest, save_model
from facetrail.models.errors import Conflict, Damaged, InvalidInput
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.conversation import Message
from facetrail.models.language.decoder import CachedDecoder, Decoder, DecoderConfig, attention_mask, positions_of
from facetrail.models.language.huggingface import (
    AdapterConfig,
    CachedTransformer,
    Dtype,
    HuggingFaceTokenizer,
    open_network,
    with_adapter,
    with_saved_adapter,
)
from facetrail.models.language.records import Kind, Tokenizer
from facetrail.models.language.sampling import Decoding
from facetrail.models.language.vocabulary import WordTokenizer

TINY_KIND = "tiny-language-model"
"""`kind` in the manifest of a tiny policy's folder."""


class TinyManifestConfig(BaseModel):
    """The `config` of a tiny policy's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: DecoderConfig
    tokenizer_sha256: str
    table: tuple[str, ...] | None
    """The words of a `WordTokenizer`; None: another kind, which opening must be given."""


class TinyPolicy(CausalPolicy):
    """A decoder of about 109,000 weights, for experiments that fit a laptop."""

    kind: Kind = "tiny"
    module: Decoder
    rows_at_once = 4096

    def __init__(self, module: Decoder, tokenizer: Tokenizer, *, name: str = "tiny") -> None:
        """Raises InvalidInput where the tokenizer has another number of tokens than the decoder."""
        if module.config.n_tokens != tokenizer.n_tokens:
            raise InvalidInput(
                f"the decoder knows {module.config.n_tokens} tokens and the tokenizer has {tokenizer.n_tokens}; give "
                "the tokenizer it was made for",
                pointer="/n_tokens",
            )
        self.module, self.tokenizer, self.name = module, tokenizer, name

    @classmethod
    def new(cls, tokenizer: Tokenizer, *, seed: int, name: str = "tiny", **shape: Any) -> "TinyPolicy":
        """An untrained one. shape: fields of `DecoderConfig`."""
        return cls(Decoder(DecoderConfig(n_tokens=tokenizer.n_tokens, **shape), seed=seed), tokenizer, name=name)

    @classmethod
    def open(cls, folder: Path, *, tokenizer: Tokenizer | None = None, device: str = "cpu") -> "TinyPolicy":
        """A saved one. tokenizer: needed only where it was no `WordTokenizer`, and must be the one saved with.

        Raises NotFound, Damaged, Conflict and InvalidInput as `read_manifest`, and InvalidInput for another tokenizer.
        """
        manifest = read_manifest(folder, kind=TINY_KIND)
        config = TinyManifestConfig.model_validate(manifest.config)
        if tokenizer is None:
            if config.table is None:
                raise InvalidInput(f"{folder} was saved with a tokenizer of its own kind; give it as tokenizer=")
            tokenizer = WordTokenizer(config.table)
        if tokenizer.fingerprint != config.tokenizer_sha256:
            raise InvalidInput(f"{folder} was saved with another tokenizer; give the one it was trained with")
        decoder = Decoder(config.decoder, seed=0)
        with open_tensors(folder, manifest) as tensors:
            found = {name: torch.from_numpy(tensors.get_tensor(name)) for name in tensors.keys()}  # noqa: SIM118
        expected = {name: tensor.shape for name, tensor in decoder.state_dict().items()}
        if {name: tensor.shape for name, tensor in found.items()} != expected:
            raise Damaged(f"{folder} holds other tensors than its config describes; copy the folder again")
        decoder.load_state_dict(found)
        return cls(decoder.to(device), tokenizer, name=folder.name)

    def save(
        self, folder: Path, *, trained_on: Mapping[str, Any] | None = None, figures: Mapping[str, float] | None = None
    ) -> ModelManifest:
        """Writes a model folder, whole or not at all. Raises Conflict where something stands already."""
        table = self.tokenizer.table if isinstance(self.tokenizer, WordTokenizer) else None
        return save_model(
            folder,
            kind=TINY_KIND,
            config=TinyManifestConfig(
                decoder=self.module.config, tokenizer_sha256=self.tokenizer.fingerprint, table=table
            ),
            tensors={name: tensor.cpu().numpy() for name, tensor in self.module.state_dict().items()},
            trained_on=trained_on,
            figures=figures,
        )

    @property
    def context(self) -> int:
        """The number of learned positions."""
        return self.module.config.context

    def _identity(self) -> str:
        return self.module.config.model_dump_json()

    def _decoding(self, room: int) -> Decoding:
        return CachedDecoder(self.module, room=room)

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.module(ids, positions_of(mask, self.context), attention_mask(mask))
        return states

    def _last_logits(self, ids: Tensor, mask: Tensor, n_last: int) -> Tensor:
        return self.module.logits(self._states(ids, mask)[:, -n_last:])


class LocalPolicy(CausalPolicy):
    """A causal model of a transformers folder, as it is or with a low-rank adapter."""

    kind: Kind = "local"
    module: Any
    tokenizer: HuggingFaceTokenizer

    def __init__(
        self,
        module: Any,
        tokenizer: HuggingFaceTokenizer,
        *,
        name: str,
        context: int | None = None,
        rows_at_once: int = 64,
    ) -> None:
        """module: as transformers or peft makes it · context: None takes the model's own limit.

        Raises InvalidInput where neither says how much the model can read.
        """
        self.module, self.tokenizer, self.name, self.rows_at_once = module, tokenizer, name, rows_at_once
        # peft puts its layers inside the model, so the model without its wrapper speaks with the adapter too.
        self._has_adapter = hasattr(module, "get_base_model")
        self._model: Any = module.get_base_model() if self._has_adapter else module
        limit = context or getattr(self._model.config, "max_position_embeddings", None)
        if limit is None:
            raise InvalidInput(f"{name} does not say how many tokens it can read; give context=")
        self._context = int(limit)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        adapter: AdapterConfig | Path | None = None,
        dtype: Dtype = "float32",
        device: str = "cpu",
        name: str = "",
        context: int | None = None,
        rows_at_once: int = 64,
    ) -> "LocalPolicy":
        """From files alone. adapter: a new one, or the folder of a saved one; None trains every weight.

        Raises NotFound (no model there), Damaged (unreadable), InvalidInput (not a causal model, no adapter fits).
        """
        model, tokenizer = open_network(folder, dtype=dtype, device=device)
        if isinstance(adapter, AdapterConfig):
            model = with_adapter(model, adapter)
        elif adapter is not None:
            model = with_saved_adapter(model, adapter)
        return cls(model.eval(), tokenizer, name=name or folder.name, context=context, rows_at_once=rows_at_once)

    def save(self, folder: Path) -> None:
        """Writes the adapter alone where there is one, else model and tokenizer; whole or not at all.

        Raises Conflict where something stands already.
        """
        with _drafted(folder) as draft:
            self.module.save_pretrained(draft)
            if not self._has_adapter:
                self.tokenizer.save(draft)

    @property
    def context(self) -> int:
        """The model's limit, or the smaller one it was opened with."""
        return self._context

    def _identity(self) -> str:
        # Where the files came from is no part of what the model is.
        config = self._model.config.to_diff_dict()
        return str(sorted((key, str(value)) for key, value in config.items() if key != "_name_or_path"))

    def _chat_ids(self, messages: Sequence[Message]) -> list[int]:
        return self.tokenizer.encode_chat(messages)

    def _decoding(self, room: int) -> Decoding:
        return CachedTransformer(self._model, context=self.context)

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self._model.get_decoder()(**self._inputs(ids, mask)).last_hidden_state
        return states

    def _last_logits(self, ids: Tensor, mask: Tensor, n_last: int) -> Tensor:
        logits: Tensor = self._model(**self._inputs(ids, mask), logits_to_keep=n_last).logits
        return logits

    def _inputs(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        # Only padding in front needs a mask; without one attention takes its fast causal path.
        front = mask if not mask[:, 0].all() else None
        return {
            "input_ids": ids,
            "attention_mask": None if front is None else front.long(),
            "position_ids": positions_of(mask, self.context),
            "use_cache": False,
        }


@contextmanager
def _drafted(folder: Path) -> Iterator[Path]:
    """A folder beside its place, which gets its name when the block ends well and vanishes when it does not."""
    if folder.exists():
        raise Conflict(f"{folder} exists already; choose another place for the model, or remove it first")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
