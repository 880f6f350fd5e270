"""Reads figures off an agent: its own metrics, and what the kernel says of its process."""

import os
from pathlib import Path
from typing import Final

from bench.quorum import Server

_LAG: Final = "serai_event_loop_lag_seconds"


def counter(text: str, name: str) -> float:
    """Return the sum over a metric's series in an exposition; 0 when there is none."""
    return sum(value for _, value in _series(text, name))


def lag(text: str) -> tuple[float, float]:
    """Return p99 and maximum of the event loop's lag in an exposition, milliseconds.

    The p99 lies within one bucket of the histogram; it is the bucket's upper bound, so it is
    never told smaller than it was.
    """
    buckets = [
        (float(labels.partition('le="')[2].partition('"')[0]), count)
        for labels, count in _series(text, f"{_LAG}_bucket")
    ]
    total = max((count for _, count in buckets), default=0.0)
    longest_ms = round(counter(text, "serai_event_loop_lag_max_seconds") * 1e3, 1)
    p99_s = next((bound for bound, count in sorted(buckets) if count >= 0.99 * total), 0.0)
    return min(p99_s * 1e3, longest_ms), longest_ms


def processor_s(server: Server) -> float:
    """Return the processor time that a server's process has used, seconds."""
    fields = _read(server, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(server: Server) -> float:
    """Return the most memory that a server's process ever held, MB."""
    for line in _read(server, "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _read(server: Server, name: str) -> str:
    assert server.process is not None
    return Path(f"/proc/{server.process.pid}/{name}").read_text()


def _series(text: str, name: str) -> list[tuple[str, float]]:
    found = []
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        head, _, labels = series.partition("{")
        if head == name:
            found.append((labels, float(value)))
    return found
