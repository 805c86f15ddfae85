"""The collections of one service: opening, searching, writing, rebuilding and closing them.

Small lexical searches run on the event loop, where a thread hop would cost more than the search; everything else runs
in bounded pools, so that heavy work of one kind never waits behind heavy work of another.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import orjson

from facetrail.app.errors import Busy
from facetrail.app.logging import service_log
from facetrail.app.served import BuildState, Collection
from facetrail.app.settings import Settings
from facetrail.app.speaking import Items, Speaking, Talk
from facetrail.app.work import WorkPool
from facetrail.indexing.request import SearchRequest, SearchResult
from facetrail.models.errors import Conflict, FacetrailError, NotFound, Unavailable

if TYPE_CHECKING:
    from facetrail.indexing.reason_request import AnswerEvent, ReasonRequest
    from facetrail.indexing.searcher import Searcher

T = TypeVar("T")
WATCH_SECONDS = 1.0
"""How often a read-only service looks whether another process has switched to a new generation."""

INLINE_LIMIT = 100
INLINE_BODY = 8 * 1024
"""Bytes of a request that may still be answered on the event loop: longer ones carry long texts or large filters."""
BULK_WAIT, WRITE_WAIT = 5.0, 30.0
"""Seconds that embeddings and rankings, and writes, may wait for their worker: their callers are batch jobs."""


class Platform:
    """The one object behind every route."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state: Literal["opening", "ready", "draining", "closed"] = "opening"
        self.collections: dict[str, Collection] = {}
        wait = settings.max_wait_ms / 1e3
        self.searching = WorkPool("search", settings.search_workers, max_wait=wait, timeout=settings.request_timeout)
        self.bulk = WorkPool("bulk", 1, max_wait=BULK_WAIT, timeout=settings.request_timeout)
        self.writing = WorkPool("write", 1, max_wait=WRITE_WAIT, timeout=settings.write_timeout)
        self.speaking = Speaking(settings)
        self._builds: list[threading.Thread] = []
        self._stopping = threading.Event()

    # -- opening and closing -----------------------------------------------------------------------------------------

    def add(self, name: str, searcher: "Searcher") -> None:
        """Puts an open collection into service. Raises Conflict for a name that is taken."""
        if name in self.collections:
            raise Conflict(f"two collections are named {name!r}; rename one of the folders")
        self.collections[name] = Collection(name, searcher, searcher.info(), self.settings.max_impressions)

    def open(self, folders: Sequence[Path]) -> None:
        """Opens collections, warms their encoders and turns ready. Runs in a thread of its own.

        Raises what `Searcher.open` raises; collections opened before the failing one are closed.
        """
        from facetrail.indexing.searcher import Searcher  # imports the engines: not before a service is wanted

        try:
            for folder in folders:
                searcher = Searcher.open(folder, writable=not self.settings.read_only)
                self.add(folder.resolve().name, searcher)
            self.warm()
        except BaseException:
            self.close()
            raise
        self.state = "ready"
        if self.settings.read_only:
            threading.Thread(target=self._watch, name="facetrail-watch", daemon=True).start()

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            for collection in list(self.collections.values()):
                try:
                    if collection.searcher.refresh():
                        collection.refresh()
                except FacetrailError as error:  # the old generation stays in service
                    service_log().error("switch", collection=collection.name, error=str(error))

    def warm(self) -> None:
        """Loads the encoders and compiles the kernels, so that no client pays for them."""
        for collection in self.collections.values():
            for mode in collection.modes:
                request = SearchRequest.model_validate({"query": "warm", "mode": mode, "limit": 1})
                collection.searcher.search(request)

    def close(self) -> None:
        """Finishes running work and releases every collection. Safe to call twice."""
        self.state = "closed"
        self._stopping.set()
        for pool in (self.speaking, self.searching, self.bulk, self.writing):
            pool.close()
        for build in self._builds:
            build.join()
        for collection in self.collections.values():
            collection.searcher.close()
        self.collections.clear()

    def collection(self, name: str | None) -> Collection:
        """A collection by name, or the first one. Raises Unavailable while opening and closing, NotFound otherwise."""
        if self.state in ("opening", "closed"):
            raise Unavailable(f"the service is {'starting' if self.state == 'opening' else 'stopping'}; try again soon")
        if name is None:
            name = next(iter(self.collections), "")
        found = self.collections.get(name)
        if found is None:
            raise NotFound(f"there is no collection {name!r}; GET /v1/collections lists them")
        return found

    # -- searching ---------------------------------------------------------------------------------------------------

    def is_quick(self, collection: Collection, request: SearchRequest, size: int) -> bool:
        """Whether a search costs less than a thread hop, so that it may run on the event loop. size: request bytes."""
        info = collection.info
        lexical = request.mode == "lexical" or (request.mode is None and "dense" not in info.modes)
        return (
            lexical
            and collection.writers == 0
            and info.n_documents < self.settings.inline_documents
            and size <= INLINE_BODY
            and request.limit <= INLINE_LIMIT
            and request.like is None
        )

    def search_now(
        self, collection: Collection, request: SearchRequest
    ) -> tuple[SearchResult, list[orjson.Fragment | None] | None]:
        """A quick search on the event loop: the page, and its payloads as JSON where they need not be explained."""
        searcher = collection.searcher
        if not request.with_payload or request.explain:
            return searcher.search(request), None
        result = searcher.search(request.model_copy(update={"with_payload": False}))
        return result, collection.payloads.of([hit.id for hit in result.hits], searcher.collection.get_many)

    async def search(self, collection: Collection, request: SearchRequest) -> SearchResult:
        """One page of hits, in a thread."""
        return await self.searching.run(lambda: collection.searcher.search(request))

    def reason(self, collection: Collection, request: "ReasonRequest") -> "Talk[AnswerEvent]":
        """An answer that takes its turn at the language model. Raises Busy where too many wait."""

        def make() -> "Items[AnswerEvent]":
            from facetrail.indexing.answering import Answering

            answering = Answering(
                collection.searcher,
                self.speaking.speaker(),
                recommending=collection.recommending,
                prompt_tokens=self.settings.language_prompt_tokens,
                timeout=self.settings.language_timeout,
            )
            return answering.events(request)

        return self.speaking.begin(make)

    # -- writing -----------------------------------------------------------------------------------------------------

    async def write(self, collection: Collection, task: Callable[["Searcher"], T]) -> T:
        """Runs a write, one at a time; what it acknowledges is on disk and visible to the next search."""
        if self.state == "draining":
            raise Busy("the service is stopping and takes no more writes; send it to the next one")
        if not collection.info.writable:
            raise Conflict(
                f"the collection {collection.name!r} is served read-only; start the service without read-only"
            )

        def run() -> T:
            try:
                return task(collection.searcher)
            finally:
                collection.end_write()

        collection.begin_write()
        try:
            started = self.writing.submit(run)
        except Busy:
            collection.end_write()
            raise
        return await self.writing.result(started)

    def start_build(self, collection: Collection) -> BuildState:
        """Starts a rebuild in the background; searches go on, and the switch drops none.

        Raises Conflict while one is running and for a read-only collection.
        """
        if not collection.info.writable:
            raise Conflict(
                f"the collection {collection.name!r} is served read-only; build it with `facetrail index build`"
            )
        with collection.lock:
            if collection.build.status == "running":
                raise Conflict(f"a build of {collection.name!r} is running; wait until its state is 'done'")
            collection.build = BuildState("running", started=time.time())
        collection.begin_write()
        thread = threading.Thread(target=self._build, args=(collection,), name=f"facetrail-build-{collection.name}")
        self._builds = [build for build in self._builds if build.is_alive()] + [thread]
        thread.start()
        return collection.build

    def _build(self, collection: Collection) -> None:
        state = collection.build
        try:
            generation = collection.searcher.rebuild()
            state = replace(state, status="done", generation=generation)
        except FacetrailError as error:
            state = replace(state, status="failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - nobody awaits this thread: the state and the log must say it failed
            service_log().error("build", collection=collection.name, exc_info=error)
            state = replace(
                state, status="failed", error=f"an unexpected {type(error).__name__}; see the service's log"
            )
        finally:
            collection.end_write()
            collection.build = replace(state, finished=time.time())

    # -- telling -----------------------------------------------------------------------------------------------------

    def describe(self, collection: Collection) -> dict[str, Any]:
        """What GET /v1/collections shows of one. Looks at the disk."""
        info = {**asdict(collection.info), "name": collection.name, "recommenders": collection.recommenders}
        return {**info, "build": asdict(collection.build)}

    def gauges(self) -> dict[str, dict[str, float]]:
        """Measure → collection → value, for /metrics."""
        open_ones = list(self.collections.values())
        return {
            "documents": {c.name: float(c.info.n_documents) for c in open_ones},
            "generation": {c.name: float(c.info.generation) for c in open_ones},
            "writes_since_generation": {c.name: float(c.info.n_written_since) for c in open_ones},
        }

    async def encode(self, task: Callable[[], T]) -> T:
        """Runs bulk work (embeddings, rankings, batches) beside the searches."""
        return await self.bulk.run(task)

    async def in_thread(self, task: Callable[[], T]) -> T:
        """Runs a short read that touches the disk."""
        return await asyncio.to_thread(task)
