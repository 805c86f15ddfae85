"""One ranking out of several: per-query normalised sums, or reciprocal ranks.

Each source r brings a list L_r of documents with raw scores s. A document d of the union of all lists scores
`final(d) = Σ_r w_r · n_r(d)` with Σ w_r = 1, where n_r is, by method:

- `z` (default): (s − mean) / std over L_r, population std; a document missing from L_r gets the list's smallest z.
- `minmax`: (s − min) / (max − min); missing: 0.
- `dbsf`: z / 6 + ½, not clamped (clamping at 3 σ ties the head of long lists); the order of `z`, mostly within 0 to 1.
- `rrf`: 1 / (k + rank), ranks from 1 in the order of the list; missing: 0. Raw scores are not read.

A list whose scores are all equal (spread below 1e-12) says nothing: 0 under z, ½ under dbsf, 1 under minmax. With
weights (1, 0) the first list keeps its order, and what only the second found is tied at the end; under z, dbsf and
minmax that is a tie with the last of the first list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facetrail.indexing.index import Float64Array, Hits, Int64Array
from facetrail.indexing.request import FusionConfig, SourceScore
from facetrail.models.errors import InvalidInput

SMALLEST_SPREAD = 1e-12
Normalised = tuple[Float64Array, float]
"""Normalised scores of a list, in its order, and the value of a document that is missing from it."""


@dataclass(frozen=True, slots=True)
class FusedSource:
    """What one source said of the fused documents; all arrays (n,), in the order of `Fused.ordinals`."""

    name: str
    weight: float
    raw: Float64Array
    """The source's own score; NaN where it did not list the document."""
    normalised: Float64Array
    rank: Int64Array
    """From 1; 0 where the source did not list the document."""


@dataclass(frozen=True, slots=True)
class Fused:
    """The union of the sources' documents. ordinals, scores: (n,), by score descending, then ordinal ascending."""

    ordinals: Int64Array
    scores: Float64Array
    sources: Sequence[FusedSource]
    warnings: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ordinals)

    def source_scores(self, position: int) -> list[SourceScore]:
        """Every source's share of the document at a position; Σ weight · normalised is its score."""
        return [
            SourceScore(
                s.name,
                float(s.raw[position]) if s.rank[position] else None,
                float(s.normalised[position]),
                int(s.rank[position]) or None,
                s.weight,
            )
            for s in self.sources
        ]


def fuse(sources: Mapping[str, Hits], config: FusionConfig) -> Fused:
    """Fuses the lists, each in total order, of which every document is used, those tied beyond the depth too.

    A source that found nothing is dropped with a warning and the other weights are scaled to sum 1.
    Raises InvalidInput for weights that do not fit the sources.
    """
    listed = {name: hits for name, hits in sources.items() if len(hits)}
    asked = None if config.weights is None else {str(name): weight for name, weight in config.weights.items()}
    weights, warnings = _shares(list(sources), list(listed), asked)
    if not listed:
        return Fused(np.empty(0, np.int64), np.empty(0, np.float64), (), tuple(warnings))
    union = _distinct(np.concatenate([hits.ordinals for hits in listed.values()]))
    parts = {name: _align(name, weights[name], hits, union, config) for name, hits in listed.items()}
    scores = np.zeros(len(union))
    for name in sorted(parts):  # by name: floating-point sums must not depend on the mapping's order
        scores += parts[name].weight * parts[name].normalised
    order = np.lexsort((union, -scores))
    fused = [FusedSource(p.name, p.weight, p.raw[order], p.normalised[order], p.rank[order]) for p in parts.values()]
    return Fused(union[order], scores[order], tuple(fused), tuple(warnings))


def _distinct(ordinals: Int64Array) -> Int64Array:
    ordinals = np.sort(ordinals)
    is_new = np.ones(len(ordinals), bool)
    np.not_equal(ordinals[1:], ordinals[:-1], out=is_new[1:])
    return ordinals[is_new]  # np.unique hashes first, five times slower at these lengths


def _shares(
    names: Sequence[str], listed: Sequence[str], asked: Mapping[str, float] | None
) -> tuple[dict[str, float], list[str]]:
    """Weights of the listed sources, summing to 1, and warnings about the others."""
    weights = dict.fromkeys(names, 1.0) if asked is None else _checked(names, asked)
    warnings = [
        f"the {name} source found nothing" + ("; the ranking is made from the others" if listed else "")
        for name in names
        if name not in listed
    ]
    total = sum(weights[name] for name in sorted(listed))
    if listed and total == 0:
        warnings.append(f"only sources of weight 0 found something: {', '.join(listed)} are used in equal shares")
        return {name: 1 / len(listed) for name in listed}, warnings
    return {name: weights[name] / total for name in listed}, warnings


def _checked(names: Sequence[str], asked: Mapping[str, float]) -> dict[str, float]:
    known = ", ".join(names)
    for name, weight in asked.items():
        if name not in names:
            raise InvalidInput(
                f"there is no source {name!r} to weigh; this search has: {known}", pointer=f"/fusion/weights/{name}"
            )
        if not (np.isfinite(weight) and weight >= 0):
            raise InvalidInput(
                f"the weight of {name} is {weight}; give a number from 0 up", pointer=f"/fusion/weights/{name}"
            )
    missing = [name for name in names if name not in asked]
    if missing:
        raise InvalidInput(
            f"weights leave out {', '.join(missing)}; give every source one (0 to ignore it): {known}",
            pointer="/fusion/weights",
        )
    largest = max(asked.values())
    if largest == 0:
        raise InvalidInput("all weights are 0; give at least one source a share", pointer="/fusion/weights")
    return {name: weight / largest for name, weight in asked.items()}  # huge weights must not overflow their sum


def _align(name: str, weight: float, hits: Hits, union: Int64Array, config: FusionConfig) -> FusedSource:
    """One source's scores spread over the union. union: (n,) sorted."""
    values, missing = NORMALISERS[config.method](hits.scores, config.k)
    at = np.searchsorted(union, hits.ordinals)
    raw, normalised = np.full(len(union), np.nan), np.full(len(union), missing)
    rank = np.zeros(len(union), np.int64)
    raw[at], normalised[at], rank[at] = hits.scores, values, np.arange(1, len(hits) + 1)
    return FusedSource(name, weight, raw, normalised, rank)


def _z(scores: Float64Array, k: int) -> Normalised:
    std = float(scores.std())
    # The spread is asked too: equal large scores can leave a rounding error above 1e-12 in the std.
    if std < SMALLEST_SPREAD or float(np.ptp(scores)) < SMALLEST_SPREAD:
        return np.zeros(len(scores)), 0.0
    z = (scores - scores.mean()) / std
    return z, float(z.min())


def _minmax(scores: Float64Array, k: int) -> Normalised:
    low, spread = float(scores.min()), float(np.ptp(scores))
    return (np.ones(len(scores)) if spread < SMALLEST_SPREAD else (scores - low) / spread), 0.0


def _dbsf(scores: Float64Array, k: int) -> Normalised:
    z, missing = _z(scores, k)
    return z / 6 + 0.5, missing / 6 + 0.5


def _rrf(scores: Float64Array, k: int) -> Normalised:
    return 1.0 / (k + np.arange(1, len(scores) + 1, dtype=np.float64)), 0.0


NORMALISERS: dict[str, Callable[[Float64Array, int], Normalised]] = {
    "z": _z,
    "minmax": _minmax,
    "dbsf": _dbsf,
    "rrf": _rrf,
}
"""Method → (scores in list order, k of reciprocal rank fusion) → normalised scores."""
