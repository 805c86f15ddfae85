"""The seam of recommendation: a history of raw events in, items with their reasons out."""

from collections.abc import Collection, Sequence
from typing import Protocol

from facetrail.models.recommend.records import Event, Recommendation


class Recommender(Protocol):
    """Recommends from a raw history; the user of it may be unknown."""

    @property
    def name(self) -> str:
        """As tables and answers call it."""

    def recommend(
        self,
        history: Sequence[Event],
        *,
        k: int,
        candidates: Collection[str] | None = None,
        exclude: Collection[str] = (),
        explain: bool = False,
    ) -> list[Recommendation]:
        """At most k items, higher scores first, equal ones by id.

        candidates: the only ids that may be returned; None: all. exclude: ids that may not. Both are applied before
        anything is cut, so k items come back whenever k are allowed. Items of the history are returned unless they are
        in `exclude`. explain: with reasons. Ids that the model does not know are ignored in a history.
        """
