"""Splits that do not leak: what a scorer is fitted on, and the questions it is then asked.

What is fitted sees `train` alone: its vocabulary, its k-core, its counts. A question's history is a prefix of its
user's events. Under the splits by time it holds everything strictly before the target's time, also what lies behind the
cut (rolling); parameters stay those of train.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facetrail.eval.recommend_cleaning import (
    BoolArray,
    Int64Array,
    Ties,
    event_users,
    events_hash,
    id_hashes,
    k_core,
    mixed,
    numbered_as,
    order_ties,
    selected,
    tie_starts,
    tied,
)
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, ItemRows, Vocabulary

FUTURE_WARNING = "trains on other users' future: comparable with the literature, not with what a service would see"


@dataclass(frozen=True)
class Predictions:
    """p questions, each a history and the events that followed.

    source: all events, items numbered as in the split's catalogue · users: (p,) · stops: (p,) history i is
    source.items[source.starts[users[i]] : stops[i]] and never empty · starts: (p + 1,) where each question's targets
    begin · events: (t,) places of the targets in the source.
    """

    source: Interactions
    users: Int64Array
    stops: Int64Array
    starts: Int64Array
    events: Int64Array
    n_without_history: int
    """Targets left out because nothing lies before them."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def targets(self) -> Int64Array:
        """(t,) items asked for."""
        return self.source.items[self.events]

    @property
    def times(self) -> Int64Array:
        """(p,) time of each question's first target."""
        return self.source.times[self.events[self.starts[:-1]]]

    @property
    def tied_share(self) -> float:
        """Share of targets that carry the time of another event of their user: there the order is partly chance."""
        return float(tied(self.source)[self.events].mean()) if len(self.events) else 0.0

    def history(self, row: int) -> ItemRows:
        """Items before question `row`, oldest first, in catalogue numbers."""
        return self.source.items[self.source.starts[self.users[row]] : self.stops[row]]


@dataclass(frozen=True)
class Split:
    """Train, validation and test, and the rule that made them.

    The catalogue numbers the items of train first, exactly as `train.vocabulary` does, then all others: a scorer fitted
    on train scores the first `train.n_items`, one that knows cold items by their text may score all.
    """

    name: str
    rule: Mapping[str, str | int]
    train: Interactions
    catalogue: Vocabulary
    validation: Predictions
    test: Predictions
    warnings: tuple[str, ...] = ()

    @cached_property
    def train_hash(self) -> str:
        """Fingerprint of what may be fitted on."""
        return events_hash(self.train)

    @cached_property
    def hash(self) -> str:
        """Fingerprint of rule, train and questions; tables with different ones are not comparable."""
        digest = hashlib.sha256(json.dumps([self.name, dict(self.rule)], sort_keys=True).encode())
        digest.update(self.train_hash.encode() + events_hash(self.test.source).encode())
        for part in (self.validation, self.test):
            for array in (part.users, part.stops, part.starts, part.events):
                digest.update(array.tobytes() + b"|")
        return digest.hexdigest()[:16]


def cut_times(interactions: Interactions, *, train: float = 0.8, validation: float = 0.1) -> tuple[int, int]:
    """Times t1 <= t2 up to which the first `train` and `train + validation` of all events lie, those at the cut within.

    Raises InvalidInput for shares that leave train or test empty.
    """
    n = len(interactions.times)
    if not (0 < train < 1 and 0 <= validation < 1 - train and train * n >= 1):
        raise InvalidInput(
            f"shares of {train:g} for train and {validation:g} for validation leave train or test of {n:,} events "
            "empty; give positive shares with a sum below 1"
        )
    times = np.sort(interactions.times)
    return int(times[round(train * n) - 1]), int(times[round((train + validation) * n) - 1])


def time_split(interactions: Interactions, cuts: tuple[int, int], *, ties: Ties | None = None, core: int = 0) -> Split:
    """train <= t1 < validation <= t2 < test. ties: `group`, seed 0, unless said otherwise; core: k-core of train.

    Under `group` a question's targets are all events of one user and time; otherwise every event is a question of its
    own. Histories are strictly earlier under every rule.
    """
    return _by_time("time", interactions, cuts, ties or Ties("group"), core=core, only_cold=False)


def cold_item(interactions: Interactions, cuts: tuple[int, int], *, ties: Ties | None = None) -> Split:
    """As `time_split`, asking only for items first seen after t1."""
    return _by_time("cold_item", interactions, cuts, ties or Ties("group"), core=0, only_cold=True)


def leave_last(interactions: Interactions, *, ties: Ties | None = None, validation: bool = True) -> Split:
    """Each user's last event is the test, the one before it the validation; for literature tables only.

    ties: `shuffle`, seed 0, unless said otherwise; under `group` the last and the last but one time. Without
    `validation` train holds all but the last. Events of a user too short for a question stay in train.
    """
    ties = ties or Ties()
    ordered = order_ties(interactions, ties)
    first, test_from, validation_from = _last_places(ordered, ties)
    stop = np.where(test_from > first, test_from, ordered.starts[1:])
    if validation:
        stop = np.where(validation_from > first, validation_from, stop)
    train = selected(ordered, np.arange(len(ordered.items)) < np.repeat(stop, np.diff(ordered.starts)))
    source = numbered_as(train, ordered)
    asked = np.repeat(test_from, np.diff(ordered.starts)), np.repeat(validation_from, np.diff(ordered.starts))
    places = np.arange(len(ordered.items))
    in_validation = (places >= asked[1]) & (places < asked[0]) & validation
    return Split(
        "leave_last",
        {"ties": ties.kind, "seed": ties.seed, "validation": int(validation)},
        train,
        source.vocabulary,
        _questions(source, in_validation, asked[1]),
        _questions(source, places >= asked[0], asked[0]),
        (FUTURE_WARNING,),
    )


def user_folds(interactions: Interactions, n_folds: int, *, seed: int, ties: Ties | None = None) -> tuple[Split, ...]:
    """Cross-fitting: split f trains on all users but those of fold f and asks for their last event.

    Folds follow from the seed and the users' ids alone. There is no validation; ties as in `leave_last`.
    Raises InvalidInput for fewer than two folds, or a fold without users.
    """
    ties = ties or Ties()
    ordered = order_ties(interactions, ties)
    if not 2 <= n_folds <= ordered.n_users:
        raise InvalidInput(f"{n_folds} folds of {ordered.n_users} users; give at least 2 and at most one per user")
    keys = mixed(id_hashes(ordered.users) + np.uint64(seed % 2**64))
    fold_of = np.empty(ordered.n_users, np.int64)
    fold_of[np.argsort(keys, kind="stable")] = np.arange(ordered.n_users) % n_folds
    _, test_from, _ = _last_places(ordered, ties)
    users, places = event_users(ordered), np.arange(len(ordered.items))
    folds = []
    for fold in range(n_folds):
        train = selected(ordered, fold_of[users] != fold)
        source = numbered_as(train, ordered)
        asked = (places >= test_from[users]) & (fold_of[users] == fold)
        rule: dict[str, str | int] = {"ties": ties.kind, "tie_seed": ties.seed, "folds": n_folds, "fold": fold}
        folds.append(
            Split(
                "user_folds",
                rule | {"seed": seed},
                train,
                source.vocabulary,
                _questions(source, np.zeros(len(places), np.bool_), places),
                _questions(source, asked, test_from[users]),
                (FUTURE_WARNING,),
            )
        )
    return tuple(folds)


def _by_time(
    name: str, interactions: Interactions, cuts: tuple[int, int], ties: Ties, *, core: int, only_cold: bool
) -> Split:
    first, second = cuts
    if first > second:
        raise InvalidInput(f"the cuts {first} and {second} run backwards; validation ends after train does")
    ordered = order_ties(interactions, ties)
    is_train = ordered.times <= first
    if not is_train.any():
        raise InvalidInput(f"no event lies at or before {first}, the end of train; cut later")
    train = k_core(selected(ordered, is_train), core)
    if not len(train.items):
        raise InvalidInput(f"the {core}-core of train is empty; ask for a smaller one")
    source = numbered_as(train, ordered)
    asked = ~is_train & ((source.items >= train.n_items) | (not only_cold))
    before = tie_starts(source)
    in_validation, grouped = source.times <= second, ties.kind == "group"
    validation, test = (
        _questions(source, asked & part, before, one_each=not grouped) for part in (in_validation, ~in_validation)
    )
    rule: dict[str, str | int] = {"ties": ties.kind, "seed": ties.seed, "t1": first, "t2": second, "core": core}
    return Split(name, rule, train, source.vocabulary, validation, test)


def _last_places(interactions: Interactions, ties: Ties) -> tuple[Int64Array, Int64Array, Int64Array]:
    """(n,) each: where a user's events begin, where the test's targets do, where the validation's do."""
    first, ends = interactions.starts[:-1], interactions.starts[1:]
    groups = tie_starts(interactions) if ties.kind == "group" else np.arange(len(interactions.items))
    test_from = np.where(ends > first, groups[ends - 1], first)
    return first, test_from, np.where(test_from > first, groups[test_from - 1], first)


def _questions(source: Interactions, asked: BoolArray, before: Int64Array, *, one_each: bool = False) -> Predictions:
    """asked: (e,) the targets · before: (e,) where each one's history ends. Targets of one end share a question."""
    has_history = before > np.repeat(source.starts[:-1], np.diff(source.starts))
    events = np.flatnonzero(asked & has_history)
    is_first = np.ones(len(events), np.bool_)
    if not one_each:
        is_first[1:] = before[events][1:] != before[events][:-1]
    begins = np.flatnonzero(is_first)
    return Predictions(
        source,
        event_users(source)[events[begins]],
        before[events[begins]],
        np.append(begins, len(events)).astype(np.int64),
        events,
        int((asked & ~has_history).sum()),
    )
