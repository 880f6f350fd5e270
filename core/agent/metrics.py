"""Prometheus metrics of one agent: what its machines count, and what its host sees.

Machines keep plain numbers (core.server.measures, core.client.measures, gossip.measures);
this module reads them when somebody scrapes, so counting costs an addition and a scrape
costs the rest. Metric names begin with `serai_`; `nomad_*` aliases are not made up.

An agent that is server and client, or host and member, may count one family in several
places: families of one name are added up, label by label. `every_family()` is what
docs/monitoring.md, the alert rules and the dashboard are checked against.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import trio
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from core.agent.stalls import Stalls
from core.client.measures import FAMILIES as CLIENT_FAMILIES
from core.server.measures import BUCKETS_US, Histogram
from core.server.measures import FAMILIES as SERVER_FAMILIES
from gossip.measures import PACKETS_DROPPED

LAG_INTERVAL_S: Final = 0.05
LAG_BUSY_INTERVAL_S: Final = 0.005  # a timer that short costs an idle agent 4% of a core
BUSY_SHARE: Final = 0.1  # of its time in its machines: then an agent is busy
US: Final = 1e6

# (name, kind, help, attribute, labels joined by "/"); see core.server.measures
Family = tuple[str, str, str, str, str]


class HostMeasures:
    """What the host counts: HTTP requests, RPC traffic, lag of the event loop."""

    def __init__(self) -> None:
        self.http_requests: dict[str, int] = {}  # "route/status"
        self.http_time = Histogram()
        self.loop_lag = Histogram()
        self.loop_lag_max_us = 0
        self.stalls = Stalls()
        self.rpc_bytes: dict[str, int] = {}
        self.rpc_refused: dict[str, int] = {}
        self.rpc_dropped: dict[str, int] = {}
        self.machine_busy_seconds: dict[str, float] = {}
        self.machine_events: dict[str, int] = {}
        self.gossip_dropped: dict[str, int] = {}  # "socket/reason"
        self.start_time_seconds = time.time()

    @property
    def loop_stall_us(self) -> int:
        return self.stalls.recent_us

    @property
    def loop_turn_seconds(self) -> float:
        return self.stalls.turns_ns / 1e9

    @property
    def loop_own_seconds(self) -> float:
        return time.thread_time()  # whoever asks is on the loop

    def count_request(self, route: str, status: int, seconds: float) -> None:
        key = f"{route}/{status}"
        self.http_requests[key] = self.http_requests.get(key, 0) + 1
        self.http_time.add(int(seconds * US))

    async def watch_lag(self, busy_us: Callable[[], int]) -> None:
        """Measure how late the event loop wakes a sleeper, for ever; oftener while it is busy.

        Args:
            busy_us: How long the agent's machines have worked so far, microseconds.
        """
        interval_s, worked_us = LAG_INTERVAL_S, busy_us()
        while True:
            due = trio.current_time() + interval_s
            await trio.sleep_until(due)
            lag_us = max(0, int((trio.current_time() - due) * US))
            self.loop_lag.add(lag_us)
            self.loop_lag_max_us = max(self.loop_lag_max_us, lag_us)
            is_busy = busy_us() - worked_us > BUSY_SHARE * (interval_s * US + lag_us)
            interval_s = LAG_BUSY_INTERVAL_S if is_busy else LAG_INTERVAL_S
            worked_us = busy_us()


HOST_FAMILIES: Final[tuple[Family, ...]] = (
    ("serai_http_requests", "counter", "HTTP API requests, by route and status.",
     "http_requests", "route/status"),
    ("serai_http_request_seconds", "histogram", "Time to answer an HTTP API request.",
     "http_time", ""),
    ("serai_event_loop_lag_seconds", "histogram", "How late the event loop wakes a sleeper.",
     "loop_lag", ""),
    ("serai_event_loop_lag_max_seconds", "gauge",
     "The latest that the event loop ever woke a sleeper.", "loop_lag_max_us", ""),
    ("serai_event_loop_stall_seconds", "gauge",
     "The longest that the event loop lately kept its sockets waiting (15 to 30 s).",
     "loop_stall_us", ""),
    ("serai_event_loop_turn_seconds", "counter", "Time that the event loop's turns took.",
     "loop_turn_seconds", ""),
    ("serai_event_loop_own_seconds", "counter",
     "Processor time of its thread: of its turns it had no processor, or another thread ran, in "
     "the rest.", "loop_own_seconds", ""),
    ("serai_rpc_bytes", "counter", "Bytes of RPC, by direction.", "rpc_bytes", "direction"),
    ("serai_rpc_connections_refused", "counter", "RPC connections ended, by reason.",
     "rpc_refused", "reason"),
    ("serai_rpc_messages_dropped", "counter", "RPC messages not sent, by reason.",
     "rpc_dropped", "reason"),
    ("serai_machine_busy_seconds", "counter", "Time spent deciding, by machine.",
     "machine_busy_seconds", "machine"),
    ("serai_machine_events", "counter", "Events handled, by machine.", "machine_events",
     "machine"),
    PACKETS_DROPPED,
    ("serai_start_time_seconds", "gauge", "When the agent started, unix time.",
     "start_time_seconds", ""),
)  # fmt: skip


def every_family() -> list[Family]:
    """Return each family that an agent can export, once, by name."""
    families = (*HOST_FAMILIES, *SERVER_FAMILIES, *CLIENT_FAMILIES)
    return sorted({family[0]: family for family in families}.values())


def series_names(family: Family) -> list[str]:
    """Return the names a family has in the exposition and in queries."""
    name, kind = family[:2]
    if kind == "histogram":
        return [f"{name}_{part}" for part in ("bucket", "count", "sum")]
    return [f"{name}_total"] if kind == "counter" else [name]


class Exporter:
    """Collects from (families, source of numbers) pairs; a source may be refreshed first."""

    def __init__(self) -> None:
        self._sources: list[tuple[tuple[Family, ...], Callable[[], Any]]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def add(self, families: Iterable[Family], source: Callable[[], Any]) -> None:
        self._sources.append((tuple(families), source))

    def describe(self) -> list[Metric]:
        return []  # nothing is collected at registration

    def collect(self) -> Iterator[Metric]:
        found: dict[str, tuple[Family, Any]] = {}
        for families, source in self._sources:
            numbers = source()
            for family in families:
                value = getattr(numbers, family[3])
                if family[0] in found:
                    value = _sum(found[family[0]][1], value)
                found[family[0]] = (family, value)
        for family, value in found.values():
            yield _metric(family, value)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type for an Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def summary(self) -> dict[str, Any]:
        """Return Nomad's JSON form: gauges, counters and samples of this moment."""
        gauges: list[dict[str, Any]] = []
        counters: list[dict[str, Any]] = []
        samples: list[dict[str, Any]] = []
        for metric in self.collect():
            for sample in metric.samples:
                if sample.name.endswith(("_bucket", "_created")):
                    continue
                if metric.type == "gauge":
                    gauges.append(
                        {"Name": sample.name, "Value": sample.value, "Labels": sample.labels}
                    )
                    continue
                row = {
                    "Name": sample.name,
                    "Count": sample.value,
                    "Sum": sample.value,
                    "Mean": sample.value,
                    "Labels": sample.labels,
                }
                (samples if metric.type == "histogram" else counters).append(row)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime())
        return {
            "Timestamp": stamp,
            "Gauges": gauges,
            "Points": [],
            "Counters": counters,
            "Samples": samples,
        }


def _metric(family: Family, value: Any) -> Metric:
    name, kind, help_text, _, label = family
    if kind == "histogram":
        return _histogram(name, help_text, value)
    labels = label.split("/") if label else []
    metric: Any
    if kind == "counter":
        metric = CounterMetricFamily(name, help_text, labels=labels)
    else:
        metric = GaugeMetricFamily(name, help_text, labels=labels)
    add = metric.add_metric
    divisor = US if name.endswith("_seconds") and family[3].endswith("_us") else 1
    if not labels:
        add([], value / divisor)
        return metric  # type: ignore[no-any-return]
    for key in sorted(value):
        parts = key.split("/", len(labels) - 1)
        add([*parts, *[""] * (len(labels) - len(parts))], value[key] / divisor)
    return metric  # type: ignore[no-any-return]


def _sum(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Add up a labelled family that is counted in two places."""
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


def _histogram(name: str, help_text: str, histogram: Histogram) -> Metric:
    metric = HistogramMetricFamily(name, help_text)
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound_us, count in zip(BUCKETS_US, histogram.counts, strict=False):
        running += count
        buckets.append((repr(bound_us / US), running))
    buckets.append(("+Inf", histogram.total))
    metric.add_metric([], buckets, histogram.sum_us / US)
    return metric


def quantile_us(histogram: Histogram, q: float) -> int:
    """Return the upper bound of the bucket that holds the `q` quantile, microseconds."""
    if not histogram.total:
        return 0
    running = 0
    for place, count in enumerate(histogram.counts):
        running += count
        if running >= q * histogram.total:
            return BUCKETS_US[min(place, len(BUCKETS_US) - 1)]
    return BUCKETS_US[-1]
