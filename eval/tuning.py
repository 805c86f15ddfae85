"""Chooses the weight of the dense ranker on dev judgements; test judgements choose nothing.

Every weight is tried by searching with it, so that the curve is what a user of that weight gets.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from facetrail.eval.datasets import RetrievalDataset
from facetrail.eval.metrics import evaluate_run
from facetrail.eval.retrieval import SearchesMany, search_run
from facetrail.eval.runs import RankedRun
from facetrail.indexing.request import FusionConfig
from facetrail.models.errors import InvalidInput
from facetrail.models.records import Qrels

GRID = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

Method = Literal["z", "minmax", "rrf", "dbsf"]


@dataclass(frozen=True)
class TunedWeight:
    """The dense ranker's share that was best on the dev judgements, and which judgements those were."""

    weight: float
    measure: str
    curve: Mapping[float, float]
    """Weight → mean of the measure on the dev queries."""
    fusion: FusionConfig
    dataset: str
    n_queries: int
    qrels_sha256: str
    judgements_sha256: str
    query_ids: frozenset[str]
    allow_same: bool = False

    def refuse_leak(self, reporting: RetrievalDataset) -> list[str]:
        """Raises InvalidInput where `reporting` has the judgements of the tuning; returns what a report must say."""
        same_file = reporting.sha256["qrels"] == self.qrels_sha256
        same = same_file or hash_judgements(reporting.qrels) == self.judgements_sha256
        if same and not self.allow_same:
            raise InvalidInput(
                f"the weight was tuned on the judgements of {reporting.label}, which it is to be reported on; "
                "tune on another split, or pass allow_same, which the report then states"
            )
        if same:
            return [f"The fusion weight was tuned on the judgements reported here ({self.dataset}): allow_same is set."]
        shared = len(self.query_ids & reporting.qrels.keys())
        if shared:
            return [f"{shared} queries reported here were also used for tuning the fusion weight ({self.dataset})."]
        return []


def hash_judgements(qrels: Qrels) -> str:
    """Hash of what was judged, whatever the file looks like: equal for a reordered or recompressed copy."""
    rows = sorted(
        (query_id, document_id, grade) for query_id, grades in qrels.items() for document_id, grade in grades.items()
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def tune_weight(
    searcher: SearchesMany,
    dev: RetrievalDataset,
    grid: Sequence[float] = GRID,
    *,
    reporting: RetrievalDataset | None = None,
    method: Method = "z",
    measure: str = "nDCG@10",
    exclude_self: bool = False,
    allow_same: bool = False,
    progress: Callable[[int], None] | None = None,
) -> TunedWeight:
    """The best weight of the grid on `dev`; among equals the one nearest to .5.

    `reporting` is the data set the weight is meant for: given here, a leak is refused before anything is searched;
    `evaluate(..., tuned=...)` refuses it in any case.
    """
    if not grid or any(not 0 <= weight <= 1 for weight in grid):
        raise InvalidInput(f"the grid {list(grid)} must hold weights from 0 to 1")
    draft = _tuned(dev, dict.fromkeys(grid, 0.0), grid[0], method, measure, allow_same)
    if reporting is not None:
        draft.refuse_leak(reporting)
    curve = weight_curve(
        searcher, dev, grid, method=method, measure=measure, exclude_self=exclude_self, progress=progress
    )
    best = min(grid, key=lambda weight: (-round(curve[weight], 12), abs(weight - 0.5), weight))
    return _tuned(dev, curve, best, method, measure, allow_same)


def weight_curve(
    searcher: SearchesMany,
    dataset: RetrievalDataset,
    grid: Sequence[float],
    *,
    method: Method = "z",
    measure: str = "nDCG@10",
    exclude_self: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[float, float]:
    """Weight of the dense ranker → mean of the measure over the data set's queries."""
    curve = {}
    for weight in grid:
        fusion = fusion_of(weight, method)
        run, _ = search_run(
            searcher, dataset, mode="hybrid", fusion=fusion, exclude_self=exclude_self, progress=progress
        )
        curve[weight] = evaluate_run(run, dataset.qrels, [measure]).mean(measure)
    return curve


def fusion_of(weight: float, method: Method = "z") -> FusionConfig:
    """The fusion that gives the dense ranker this share."""
    return FusionConfig(method=method, weights={"lexical": 1.0 - weight, "dense": weight})


def fuse_runs(runs: Mapping[str, RankedRun], config: FusionConfig, *, depth: int = 1_000) -> RankedRun:
    """Fuses whole runs, query by query, with `facetrail.indexing.fusion`; keeps the `depth` best of each query.

    A search also fuses what is tied with a source's last document, which a run has cut: the two may differ a little.
    """
    import numpy as np

    from facetrail.indexing.fusion import fuse
    from facetrail.indexing.index import Hits

    fused: RankedRun = {}
    for query_id in dict.fromkeys(query_id for run in runs.values() for query_id in run):
        listed = {document_id for run in runs.values() for document_id, _ in run.get(query_id, [])}
        ids = sorted(listed, key=str.encode)  # ordinals in the order of ids, so that ties fall as they do in a search
        ordinals = {document_id: ordinal for ordinal, document_id in enumerate(ids)}
        sources = {
            name: Hits(
                np.array([ordinals[document_id] for document_id, _ in run.get(query_id, [])], np.int64),
                np.array([score for _, score in run.get(query_id, [])], np.float64),
            )
            for name, run in runs.items()
        }
        result = fuse(sources, config)
        order = np.lexsort((result.ordinals, -result.scores))[:depth]
        fused[query_id] = [(ids[result.ordinals[place]], float(result.scores[place])) for place in order]
    return fused


def _tuned(
    dev: RetrievalDataset, curve: Mapping[float, float], weight: float, method: Method, measure: str, allow_same: bool
) -> TunedWeight:
    return TunedWeight(
        weight=weight,
        measure=measure,
        curve=curve,
        fusion=fusion_of(weight, method),
        dataset=dev.label,
        n_queries=len(dev.queries),
        qrels_sha256=dev.sha256["qrels"],
        judgements_sha256=hash_judgements(dev.qrels),
        query_ids=frozenset(dev.qrels),
        allow_same=allow_same,
    )
