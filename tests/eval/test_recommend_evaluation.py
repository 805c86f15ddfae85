"""Evaluating a scorer: rules for seen items, batches, leaks, paired tests over users."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import facetrail.eval.recommend as recommend
from facetrail.eval.recommend import RecommendationReport, compare_over_users, evaluate
from facetrail.eval.recommend_cleaning import Ties, interactions_of, selected
from facetrail.eval.recommend_data import attribute_matrix, load_ml100k
from facetrail.eval.recommend_splits import FUTURE_WARNING, cut_times, leave_last, time_split
from facetrail.eval.significance import compare_paired
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, ItemRows


class Constant:
    """Holds all items equal."""

    name = "constant"

    def __init__(self, n_items: int, level: float = 0.0) -> None:
        self.n_items, self._level = n_items, level

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        return np.full((len(histories), self.n_items), self._level, np.float32)


class Follows:
    """Counts what came right after the last item in train, popularity in small change; notes what it is asked."""

    name = "follows"

    def __init__(self, train: Interactions, shift: float = 0.0) -> None:
        self.n_items, self._shift = train.n_items, shift
        self._counts = np.zeros((self.n_items, self.n_items), np.float32)
        for history in train.histories():
            np.add.at(self._counts, (history[:-1], history[1:]), 1)
        self._popular = np.bincount(train.items, minlength=self.n_items).astype(np.float32) / 1_024
        self.asked: list[ItemRows] = []

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        self.asked += histories
        rows = [self._counts[h[-1]] if len(h) else np.zeros(self.n_items, np.float32) for h in histories]
        return np.stack(rows) + self._popular + np.float32(self._shift)


class Popular(Follows):
    """Popularity alone."""

    name = "popularity"

    def scores(self, histories: Sequence[ItemRows]) -> NDArray[np.float32]:
        return np.repeat(self._popular[None], len(histories), axis=0)


def events(seed: int = 0, n: int = 900) -> Interactions:
    """30 users walking 60 items; some items appear late, no user meets an item twice."""
    rng = np.random.default_rng(seed)
    listed = {(int(rng.integers(30)), int(rng.integers(30 + t // 2))): int(t) for t in np.sort(rng.integers(0, 60, n))}
    return interactions_of([f"u{u}" for u, _ in listed], [f"i{i}" for _, i in listed], list(listed.values()))


def assert_equal(a: RecommendationReport, b: RecommendationReport) -> None:
    for filter_seen in (True, False):
        one, other = a.measured(filter_seen=filter_seen), b.measured(filter_seen=filter_seen)
        for measure, values in one.values.items():
            np.testing.assert_allclose(values, other.values[measure], atol=1e-12)
        assert one.coverage == pytest.approx(other.coverage)
        assert one.gini == pytest.approx(other.gini)


def test_a_constant_scorer_finds_ten_of_all_candidates() -> None:
    split = leave_last(events(), ties=Ties("group"))
    n, k = split.train.n_items, 10
    report = evaluate(Constant(n), split)
    known = np.add.reduceat(split.test.targets < n, split.test.starts[:-1]) / np.diff(split.test.starts)
    np.testing.assert_allclose(report.kept.values["R@10"], known * k / n)
    n_seen = np.array([(split.test.history(row) < n).sum() for row in range(len(split.test))])
    np.testing.assert_allclose(report.hidden.values["R@10"], known * k / (n - n_seen))
    assert report.kept.gini == pytest.approx(0)


def test_a_constant_added_to_all_scores_changes_no_measure() -> None:
    split = time_split(events(), (30, 45))
    assert_equal(evaluate(Follows(split.train), split), evaluate(Follows(split.train, shift=64.0), split))


def test_batches_and_shared_histories_change_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    split = time_split(events(), (30, 45), ties=Ties("shuffle", 1))
    scorer = Follows(split.train)
    at_once = evaluate(scorer, split)
    assert len(scorer.asked) < len(split.test)  # questions of one time share their history
    monkeypatch.setattr(recommend, "BATCH_CELLS", 7 * split.train.n_items)
    done: list[int] = []
    in_sevens = evaluate(scorer, split, progress=done.append)
    assert sum(done) == len(split.test)
    assert max(done) == 7
    for measure, values in at_once.hidden.values.items():
        np.testing.assert_allclose(in_sevens.hidden.values[measure], values, atol=1e-12)


def test_deleting_later_events_leaves_predictions_unchanged() -> None:
    whole = events()
    until = selected(whole, whole.times <= 50)
    reports = []
    for part in (whole, until):
        split = time_split(part, (30, 30), ties=Ties("shuffle", 2))
        report = evaluate(Follows(split.train), split)
        test = split.test
        keys = [
            (test.source.users.ids[user], time, test.source.vocabulary.ids[item])
            for user, time, item in zip(test.users, test.times, test.targets, strict=True)
        ]
        reports.append(dict(zip(keys, report.hidden.values["MRR"].tolist(), strict=True)))
    assert reports[1] == {key: value for key, value in reports[0].items() if key[1] <= 50}
    assert 100 < len(reports[1]) < len(reports[0])


def test_a_scorer_meets_no_item_that_it_does_not_know() -> None:
    split = time_split(events(), (15, 20))
    scorer = Follows(split.train)
    report = evaluate(scorer, split)
    assert max(history.max(initial=0) for history in scorer.asked) < split.train.n_items
    assert report.n_cold_targets == (split.test.targets >= split.train.n_items).sum() > 0
    assert report.kept.n_not_candidates == report.n_cold_targets


def test_a_scorer_may_score_the_whole_catalogue() -> None:
    split = time_split(events(), (15, 20))
    report = evaluate(Constant(len(split.catalogue)), split)
    assert report.kept.n_not_candidates == 0
    np.testing.assert_allclose(report.kept.values["R@10"], 10 / len(split.catalogue))


def test_seen_targets_are_found_only_where_seen_items_are_kept() -> None:
    listed = [("a", "x", 1), ("a", "y", 2), ("b", "x", 1), ("b", "z", 3), ("a", "x", 5)]
    split = time_split(interactions_of(*(list(column) for column in zip(*listed, strict=True))), (3, 3))  # type: ignore[arg-type]
    report = evaluate(Popular(split.train), split)
    assert report.mean("R@1", filter_seen=False) == 1.0
    assert report.mean("R@20") == 0.0
    assert (report.hidden.n_not_candidates, report.kept.n_not_candidates) == (1, 0)


def test_candidates_leave_the_rest_unranked() -> None:
    split = leave_last(events())
    half = np.arange(split.train.n_items) % 2 == 0
    report = evaluate(Constant(split.train.n_items), split, candidates=half)
    is_candidate = np.array([target < len(half) and half[target] for target in split.test.targets])
    np.testing.assert_allclose(report.kept.values["R@1"], is_candidate / half.sum())
    assert report.kept.coverage <= 1.0


def test_averages_per_question_and_per_user() -> None:
    split = time_split(events(), (30, 45))
    report = evaluate(Follows(split.train), split)
    values = report.hidden.values["NDCG@10"]
    by_user = [values[report.users == user].mean() for user in np.unique(report.users)]
    np.testing.assert_allclose(report.per_user("NDCG@10"), by_user)
    printed = report.summary()
    assert printed["seen_hidden"]["per_prediction"]["NDCG@10"] == pytest.approx(values.mean())
    assert printed["seen_hidden"]["per_user"]["NDCG@10"] == pytest.approx(np.mean(by_user))
    assert printed["seen_kept"]["per_prediction"]["MRR"] == report.mean("MRR", filter_seen=False)
    assert printed["n_predictions"] == len(split.test)


def test_two_scorers_are_compared_user_by_user() -> None:
    split = time_split(events(), (30, 45))
    a, b = (evaluate(scorer, split) for scorer in (Follows(split.train), Constant(split.train.n_items)))
    compared = compare_over_users(a, b, "MRR", rng=np.random.default_rng(0), n_randomisations=999)
    direct = compare_paired(
        a.per_user("MRR"), b.per_user("MRR"), rng=np.random.default_rng(0), n_randomisations=999, n_resamples=2_000
    )
    assert compared == direct
    assert compared.n_wins + compared.n_ties + compared.n_losses == len(np.unique(split.test.users))
    other = time_split(events(), (30, 46))
    elsewhere = evaluate(Constant(other.train.n_items), other)
    with pytest.raises(InvalidInput, match="measure both on the same"):
        compare_over_users(a, elsewhere, "MRR", rng=np.random.default_rng(0))


def test_leave_last_says_that_it_sees_the_future() -> None:
    split = leave_last(events())
    assert evaluate(Constant(split.train.n_items), split).summary()["warnings"] == [FUTURE_WARNING]


def test_what_does_not_fit_the_split_is_refused() -> None:
    split = time_split(events(), (15, 20))
    with pytest.raises(InvalidInput, match="fit it on this split's train"):
        evaluate(Constant(7), split)
    with pytest.raises(InvalidInput, match="asks nothing"):
        evaluate(Constant(split.train.n_items), time_split(events(), (15, 15)), part="validation")
    with pytest.raises(InvalidInput, match="a row per item"):
        evaluate(Constant(split.train.n_items), split, candidates=np.ones(3, np.bool_))
    with pytest.raises(InvalidInput, match="not a number"):
        evaluate(Constant(split.train.n_items, float("nan")), split)


def test_popularity_on_movielens_100k(data_folder: Path) -> None:
    data = load_ml100k(data_folder / "ml-100k")
    split = time_split(
        data.interactions, cut_times(data.interactions, train=0.8, validation=0.0), ties=Ties("shuffle", 0)
    )
    genres, names = attribute_matrix(data.items, split.train.vocabulary, "genre")
    report = evaluate(Popular(split.train), split, genres=genres)
    assert [round(report.mean(measure), 3) for measure in ("R@1", "R@10", "NDCG@10")] == [0.009, 0.071, 0.033]
    assert len(names) == 19
    assert 0.5 < report.mean("distance@10") < 1
    assert 0 < report.mean("dominant_genre@10") < report.mean("genre_entropy@10") < np.log2(19)
