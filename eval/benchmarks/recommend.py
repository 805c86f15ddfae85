"""How fast recommendations are on one core: a history of 100 events among 10,000 items, and the closed forms' rows.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m facetrail.eval.benchmarks.recommend DATA/ml-1m-sequences

Requests go through `ScoredRecommender` as a service calls it: raw events in, seen items left out, ten items with their
sources out, with and without reasons; the 10,000 items and the events that they are fitted on are generated. The rows
are leave-last-out on MovieLens-1M, each fitted, scored and measured; EASE and Markov are fitted once and summed.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from facetrail.eval.evidence import Arm, ComparisonRow, DataSource, Meter, write_result
from facetrail.eval.recommend import evaluate
from facetrail.eval.recommend_cleaning import Ties
from facetrail.eval.recommend_data import load_ml1m_sequences
from facetrail.eval.recommend_splits import Split, leave_last
from facetrail.models.recommend.blend import Blend
from facetrail.models.recommend.ease import Ease
from facetrail.models.recommend.interactions import Interactions, ItemRows, Scorer, Vocabulary
from facetrail.models.recommend.knn import ItemKnn
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import Popularity
from facetrail.models.recommend.records import Event
from facetrail.models.recommend.scored import ScoredRecommender

N_ITEMS, N_USERS, N_EVENTS, K = 10_000, 5_000, 100, 10
"""Items, users of the fit, events of every history, items asked for."""
MS, P95, SECONDS = "p50 ms", "p95 ms", "seconds"
MOST_MS, MOST_SECONDS = 20.0, 60.0
ROWS = "six rows"
MEASURES = ("R@1", "R@10", "NDCG@10")


def generated(rng: np.random.Generator) -> Interactions:
    """Sequences of popular items, each near the one before as often as not."""
    popular = (N_ITEMS * rng.random((N_USERS, N_EVENTS)) ** 2).astype(np.int64)
    near = (np.roll(popular, 1, axis=1) + rng.integers(1, 20, popular.shape)) % N_ITEMS
    items = np.where(rng.random(popular.shape) < 0.5, near, popular)
    return Interactions(
        users=Vocabulary(tuple(f"user-{user}" for user in range(N_USERS))),
        vocabulary=Vocabulary(tuple(f"item-{item}" for item in range(N_ITEMS))),
        starts=np.arange(0, items.size + 1, N_EVENTS),
        items=items.ravel(),
        times=np.tile(np.arange(N_EVENTS), N_USERS),
        values=np.full(items.size, np.nan, np.float32),
    )


def time_requests(n_requests: int, rng: np.random.Generator) -> dict[str, Arm]:
    """Each scorer alone and both together, without reasons and with; arms take turns from request to request."""
    events = generated(rng)
    popular, ease, markov = Popularity.fit(events), Ease.fit(events), Markov.fit(events)
    arms: dict[str, tuple[ScoredRecommender, bool]] = {}
    scorers: tuple[Scorer, ...] = (ease, markov, Blend([ease, markov]))
    for scorer in scorers:
        recommender = ScoredRecommender(events.vocabulary, [scorer], popular=popular)
        arms |= {recommender.name: (recommender, False), f"{recommender.name} with reasons": (recommender, True)}
    spent: dict[str, list[float]] = {name: [] for name in arms}
    for user in rng.choice(N_USERS, n_requests, replace=False):
        ids = [events.vocabulary.ids[item] for item in events.history(user)]
        history = [Event("somebody", item, "view", place) for place, item in enumerate(ids)]
        for name, (recommender, explain) in arms.items():
            started = time.perf_counter()
            recommender.recommend(history, k=K, exclude=ids, explain=explain)
            spent[name].append(1e3 * (time.perf_counter() - started))
    return {
        name: Arm(
            description=f"{N_EVENTS} raw events, {N_ITEMS:,} items, {K} asked for",
            measures={MS: [median(times)], P95: [float(np.quantile(times, 0.95))]},
        )
        for name, times in spent.items()
    }


class Random:
    """The floor of every table: scores drawn anew for every history."""

    name = "random"

    def __init__(self, n_items: int, rng: np.random.Generator) -> None:
        self.n_items, self._rng = n_items, rng

    def scores(self, histories: Sequence[ItemRows]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """(b, m)."""
        return self._rng.random((len(histories), self.n_items), np.float32)


def time_rows(split: Split, rng: np.random.Generator) -> dict[str, Arm]:
    """The six rows of the closed forms with what each cost, and their sum."""
    train = split.train
    fitted: dict[str, Scorer] = {}
    fits: dict[str, Callable[[], Scorer]] = {
        "random": lambda: Random(train.n_items, rng),
        "popularity": lambda: Popularity.fit(train),
        "item-knn": lambda: ItemKnn.fit(train),
        "ease": lambda: Ease.fit(train),
        "markov": lambda: Markov.fit(train),
        "ease+markov": lambda: Blend([fitted["ease"], fitted["markov"]]),
    }
    arms = {}
    for name, fit in fits.items():
        started = time.perf_counter()
        fitted[name] = fit()
        report = evaluate(fitted[name], split)
        seconds = time.perf_counter() - started
        figures = {measure: [report.mean(measure)] for measure in MEASURES}
        arms[f"row {name}"] = Arm(
            description="fitted, scored and measured, seen items left out and kept",
            measures={SECONDS: [seconds], **figures},
        )
    total = sum(arm.measures[SECONDS][0] for arm in arms.values())
    return {**arms, ROWS: Arm(description="the sum of the six", measures={SECONDS: [total]})}


def judged(arms: dict[str, Arm]) -> list[ComparisonRow]:
    """The demands on what was measured."""
    rows = []
    for name, measure, most in (("ease+markov", MS, MOST_MS), (ROWS, SECONDS, MOST_SECONDS)):
        value = arms[name].measures[measure][0]
        demand = f"at most {most:g} {measure} on one core; measured {value:.1f}"
        rows.append(ComparisonRow(a=name, measure=measure, difference=value - most, demand=demand, met=value <= most))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and writes eval/results/recommend-speed.json; exit code 1 where a demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.eval.benchmarks.recommend", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("data", type=Path, help="folder of the MovieLens-1M sequences")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="draws items, events and histories")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    options = parser.parse_args(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rng = np.random.default_rng(options.seed)
    split = leave_last(load_ml1m_sequences(options.data).interactions, ties=Ties("file"), validation=False)
    arms = {**time_requests(options.requests, rng), **time_rows(split, rng)}
    rows = judged(arms)
    path = write_result(
        "recommend-speed",
        claim="Closed forms answer within a page's time on one core and are fitted and measured within a minute.",
        data=[
            DataSource(name="generated from the seed", sha256=""),
            DataSource(name="MovieLens-1M sequences, events", sha256=_sha256(split)),
        ],
        arms=arms,
        comparisons=rows,
        seeds=[options.seed],
        meter=Meter(name="requests", equal_within=0.0),
        command=" ".join(["python -m facetrail.eval.benchmarks.recommend", *(arguments or sys.argv[1:])]),
        notes=f"{options.requests} histories, arms in turns; one core, one thread; rows: leave-last-out, file order. "
        + " ".join(split.warnings),
        folder=options.out,
    )
    for row in rows:
        print(f"{'met ' if row.met else 'MISS'} {row.a}: {row.demand}")
    print(path)
    return 0 if all(row.met for row in rows) else 1


def _sha256(split: Split) -> str:
    """Of the events in their order, by item number of the catalogue, and where each user's begin."""
    source = split.test.source
    return hashlib.sha256(source.starts.tobytes() + source.items.tobytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
