"""The recommenders that a service has open: the newest version of each, and the neighbours of documents new to it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facetrail.indexing import recommenders
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.recommend_request import HintOptions
from facetrail.indexing.recommending_hints import HINTS, OpenHints, RerankedByHints
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.recommender import Recommender

if TYPE_CHECKING:
    from facetrail.models.recommend.scored import ScoredRecommender

POPULAR = "popular"
MAX_COLD = 1_000
"""Documents without events that are proposed; the last written."""
N_NEIGHBOURS = 10


@dataclass(frozen=True)
class OpenRecommender:
    """A version of a recommender, with what counted when it was fitted."""

    folder: Path
    change: int
    """The collection's change number that its cold documents are of."""
    actions: Actions
    whole: "ScoredRecommender"
    cold: Mapping[str, Sequence[str]]
    """A document without events → its nearest with events."""
    strategies: Mapping[str, Recommender]
    """By name: the recommender itself, and the parts that can answer alone."""

    @property
    def version(self) -> str:
        """As answers name it."""
        return f"{self.folder.parent.name}/{self.folder.name}"


@dataclass(frozen=True)
class Chosen:
    """What answers a request, the events that it is given of a history, and how answers name it."""

    recommender: Recommender
    actions: Actions
    version: str


class OpenRecommenders:
    """Thread-safe. A recommender is opened at the first request that needs it, and again when a newer one appears."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._opened: dict[str, OpenRecommender] = {}
        self._hints: OpenHints | None = None
        self._opening = threading.Lock()

    def of(self, strategy: str, hints: HintOptions) -> Chosen:
        """What answers under a name. Raises Conflict where nothing was fitted yet, InvalidInput for no such name."""
        fitted = recommenders.names(self._searcher.collection.folder)
        if strategy == HINTS:
            return self._hinted(hints, is_attached=HINTS in fitted)
        opened = self._newest(strategy if strategy in fitted else recommenders.BLEND)
        found = opened.strategies.get(strategy)
        if found is None:
            known = ", ".join(sorted({*opened.strategies, *fitted, "similar"}))
            raise InvalidInput(f"there is no strategy {strategy!r} here; there are {known}", pointer="/strategy")
        return Chosen(found, opened.actions, opened.version)

    def _hinted(self, hints: HintOptions, *, is_attached: bool) -> Chosen:
        """The attached model over the default strategy; it is given dislikes as well."""
        from facetrail.models.recommend.hint_choice import HintChoice, HintFeedback

        collection = self._searcher.collection.folder
        if not is_attached:
            raise InvalidInput(
                f"no model of hints is attached to {collection}; attach the run of `facetrail train hints` with "
                f"`facetrail index fit {collection} --hints RUN`",
                pointer="/strategy",
            )
        folder, first = recommenders.newest(collection, HINTS), self._newest(recommenders.BLEND)
        with self._opening:
            if self._hints is None or self._hints.folder != folder:
                self._hints = OpenHints(folder)
            opened = self._hints
        choice = HintChoice(
            hints.max,
            hints.sides,
            hints.polarity,
            tuple(hints.relations_allow),
            tuple(hints.relations_deny),
            tuple(HintFeedback(one.relation, one.value, one.verdict) for one in hints.feedback),
        )
        asked = opened.in_mode(hints.mode).under(choice)
        return Chosen(
            RerankedByHints(first.strategies[recommenders.BLEND], first.actions, asked),
            first.actions.whatever_their_value,
            f"{HINTS}/{folder.name} over {first.version}",
        )

    def _newest(self, name: str) -> OpenRecommender:
        collection = self._searcher.collection
        folder, change = recommenders.newest(collection.folder, name), collection.last_change
        opened = self._opened.get(name)
        if opened is not None and (opened.folder, opened.change) == (folder, change):
            return opened
        with self._opening:
            opened = self._opened.get(name)
            if opened is None or (opened.folder, opened.change) != (folder, change):
                opened = self._open(folder, change, opened if opened and opened.folder == folder else None)
                self._opened[name] = opened
        return opened

    def _open(self, folder: Path, change: int, before: OpenRecommender | None) -> OpenRecommender:
        """before: the same version, as it was before documents were written."""
        from facetrail.models.recommend.saved import open_recommender
        from facetrail.models.recommend.scored import ScoredRecommender

        whole = before.whole if before is not None else open_recommender(folder)
        cold = self._cold(whole, before.cold if before is not None else {})
        name, parts = folder.parent.name, {folder.parent.name: whole.scorers}
        if name == recommenders.BLEND:
            parts |= {scorer.name: (scorer,) for scorer in whole.scorers} | {POPULAR: (whole.popular,)}
        strategies = {
            strategy: ScoredRecommender(whole.vocabulary, scorers, popular=whole.popular, cold=cold)
            for strategy, scorers in parts.items()
        }
        actions = before.actions if before is not None else recommenders.actions_of(folder)
        return OpenRecommender(folder, change, actions, whole, cold, strategies)

    def _cold(self, whole: "ScoredRecommender", known: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
        """Neighbours of the last written documents without events; those known from before are not sought again."""
        with self._searcher.collection.snapshot() as view:
            written = view.ids_by_change()
        new = [i for i in written if i not in whole.vocabulary.numbers][:MAX_COLD]
        sought = self._searcher.nearest_among([i for i in new if i not in known], whole.vocabulary.ids, N_NEIGHBOURS)
        return {i: near for i in new if (near := sought.get(i) or known.get(i))}
