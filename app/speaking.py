"""Answers that take seconds: written in threads, read on the event loop, stopped when nobody listens any more.

A talk has a place from the moment it is asked for. There are as many places as workers and waiting requests are
allowed; the next one is turned away. Whoever stops reading gives the place back as soon as the model has noticed, which
is between two tokens.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from fastapi import Request

from facetrail.app.errors import Busy, Refused
from facetrail.app.settings import Settings
from facetrail.models.errors import Damaged, InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from facetrail.models.language.conversation import Speaker

T = TypeVar("T")
Items = Generator[T | None, None, None]
"""What a model says; None where it may be stopped."""


class Talk(Generic[T]):
    """One answer under way. Made on the event loop that reads it."""

    def __init__(self, make: Callable[[], Items[T]], wait: float) -> None:
        self._make, self._wait = make, wait
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[T | Future[None] | None] = asyncio.Queue()
        self._stopped = threading.Event()
        self._future: Future[None] | None = None

    def start(self, executor: ThreadPoolExecutor, ended: Callable[[], None]) -> None:
        """Hands the talk to a worker; `ended` is called once, from any thread, when it is over."""

        def over(future: Future[None]) -> None:
            ended()
            self._tell(future)

        self._future = executor.submit(self._speak)
        self._future.add_done_callback(over)

    def _speak(self) -> None:
        with closing(self._make()) as items:
            for item in items:
                if self._stopped.is_set():
                    return
                self._tell(item)

    def _tell(self, item: T | Future[None] | None) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody listens
            self._loop.call_soon_threadsafe(self._said.put_nowait, item)

    def stop(self) -> None:
        """Nobody listens any more. Safe to call twice, and after the end."""
        self._stopped.set()
        if self._future is not None:
            self._future.cancel()

    async def items(self) -> AsyncGenerator[T, None]:
        """What is said, as it is said. Raises what the talk raises, and Busy where its turn does not come in time."""
        wait: float | None = self._wait
        try:
            while True:
                try:
                    async with asyncio.timeout(wait):
                        item = await self._said.get()
                except TimeoutError:
                    raise Busy(
                        f"the language model had no time within {self._wait:g} seconds; try again in a moment"
                    ) from None
                wait = None  # it has begun: from here on its own deadline holds
                if isinstance(item, Future):
                    if item.cancelled():
                        raise Unavailable("the service is stopping; try again soon")
                    item.result()
                    return
                if item is not None:
                    yield item
        finally:
            self.stop()


class Speaking:
    """The language model of a service, loaded when it is first needed, and the queue before it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = settings.language_workers + settings.language_queue
        self._executor = ThreadPoolExecutor(settings.language_workers, thread_name_prefix="facetrail-speak")
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._talks: set[Talk[object]] = set()
        self._speaker: Speaker | None = None

    @property
    def name(self) -> str:
        """What the model is called, whether or not it is loaded."""
        return self._settings.language_model_name or Path(self._settings.language_model).expanduser().name

    @property
    def n_talks(self) -> int:
        """Talks that are under way or wait."""
        return len(self._talks)

    def speaker(self) -> "Speaker":
        """The model. Slow at first: only for worker threads. Raises Unavailable, saying what is wrong with it."""
        from facetrail.models.language.speakers import open_speaker  # imports torch: not before somebody asks

        with self._loading:
            if self._speaker is None:
                settings = self._settings
                try:
                    self._speaker = open_speaker(
                        settings.language_model,
                        model=settings.language_model_name,
                        api_key=settings.language_api_key.get_secret_value(),
                        timeout=settings.language_timeout,
                        context=settings.language_context,
                    )
                except (NotFound, InvalidInput, Damaged) as error:
                    raise Unavailable(f"FACETRAIL_LANGUAGE_MODEL cannot be used: {error}") from error
            return self._speaker

    def begin(self, make: Callable[[], Items[T]]) -> Talk[T]:
        """A talk that takes its turn. Raises Busy where every place is taken."""
        talk = Talk(make, self._settings.language_wait)
        with self._lock:
            if len(self._talks) >= self._places:
                raise Busy(
                    f"{len(self._talks)} answers are being written or wait for it already; try again in a moment"
                )
            self._talks.add(talk)  # type: ignore[arg-type]

        def ended() -> None:
            with self._lock:
                self._talks.discard(talk)

        talk.start(self._executor, ended)
        return talk

    def close(self) -> None:
        """Stops every talk and waits for the workers."""
        with self._lock:
            talks = list(self._talks)
        for talk in talks:
            talk.stop()
        self._executor.shutdown(wait=True, cancel_futures=True)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of the work, which is cancelled when the client leaves. The whole body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refused(400, "the client left before the answer was there")
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.wait({task, gone})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
