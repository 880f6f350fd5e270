"""What a client counts of itself: plain numbers that the host exports for Prometheus.

The parts of a client count into the `Measures` of their `Outbox`; the host reads
`ClientMachine.measures` between calls of `handle()`, which brings the gauges up to date.
`FAMILIES` says what each number means: (metric name, kind, help text, attribute,
labels). A dict is a labelled family: its keys are the labels' values, joined by "/".
"""

from dataclasses import dataclass, field
from typing import Final

from gossip.measures import FAMILIES as GOSSIP_FAMILIES
from gossip.measures import GossipMeasures


@dataclass(slots=True)
class Measures(GossipMeasures):
    """See the module's page; what gossip counted is inherited."""

    # what runs here
    allocations: dict[str, int] = field(default_factory=dict)  # by client status, every one
    tasks_running: int = 0
    task_starts: int = 0
    task_restarts: int = 0
    task_kills: int = 0
    task_failures: int = 0
    # checks
    checks: dict[str, int] = field(default_factory=dict)  # by result
    # servers
    reports_sent: int = 0
    reports_retried: int = 0
    reports_waiting: int = 0
    contact_age_us: int = 0


def count(table: dict[str, int], key: str, amount: int = 1) -> None:
    table[key] = table.get(key, 0) + amount


FAMILIES: Final = (
    (
        "serai_client_allocations",
        "gauge",
        "Allocations this node holds, by client status.",
        "allocations",
        "status",
    ),
    (
        "serai_client_tasks_running",
        "gauge",
        "Tasks with a living process.",
        "tasks_running",
        "",
    ),
    (
        "serai_client_task_starts",
        "counter",
        "Task processes that began, reattached ones not counted.",
        "task_starts",
        "",
    ),
    (
        "serai_client_task_restarts",
        "counter",
        "Restarts of tasks, by their restart policy, a check or a user.",
        "task_restarts",
        "",
    ),
    (
        "serai_client_task_kills",
        "counter",
        "Tasks sent their kill signal.",
        "task_kills",
        "",
    ),
    (
        "serai_client_task_failures",
        "counter",
        "Task runs that failed: they did not start, or ended badly and unasked.",
        "task_failures",
        "",
    ),
    (
        "serai_client_checks",
        "counter",
        "Service checks run, by result.",
        "checks",
        "result",
    ),
    (
        "serai_client_reports_sent",
        "counter",
        "Reports to the servers that were acknowledged.",
        "reports_sent",
        "",
    ),
    (
        "serai_client_reports_retried",
        "counter",
        "Reports that no server acknowledged, so that they are sent again.",
        "reports_retried",
        "",
    ),
    (
        "serai_client_reports_waiting",
        "gauge",
        "Allocations and services whose present state no server has acknowledged.",
        "reports_waiting",
        "",
    ),
    (
        "serai_client_server_contact_age_seconds",
        "gauge",
        "Since a server last answered this node.",
        "contact_age_us",
        "",
    ),
    *GOSSIP_FAMILIES,
)
