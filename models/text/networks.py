"""The torch networks behind the bulk path: token ids in, one pooled vector per text out."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetrail.models.errors import Damaged, InvalidInput
from facetrail.models.text.architecture import is_bert
from facetrail.models.text.bert import PackedBert
from facetrail.models.text.pooling import Pooling, masked_pool, pool
from facetrail.models.text.source import EncoderSource


class Network(Protocol):
    """token ids of texts (longest first) → (texts, dim) float32, not normalised."""

    device: torch.device

    def __call__(self, texts: Sequence[Sequence[int]]) -> Tensor: ...


class PaddedNetwork:
    """Any encoder that transformers' AutoModel opens; texts of unequal length are padded."""

    def __init__(self, source: EncoderSource, pooling: Pooling, *, dtype: torch.dtype, device: torch.device) -> None:
        self.device, self._pooling = device, pooling
        self._padding = int(source.config.get("pad_token_id") or 0)
        self.model = open_automodel(source).to(device=device, dtype=dtype).eval()

    def __call__(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """See `Network`."""
        longest = max(len(text) for text in texts)
        ids = np.full((len(texts), longest), self._padding, np.int64)
        mask = np.zeros((len(texts), longest), bool)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = True
        kept = torch.from_numpy(mask).to(self.device)
        states = self.model(
            input_ids=torch.from_numpy(ids).to(self.device), attention_mask=kept.long()
        ).last_hidden_state.float()
        return pool(states, self._pooling) if bool(mask.all()) else masked_pool(states, kept, self._pooling)


def open_automodel(source: EncoderSource) -> Any:
    """The transformers model of a folder; raises InvalidInput where transformers cannot open it as an encoder."""
    from transformers import AutoModel

    try:
        return AutoModel.from_pretrained(
            source.modules, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InvalidInput(
            f"transformers cannot open {source.modules} as an encoder ({_first_line(error)}); choose another encoder"
        ) from error


def open_network(source: EncoderSource, *, dtype: torch.dtype, device: torch.device) -> Network:
    """The fastest network we have for this source; `source.pooling` must be known."""
    if source.pooling is None:
        raise ValueError("a pipeline with modules of its own has no network of ours")
    if not is_bert(source.config):
        return PaddedNetwork(source, source.pooling, dtype=dtype, device=device)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    try:
        for path in source.weights:
            tensors |= load_file(path)
        return PackedBert(tensors, source.config, source.pooling, dtype=dtype, device=device)
    except (SafetensorError, KeyError, StopIteration, RuntimeError) as error:
        raise Damaged(
            f"the weights in {source.modules} do not fit their config.json ({_first_line(error)}); "
            f"copy the encoder again"
        ) from error


class Library:
    """A pipeline with modules of its own, run by the sentence-transformers library in fp32."""

    def __init__(self, source: EncoderSource, device: torch.device) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(
                str(source.folder), device=str(device), local_files_only=True, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
            raise InvalidInput(
                f"sentence-transformers cannot open {source.folder} ({_first_line(error)}); choose another encoder"
            ) from error
        self._normalise = source.normalise
        self._lock = threading.Lock()

    def encode(self, texts: list[str], max_tokens: int) -> NDArray[np.float32]:
        """Prepared texts → (n, dim) float32."""
        with self._lock:  # the maximum length is a state of the model
            self._model.max_seq_length = max_tokens
            vectors = self._model.encode(
                texts, prompt="", normalize_embeddings=self._normalise, show_progress_bar=False
            )
        return np.asarray(vectors, np.float32)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
