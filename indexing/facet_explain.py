"""A facet score, opened up: what matched, and the sentence each facet of the document looked at most."""

from collections.abc import Mapping, Sequence

import numpy as np

from facetrail.indexing.facet_search import FacetAsk
from facetrail.indexing.index import Float32Array
from facetrail.indexing.request import FacetExplanation, FacetMatch, FacetSentence
from facetrail.indexing.state import IndexState
from facetrail.models.records import Document
from facetrail.models.text.facets import GRANULARITIES, FacetBatch


def explain_facets(
    state: IndexState, ask: FacetAsk, ordinals: Sequence[int], documents: Sequence[Document | None]
) -> list[FacetExplanation]:
    """One explanation a hit, computed again from what is stored, by the arithmetic that scored it."""
    assert state.facets is not None
    assert state.dense is not None
    index, names = state.facets, state.facets.config.names
    s_1 = state.dense.score(ask.query.single, ordinals)
    found = index.match(ask.query, ordinals, same_only=ask.same_only)
    s_k = index.facet_score(found, ask.weights)
    stored = index.details(ordinals)
    prior_query = _named(names, ask.query.prior)
    return [
        FacetExplanation(
            s_1=float(s_1[row]),
            s_k=float(s_k[row]),
            mixing=index.config.mixing,
            matches=[
                FacetMatch(name, float(weight), float(score), names[int(other)])
                for name, weight, score, other in zip(
                    names, ask.weights, found.scores[row], found.matched[row], strict=True
                )
            ],
            sentences=_sentences(names, stored, row, document, ask) if document is not None else (),
            prior_query=prior_query,
            prior_document=_named(names, stored.prior[row]),
            gate=_named(GRANULARITIES, stored.gate[row]),
        )
        for row, document in enumerate(documents)
    ]


def _named(names: Sequence[str], values: Float32Array) -> Mapping[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _sentences(
    names: Sequence[str], stored: FacetBatch, row: int, document: Document, ask: FacetAsk
) -> list[FacetSentence]:
    """For each facet the sentence with the most attention; of equals the first."""
    first, last = stored.first[row : row + 2].tolist()
    spans = ask.sentences(document.content)
    if first == last or len(spans) != last - first:
        return []  # the text was replaced after this search's state was read: the numbers are of the text before
    chosen = stored.attention[first:last].argmax(axis=0)
    found = []
    for facet, sentence in enumerate(chosen.tolist()):
        field, start, end = place_in_document(document, *spans[sentence])
        attention = float(stored.attention[first + sentence, facet]) / 255
        role = names[int(np.argmax(stored.roles[first + sentence]))]
        found.append(FacetSentence(names[facet], field, start, end, attention, role))
    return found


def place_in_document(document: Document, start: int, end: int) -> tuple[str, int, int]:
    """Characters [start, end) of a document's content as (field, start, end) of its title or its text.

    A span over the line break between them becomes its larger part.
    """
    whole = f"{document.title}\n{document.text}"
    stripped = len(whole) - len(whole.lstrip())  # the content has no blanks in front
    start, end = start + stripped, end + stripped
    text_begins = len(document.title) + 1
    in_title, in_text = len(document.title) - start, end - text_begins
    if in_title >= in_text:
        return "title", start, min(end, len(document.title))
    return "text", max(start - text_begins, 0), in_text
