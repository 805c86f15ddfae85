"""Lists of options: what may stand in them, how alike in popularity their negatives are, what chance gives."""

import numpy as np
import pytest

from facetrail.eval.recommend_cleaning import Ties, interactions_of
from facetrail.eval.recommend_metrics import ndcg, recall
from facetrail.eval.recommend_options import KINDS, OptionLists, draw_lists, list_places, of_kind
from facetrail.eval.recommend_splits import Split, cut_times, time_split
from facetrail.models.errors import InvalidInput


@pytest.fixture(scope="module")
def split() -> Split:
    """80 users of 30 events among 300 items, some of them popular, rated 1 to 5."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 301) ** 0.3
    users, items, times, values = [], [], [], []
    for user in range(80):
        for item in rng.choice(300, 30, replace=False, p=weights / weights.sum()).tolist():
            users.append(f"u{user:02}")
            items.append(f"i{item:03}")
            times.append(int(rng.integers(10**6)))
            values.append(float(rng.integers(1, 6)))
    events = interactions_of(users, items, times, values)
    return time_split(events, cut_times(events, train=0.7, validation=0.1), ties=Ties("shuffle"))


def _drawn(split: Split, *, per_user: int = 5, n_options: int = 10, seed: int = 1) -> OptionLists:
    rng = np.random.default_rng(seed)
    return draw_lists(split.test, split.train, least=4, n_options=n_options, per_user=per_user, rng=rng)


def test_targets_are_liked_known_and_new_and_negatives_are_never_taken_up(split: Split):
    lists, source = _drawn(split), split.test.source
    assert len(lists) > 60
    assert np.unique(lists.users, return_counts=True)[1].max() == 5
    for number in range(len(lists)):
        target = int(split.test.targets[lists.rows[number]])
        assert source.values[split.test.events[lists.rows[number]]] >= 4
        assert target not in lists.history(number)
        taken = set(source.history(int(lists.users[number])).tolist())
        for kind in KINDS:
            options = lists.options[kind][number].tolist()
            assert (options[0], len(set(options)), max(options) < split.train.n_items) == (target, 10, True)
            assert not taken.intersection(options[1:])
    assert (lists.times > split.rule["t2"]).all()


def test_matched_negatives_are_as_popular_and_the_target_stands_anywhere_among_them(split: Split):
    lists = _drawn(split, per_user=30, n_options=5)
    counts = np.bincount(split.train.items, minlength=split.train.n_items)
    apart = {kind: np.abs(counts[lists.options[kind]] - counts[lists.options[kind][:, :1]]).mean() for kind in KINDS}
    assert apart["matched"] < 0.5 * apart["random"]
    sides = np.sign(counts[lists.options["matched"]][:, 1:] - counts[lists.options["matched"]][:, :1]).sum(axis=1)
    assert abs(sides.mean()) < 0.5
    assert min((sides >= 2).mean(), (sides <= -2).mean()) > 0.05  # the nearest on both sides would leave it between


def test_what_chance_gives_and_the_parts_of_every_option(split: Split):
    lists = _drawn(split)
    every = lists.every_option
    for kind in KINDS:
        assert (of_kind(every, kind, 10) == lists.options[kind]).all()
        assert (of_kind(every, kind, 4) == lists.options[kind][:, :4]).all()
    alike = list_places(np.zeros((len(lists), 10)))
    assert recall(alike, 1) == pytest.approx(np.full(len(lists), 0.1))
    best = list_places(np.eye(1, 10).repeat(3, axis=0))
    assert (recall(best, 1).tolist(), ndcg(best, 5).tolist()) == ([1, 1, 1], [1, 1, 1])
    few = lists.take(np.array([2, 5]), n_options=4)
    assert (few.options["random"] == lists.options["random"][[2, 5], :4]).all()
    assert few.history(1).tolist() == lists.history(5).tolist()
    with pytest.raises(InvalidInput, match="between 2 and 10"):
        of_kind(every, "random", 11)


def test_lists_follow_from_the_seed(split: Split):
    first, again, other = _drawn(split), _drawn(split), _drawn(split, seed=2)
    assert (first.every_option == again.every_option).all()
    assert first.every_option.shape != other.every_option.shape or (first.every_option != other.every_option).any()


def test_what_cannot_be_drawn_is_refused(split: Split):
    with pytest.raises(InvalidInput, match="valued at 6 or more"):
        draw_lists(split.test, split.train, least=6, n_options=5, per_user=5, rng=np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="ask for shorter lists"):
        _drawn(split, n_options=150)
