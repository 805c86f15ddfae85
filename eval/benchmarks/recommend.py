"""How fast recommendations are on one core: a history of 100 events among 10,000 items.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m facetrail.eval.benchmarks.recommend

Requests go through `ScoredRecommender` as a service calls it: raw events in, seen items left out, ten items with their
sources out, with and without reasons; the 10,000 items and the events that they are fitted on are generated. What the
fits cost and how well they rank is measured by `recommend_baselines`.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from facetrail.eval.evidence import Arm, ComparisonRow, DataSource, Meter, write_result
from facetrail.models.recommend.blend import Blend
from facetrail.models.recommend.ease import Ease
from facetrail.models.recommend.interactions import Interactions, Scorer, Vocabulary
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import Popularity
from facetrail.models.recommend.records import Event
from facetrail.models.recommend.scored import ScoredRecommender

N_ITEMS, N_USERS, N_EVENTS, K = 10_000, 5_000, 100, 10
"""Items, users of the fit, events of every history, items asked for."""
MS, P95 = "p50 ms", "p95 ms"
MOST_MS = 20.0


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


def judged(arms: dict[str, Arm]) -> ComparisonRow:
    """The demand on what was measured."""
    value = arms["ease+markov"].measures[MS][0]
    demand = f"at most {MOST_MS:g} {MS} on one core; measured {value:.1f}"
    return ComparisonRow(a="ease+markov", measure=MS, difference=value - MOST_MS, demand=demand, met=value <= MOST_MS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and writes eval/results/recommend-speed.json; exit code 1 where the demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.eval.benchmarks.recommend", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="draws items, events and histories")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    options = parser.parse_args(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    arms = time_requests(options.requests, np.random.default_rng(options.seed))
    row = judged(arms)
    path = write_result(
        "recommend-speed",
        claim="Closed forms answer within a page's time on one core.",
        data=[DataSource(name="generated from the seed", sha256="")],
        arms=arms,
        comparisons=[row],
        seeds=[options.seed],
        meter=Meter(name="requests", equal_within=0.0),
        command=" ".join(["python -m facetrail.eval.benchmarks.recommend", *(arguments or sys.argv[1:])]),
        notes=f"{options.requests} histories, arms in turns; one core, one thread.",
        folder=options.out,
    )
    print(f"{'met ' if row.met else 'MISS'} {row.a}: {row.demand}")
    print(path)
    return 0 if row.met else 1


if __name__ == "__main__":
    sys.exit(main())
