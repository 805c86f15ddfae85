"""Encodes the texts of judged sets with a fitted arm, in the form that evaluation takes."""

from collections.abc import Sequence

import numpy as np
import torch

from facetrail.eval.experiments.unifar_scores import Encoded, EncodedTexts, merged_sentences, role_facets
from facetrail.models.text.facets import FACETS
from facetrail.models.text.unifar import UnifarHead
from facetrail.training.text.roles import facet_logits
from facetrail.training.text.states import StateStore
from facetrail.training.text.unifar_model import UnifarModel, encode_all


def encode_texts(
    model: UnifarModel,
    documents: tuple[Sequence[str], StateStore],
    questions: tuple[Sequence[str], StateStore],
    *,
    with_sentences: bool = False,
) -> EncodedTexts:
    """Every text of both stores."""
    model.eval()
    return EncodedTexts(
        {text: row for row, text in enumerate(documents[0])},
        _encoded(model, documents[1], is_question=False, with_sentences=with_sentences),
        {text: row for row, text in enumerate(questions[0])},
        _encoded(model, questions[1], is_question=True, with_sentences=with_sentences),
    )


def with_merged(encoded: EncodedTexts, most: int) -> EncodedTexts:
    """At most so many sentence vectors a text, neighbours' means: as many bytes as the arms with facets."""
    return EncodedTexts(
        encoded.document_rows, _merged(encoded.documents, most), encoded.question_rows, _merged(encoded.questions, most)
    )


def with_roles(
    encoded: EncodedTexts, model: UnifarModel, stores: tuple[StateStore, StateStore], head: UnifarHead
) -> EncodedTexts:
    """Arm B0: each text's sentences by the role that `head` gives them, and the roles' shares in it as its prior."""
    return EncodedTexts(
        encoded.document_rows,
        _by_role(encoded.documents, model, stores[0], head, is_question=False),
        encoded.question_rows,
        _by_role(encoded.questions, model, stores[1], head, is_question=True),
    )


@torch.inference_mode()
def _by_role(
    encoded: Encoded, model: UnifarModel, store: StateStore, head: UnifarHead, *, is_question: bool
) -> Encoded:
    assert encoded.first is not None
    found = encode_all(model, store, is_question=is_question, with_sentences=True)
    told = [facet_logits(head, *map(torch.from_numpy, sentences)).argmax(1).numpy() for sentences in found.sentences]
    counts = np.full((len(encoded.single), len(FACETS)), 0.5, np.float32)
    for row, labels in enumerate(told):
        np.add.at(counts[row], labels, 1)
    facets = role_facets(encoded, np.concatenate(told), len(FACETS))
    return Encoded(encoded.single, facets, counts / counts.sum(1, keepdims=True))


def _merged(encoded: Encoded, most: int) -> Encoded:
    assert encoded.sentences is not None
    assert encoded.first is not None
    return Encoded(
        encoded.single, encoded.facets, encoded.prior, *merged_sentences(encoded.sentences, encoded.first, most)
    )


def _encoded(model: UnifarModel, store: StateStore, *, is_question: bool, with_sentences: bool) -> Encoded:
    found = encode_all(model, store, is_question=is_question, with_sentences=with_sentences)
    if not with_sentences:
        return Encoded(found.single, found.facets, found.prior)
    first = np.cumsum([0, *(len(means) for means, _ in found.sentences)]).astype(np.int64)
    means = np.concatenate([means for means, _ in found.sentences])
    unit = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    return Encoded(found.single, found.facets, found.prior, unit, first)
