"""Threads for work that must not run between two socket reads, with a bound on how long it may wait."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from facetrail.app.errors import RETRY_AFTER, Busy, Refused

T = TypeVar("T")
SMOOTHING = 0.1
"""Weight of the newest duration in the running mean that predicts the wait."""
FIRST_GUESS = 0.01
"""Seconds a task is expected to take before any has been timed."""
OUTLIER = 4.0
"""A duration counts as at most this many means, so that one stall does not turn the next requests away."""


class WorkPool:
    """A thread pool that refuses work it cannot start in time.

    The expected wait is (tasks ahead / workers) × running mean of task duration: Little's law with measured service
    times, so the bound adapts to the collection, the encoder and the machine.
    """

    def __init__(self, name: str, workers: int, *, max_wait: float, timeout: float) -> None:
        self.name = name
        self.workers = workers
        self._max_wait = max_wait
        self._timeout = timeout
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=f"facetrail-{name}")
        self._lock = threading.Lock()
        self._pending = 0
        self._mean = FIRST_GUESS

    @property
    def queued(self) -> int:
        """Tasks that wait for a worker."""
        return max(0, self._pending - self.workers)

    def expected_wait(self) -> float:
        """Seconds that a task handed in now is expected to wait before it starts."""
        ahead = self._pending - self.workers + 1
        return ahead / self.workers * self._mean if ahead > 0 else 0.0

    def check(self) -> None:
        """Raises Busy when new work would wait too long."""
        if self.expected_wait() > self._max_wait:
            raise Busy("the service is busier than it can answer in time; try again in a moment")

    async def run(self, task: Callable[[], T]) -> T:
        """The task's result. Raises Busy, or Refused 503 when it takes longer than the timeout."""
        return await self.result(self.submit(task))

    def submit(self, task: Callable[[], T]) -> "Future[T]":
        """Hands a task in. Raises Busy; once this returns, the task runs unless the pool closes first."""
        self.check()
        with self._lock:
            self._pending += 1
        future = self._executor.submit(self._timed, task)
        future.add_done_callback(self._finished)
        return future

    async def result(self, future: "Future[T]") -> T:
        """Waits for a task handed in. Raises Refused 503 at the timeout; a task that runs already runs on."""
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Refused(
                503,
                f"the request took longer than {self._timeout:g} seconds and was given up; ask for less",
                headers={"retry-after": RETRY_AFTER},
            ) from None

    def _timed(self, task: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return task()
        finally:
            seconds = time.perf_counter() - started
            with self._lock:
                self._mean += SMOOTHING * (min(seconds, OUTLIER * self._mean) - self._mean)

    def _finished(self, _: Future[T]) -> None:
        with self._lock:
            self._pending -= 1

    def close(self) -> None:
        """Waits for running tasks; those that have not started are dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
