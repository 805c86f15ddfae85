"""The stage "roles": which facet a sentence belongs to, learned from labelled abstracts over the frozen base.

Only what attention looks with is fitted (the anchors and both of its maps), by the divergence between the annotators'
role and the responsibility that the head gives the sentence. What to know:

1. CSAbstruct's role "other" is no facet: its sentences teach nothing. In `accuracy` they count as mistakes, as do
   sentences behind the encoder's maximum length: it is the share of all labelled sentences, by which the largest role
   of the 1,349 test sentences, background, has .365.
2. Over the frozen base this is a linear map of sentence means, so it stops where such a map stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from facetrail.models.text.facets import FACETS
from facetrail.models.text.layout import Span
from facetrail.models.text.losses import role_divergence
from facetrail.models.text.unifar import UnifarHead, group_means, sentence_places
from facetrail.training.text.corpora import RoleAbstract
from facetrail.training.text.states import Progress, StateBuilder, StateStore

FITTED = ("anchors", "query_map", "key_map", "place_map")
TEXTS = 32
"""Texts whose states are in memory at a time."""


class RolesConfig(BaseModel):
    """How roles are fitted: Adam on all labelled sentences at once, so nothing is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=300, ge=1)
    lr: float = Field(default=3e-3, gt=0)
    eval_every: int = Field(default=10, ge=1)
    """Steps between evaluations on dev, whose best weights are kept."""
    patience: int = Field(default=8, ge=1)
    """Evaluations in a row without a better one that end the fit."""


@dataclass(frozen=True)
class LabelledSentences:
    """Sentence means with their labels, text after text.

    states: (s, d) · places: (s, N_PLACES) · labels: (s,) int64 index in FACETS, -1 for "other" · targets: (s, k) sum to
    1, zeros where the label is -1 · n_unread: labelled sentences without a state, being behind the maximum length.
    """

    states: Tensor
    places: Tensor
    labels: Tensor
    targets: Tensor
    n_unread: int


@dataclass(frozen=True)
class RoleReport:
    """How well roles are told.

    accuracy: right among all labelled sentences · accuracy_of_facets: right among those that have a facet and a state ·
    f1: of each facet, over the sentences that have a state · n: labelled sentences.
    """

    accuracy: float
    accuracy_of_facets: float
    f1: dict[str, float]
    n: int

    @property
    def macro_f1(self) -> float:
        """Mean over facets."""
        return sum(self.f1.values()) / len(self.f1)


@dataclass(frozen=True)
class RolesFit:
    """state: the fitted tensors under the head's names · dev: of these · step: after which they were best."""

    state: dict[str, Tensor]
    dev: RoleReport
    step: int


def role_store(
    builder: StateBuilder,
    abstracts: Sequence[RoleAbstract],
    *,
    layer: int | None = None,
    max_tokens: int = 256,
    progress: Progress | None = None,
) -> StateStore:
    """The base's states of labelled abstracts after `layer` layers (None: the last), cut into labelled sentences."""
    return builder.build(
        [abstract.text for abstract in abstracts],
        max_tokens=max_tokens,
        layer=builder.network.n_layers if layer is None else layer,
        spans=[joined_spans(abstract.sentences) for abstract in abstracts],
        progress=progress,
    )


def joined_spans(sentences: Sequence[str]) -> list[Span]:
    """Characters [start, end) of sentences in the text they give when joined by a space."""
    starts = np.cumsum([0, *(len(sentence) + 1 for sentence in sentences)]).tolist()
    return [(start, start + len(sentence)) for start, sentence in zip(starts, sentences, strict=False)]


def labelled_sentences(store: StateStore, abstracts: Sequence[RoleAbstract]) -> LabelledSentences:
    """The labelled sentences of a `role_store` that was made of these abstracts, in their order."""
    states, places, labels, targets, n_unread = [], [], [], [], 0
    for abstract, (means, where) in zip(abstracts, sentence_means(store), strict=True):
        n = len(means)
        states.append(means)
        places.append(where)
        labels += [FACETS.index(label) if label in FACETS else -1 for label in abstract.labels[:n]]
        targets += [target or (0.0,) * len(FACETS) for target in abstract.targets[:n]]
        n_unread += len(abstract.labels) - n
    return LabelledSentences(
        torch.cat(states), torch.cat(places), torch.tensor(labels), torch.tensor(targets), n_unread
    )


def sentence_means(store: StateStore) -> list[tuple[Tensor, Tensor]]:
    """Of each text the mean states of its sentences, (s, d), and their places, (s, N_PLACES)."""
    found = []
    for start in range(0, len(store), TEXTS):
        states, layout = store.batch(range(start, min(start + TEXTS, len(store))), is_question=False)
        n_sentences = int(layout.n_sentences.max())
        groups, _ = group_means(states, layout.sentence, n_sentences)
        places = sentence_places(layout, max(1, n_sentences))
        found += [
            (rows[:n], where[:n]) for rows, where, n in zip(groups, places, layout.n_sentences.tolist(), strict=True)
        ]
    return found


def facet_logits(head: UnifarHead, states: Tensor, places: Tensor) -> Tensor:
    """Facet scores of sentences by mean state (s, d) and place (s, N_PLACES) → (s, k)."""
    return states @ head.folded_anchors().T + places @ head.place_map.T


def fit_roles(
    head: UnifarHead, train: LabelledSentences, dev: LabelledSentences, *, config: RolesConfig | None = None
) -> RolesFit:
    """Fits the head's anchors and maps in place and leaves it with the weights that were best on dev.

    Anchors begin as the mean state of their role's sentences, as long as a sentence's state is on average.
    """
    config = config or RolesConfig()
    start_anchors(head, train)
    named = dict(head.named_parameters())
    fitted = {name: named[name] for name in FITTED}
    optimiser = torch.optim.Adam(fitted.values(), lr=config.lr)
    known = train.labels >= 0
    states, places, targets = train.states[known], train.places[known], train.targets[known]
    everywhere = torch.ones(len(states))
    best = RolesFit(_copies(fitted), role_accuracy(head, dev), 0)
    for step in range(1, config.steps + 1):
        loss = role_divergence(targets, facet_logits(head, states, places).log_softmax(1), everywhere)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % config.eval_every:
            continue
        report = role_accuracy(head, dev)
        if report.accuracy > best.dev.accuracy:
            best = RolesFit(_copies(fitted), report, step)
        elif step - best.step >= config.patience * config.eval_every:
            break
    head.load_state_dict(best.state, strict=False)
    return best


@torch.no_grad()
def start_anchors(head: UnifarHead, train: LabelledSentences) -> None:
    """Puts every anchor where the sentences of its role are. Raises ValueError where a role has no sentence."""
    counts = torch.bincount(train.labels[train.labels >= 0], minlength=len(FACETS))
    if not bool(counts.all()):
        raise ValueError(f"no labelled sentence of the role {FACETS[int(counts.argmin())]!r}")
    means = torch.stack([train.states[train.labels == facet].mean(0) for facet in range(len(FACETS))])
    length = train.states.norm(dim=1).mean()
    head.anchors.copy_(torch.nn.functional.normalize(means, dim=1) * length)


@torch.inference_mode()
def predict_roles(head: UnifarHead, store: StateStore) -> list[NDArray[np.float32]]:
    """Responsibilities of every sentence of every text over its last states: (sentences, k) a text, rows sum to 1."""
    return [facet_logits(head, *sentences).softmax(1).numpy() for sentences in sentence_means(store)]


@torch.inference_mode()
def role_accuracy(head: UnifarHead, sentences: LabelledSentences) -> RoleReport:
    """Share of sentences whose most responsible facet is their role, see `RoleReport`."""
    told = facet_logits(head, sentences.states, sentences.places).argmax(1)
    right = told == sentences.labels
    known, n = sentences.labels >= 0, len(right) + sentences.n_unread
    f1 = {}
    for facet, name in enumerate(FACETS):
        both = int((right & (told == facet)).sum())
        f1[name] = 2 * both / max(1, int((told == facet).sum()) + int((sentences.labels == facet).sum()))
    return RoleReport(int(right.sum()) / max(1, n), int(right.sum()) / max(1, int(known.sum())), f1, n)


def _copies(tensors: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
