"""Counters for Prometheus, in a registry of their own: two services in one process do not share numbers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """What the service counts. Label values come from routes and stages, never from a client's text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("facetrail_requests", "Requests answered", ["route", "status"], registry=self.registry)
        self._seconds = Histogram(
            "facetrail_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self.registry
        )
        self._stage = Histogram(
            "facetrail_stage_seconds",
            "Time of one stage of a search",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._shed = Counter("facetrail_shed", "Requests turned away", ["reason"], registry=self.registry)
        self.in_flight = Gauge("facetrail_in_flight", "Requests under way", registry=self.registry)
        self.queued = Gauge("facetrail_queued", "Searches waiting for a worker", registry=self.registry)
        self._children: dict[tuple[str, int], tuple[Any, Any]] = {}
        self._stages: dict[str, Any] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts a response."""
        children = self._children.get((route, status))
        if children is None:  # looking a child up by labels costs more than counting
            children = (self._requests.labels(route, str(status)), self._seconds.labels(route))
            self._children[route, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def staged(self, timings_ms: Mapping[str, float]) -> None:
        """Counts the stages of a search."""
        for stage, milliseconds in timings_ms.items():
            child = self._stages.get(stage)
            if child is None:
                child = self._stages[stage] = self._stage.labels(stage)
            child.observe(milliseconds / 1e3)

    def shed(self, reason: str) -> None:
        """Counts a request turned away before its body was read."""
        self._shed.labels(reason).inc()

    def watch(self, read: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """Adds gauges that are read when scraped: measure → collection → value."""
        self.registry.register(_Watched(read))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _Watched(Collector):
    def __init__(self, read: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Any]:
        return ()  # nothing is read at registration: collections may still be opening

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for measure, values in self._read().items():
            family = GaugeMetricFamily(f"facetrail_{measure}", f"{measure} of a collection", labels=["collection"])
            for collection, value in values.items():
                family.add_metric([collection], value)
            yield family
