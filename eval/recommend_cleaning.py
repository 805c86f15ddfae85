"""Events made ready for a split: sorted, exact duplicates dropped, k-core, and a stated order among equal times.

In MovieLens-100k three of four events share their second with another event of their user, and the order among those
moves recall by five points; so the order is never what a sort happens to give, but a rule that enters a split's hash.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.interactions import Interactions, Vocabulary

Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Ties:
    """What holds among events of one user that carry the same time.

    `shuffle`: a random order · `group`: the same order inside histories, and all events of one time are targets
    together · `file`: the order in which they were listed, for literature files without times.
    """

    kind: Literal["shuffle", "group", "file"] = "shuffle"
    seed: int = 0
    """Of the random order; without effect under `file`."""


def interactions_of(
    users: Sequence[str],
    items: Sequence[str],
    times: Sequence[int] | Int64Array,
    values: Sequence[float] | NDArray[np.float32] | None = None,
) -> Interactions:
    """Sorts listed events by user and time; what is listed first stays first among equal times.

    Ids are numbered in their sorted order, so that numbers do not depend on the file's order. The four are (e,).
    Of events with equal user, item and time the first is kept.
    """
    if not len(users) == len(items) == len(times) or (values is not None and len(values) != len(users)):
        raise InvalidInput("users, items, times and values must be equally many; give one of each per event")
    user_names, user_rows = _numbered(users)
    item_names, item_rows = _numbered(items)
    moments = np.asarray(times, np.int64)
    stars = np.full(len(users), np.nan, np.float32) if values is None else np.asarray(values, np.float32)
    by_event = np.lexsort((item_rows, moments, user_rows))  # stable
    again = np.zeros(len(users), np.bool_)
    columns = (user_rows[by_event], moments[by_event], item_rows[by_event])
    again[by_event[1:]] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    order = np.lexsort((moments, user_rows))
    order = order[~again[order]]
    starts = np.concatenate([[0], np.cumsum(np.bincount(user_rows[order], minlength=len(user_names)))]).astype(np.int64)
    return Interactions(
        Vocabulary(user_names), Vocabulary(item_names), starts, item_rows[order], moments[order], stars[order]
    )


def event_users(interactions: Interactions) -> Int64Array:
    """(e,) the user of every event."""
    return np.repeat(np.arange(interactions.n_users), np.diff(interactions.starts))


def selected(interactions: Interactions, keep: BoolArray) -> Interactions:
    """The events where `keep` (e,) holds; users and items left without an event leave the vocabularies."""
    users, items = event_users(interactions)[keep], interactions.items[keep]
    kept_users, user_rows = np.unique(users, return_inverse=True)
    kept_items, item_rows = np.unique(items, return_inverse=True)
    return Interactions(
        Vocabulary(tuple(interactions.users.ids[row] for row in kept_users)),
        Vocabulary(tuple(interactions.vocabulary.ids[row] for row in kept_items)),
        np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=len(kept_users)))]).astype(np.int64),
        item_rows.astype(np.int64),
        interactions.times[keep],
        interactions.values[keep],
    )


def k_core(interactions: Interactions, k: int) -> Interactions:
    """Drops users and items with fewer than k events until every one left has k. k up to 1 changes nothing."""
    users, items = event_users(interactions), interactions.items
    keep = np.ones(len(items), np.bool_)
    n_before = -1
    while n_before != (n_kept := int(keep.sum())):
        n_before = n_kept
        per_user = np.bincount(users[keep], minlength=interactions.n_users)
        per_item = np.bincount(items[keep], minlength=interactions.n_items)
        keep &= (per_user[users] >= k) & (per_item[items] >= k)
    return interactions if keep.all() else selected(interactions, keep)


def numbered_as(train: Interactions, interactions: Interactions) -> Interactions:
    """The same events with the items of train numbered first and as there."""
    known = train.vocabulary.numbers
    ids = train.vocabulary.ids + tuple(name for name in interactions.vocabulary.ids if name not in known)
    numbers = {name: number for number, name in enumerate(ids)}
    renumbered = np.array([numbers[name] for name in interactions.vocabulary.ids], np.int64)
    return replace(interactions, vocabulary=Vocabulary(ids), items=renumbered[interactions.items])


def order_ties(interactions: Interactions, ties: Ties) -> Interactions:
    """Puts events of equal user and time into the order of the rule.

    The random order is drawn from (seed, user, item, time) of each event by itself: another event more or fewer, or
    another order of the file, changes nothing for the rest.
    """
    if ties.kind == "file":
        return interactions
    order = np.lexsort((_tie_keys(interactions, ties.seed), interactions.times, event_users(interactions)))
    return replace(
        interactions,
        items=interactions.items[order],
        times=interactions.times[order],
        values=interactions.values[order],
    )


def tie_starts(interactions: Interactions) -> Int64Array:
    """(e,) for every event the place of the first event of its user with the same time."""
    places = np.arange(len(interactions.items))
    is_first = np.ones(len(places), np.bool_)
    users = event_users(interactions)
    is_first[1:] = (users[1:] != users[:-1]) | (interactions.times[1:] != interactions.times[:-1])
    return np.maximum.accumulate(np.where(is_first, places, 0))


def tied(interactions: Interactions) -> BoolArray:
    """(e,) whether the event shares its time with another one of its user."""
    starts = tie_starts(interactions)
    return np.bincount(starts, minlength=len(starts))[starts] > 1


def events_hash(interactions: Interactions) -> str:
    """Fingerprint of the events in their order, with the ids: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for vocabulary in (interactions.users, interactions.vocabulary):
        digest.update("\0".join(vocabulary.ids).encode() + b"\1")
    for array in (interactions.starts, interactions.items, interactions.times, interactions.values):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def id_hashes(vocabulary: Vocabulary) -> NDArray[np.uint64]:
    """(len,) 64 fixed random bits for every id."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) for name in vocabulary.ids], np.uint64
    )


def mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit of the input flips about half of the output."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _tie_keys(interactions: Interactions, seed: int) -> NDArray[np.uint64]:
    keys = mixed(id_hashes(interactions.users) + np.uint64(seed % 2**64))[event_users(interactions)]
    keys = mixed(keys + id_hashes(interactions.vocabulary)[interactions.items])
    return mixed(keys + interactions.times.astype(np.uint64))


def _numbered(names: Sequence[str]) -> tuple[tuple[str, ...], Int64Array]:
    """The different names in sorted order, and the number of each one given."""
    different = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(different)}
    return different, np.fromiter((numbers[name] for name in names), np.int64, len(names))
