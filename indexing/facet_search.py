"""Facet search: which weights a request gives the facets, and the dense source's candidates scored again by them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facetrail.indexing.index import Float64Array, Hits
from facetrail.indexing.request import Mode, SearchRequest
from facetrail.indexing.state import IndexState
from facetrail.models.errors import InvalidInput
from facetrail.models.text.facets import FacetQuery

REBUILD = "build it anew with `facetrail index build --mode-set lexical,dense,facet` and an --encoder that has facets"
Weights = Mapping[str, float] | Literal["auto"] | None


@dataclass(frozen=True)
class FacetAsk:
    """A query as the facet index takes it. weights: (k,), summing to 1 · sentences: spans of a document's content."""

    query: FacetQuery
    weights: Float64Array
    same_only: bool
    """Whether each facet is compared with the same facet alone: so where a person gave the weights."""
    sentences: Callable[[str], Sequence[tuple[int, int]]]


def check_facets(request: SearchRequest, mode: Mode, state: IndexState) -> None:
    """Raises InvalidInput where facets are asked for in a way that the collection or the mode cannot answer."""
    if mode == "facet" and state.facets is None:
        raise InvalidInput(
            f"mode 'facet' needs facet data, which this collection was built without; {REBUILD}", pointer="/mode"
        )
    if request.facets is None:
        return
    if mode not in ("facet", "hybrid"):
        raise InvalidInput(
            f"facets play no part in mode {mode!r}; leave them out, or use mode 'facet' or 'hybrid'", pointer="/facets"
        )
    if state.facets is not None:
        asked_weights(request.facets, state.facets.config.names)
    elif request.facets != "auto":
        raise InvalidInput(
            f"this collection was built without facet data, so nothing can be weighted by facet; {REBUILD}",
            pointer="/facets",
        )


def uses_facets(request: SearchRequest, mode: Mode, state: IndexState) -> bool:
    """Whether facets have a part in this search's scores."""
    return state.facets is not None and (mode == "facet" or (mode == "hybrid" and request.facets is not None))


def facet_warnings(request: SearchRequest, mode: Mode, state: IndexState) -> list[str]:
    """ "auto" is a wish, unlike weights: a collection of single vectors answers it without facets, and says so."""
    if mode == "hybrid" and request.facets == "auto" and state.facets is None:
        return [f"the collection has single vectors only, so facets played no part; {REBUILD}"]
    return []


def asked_weights(asked: Weights, names: Sequence[str]) -> Float64Array | None:
    """Weights in the order of names, summing to 1; None where the query's own intent decides. Raises InvalidInput."""
    if asked is None or asked == "auto":
        return None
    known = ", ".join(names)
    for name, weight in asked.items():
        pointer = "/facets/" + name.replace("~", "~0").replace("/", "~1")
        if name not in names:
            raise InvalidInput(f"there is no facet {name!r}; this collection has: {known}", pointer=pointer)
        if not (np.isfinite(weight) and weight >= 0):
            raise InvalidInput(
                f"the weight of facet {name} is {weight}; give a number from 0 up (facets: {known})", pointer=pointer
            )
    if not any(asked.values()):
        raise InvalidInput(f"no facet has a weight; give one of {known} a share, or say 'auto'", pointer="/facets")
    weights = np.array([asked.get(name, 0.0) for name in names], np.float64)
    weights /= weights.max()  # huge weights must not overflow their sum
    return _shares(weights)


def facet_ask(
    asked: Weights, names: Sequence[str], query: FacetQuery, sentences: Callable[[str], Sequence[tuple[int, int]]]
) -> FacetAsk:
    """A query with the weights a search uses: those asked for, or the query's own prior."""
    given = asked_weights(asked, names)
    weights = _shares(query.prior.astype(np.float64)) if given is None else given
    return FacetAsk(query, weights, given is not None, sentences)


def _shares(weights: Float64Array) -> Float64Array:
    shares: Float64Array = weights / weights.sum()
    return shares


def rescored(state: IndexState, ask: FacetAsk, hits: Hits, depth: int | None) -> Hits:
    """Dense hits with their final scores, in total order. depth: how many to keep before; None: all, ties too."""
    assert state.facets is not None
    if depth is not None:
        hits = state.ids.sort(hits)
        hits = Hits(hits.ordinals[:depth], hits.scores[:depth])
    scores, _ = state.facets.rescore(ask.query, ask.weights, hits.ordinals, hits.scores, same_only=ask.same_only)
    return state.ids.sort(Hits(hits.ordinals, scores))
