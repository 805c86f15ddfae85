"""Many texts through UniFAR on torch: packed through the transformer, padded for the head."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facetrail.models.errors import Damaged
from facetrail.models.text.bert import PackedBert
from facetrail.models.text.bulk import CPU_TOKENS, GPU_TOKENS, WINDOW, plan_batches
from facetrail.models.text.encoder import Float32Array
from facetrail.models.text.layout import TokenisedText, batch_layout
from facetrail.models.text.unifar import FacetState, Layout, UnifarHead, by_token, group_means
from facetrail.models.text.unifar_checkpoint import UnifarSource, read_unifar

LaidOut = tuple[TokenisedText, bool]
"""A text with its tokens and whether it is a question."""


@dataclass(frozen=True)
class Encoded:
    """What UniFAR makes of b texts.

    single: (b, d) and facets: (b, k, d), unit rows · prior: (b, k) · gate: (b, 4) · attention, roles: for each document
    (sentences, k) probabilities, attention summing to 1 over sentences and roles over facets. Where tokens are looked
    at, a sentence's roles are the mean of its tokens', and a question's attention is of no use.
    """

    single: Float32Array
    facets: Float32Array
    prior: Float32Array
    gate: Float32Array
    attention: list[Float32Array]
    roles: list[Float32Array]


class UnifarNetwork:
    """A trained encoder on one device; the transformer runs in `dtype`, the head in float32."""

    def __init__(self, source: UnifarSource, *, dtype: torch.dtype, device: torch.device) -> None:
        """Raises Damaged where the tensors do not fit the configuration."""
        weights = read_unifar(source)
        self.device = device
        self._budget = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
        self.head = UnifarHead(source.config, generator=torch.Generator().manual_seed(0))
        try:
            network = {name: torch.from_numpy(tensor) for name, tensor in weights.network.items()}
            self._bert = PackedBert(network, source.base.config, "mean", dtype=dtype, device=device)
            self.head.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.head.items()})
        except (KeyError, StopIteration, RuntimeError) as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)[:200]
            raise Damaged(f"the tensors in {source.folder} do not fit its manifest ({line}); copy it again") from error
        self.head.requires_grad_(False).to(device).eval()
        self._layer = self._bert.n_layers - source.config.trained_layers

    def batches(
        self, texts: Sequence[str], lay_out: Callable[[Sequence[str]], list[LaidOut]]
    ) -> Iterator[tuple[NDArray[np.int64], Encoded]]:
        """Every text once: positions of a batch, longest texts first within a window, and what came out."""
        for start in range(0, len(texts), WINDOW):
            window = lay_out(texts[start : start + WINDOW])
            for batch in plan_batches([len(text.ids) for text, _ in window], self._budget):
                yield start + batch, self.encode([window[i] for i in batch])

    @torch.inference_mode()
    def encode(self, texts: Sequence[LaidOut]) -> Encoded:
        """One batch, best sorted by length."""
        laid_out = [text for text, _ in texts]
        _, layout = batch_layout(laid_out, [is_question for _, is_question in texts])
        layout = layout.to(self.device)
        states = self._states(laid_out, layout)
        made: FacetState = self.head(states, layout)
        attention, roles = _by_sentence(layout, made)
        counts = [text.n_sentences for text in laid_out]
        return Encoded(
            single=_array(made.single),
            facets=_array(made.facets),
            prior=_array(made.prior),
            gate=_array(made.gate),
            attention=[rows[:n] for rows, n in zip(attention, counts, strict=True)],
            roles=[rows[:n] for rows, n in zip(roles, counts, strict=True)],
        )

    def _states(self, texts: Sequence[TokenisedText], layout: Layout) -> Tensor:
        """Last hidden states, padded with zeros: (b, t, d) float32."""
        packed = self._bert.lower([text.ids for text in texts], self._layer)
        if self._layer < self._bert.n_layers:  # without trained layers nothing has trained the question vector
            asked = layout.is_question.repeat_interleave(layout.mask.sum(1)).unsqueeze(1)
            packed = packed + (asked * self.head.question).to(packed.dtype)
        packed = self._bert.upper(packed, [len(text.ids) for text in texts], self._layer)
        padded = packed.new_zeros((*layout.mask.shape, packed.shape[1]), dtype=torch.float32)
        padded[layout.mask] = packed.float()
        return padded


def _by_sentence(layout: Layout, made: FacetState) -> tuple[Float32Array, Float32Array]:
    """Attention and roles, (b, s, k) both; the only sentence of a text has all of its attention."""
    n_tokens, n_sentences = layout.mask.shape[1], max(1, int(layout.n_sentences.max()))
    attention, roles = made.attention.transpose(1, 2), made.roles.exp()
    by_tokens, exists = group_means(_of_width(roles, n_tokens), layout.sentence, n_sentences)
    roles = torch.where(by_token(layout).view(-1, 1, 1), by_tokens, _of_width(roles, n_sentences))
    only = (layout.n_sentences <= 1).view(-1, 1, 1)
    attention = torch.where(only, exists.unsqueeze(2).to(attention), _of_width(attention, n_sentences))
    return _array(attention), _array(roles)


def _of_width(rows: Tensor, width: int) -> Tensor:
    """(b, u, k) → (b, width, k): cut, or filled up with zeros."""
    return functional.pad(rows[:, :width], (0, 0, 0, max(0, width - rows.shape[1])))


def _array(tensor: Tensor) -> Float32Array:
    array: Float32Array = tensor.cpu().numpy()
    return array
