"""One writer at a time: a lock file held by the kernel, so that it never outlives its process."""

import fcntl
import json
import os
import socket
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from facetrail.models.errors import Conflict, Unavailable

LOCK_FILE = "writer.lock"


class WriterLock:
    """The right to write a collection, from creation to `release` or the death of the process.

    `flock` on `writer.lock`; the file's text says who holds it and stays behind, empty, when nobody does. A process
    forked by the holder shares the lock. Readers never look at it.
    """

    def __init__(self, folder: Path) -> None:
        """Takes the lock of a collection's folder.

        Raises Conflict naming the holder if there is one, Unavailable where the folder cannot be written.
        """
        self.owner = uuid.uuid4().hex
        path = folder / LOCK_FILE
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Unavailable(
                f"{path} cannot be written ({error.strerror}); check the folder's permissions, or open the collection "
                "for reading only"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            self._descriptor = None
            if not isinstance(error, BlockingIOError):
                raise
            raise Conflict(
                f"the collection in {folder} is being written by {_describe(path)}; "
                "wait until it ends, stop it, or open the collection for reading only"
            ) from error
        self._write_owner(self._descriptor)

    def _write_owner(self, descriptor: int) -> None:
        owner = {
            "owner": self.owner,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": " ".join(sys.argv)[:500],
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)

    def release(self) -> None:
        """Gives the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _describe(path: Path) -> str:
    """The holder in words. The file may be empty for an instant after the lock was taken."""
    try:
        owner = json.loads(path.read_bytes())
        return f"process {owner['pid']} on {owner['host']} ({owner['command']!r}, since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
