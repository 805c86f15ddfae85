"""Splits: nothing of the future in train or in a history, stated ties, fingerprints."""

from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.recommend_cleaning import Ties, events_hash, interactions_of, k_core, order_ties, selected, tied
from facetrail.eval.recommend_data import load_ml100k
from facetrail.eval.recommend_splits import (
    FUTURE_WARNING,
    Predictions,
    Split,
    cold_item,
    cut_times,
    leave_last,
    time_split,
    user_folds,
)
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions

Listed = list[tuple[str, str, int]]
ALL_TIES = [Ties("shuffle", 3), Ties("group", 3), Ties("file")]


def built(listed: Listed) -> Interactions:
    return interactions_of([u for u, _, _ in listed], [i for _, i, _ in listed], [t for _, _, t in listed])


def random_events(seed: int = 0, n: int = 600) -> Listed:
    """30 users, 40 items of which some appear late, and many tied times."""
    rng = np.random.default_rng(seed)
    return [(f"u{rng.integers(30)}", f"i{rng.integers(20 + t // 3)}", int(t)) for t in rng.integers(0, 60, n)]


def by_id(asked: Predictions) -> dict[tuple[str, int, tuple[str, ...]], list[str]]:
    """(user, time, targets) → history, in ids."""
    source = asked.source
    names = source.vocabulary.ids
    return {
        (
            source.users.ids[asked.users[row]],
            int(asked.times[row]),
            tuple(sorted(names[i] for i in asked.targets[asked.starts[row] : asked.starts[row + 1]])),
        ): [names[i] for i in asked.history(row)]
        for row in range(len(asked))
    }


def test_events_are_sorted_and_exact_duplicates_dropped() -> None:
    events = built([("b", "y", 2), ("a", "x", 5), ("b", "x", 1), ("b", "y", 2), ("b", "y", 3), ("b", "a", 2)])
    assert events.users.ids == ("a", "b")
    assert events.vocabulary.ids == ("a", "x", "y")
    assert [events.vocabulary.ids[i] for i in events.history(1)] == ["x", "y", "a", "y"]
    assert events.times.tolist() == [5, 1, 2, 2, 3]
    with pytest.raises(InvalidInput, match="equally many"):
        interactions_of(["a"], [], [1])


def test_k_core_goes_on_until_nothing_changes() -> None:
    # Dropping z (1 event) leaves c with one event; dropping c leaves y with one; a, b, x, w are the 2-core.
    pairs = ["a x", "a w", "b x", "b w", "b y", "c y", "c z"]
    core = k_core(built([(*pair.split(), n) for n, pair in enumerate(pairs)]), 2)  # type: ignore[misc]
    assert core.users.ids == ("a", "b")
    assert core.vocabulary.ids == ("w", "x")
    assert len(core.items) == 4
    assert len(k_core(core, 3).items) == 0


def test_order_of_ties_depends_on_the_seed_and_on_nothing_else() -> None:
    listed = random_events()
    events = built(listed)
    first = order_ties(events, Ties("shuffle", 1))
    assert events_hash(first) == events_hash(order_ties(built(listed[::-1]), Ties("shuffle", 1)))
    assert events_hash(first) != events_hash(order_ties(events, Ties("shuffle", 2)))
    np.testing.assert_array_equal(first.times, events.times)
    without_late = selected(first, first.times < 40)
    again = order_ties(selected(events, events.times < 40), Ties("shuffle", 1))
    assert events_hash(without_late) == events_hash(again)
    assert order_ties(events, Ties("file")) is events


@pytest.mark.parametrize("ties", ALL_TIES)
def test_histories_of_a_split_by_time_are_strictly_earlier(ties: Ties) -> None:
    split = time_split(built(random_events()), (30, 45), ties=ties)
    assert split.train.times.max() <= 30
    for asked, low, high in ((split.validation, 31, 45), (split.test, 46, 59)):
        assert len(asked) > 50
        assert ((asked.times >= low) & (asked.times <= high)).all()
        for row in range(len(asked)):
            user, stop = asked.users[row], asked.stops[row]
            times = asked.source.times
            own = times[asked.source.starts[user] : asked.source.starts[user + 1]]
            assert stop > asked.source.starts[user]
            assert times[stop - 1] < asked.times[row]
            assert stop - asked.source.starts[user] == (own < asked.times[row]).sum()


def test_group_asks_for_all_events_of_a_time_at_once() -> None:
    listed = [("a", "x", 1), ("a", "y", 5), ("a", "z", 5), ("a", "x", 6), ("b", "y", 5)]
    grouped = by_id(time_split(built(listed), (1, 1), ties=Ties("group")).test)
    assert {key[1:] for key in grouped} == {(5, ("y", "z")), (6, ("x",))}
    assert grouped["a", 5, ("y", "z")] == ["x"]
    each = time_split(built(listed), (1, 1), ties=Ties("shuffle")).test
    assert sorted(key[2] for key in by_id(each)) == [("x",), ("y",), ("z",)]
    assert each.n_without_history == 1
    assert each.tied_share == pytest.approx(2 / 3)


@pytest.mark.parametrize("ties", ALL_TIES)
def test_deleting_the_future_of_a_question_leaves_it_unchanged(ties: Ties) -> None:
    listed = random_events()
    whole = time_split(built(listed), (30, 30), ties=ties)
    for moment in (35, 50):
        cut = time_split(built([event for event in listed if event[2] <= moment]), (30, 30), ties=ties)
        assert cut.train_hash == whole.train_hash
        assert by_id(cut.test) == {key: past for key, past in by_id(whole.test).items() if key[1] <= moment}


@pytest.mark.parametrize("core", [0, 5])
def test_train_is_a_function_of_train_events_alone(core: int) -> None:
    listed = random_events()
    future = [("new", f"a{n}", 40 + n % 20) for n in range(300)]
    plain, fuller = (time_split(built(events), (30, 45), core=core) for events in (listed, listed + future))
    assert plain.train_hash == fuller.train_hash
    assert plain.hash != fuller.hash
    past = time_split(built([event for event in listed if event[2] <= 30] + [("u1", "i1", 31)]), (30, 31), core=core)
    assert past.train_hash == plain.train_hash


def test_the_catalogue_numbers_train_first() -> None:
    split = time_split(built(random_events()), (15, 45))
    n_train = split.train.n_items
    assert split.catalogue.ids[:n_train] == split.train.vocabulary.ids
    assert n_train < len(split.catalogue) == len(set(split.catalogue.ids))
    assert split.test.source.vocabulary is split.catalogue


def test_leave_last_keeps_validation_and_test_out_of_train() -> None:
    listed = [("a", item, n) for n, item in enumerate("vwxyz")] + [("b", "x", 0), ("b", "y", 9), ("c", "z", 3)]
    split = leave_last(built(listed), ties=Ties("file"))
    assert by_id(split.test) == {("a", 4, ("z",)): list("vwxy"), ("b", 9, ("y",)): ["x"]}
    assert by_id(split.validation) == {("a", 3, ("y",)): list("vwx")}
    train = {u: [split.train.vocabulary.ids[i] for i in split.train.history(n)] for n, u in enumerate("abc")}
    assert train == {"a": list("vwx"), "b": ["x"], "c": ["z"]}
    assert split.warnings == (FUTURE_WARNING,)
    without = leave_last(built(listed), ties=Ties("file"), validation=False)
    assert len(without.train.items) == 6
    assert len(without.validation) == 0


def test_leave_last_under_group_asks_for_the_last_time() -> None:
    listed = [("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("a", "w", 3)]
    split = leave_last(built(listed), ties=Ties("group"))
    assert by_id(split.test) == {("a", 3, ("w", "z")): ["x", "y"]}
    assert by_id(split.validation) == {("a", 2, ("y",)): ["x"]}


def test_folds_ask_every_user_once_and_train_on_the_others() -> None:
    events = built(random_events())
    folds = user_folds(events, 4, seed=5)
    asked = [fold.test.source.users.ids[user] for fold in folds for user in fold.test.users]
    assert sorted(asked) == sorted(events.users.ids)
    for fold in folds:
        assert not {fold.test.source.users.ids[user] for user in fold.test.users} & set(fold.train.users.ids)
        assert len(fold.validation) == 0
    assert [fold.hash for fold in folds] == [fold.hash for fold in user_folds(events, 4, seed=5)]
    assert folds[0].hash != user_folds(events, 4, seed=6)[0].hash
    with pytest.raises(InvalidInput, match="folds"):
        user_folds(events, 1, seed=5)


def test_cold_items_are_first_seen_after_the_cut() -> None:
    events = built(random_events())
    split = cold_item(events, (30, 45))
    first_seen = {item: events.times[events.items == n].min() for n, item in enumerate(events.vocabulary.ids)}
    asked = {split.catalogue.ids[item] for part in (split.validation, split.test) for item in part.targets}
    assert asked
    assert all(first_seen[item] > 30 for item in asked)
    assert not asked & set(split.train.vocabulary.ids)


def test_the_rule_is_part_of_the_hash() -> None:
    events = built([("a", item, n) for n, item in enumerate("vwxyz")])  # no ties: every rule gives the same arrays
    splits: list[Split] = [leave_last(events, ties=ties) for ties in (*ALL_TIES, Ties("shuffle", 4))]
    assert len({split.hash for split in splits}) == 4
    assert len({split.train_hash for split in splits}) == 1
    assert leave_last(events, ties=ALL_TIES[0]).hash == splits[0].hash


def test_impossible_cuts_are_refused() -> None:
    events = built(random_events())
    with pytest.raises(InvalidInput, match="backwards"):
        time_split(events, (40, 30))
    with pytest.raises(InvalidInput, match="no event"):
        time_split(events, (-5, 30))
    with pytest.raises(InvalidInput, match="empty"):
        cut_times(events, train=1.0)
    with pytest.raises(InvalidInput, match="50-core"):
        time_split(events, (30, 45), core=50)


def test_movielens_100k_as_published_in_the_design(data_folder: Path) -> None:
    events = load_ml100k(data_folder / "ml-100k").interactions
    is_tied = tied(events)
    assert round(float(is_tied.mean()), 3) == 0.758
    assert round(float(is_tied[events.starts[1:] - 1].mean()), 3) == 0.440
    split = time_split(events, cut_times(events, train=0.8, validation=0.0), ties=Ties("shuffle", 0))
    assert (len(split.test), split.test.n_without_history) == (19_539, 458)
    assert (split.test.source.values[split.test.events] == 5).sum() == 4_526
    assert len(leave_last(events).test) == 943
