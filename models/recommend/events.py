"""From raw events to arrays, in the vocabulary of a fitted model."""

from collections.abc import Iterable, Sequence

import numpy as np

from facetrail.models.recommend.interactions import Interactions, ItemRows, Vocabulary
from facetrail.models.recommend.records import Event


def in_order(history: Iterable[Event]) -> list[Event]:
    """Oldest first, events of one time as they were given; an event that is given twice counts once."""
    once = {(event.user, event.item, event.action, event.time): event for event in history}
    return sorted(once.values(), key=lambda event: event.time)


def item_rows(history: Iterable[Event], vocabulary: Vocabulary) -> ItemRows:
    """The items of a history by number, oldest first; unknown ones are left out."""
    return vocabulary.rows([event.item for event in in_order(history)])


def gathered(histories: Sequence[Sequence[Event]], vocabulary: Vocabulary) -> Interactions:
    """Histories, one a user, as arrays; their users are numbered as they come, unknown items are left out."""
    known = [[event for event in in_order(history) if event.item in vocabulary.numbers] for history in histories]
    flat = [event for history in known for event in history]
    return Interactions(
        users=Vocabulary(tuple(str(user) for user in range(len(known)))),
        vocabulary=vocabulary,
        starts=np.cumsum([0, *map(len, known)]),
        items=vocabulary.rows([event.item for event in flat]),
        times=np.array([event.time for event in flat], np.int64),
        values=np.array([np.nan if event.value is None else event.value for event in flat], np.float32),
    )
