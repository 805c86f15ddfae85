"""One collection in service and what the service remembers of it."""

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from facetrail.app.payloads import Payloads

if TYPE_CHECKING:
    from facetrail.indexing.collection_info import CollectionInfo
    from facetrail.indexing.events import Events
    from facetrail.indexing.judgements import Judgements
    from facetrail.indexing.recommending import Recommending
    from facetrail.indexing.searcher import Searcher


@dataclass(frozen=True, slots=True)
class BuildState:
    """The newest background build of a collection. Times are seconds since the epoch."""

    status: Literal["none", "running", "done", "failed"] = "none"
    started: float | None = None
    finished: float | None = None
    generation: int | None = None
    error: str | None = None


@dataclass
class Collection:
    """One open collection and what the service remembers of it."""

    name: str
    searcher: "Searcher"
    info: "CollectionInfo"
    max_impressions: int
    """Kept of each user."""
    build: BuildState = BuildState()
    payloads: Payloads = field(default_factory=Payloads)
    writers: int = 0
    """Writes and builds under way: while any is, a search may wait for a lock and must not do so on the event loop."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def events(self) -> "Events":
        """What people did with the documents."""
        from facetrail.indexing.events import Events

        return Events(self.searcher.collection, max_impressions=self.max_impressions)

    @cached_property
    def recommending(self) -> "Recommending":
        """What recommends; keeps the recommenders it has opened."""
        from facetrail.indexing.recommending import Recommending

        return Recommending(self.searcher, events=self.events)

    @cached_property
    def judgements(self) -> "Judgements":
        """The judged queries."""
        from facetrail.indexing.judgements import Judgements

        return Judgements(self.searcher.collection)

    @property
    def recommenders(self) -> list[str]:
        """The fitted ones, as they are on disk: `facetrail index fit` runs beside the service."""
        from facetrail.indexing.recommenders import names

        return names(self.searcher.collection.folder)

    @property
    def modes(self) -> tuple[str, ...]:
        """Every mode that a search of this collection may name."""
        sources = tuple(mode for mode in self.info.modes if mode != "facet")
        hybrid = ("hybrid",) if len(sources) > 1 else ()
        return (*sources, *hybrid, *(("facet",) if self.info.facets else ()))

    def refresh(self) -> None:
        """Reads counts again after a write or a build."""
        self.payloads.clear()
        self.info = self.searcher.info()

    def begin_write(self) -> None:
        """Called on the event loop before a write is handed to its thread, so no quick search runs beside one."""
        with self.lock:
            self.writers += 1

    def end_write(self) -> None:
        """Called when a write has ended, whichever way."""
        try:
            self.refresh()
        finally:
            with self.lock:
                self.writers -= 1
