"""Encodes the texts of judged sets with a fitted arm, in the form that evaluation takes."""

from collections.abc import Sequence

import numpy as np

from facetrail.eval.experiments.unifar_scores import Encoded, EncodedTexts, merged_sentences
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
    first = np.cumsum([0, *(len(rows) for rows in found.sentences)]).astype(np.int64)
    return Encoded(found.single, found.facets, found.prior, np.concatenate(found.sentences), first)
