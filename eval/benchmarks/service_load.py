"""An open-loop load generator: requests leave on schedule, whatever comes back, as users do.

    python -m facetrail.eval.benchmarks.service_load PORT RATE SECONDS BODY

Latency counts from the scheduled time, so a generator that falls behind cannot flatter the service; how far it kept to
the schedule is part of the answer. Prints one JSON object.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

MAX_CONNECTIONS = 1_500


@dataclass
class Tally:
    """What came back. Latencies in seconds, by status."""

    latencies: dict[int, list[float]] = field(default_factory=dict)
    without_retry_after: int = 0
    lost: int = 0
    late: int = 0
    """Requests that left more than 20 ms after their time: the generator, not the service, was too slow."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, idle: list["Connection"], tally: Tally) -> None:
        self._idle, self._tally = idle, tally
        self._scheduled = 0.0
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, request: bytes, scheduled: float) -> None:
        """Sends one request; `scheduled` is `time.perf_counter()` of when it should have left."""
        assert self._transport is not None
        self._scheduled = scheduled
        if time.perf_counter() - scheduled > 0.02:
            self._tally.late += 1
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        start = head.index(b"content-length: ") + 16
        if len(body) < int(head[start:].split(b"\r\n", 1)[0]):
            return
        status = int(head[9:12])
        self._tally.latencies.setdefault(status, []).append(time.perf_counter() - self._scheduled)
        if status != 200 and b"retry-after: " not in head:
            self._tally.without_retry_after += 1
        self._received, self._scheduled = b"", 0.0
        self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._scheduled:
            self._tally.lost += 1
        if self in self._idle:
            self._idle.remove(self)


async def generate(port: int, rate: float, seconds: float, body: bytes) -> dict[str, object]:
    """Sends `rate` requests a second for some seconds."""
    loop = asyncio.get_running_loop()
    request = (
        b"POST /v1/search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (len(body), body)
    )
    idle: list[Connection] = []
    tally = Tally()
    n_open = 0
    for _ in range(min(MAX_CONNECTIONS, max(32, int(rate * 0.4)))):
        idle.append((await loop.create_connection(lambda: Connection(idle, tally), "127.0.0.1", port))[1])
        n_open += 1
    started, sent, unsent, n_requests = time.perf_counter(), 0, 0, int(rate * seconds)
    while sent + unsent < n_requests:
        due = min(n_requests, int((time.perf_counter() - started) * rate) + 1)
        for n in range(sent + unsent, due):
            if idle:
                idle.pop().send(request, started + n / rate)
                sent += 1
            else:
                unsent += 1
        await asyncio.sleep(0.001)
    elapsed = time.perf_counter() - started
    deadline = time.perf_counter() + 10
    while len(idle) + tally.lost < n_open and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    counts = Counter({status: len(found) for status, found in tally.latencies.items()})
    return {
        "offered": sent / elapsed,
        "unsent": unsent,
        "late": tally.late,
        "lost": tally.lost,
        "statuses": {str(status): n for status, n in counts.items()},
        "refused_without_retry_after": tally.without_retry_after,
        "ms": {str(s): _percentiles(found) for s, found in tally.latencies.items()},
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{p}": round(ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] * 1e3, 2) for p in (50, 95, 99)}


def main() -> None:
    import uvloop

    port, rate, seconds, body = sys.argv[1:5]
    print(json.dumps(uvloop.run(generate(int(port), float(rate), float(seconds), body.encode()))))


if __name__ == "__main__":
    main()
