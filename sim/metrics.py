"""The Prometheus metrics of simulated agents, under the names of real ones.

Each series gains the labels that a scrape of real agents would give it: region, datacenter
and agent. Clients are summed up by datacenter (`agent="clients"`) where there are more than
`CLIENTS_SHOWN` of them. Reading changes nothing that a machine decides by.
"""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from core.agent.metrics import Exporter
from core.client.machine import ClientMachine
from core.client.measures import FAMILIES as CLIENT_FAMILIES
from core.server.machine import ServerMachine
from core.server.measures import FAMILIES as SERVER_FAMILIES
from sim.agents import SimAgent, World

CLIENTS_SHOWN: Final = 200
FILE: Final = "metrics.prom"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PATHS: Final = ("/metrics", "/v1/metrics")

Labels = tuple[tuple[str, str], ...]


class SimMetrics:
    """Renders all agents' metrics as they are now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        sums: dict[tuple[str, str, Labels], float] = {}
        is_summed = len(self._world.clients) > CLIENTS_SHOWN
        for agent in self._world.agents.values():
            place = agent.place
            where = {"region": place.region, "datacenter": place.datacenter, "agent": agent.name}
            if is_summed and agent.role == "client":
                where["agent"] = "clients"
            for metric in _metrics_of(agent):
                family = families.get(metric.name)
                if family is None:
                    family = families[metric.name] = Metric(
                        metric.name, metric.documentation, metric.type
                    )
                for sample in metric.samples:
                    labels = {**sample.labels, **where}
                    key = (metric.name, sample.name, tuple(labels.items()))
                    sums[key] = sums.get(key, 0.0) + sample.value
        for (name, series, pairs), value in sums.items():
            families[name].add_sample(series, dict(pairs), value)
        yield from families.values()

    def text(self) -> bytes:
        return generate_latest(self._registry)


def _metrics_of(agent: SimAgent) -> Iterator[Metric]:
    machine = agent.machine
    exporter = Exporter()
    if isinstance(machine, ServerMachine):
        exporter.add(SERVER_FAMILIES, lambda: machine.measures)
    elif isinstance(machine, ClientMachine):
        exporter.add(CLIENT_FAMILIES, lambda: machine.measures)
    yield from exporter.collect()


class MetricsFile:
    """Keeps FOLDER/metrics.prom up to date, whole at any moment."""

    def __init__(self, world: World, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._metrics = SimMetrics(world)
        self._path = os.path.join(folder, FILE)

    def update(self) -> None:
        with open(self._path + ".new", "wb") as file:
            file.write(self._metrics.text())
        os.replace(self._path + ".new", self._path)

    def close(self) -> None:
        self.update()


class MetricsServer:
    """Serves the newest metrics at /metrics and /v1/metrics.

    A scrape gets what `update` rendered last: the simulation is never read while it moves.

    Raises:
        OSError: Nothing can listen there.
    """

    def __init__(self, world: World, host: str, port: int) -> None:
        self._metrics = SimMetrics(world)
        self._text = b""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_known = self.path.partition("?")[0] in PATHS
                body = outer._text if is_known else b"metrics are at /metrics\n"
                self.send_response(200 if is_known else 404)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """A scrape is no news."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self.address = f"{self._server.server_address[0]!s}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def update(self) -> None:
        self._text = self._metrics.text()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
