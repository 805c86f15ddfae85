"""Development sets during training: nDCG@10 over small pools, by the full score and by the single vector alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facetrail.models.text.unifar import facet_scores
from facetrail.training.text.unifar_model import States, UnifarModel, encode_all

BLOCK = 64
"""Queries scored at once: bounds the (queries, documents, facets, facets) table."""


@dataclass(frozen=True)
class DevStates:
    """A development set as cached states. gains: (queries, documents) judged gain · own: column of the query's own
    document, -1 where it has none."""

    name: str
    queries: States
    is_question: bool
    documents: States
    gains: NDArray[np.float32]
    own: NDArray[np.int64]


def dev_measures(model: UnifarModel, sets: Sequence[DevStates]) -> dict[str, float]:
    """`dev` is the mean over sets of nDCG@10 by s; `dev_single` the same by s_1; each set's own beside them."""
    measures: dict[str, float] = {}
    was_training = model.training
    model.eval()
    for dev in sets:
        query = encode_all(model, dev.queries, is_question=dev.is_question)
        document = encode_all(model, dev.documents, is_question=False)
        single = query.single @ document.single.T
        by_facet = np.concatenate(
            [
                facet_scores(
                    torch.from_numpy(query.facets[i : i + BLOCK]),
                    torch.from_numpy(query.prior[i : i + BLOCK]),
                    torch.from_numpy(document.facets),
                    model.head.config.margin,
                ).numpy()
                for i in range(0, len(query.single), BLOCK)
            ]
        )
        mixing = float(model.head.mixing.detach())
        measures[f"{dev.name}/s"] = ndcg10((1 - mixing) * single + mixing * by_facet, dev.gains, dev.own)
        measures[f"{dev.name}/s_1"] = ndcg10(single, dev.gains, dev.own)
    model.train(was_training)
    for name, ending in (("dev", "/s"), ("dev_single", "/s_1")):
        measures[name] = float(np.mean([measures[dev.name + ending] for dev in sets]))
    return measures


def ndcg10(scores: NDArray[Any], gains: NDArray[np.float32], own: NDArray[np.int64]) -> float:
    """Mean nDCG@10 with linear gain; ties by column. scores, gains: (q, n) · own: (q,) column left out, -1 for none."""
    scores = scores.copy()
    has_own = np.flatnonzero(own >= 0)
    scores[has_own, own[has_own]] = -np.inf
    discount = 1 / np.log2(np.arange(2, 12))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    found = np.take_along_axis(gains, best, axis=1) @ discount[: best.shape[1]]
    ideal = -np.sort(-gains, axis=1)[:, :10] @ discount[: min(10, gains.shape[1])]
    return float(np.mean(found / np.maximum(ideal, 1e-9)))


def gains_of(
    qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str], document_ids: Sequence[str]
) -> NDArray[np.float32]:
    """(queries, documents) gains of judgements."""
    column = {document_id: i for i, document_id in enumerate(document_ids)}
    gains = np.zeros((len(query_ids), len(document_ids)), np.float32)
    for row, query_id in enumerate(query_ids):
        for document_id, gain in qrels.get(query_id, {}).items():
            if document_id in column:
                gains[row, column[document_id]] = gain
    return gains
