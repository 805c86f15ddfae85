"""Counters for Prometheus, in a registry of their own: two services in one process do not share numbers.

Requests are counted on the event loop alone, in plain dictionaries that are turned into Prometheus' families when
scraped: that costs a tenth of the client library's locked counters, on every request.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
Gauges = Mapping[str, Mapping[str, float]]
"""Measure → collection → value."""


class Durations:
    """A histogram: how many durations fell into each bucket of `SECONDS`, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound → durations at or below it, as Prometheus wants them."""
        below, found = 0, []
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


class Metrics:
    """What the service counts. Label values come from routes and stages, never from a client's text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = Gauge("facetrail_in_flight", "Requests under way", registry=self.registry)
        self.queued = Gauge("facetrail_queued", "Searches waiting for a worker", registry=self.registry)
        self.requests: Counter[tuple[str, int]] = Counter()
        self.turned_away: Counter[str] = Counter()
        self.routes: dict[str, Durations] = {}
        self.stages: dict[str, Durations] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts a response."""
        self.requests[route, status] += 1
        durations = self.routes.get(route)
        if durations is None:
            durations = self.routes[route] = Durations()
        durations.add(seconds)

    def staged(self, timings_ms: Mapping[str, float]) -> None:
        """Counts the stages of a search."""
        for stage, milliseconds in timings_ms.items():
            durations = self.stages.get(stage)
            if durations is None:
                durations = self.stages[stage] = Durations()
            durations.add(milliseconds / 1e3)

    def shed(self, reason: str) -> None:
        """Counts a request turned away before its body was read."""
        self.turned_away[reason] += 1

    def watch(self, gauges: Callable[[], Gauges]) -> None:
        """Registers everything for scraping; `gauges` is read at every scrape."""
        self.registry.register(_Families(self, gauges))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _Families(Collector):
    def __init__(self, metrics: Metrics, gauges: Callable[[], Gauges]) -> None:
        self._metrics = metrics
        self._gauges = gauges

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read at registration: collections may still be opening

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily("facetrail_requests", "Requests answered", labels=["route", "status"])
        for (route, status), n in self._metrics.requests.items():
            requests.add_metric([route, str(status)], n)
        shed = CounterMetricFamily("facetrail_shed", "Requests turned away unread", labels=["reason"])
        for reason, n in self._metrics.turned_away.items():
            shed.add_metric([reason], n)
        yield from (requests, shed)
        yield _histogram("facetrail_request_seconds", "Time to answer", "route", self._metrics.routes)
        yield _histogram("facetrail_stage_seconds", "Time of one stage of a search", "stage", self._metrics.stages)
        for measure, values in self._gauges().items():
            family = GaugeMetricFamily(f"facetrail_{measure}", f"{measure} of a collection", labels=["collection"])
            for collection, value in values.items():
                family.add_metric([collection], value)
            yield family


def _histogram(name: str, about: str, label: str, series: Mapping[str, Durations]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, about, labels=[label])
    for value, durations in series.items():
        family.add_metric([value], buckets=durations.buckets(), sum_value=durations.total)
    return family
