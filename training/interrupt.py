"""Ctrl-C that waits for the end of a step: an optimiser stopped half way has updated some parameters and not others."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def finish_step_first() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether an interruption has been asked for; a second Ctrl-C interrupts at once.

    Signals reach the main thread only: elsewhere the answer is always no.
    """
    asked = False

    def remember(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        sys.stderr.write("finishing the step and writing a checkpoint; press Ctrl-C again to leave at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
