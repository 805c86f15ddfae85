"""What is trained: the base's top layers and a head, over cached states of the frozen layers below."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facetrail.models.text.facets import GRANULARITIES
from facetrail.models.text.top_layers import TopLayers
from facetrail.models.text.unifar import FacetState, Layout, UnifarHead, group_means, sentence_places
from facetrail.models.text.unifar_controls import MeanHead, ProjectionHead

Head = UnifarHead | MeanHead | ProjectionHead


class States(Protocol):
    """Cached states of texts, and the frozen base's vector of each: (n, d) unit rows."""

    base: NDArray[np.float32]
    lengths: NDArray[np.int64]
    """Tokens of each text."""

    def batch(self, rows: Sequence[int] | NDArray[np.int64], *, is_question: bool) -> tuple[Tensor, Layout]: ...


class UnifarModel(nn.Module):
    """Cached states to `FacetState`. With `top` None the states are those of the last layer (stage 0)."""

    def __init__(self, top: TopLayers | None, head: Head) -> None:
        super().__init__()
        self.top, self.head = top, head

    def forward(self, states: Tensor, layout: Layout) -> FacetState:
        """states: (b, t, d) of the layer below `top`."""
        state: FacetState = self.head(self.last_states(states, layout), layout)
        return state

    def last_states(self, states: Tensor, layout: Layout) -> Tensor:
        """States of the last layer, (b, t, d)."""
        if self.top is None:
            return states
        asked = (layout.is_question.unsqueeze(1) & layout.mask).unsqueeze(-1)
        last: Tensor = self.top(states + asked * self.head.question, layout.mask)
        return last

    def encode(self, store: States, rows: Sequence[int] | NDArray[np.int64], *, is_question: bool) -> FacetState:
        """Texts of a store, by row."""
        states, layout = store.batch(rows, is_question=is_question)
        state: FacetState = self(states.to(self.device), layout.to(self.device))
        return state

    @property
    def device(self) -> torch.device:
        """Where the parameters are; cached states are brought there batch by batch."""
        return self.head.question.device


@dataclass(frozen=True)
class EncodedStore:
    """Every text of a store. single: (n, d) · facets: (n, k, d) · prior: (n, k) · gate: (n, 4) · sentences: of each
    text, the means of its sentences' tokens, (s, d), and their places, (s, N_PLACES); empty where not asked for."""

    single: NDArray[np.float32]
    facets: NDArray[np.float32]
    prior: NDArray[np.float32]
    gate: NDArray[np.float32]
    sentences: list[tuple[NDArray[np.float32], NDArray[np.float32]]]


@torch.inference_mode()
def encode_all(
    model: UnifarModel, store: States, *, is_question: bool, with_sentences: bool = False, tokens: int = 8_192
) -> EncodedStore:
    """Encodes a store without gradients, longest texts first, about `tokens` tokens at a time.

    A text without a sentence, one of special tokens alone, has its whole mean as its only one.
    """
    order = np.argsort(-store.lengths, kind="stable")
    n, d = store.base.shape
    k = len(model.head.config.facets)
    shapes = ((n, d), (n, k, d), (n, k), (n, len(GRANULARITIES)))
    single, facets, prior, gate = (np.empty(shape, np.float32) for shape in shapes)
    none = np.empty((0, d), np.float32)
    sentences = [(none, none)] * (n if with_sentences else 0)
    start = 0
    while start < n:
        rows = order[start : start + max(1, tokens // int(store.lengths[order[start]]))]
        states, layout = store.batch(rows, is_question=is_question)
        layout = layout.to(model.device)
        last = model.last_states(states.to(model.device), layout)
        state = model.head(last, layout)
        single[rows], facets[rows], prior[rows], gate[rows] = (
            x.float().cpu().numpy() for x in (state.single, state.facets, state.prior, state.gate)
        )
        if with_sentences:
            for row, means in zip(rows.tolist(), _sentence_means(last, layout), strict=True):
                sentences[row] = means
        start += len(rows)
    return EncodedStore(single, facets, prior, gate, sentences)


def _sentence_means(last: Tensor, layout: Layout) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    owner = torch.where((layout.n_sentences == 0).unsqueeze(1) & layout.mask, 0, layout.sentence)
    n_sentences = max(1, int(layout.n_sentences.max()))
    means, there = (x.cpu().numpy() for x in group_means(last, owner, n_sentences))
    places = sentence_places(layout, n_sentences).cpu().numpy()
    return [(rows[kept], where[kept]) for rows, where, kept in zip(means, places, there, strict=True)]
