"""Rows to score, with everything that hint discovery needs to know about each: numpy tables, and batches of tensors.

A context is what one user is known by at one cut; rows share it. Letters: r rows, s contexts, c candidates, b rows of
a batch, k similar users, F = N_FEATURES.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetrail.models.recommend.hint_statistics import N_FEATURES, Evidence, item_candidates, user_candidates
from facetrail.models.recommend.time_blocks import Floats, Ints

WIDEST = 64
"""Candidates of a side."""
NOTHING = -1
"""Pads candidates and similar users."""


@dataclass(frozen=True)
class Bags:
    """A list of numbers for each context. starts: (s + 1,) · rows: all lists, one after the other."""

    starts: Ints
    rows: Ints

    @classmethod
    def of(cls, lists: Sequence[Ints]) -> "Bags":
        """From one array each."""
        starts = np.cumsum([0, *(len(one) for one in lists)]).astype(np.int64)
        return cls(starts, np.concatenate([*lists, np.empty(0, np.int64)]))

    def take(self, chosen: Ints) -> "Bags":
        """The lists of some contexts."""
        return Bags.of([self.rows[self.starts[i] : self.starts[i + 1]] for i in chosen.tolist()])


@dataclass(frozen=True)
class Contexts:
    """users, cuts: (s,) · liked: B_u⁺, items · traits: attributes of these, as often as they occur."""

    users: Ints
    cuts: Ints
    liked: Bags
    traits: Bags

    @classmethod
    def of(cls, evidence: Evidence, users: Ints, cuts: Ints) -> "Contexts":
        """One for each (user, cut)."""
        pairs = list(zip(users.tolist(), cuts.tolist(), strict=True))
        return cls(
            users,
            cuts,
            Bags.of([evidence.liked(*pair) for pair in pairs]),
            Bags.of([evidence.traits(*pair) for pair in pairs]),
        )

    def take(self, chosen: Ints) -> "Contexts":
        """Some of them."""
        return Contexts(self.users[chosen], self.cuts[chosen], self.liked.take(chosen), self.traits.take(chosen))


@dataclass(frozen=True)
class SimilarUsers:
    """The nearest users of each context. users: (s, k), NOTHING where there are fewer · weights: (s, k) sum to 1."""

    users: Ints
    weights: Floats

    def of(self, context: int) -> tuple[Ints, Floats]:
        """One context's."""
        there = self.users[context] >= 0
        return self.users[context][there], self.weights[context][there]


@dataclass(frozen=True)
class HintBatch:
    """b rows as tensors. Contexts are those of these rows alone; `context` says which is a row's.

    bias: (b, 2) what user and item add to the mean label · item_side: (b, c) · user_side: (s, c), NOTHING pads ·
    features accordingly (…, c, F) · liked, traits: (rows, starts) of each context · cold_user: (b,).
    """

    users: Tensor
    items: Tensor
    context: Tensor
    bias: Tensor
    item_side: Tensor
    item_features: Tensor
    user_side: Tensor
    user_features: Tensor
    liked: tuple[Tensor, Tensor]
    traits: tuple[Tensor, Tensor]
    cold_user: Tensor

    def __len__(self) -> int:
        return len(self.users)


class HintTable:
    """Rows with their contexts, candidates and statistics, worked out once for one choice of similar users."""

    def __init__(
        self, evidence: Evidence, users: Ints, items: Ints, contexts: Contexts, context: Ints, similar: SimilarUsers,
    ) -> None:  # fmt: skip
        """users, items: (r,) · context: (r,) which of the contexts is a row's."""
        self.users, self.items, self.contexts, self.context = users, items, contexts, context
        cuts = contexts.cuts[context]
        biases = evidence.biases(users, items, cuts)
        self.bias = np.stack([biases.user, biases.item], axis=-1).astype(np.float32)
        self.cold_user = evidence.log.of_users(users, cuts).counts == 0
        self._attributes = evidence.attributes
        self.item_side: list[Ints] = [np.empty(0, np.int64)] * len(users)
        self.item_features: list[NDArray[np.float32]] = [np.empty((0, N_FEATURES), np.float32)] * len(users)
        self.item_plain: list[NDArray[np.float32]] = [np.empty((0, 2), np.float32)] * len(users)
        self.user_side: list[Ints] = []
        self.user_features: list[NDArray[np.float32]] = []
        self.user_plain: list[NDArray[np.float32]] = []
        rows_of = np.split(np.argsort(context, kind="stable"), np.cumsum(np.bincount(context))[:-1])
        for number, rows in enumerate(rows_of):
            taste = evidence.taste(int(contexts.users[number]), int(contexts.cuts[number]), *similar.of(number))
            strongest = user_candidates(taste, WIDEST)
            self.user_side.append(strongest)
            self.user_features.append(taste.features(strongest, self._attributes.idf))
            self.user_plain.append(taste.plainly(strongest))
            owners, found = item_candidates(taste, self._attributes, items[rows])
            ends = np.searchsorted(owners, np.arange(1, len(rows)))
            told = (found, taste.features(found, self._attributes.idf), taste.plainly(found))
            for row, *of_row in zip(rows.tolist(), *(np.split(each, ends) for each in told), strict=True):
                self.item_side[row], self.item_features[row], self.item_plain[row] = of_row

    def __len__(self) -> int:
        return len(self.users)

    def batch(self, rows: Ints, device: torch.device | None = None) -> HintBatch:
        """Some of the rows."""
        numbers, context = np.unique(self.context[rows], return_inverse=True)
        items = _padded([self.item_side[i] for i in rows], [self.item_features[i] for i in rows])
        users = _padded([self.user_side[i] for i in numbers], [self.user_features[i] for i in numbers])

        def put(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        liked, traits = self.contexts.liked.take(numbers), self.contexts.traits.take(numbers)
        return HintBatch(
            put(self.users[rows]), put(self.items[rows]), put(context), put(self.bias[rows]),
            put(items[0]), put(items[1]), put(users[0]), put(users[1]),
            (put(liked.rows), put(liked.starts[:-1])), (put(traits.rows), put(traits.starts[:-1])),
            put(self.cold_user[rows]),
        )  # fmt: skip


def contexts_of(evidence: Evidence, users: Ints, cuts: Ints) -> tuple[Contexts, Ints]:
    """The distinct contexts of rows, and which is each row's."""
    pairs, context = np.unique(np.stack([users, cuts], axis=-1), axis=0, return_inverse=True)
    return Contexts.of(evidence, pairs[:, 0], pairs[:, 1]), context.reshape(-1)


def _padded(lists: Sequence[Ints], features: Sequence[NDArray[np.float32]]) -> tuple[Ints, NDArray[np.float32]]:
    """(b, c) and (b, c, F); at least one column, so that an empty graph is a shape like any other."""
    width = max(1, *(len(one) for one in lists), 0)
    numbers = np.full((len(lists), width), NOTHING, np.int64)
    filled = np.zeros((len(lists), width, N_FEATURES), np.float32)
    for row, (one, told) in enumerate(zip(lists, features, strict=True)):
        numbers[row, : len(one)], filled[row, : len(one)] = one, told
    return numbers, filled
