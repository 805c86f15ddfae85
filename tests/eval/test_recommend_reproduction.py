"""Closed forms on MovieLens: known figures, leave-last-out, ties inside a time by ascending item id."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.benchmarks.recommend_known import ML1M, REPRODUCED
from facetrail.eval.recommend import RecommendationReport, evaluate
from facetrail.eval.recommend_cleaning import Ties, event_users
from facetrail.eval.recommend_data import load_ml1m_sequences, load_ml100k
from facetrail.eval.recommend_splits import Split, leave_last
from facetrail.models.recommend.blend import Blend
from facetrail.models.recommend.ease import Ease
from facetrail.models.recommend.interactions import Interactions, Scorer
from facetrail.models.recommend.knn import ItemKnn
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import Popularity

MEASURES = ("R@1", "R@10", "NDCG@10")
ML100K = {
    "popularity": (0.009, 0.050, 0.025),
    "item-knn": (0.009, 0.059, 0.028),
    "ease": (0.010, 0.088, 0.041),
    "markov": (0.040, 0.181, 0.097),
    "ease+markov": (0.040, 0.188, 0.100),
}


def by_id(events: Interactions) -> Interactions:
    """Events of one user and time by ascending item id, as a number."""
    ids = np.array([int(name) for name in events.vocabulary.ids])[events.items]
    order = np.lexsort((ids, events.times, event_users(events)))
    return replace(events, items=events.items[order], times=events.times[order], values=events.values[order])


def reports(split: Split) -> dict[str, RecommendationReport]:
    train = split.train
    ease, markov = Ease.fit(train), Markov.fit(train)
    scorers: list[Scorer] = [Popularity.fit(train), ItemKnn.fit(train), ease, markov, Blend([ease, markov])]
    return {scorer.name: evaluate(scorer, split) for scorer in scorers}


def check(found: dict[str, RecommendationReport], expected: dict[str, tuple[float, float, float]]) -> None:
    assert set(found) == set(expected)
    for name, figures in expected.items():
        measured = [found[name].mean(measure) for measure in MEASURES]
        assert measured == pytest.approx(figures, abs=0.003), name


def test_movielens_100k(data_folder: Path) -> None:
    events = by_id(load_ml100k(data_folder / "ml-100k").interactions)
    check(reports(leave_last(events, ties=Ties("file"), validation=False)), ML100K)


@pytest.mark.slow
def test_movielens_1m(data_folder: Path) -> None:
    events = load_ml1m_sequences(data_folder / "ml-1m-sequences").interactions
    check(reports(leave_last(events, ties=Ties("file"), validation=False)), REPRODUCED[ML1M])
