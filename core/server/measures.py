"""What a server counts of itself: plain numbers that the host exports for Prometheus.

`Measures` is only written by the machine and only read by the host, between calls of
`handle()`. `FAMILIES` says what each number means: (metric name, kind, help text,
attribute, labels). A dict is a labelled family: its keys are the labels' values, joined by
"/" as the labels' names are. Latencies are `Histogram`s in microseconds, exported in
seconds. No label is named region, datacenter or agent: those say who was scraped.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from gossip.measures import FAMILIES as GOSSIP_FAMILIES
from gossip.measures import GossipMeasures

BUCKETS_US: Final = (
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
)  # fmt: skip


@dataclass(slots=True)
class Histogram:
    """Counts by upper bound. `counts` has one more place, for what is beyond the last."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_US) + 1))
    sum_us: int = 0

    def add(self, value_us: int) -> None:
        self.counts[bisect_left(BUCKETS_US, value_us)] += 1
        self.sum_us += value_us

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(slots=True)
class Measures(GossipMeasures):
    """See the module's page; what gossip counted is inherited."""

    # raft
    is_leader: int = 0
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    leader_changes: int = 0
    proposals: int = 0
    proposals_refused: int = 0
    commit_latency: Histogram = field(default_factory=Histogram)
    log_write_time: Histogram = field(default_factory=Histogram)
    snapshots_saved: int = 0
    barriers: int = 0
    voters: dict[str, int] = field(default_factory=dict)  # by state
    raft_dropped: dict[str, int] = field(default_factory=dict)  # by reason
    # scheduler
    queue_ready: int = 0
    queue_waiting: int = 0
    queue_blocked: int = 0
    evaluations_done: dict[str, int] = field(default_factory=dict)  # by status
    placements: int = 0
    placements_refused: dict[str, int] = field(default_factory=dict)  # by reason
    planning_time: Histogram = field(default_factory=Histogram)
    # nodes
    nodes: dict[str, int] = field(default_factory=dict)  # by status
    nodes_lost: int = 0
    # queries
    queries: dict[str, int] = field(default_factory=dict)  # by method
    query_errors: dict[str, int] = field(default_factory=dict)  # by status
    forwards: dict[str, int] = field(default_factory=dict)  # "leader" | "datacenter" | "node"
    refusals: dict[str, int] = field(default_factory=dict)  # by reason
    blocking_queries: int = 0
    blocking_wakes: int = 0
    rpc: dict[str, int] = field(default_factory=dict)  # calls received, by method
    # federation
    digest_age_us: dict[str, int] = field(default_factory=dict)  # "region/datacenter"
    digests_published: int = 0
    bounces: int = 0
    missing: dict[str, int] = field(default_factory=dict)  # "region/datacenter"
    shares_unsettled: int = 0  # of homes here: not held elsewhere as they are allowed
    is_sealed: int = 0  # 1 while the datacenter waits to hear from its peers
    instances_abroad: int = 0  # of homes here, in other regions than the job's own
    share_moves: dict[str, int] = field(default_factory=dict)  # instances by why they went
    heal_time: Histogram = field(default_factory=Histogram)


def count(table: dict[str, int], key: str, amount: int = 1) -> None:
    table[key] = table.get(key, 0) + amount


# (name, kind, help, attribute, label); kind "counter" | "gauge" | "histogram"
FAMILIES: Final = (
    ("serai_raft_is_leader", "gauge", "1 on the leader of the datacenter.", "is_leader", ""),
    ("serai_raft_term", "gauge", "Current Raft term.", "term", ""),
    ("serai_raft_commit_index", "gauge", "Newest committed log index.", "commit_index", ""),
    ("serai_raft_applied_index", "gauge", "Newest applied log index.", "applied_index", ""),
    ("serai_raft_leader_changes", "counter", "Changes of leader seen.", "leader_changes", ""),
    ("serai_raft_proposals", "counter", "Log entries proposed here.", "proposals", ""),
    (
        "serai_raft_proposals_refused",
        "counter",
        "Proposals refused or lost, for want of a leader.",
        "proposals_refused",
        "",
    ),
    (
        "serai_raft_commit_latency_seconds",
        "histogram",
        "From proposing an entry to its commit and apply on the leader.",
        "commit_latency",
        "",
    ),
    (
        "serai_raft_log_write_seconds",
        "histogram",
        "From handing entries to the disk to their being safe on it.",
        "log_write_time",
        "",
    ),
    (
        "serai_raft_voters",
        "gauge",
        "Voters of the datacenter, on its leader: those it heard of lately, and the others.",
        "voters",
        "state",
    ),
    (
        "serai_raft_messages_dropped",
        "counter",
        "Raft messages not heeded, by reason.",
        "raft_dropped",
        "reason",
    ),
    ("serai_raft_snapshots", "counter", "Snapshots written.", "snapshots_saved", ""),
    ("serai_raft_read_barriers", "counter", "Read barriers passed.", "barriers", ""),
    *GOSSIP_FAMILIES,
    ("serai_scheduler_ready", "gauge", "Evaluations ready to be planned.", "queue_ready", ""),
    ("serai_scheduler_waiting", "gauge", "Evaluations waiting for a time.", "queue_waiting", ""),
    ("serai_scheduler_blocked", "gauge", "Evaluations blocked for room.", "queue_blocked", ""),
    (
        "serai_scheduler_evaluations",
        "counter",
        "Evaluations finished, by status.",
        "evaluations_done",
        "status",
    ),
    ("serai_scheduler_placements", "counter", "Allocations placed.", "placements", ""),
    (
        "serai_scheduler_placements_refused",
        "counter",
        "Allocations not placed: no_node had room, or the plan was outdated when applied.",
        "placements_refused",
        "reason",
    ),
    (
        "serai_scheduler_planning_seconds",
        "histogram",
        "From taking a batch of evaluations to its solution.",
        "planning_time",
        "",
    ),
    ("serai_nodes", "gauge", "Nodes by status.", "nodes", "status"),
    ("serai_nodes_lost", "counter", "Nodes declared down or disconnected.", "nodes_lost", ""),
    ("serai_queries", "counter", "API queries answered here, by method.", "queries", "method"),
    ("serai_query_errors", "counter", "API queries refused, by status.", "query_errors", "status"),
    ("serai_forwards", "counter", "Queries passed on, by goal.", "forwards", "goal"),
    ("serai_refusals", "counter", "Requests refused, by reason.", "refusals", "reason"),
    ("serai_blocking_queries", "gauge", "Parked blocking queries.", "blocking_queries", ""),
    ("serai_blocking_wakes", "counter", "Parked queries that woke.", "blocking_wakes", ""),
    ("serai_rpc_calls", "counter", "Calls received, by method.", "rpc", "method"),
    (
        "serai_federation_digest_age_seconds",
        "gauge",
        "Age of the newest digest known here, by the datacenter it is of.",
        "digest_age_us",
        "remote_region/remote_datacenter",
    ),
    (
        "serai_federation_digests_published",
        "counter",
        "Digests of this datacenter published.",
        "digests_published",
        "",
    ),
    (
        "serai_federation_bounces",
        "counter",
        "Jobs offered from here to another datacenter that refused, or did not answer.",
        "bounces",
        "",
    ),
    (
        "serai_federation_shares_unsettled",
        "gauge",
        "Shares of jobs at home here that another datacenter does not hold as it should yet.",
        "shares_unsettled",
        "",
    ),
    (
        "serai_federation_instances_abroad",
        "gauge",
        "Instances of jobs at home here that may run in other regions than their own.",
        "instances_abroad",
        "",
    ),
    (
        "serai_federation_sealed",
        "gauge",
        "1 while this datacenter, whose state went back in time, waits to hear from the others.",
        "is_sealed",
        "",
    ),
    (
        "serai_federation_share_moves",
        "counter",
        "Instances that a home here gave to a datacenter or took from it, by why.",
        "share_moves",
        "reason",
    ),
    (
        "serai_federation_heal_seconds",
        "histogram",
        "From a silent datacenter's first answer to all its shares being as they should.",
        "heal_time",
        "",
    ),
    (
        "serai_federation_missing",
        "counter",
        "Lists and stories over several datacenters without the part of this one.",
        "missing",
        "remote_region/remote_datacenter",
    ),
)
