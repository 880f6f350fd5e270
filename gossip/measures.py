"""What gossip counts of itself, as numbers for metrics: pools read, families described.

`read_gossip` is called at the moment of a scrape; counting itself costs the
machines an addition. A key is "pool/state", "pool/reason", ...: the labels' values in the
order of the family's label names, which are joined by "/" likewise.

A family is (metric name, kind, help text, attribute, labels). The measures of an agent's role
inherit these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gossip.machine import GossipMachine
from gossip.views import Status

SOCKET: Final = "socket"  # the pool of what was dropped before its pool was known


@dataclass(slots=True)
class GossipMeasures:
    """What the pools of one agent counted, by labels."""

    gossip_members: dict[str, int] = field(default_factory=dict)  # "pool/state", every state
    gossip_packets: dict[str, int] = field(default_factory=dict)  # "pool/direction"
    gossip_dropped: dict[str, int] = field(default_factory=dict)  # "pool/reason"
    gossip_suspicions: dict[str, int] = field(default_factory=dict)  # "pool"
    gossip_events: dict[str, int] = field(default_factory=dict)  # "pool/event"

    def read_gossip(self, pools: Mapping[str, GossipMachine]) -> None:
        """Take the present numbers of some pools' machines, by the pools' names."""
        for pool, machine in pools.items():
            states = {status.value: 0 for status in Status}  # nobody there: 0, not no series
            for member in machine.members():
                states[member.status.value] += 1
            for state, number in states.items():
                self.gossip_members[f"{pool}/{state}"] = number
            counters = machine.counters
            self.gossip_packets[f"{pool}/sent"] = counters.packets_sent
            self.gossip_packets[f"{pool}/received"] = counters.packets_received
            self.gossip_suspicions[pool] = counters.suspicions
            for event in _EVENTS:
                self.gossip_events[f"{pool}/{event}"] = getattr(counters, event)
            for reason, number in counters.dropped.items():
                self.gossip_dropped[f"{pool}/{reason}"] = number


_EVENTS: Final = (
    "updates_received", "probes", "probes_failed", "stream_fallbacks", "refutations",
    "name_conflicts", "exchanges", "exchanges_failed",
)  # fmt: skip

PACKETS_DROPPED: Final = (
    "serai_gossip_packets_dropped",
    "counter",
    "Gossip packets and streams dropped, by pool and reason; pool socket: before it was known.",
    "gossip_dropped",
    "pool/reason",
)
FAMILIES: Final = (
    (
        "serai_gossip_members",
        "gauge",
        "Members this agent knows, by pool and state.",
        "gossip_members",
        "pool/state",
    ),
    (
        "serai_gossip_packets",
        "counter",
        "Gossip packets, by pool and direction.",
        "gossip_packets",
        "pool/direction",
    ),
    PACKETS_DROPPED,
    (
        "serai_gossip_suspicions",
        "counter",
        "Members that this agent began to suspect, by pool.",
        "gossip_suspicions",
        "pool",
    ),
    (
        "serai_gossip_events",
        "counter",
        "Probes, exchanges, refutations and what became of them, by pool.",
        "gossip_events",
        "pool/event",
    ),
)
