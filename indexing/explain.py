"""Why a hit stands where it stands: each source's share, each term's share, and where the words are."""

from collections.abc import Mapping, Sequence

from facetrail.indexing.analysis import Analyser
from facetrail.indexing.facet_explain import explain_facets
from facetrail.indexing.fusion import Fused
from facetrail.indexing.index import Hits
from facetrail.indexing.questions import WITH_WORDS, Question
from facetrail.indexing.request import (
    Explanation,
    FacetExplanation,
    Highlight,
    Mode,
    SourceScore,
    TermContribution,
)
from facetrail.indexing.state import IndexState
from facetrail.models.records import Document

MAX_HIGHLIGHTS = 200


def explain_hits(
    state: IndexState,
    question: Question,
    ordinals: Sequence[int],
    documents: Sequence[Document | None],
    mode: Mode,
    sources: Mapping[str, Hits],
    fused: Fused | None,
) -> list[Explanation]:
    """One explanation a hit."""
    ranks = {name: {o: r for r, o in enumerate(hits.ordinals.tolist())} for name, hits in sources.items()}
    positions = {o: p for p, o in enumerate(fused.ordinals.tolist())} if fused is not None else {}
    words = question.text if mode in WITH_WORDS and state.lexical is not None else None
    terms_of_query = set(state.lexical.analyse_query(words)[0]) if words and state.lexical is not None else set()
    facets = _facets(state, question, ordinals, documents, ranks.get("facet" if mode == "facet" else "dense", {}))
    explanations = []
    for ordinal, document in zip(ordinals, documents, strict=True):
        if fused is not None:
            scores = fused.source_scores(positions[ordinal])
        else:
            scores = [_only_source(name, hits, ranks[name][ordinal]) for name, hits in sources.items()]
        terms: Sequence[TermContribution] = ()
        highlights: Sequence[Highlight] = ()
        if words and state.lexical is not None:
            terms = state.lexical.explain(words, ordinal)
            if document is not None:
                highlights = find_highlights(state.lexical.analyser, document, terms_of_query)
        explanations.append(Explanation(scores, terms, highlights, facets.get(ordinal)))
    return explanations


def _facets(
    state: IndexState,
    question: Question,
    ordinals: Sequence[int],
    documents: Sequence[Document | None],
    listed: Mapping[int, int],
) -> dict[int, FacetExplanation]:
    """Ordinal → explanation of the hits that facets had a part in: in mode hybrid, those the dense source listed."""
    if question.facets is None:
        return {}
    chosen = [(o, d) for o, d in zip(ordinals, documents, strict=True) if o in listed]
    found = explain_facets(state, question.facets, [o for o, _ in chosen], [d for _, d in chosen])
    return {o: explanation for (o, _), explanation in zip(chosen, found, strict=True)}


def _only_source(name: str, hits: Hits, position: int) -> SourceScore:
    raw = float(hits.scores[position])
    return SourceScore(name, raw, raw, position + 1, 1.0)


def find_highlights(analyser: Analyser, document: Document, terms: set[str]) -> list[Highlight]:
    """Every word of title and text whose term is among the query's, as character offsets; at most 200."""
    found = [
        Highlight(name, start, end)
        for name, content in (("title", document.title), ("text", document.text))
        for term, start, end in analyser.tokens(content)
        if term in terms
    ]
    return found[:MAX_HIGHLIGHTS]
