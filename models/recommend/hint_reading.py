"""From what the network selected to hints that can be shown: sign, provenance, support and flags. Ours.

Hints are signed by plain tastes (`hint_statistics`), which is what a reader takes "likes" to mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrail.models.recommend.hint_attention import Selection
from facetrail.models.recommend.hint_rows import HintTable, SimilarUsers
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hint_text import Hint
from facetrail.models.recommend.hints import Discovery
from facetrail.models.recommend.time_blocks import Ints

DEAD_ZONE = 0.02
"""Plain tastes weaker than this, own and similar users' together, speak neither for nor against and are not shown."""


@dataclass(frozen=True)
class RowHints:
    """Hints of one row, most credible first. null_item, null_user: the share of "no hint"; 1 without such a side.

    flags: among `cold_user` (no visible event) and `cold_attributes` (the item has no attribute).
    """

    item: tuple[Hint, ...]
    user: tuple[Hint, ...]
    null_item: float
    null_user: float
    flags: tuple[str, ...]


class HintReader:
    """Reads hints of a table's rows, as the similar users that the table was made with see them."""

    def __init__(self, evidence: Evidence, table: HintTable, similar: SimilarUsers) -> None:
        self._evidence, self._table, self._similar = evidence, table, similar
        self._counted: tuple[int, Ints] | None = None  # of one context: those of all rows would not fit in memory

    def read(self, rows: Ints, discovery: Discovery) -> list[RowHints]:
        """discovery: of `table.batch(rows)`."""
        table, found = self._table, []
        of_item, of_user = _arrays(discovery.item), _arrays(discovery.user)
        for place, row in enumerate(rows.tolist()):
            context = int(table.context[row])
            sides: list[tuple[Hint, ...]] = []
            nulls: list[float] = []
            for arrays, numbers, tastes in (
                (of_item, table.item_side[row], table.item_plain[row]),
                (of_user, table.user_side[context], table.user_plain[context]),
            ):
                if arrays is None:
                    sides.append(())
                    nulls.append(1.0)
                    continue
                credibility, null = arrays
                sides.append(self._hints(context, numbers, tastes, credibility[place]))
                nulls.append(float(null[place]))
            flags = ["cold_user"] if table.cold_user[row] else []
            flags += [] if len(self._evidence.attributes.of(int(table.items[row]))) else ["cold_attributes"]
            found.append(RowHints(sides[0], sides[1], nulls[0], nulls[1], tuple(flags)))
        return found

    def _hints(
        self, context: int, numbers: Ints, tastes: NDArray[np.float32], credibility: NDArray[np.float32]
    ) -> tuple[Hint, ...]:
        hints = []
        for place in np.argsort(-credibility[: len(numbers)], kind="stable").tolist():
            if credibility[place] <= 0:
                break
            attribute, (own, similar) = int(numbers[place]), (float(x) for x in tastes[place])
            relation, value = self._names(attribute)
            if relation is None or value is None or abs(own + similar) < DEAD_ZONE:
                continue
            own_items, n_liked = self._own_items(context, attribute)
            hint = Hint(
                attribute=attribute,
                relation=relation,
                value=value,
                polarity="likes" if own + similar > 0 else "dislikes",
                provenance="own" if abs(own) >= abs(similar) else "similar",
                credibility=float(credibility[place]),
                own_items=own_items,
                n_liked=n_liked,
                n_similar=self._n_similar(context, attribute),
            )
            hints.append(hint)
        return tuple(hints)

    def _names(self, attribute: int) -> tuple[str | None, str | None]:
        attributes = self._evidence.attributes
        return attributes.relation_names[attribute], attributes.tail_names[attribute]

    def _own_items(self, context: int, attribute: int) -> tuple[tuple[int, ...], int]:
        """Those of the history that have it, and how many of them were liked."""
        contexts = self._table.contexts
        seen = self._evidence.log.history(int(contexts.users[context]), int(contexts.cuts[context]))
        items = np.unique(self._evidence.log.events.items[seen])
        which, found = self._evidence.attributes.spread(items)
        own = items[which[found == attribute]]
        liked = contexts.liked.rows[contexts.liked.starts[context] : contexts.liked.starts[context + 1]]
        return tuple(own.tolist()), int(np.isin(own, liked).sum())

    def _n_similar(self, context: int, attribute: int) -> int:
        if self._counted is None or self._counted[0] != context:
            self._counted = context, self._count_similar(context)
        return int(self._counted[1][attribute])

    def _count_similar(self, context: int) -> Ints:
        """(a,) how many similar users have met each attribute."""
        cut, log, attributes = int(self._table.contexts.cuts[context]), self._evidence.log, self._evidence.attributes
        counts = np.zeros(len(attributes), np.int64)
        for user in self._similar.of(context)[0].tolist():
            _, met = attributes.spread(log.events.items[log.history(user, cut)])
            counts[np.unique(met)] += 1
        return counts


def _arrays(selection: Selection | None) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    if selection is None:
        return None
    return selection.credibility.detach().cpu().numpy(), selection.null.detach().cpu().numpy()
