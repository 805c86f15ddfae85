"""Measures a scorer on a split: every question ranked over all candidates, in batches, each value kept.

Both rules for seen items are measured in one pass: `hidden`, where the items of the history are no candidates, and
`kept`. Averages are printed per question and per user (each user's questions averaged first); tests pair users.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.recommend_cleaning import BoolArray, event_users
from facetrail.eval.recommend_lists import ListMeasures
from facetrail.eval.recommend_metrics import Int64Array, ndcg, places, recall, reciprocal_rank
from facetrail.eval.recommend_splits import Predictions, Split
from facetrail.eval.significance import N_RANDOMISATIONS, PairedComparison, compare_paired
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import ItemRows, Scorer

CUTOFFS = (1, 5, 10, 20)
LIST_LENGTH = 10
N_RESAMPLES = 2_000
BATCH_CELLS = 2_000_000
"""Scores of one batch: 8 MB of float32."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Measured:
    """What one rule for seen items gave. Coverage and Gini count one list per different history."""

    values: Mapping[str, Float64Array]
    """Measure → (p,) one value per question."""
    coverage: float
    gini: float
    n_not_candidates: int
    """Targets that could not be found: unknown to the scorer, not available, or removed as seen."""


@dataclass(frozen=True)
class RecommendationReport:
    """One scorer on one part of a split."""

    scorer: str
    split: str
    split_hash: str
    part: str
    warnings: tuple[str, ...]
    users: Int64Array
    """(p,) who is asked about."""
    hidden: Measured
    """Items of the history are no candidates."""
    kept: Measured
    """They are."""
    n_without_history: int
    n_cold_targets: int
    """Targets without an event in train."""
    tied_share: float
    """Share of targets that carry the time of another event of their user."""
    seconds: float

    def measured(self, *, filter_seen: bool = True) -> Measured:
        """The values under one rule for seen items."""
        return self.hidden if filter_seen else self.kept

    def mean(self, measure: str, *, filter_seen: bool = True) -> float:
        """Average over questions."""
        return float(self.measured(filter_seen=filter_seen).values[measure].mean())

    def per_user(self, measure: str, *, filter_seen: bool = True) -> Float64Array:
        """(n_users,) each user's average over their questions, users in ascending order."""
        _, rows, counts = np.unique(self.users, return_inverse=True, return_counts=True)
        sums = np.bincount(rows, weights=self.measured(filter_seen=filter_seen).values[measure])
        averages: Float64Array = sums / counts
        return averages

    def summary(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        printed: dict[str, Any] = {
            "scorer": self.scorer,
            "split": self.split,
            "split_hash": self.split_hash,
            "part": self.part,
            "warnings": list(self.warnings),
            "n_predictions": len(self.users),
            "n_users": len(np.unique(self.users)),
            "n_without_history": self.n_without_history,
            "n_cold_targets": self.n_cold_targets,
            "tied_share": self.tied_share,
            "seconds": self.seconds,
        }
        for name, filter_seen in (("seen_hidden", True), ("seen_kept", False)):
            measured = self.measured(filter_seen=filter_seen)
            printed[name] = {
                "per_prediction": {measure: self.mean(measure, filter_seen=filter_seen) for measure in measured.values},
                "per_user": {
                    measure: float(self.per_user(measure, filter_seen=filter_seen).mean())
                    for measure in measured.values
                },
                "coverage": measured.coverage,
                "gini": measured.gini,
                "n_not_candidates": measured.n_not_candidates,
            }
        return printed


def evaluate(
    scorer: Scorer,
    split: Split,
    *,
    part: Literal["validation", "test"] = "test",
    cutoffs: Sequence[int] = CUTOFFS,
    candidates: BoolArray | None = None,
    genres: NDArray[np.floating] | None = None,
    progress: Progress | None = None,
) -> RecommendationReport:
    """Ranks every candidate for every question of the part.

    candidates: (m,) items that may be proposed, None: all · genres: (m, g) 0 / 1, for the measures of diversity; m is
    the scorer's number of items. progress is told how many questions are done since it was last told.
    Raises InvalidInput where scorer and split do not number the same items, or the part asks nothing.
    """
    asked = split.test if part == "test" else split.validation
    n_items = scorer.n_items
    _check(n_items, split, asked, part, candidates, genres)
    started = time.perf_counter()
    collected = {rule: _Collector(split, n_items, cutoffs, genres) for rule in (True, False)}
    step = max(1, BATCH_CELLS // n_items)
    for begin in range(0, len(asked), step):
        rows = range(begin, min(begin + step, len(asked)))
        histories, which = _histories(asked, rows, n_items)
        scores = np.array(scorer.scores(histories), np.float32)  # a copy: it is written to below
        if scores.shape != (len(histories), n_items):
            raise InvalidInput(f"{scorer.name} gave scores {scores.shape}, not {(len(histories), n_items)}; repair it")
        if candidates is not None:
            scores[:, ~candidates] = -np.inf
        starts = asked.starts[begin : rows.stop + 1] - asked.starts[begin]
        targets = asked.targets[asked.starts[begin] : asked.starts[rows.stop]]
        collected[False].add(scores, which, starts, targets)
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        collected[True].add(scores, which, starts, targets)
        if progress is not None:
            progress(len(rows))
    return RecommendationReport(
        scorer=scorer.name,
        split=split.name,
        split_hash=split.hash,
        part=part,
        warnings=split.warnings,
        users=asked.users,
        hidden=collected[True].measured(),
        kept=collected[False].measured(),
        n_without_history=asked.n_without_history,
        n_cold_targets=int((asked.targets >= split.train.n_items).sum()),
        tied_share=asked.tied_share,
        seconds=time.perf_counter() - started,
    )


def compare_over_users(
    a: RecommendationReport,
    b: RecommendationReport,
    measure: str,
    *,
    rng: np.random.Generator,
    filter_seen: bool = True,
    n_randomisations: int = N_RANDOMISATIONS,
    n_resamples: int = N_RESAMPLES,
) -> PairedComparison:
    """a against b, user by user. Raises InvalidInput for reports of different splits or parts."""
    if (a.split_hash, a.part) != (b.split_hash, b.part):
        raise InvalidInput(
            f"{a.scorer} was measured on {a.part} of split {a.split_hash} and {b.scorer} on {b.part} of split "
            f"{b.split_hash}; measure both on the same"
        )
    return compare_paired(
        a.per_user(measure, filter_seen=filter_seen),
        b.per_user(measure, filter_seen=filter_seen),
        rng=rng,
        n_randomisations=n_randomisations,
        n_resamples=n_resamples,
    )


class _Collector:
    """Values under one rule for seen items, batch after batch."""

    def __init__(self, split: Split, n_items: int, cutoffs: Sequence[int], genres: NDArray[np.floating] | None) -> None:
        train = split.train
        pairs = np.unique(event_users(train) * np.int64(train.n_items) + train.items)  # a user counts once per item
        item_users = np.bincount(pairs % train.n_items, minlength=n_items)
        self._lists = ListMeasures(
            LIST_LENGTH, item_users, train.n_users, None if genres is None else np.asarray(genres, np.float64)
        )
        self._cutoffs = cutoffs
        self._batches: list[dict[str, Float64Array]] = []
        self._n_not_candidates = 0

    def add(self, scores: NDArray[np.float32], which: Int64Array, starts: Int64Array, targets: Int64Array) -> None:
        found = places(scores, starts, targets, which=which)
        self._n_not_candidates += int((~found.is_ranked).sum())
        values = {f"R@{k}": recall(found, k) for k in self._cutoffs}
        values |= {f"NDCG@{k}": ndcg(found, k) for k in self._cutoffs if k > 1}
        lists = {name: column[which] for name, column in self._lists.add(scores).items()}
        self._batches.append(values | {"MRR": reciprocal_rank(found)} | lists)

    def measured(self) -> Measured:
        values = {name: np.concatenate([batch[name] for batch in self._batches]) for name in self._batches[0]}
        return Measured(values, self._lists.coverage, self._lists.gini, self._n_not_candidates)


def _histories(asked: Predictions, rows: range, n_items: int) -> tuple[list[ItemRows], Int64Array]:
    """The different histories of the rows, without items unknown to the scorer, and which one each row has."""
    # Where a history ends tells whose it is, since none is empty.
    _, first, which = np.unique(asked.stops[rows.start : rows.stop], return_index=True, return_inverse=True)
    histories = [asked.history(rows.start + int(row)) for row in first]
    return [history[history < n_items] for history in histories], which


def _check(
    n_items: int,
    split: Split,
    asked: Predictions,
    part: str,
    candidates: BoolArray | None,
    genres: NDArray[np.floating] | None,
) -> None:
    if n_items not in (split.train.n_items, len(split.catalogue)):
        raise InvalidInput(
            f"the scorer knows {n_items:,} items, train {split.train.n_items:,} and the catalogue "
            f"{len(split.catalogue):,}; fit it on this split's train"
        )
    if not len(asked):
        raise InvalidInput(f"the {part} part of the split asks nothing; choose other cuts")
    for name, array in (("candidates", candidates), ("genres", genres)):
        if array is not None and len(array) != n_items:
            raise InvalidInput(f"{name} covers {len(array):,} items and the scorer {n_items:,}; give a row per item")
