"""Who is similar to a user, as both are known at one cut.

Cosines are taken about the users' mean (ours): what all of them share, popular items above all, tells nobody apart.
Letters: s contexts, k similar users, d dimensions.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from facetrail.models.recommend.hint_rows import NOTHING, Contexts, SimilarUsers
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.time_blocks import Floats, Ints

Vectors = Callable[[Contexts], NDArray[np.float32]]
"""(s, d) vectors of users, each as known by its context."""
SHARPNESS = 0.1
"""Divides cosines before the softmax over similar users."""


def similar_users(evidence: Evidence, contexts: Contexts, vectors: Vectors, k: int) -> SimilarUsers:
    """The k nearest users by cosine about the users' mean, all as known at the context's cut; equal ones by number.

    Only users with visible events count, and a user without any has no similar ones: an embedding alone is no taste.
    """
    users = np.full((len(contexts.users), k), NOTHING, np.int64)
    weights = np.zeros((len(contexts.users), k))
    if not k:
        return SimilarUsers(users, weights)
    sweep = _Sweep(evidence, contexts.cuts, vectors)
    for number in np.argsort(contexts.cuts, kind="stable").tolist():
        user, cut = int(contexts.users[number]), int(contexts.cuts[number])
        unit, there = sweep.at(cut)
        if not there[user]:
            continue
        others = np.flatnonzero(there & (np.arange(len(there)) != user))
        cosines = unit[others] @ unit[user]
        nearest = np.argsort(-cosines, kind="stable")[:k]
        heat = np.exp((cosines[nearest] - 1) / SHARPNESS)
        users[number, : len(nearest)] = others[nearest]
        weights[number, : len(nearest)] = heat / heat.sum() if len(nearest) else heat
    return SimilarUsers(users, weights)


class _Sweep:
    """Vectors of all users at ascending cuts; between two cuts only those of users with new events change."""

    def __init__(self, evidence: Evidence, cuts: Ints, vectors: Vectors) -> None:
        users = evidence.log.events.users
        pairs: list[tuple[int, int]] = []
        ends: list[int] = []
        self._cuts, before = np.unique(cuts), 0
        for cut in self._cuts.tolist():
            pairs += [(int(user), cut) for user in np.unique(users[before:cut])]
            ends.append(len(pairs))
            before = cut
        table = np.array(pairs, np.int64).reshape(-1, 2)
        self._users, self._ends = table[:, 0], ends
        self._fresh = vectors(Contexts.of(evidence, table[:, 0], table[:, 1])).astype(np.float64)
        self._vectors = np.zeros((evidence.log.n_users, self._fresh.shape[1]))
        self._unit = self._vectors
        self._there = np.zeros(evidence.log.n_users, np.bool_)
        self._n_cuts = self._n_pairs = 0

    def at(self, cut: int) -> tuple[Floats, NDArray[np.bool_]]:
        """(users, d) unit vectors about the mean of those with visible events, and whether each has some."""
        before = self._n_cuts
        while self._n_cuts < len(self._cuts) and self._cuts[self._n_cuts] <= cut:
            chosen = slice(self._n_pairs, self._ends[self._n_cuts])
            self._vectors[self._users[chosen]] = self._fresh[chosen]
            self._there[self._users[chosen]] = True
            self._n_pairs, self._n_cuts = self._ends[self._n_cuts], self._n_cuts + 1
        if self._n_cuts > before and self._there.any():
            apart = self._vectors - self._vectors[self._there].mean(axis=0)
            self._unit = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
        return self._unit, self._there
