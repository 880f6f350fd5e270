"""What comes out of a machine: output for the host, events and views for its owner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from gossip.messages import Identity, Packet


class Status(StrEnum):
    """In the order of their numbers in a key."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


STATUSES = (Status.ALIVE, Status.SUSPECT, Status.DEAD, Status.LEFT)


class MemberView(NamedTuple):
    """One member as this machine believes it now. `meta` must not be changed."""

    name: str
    address: str
    meta: Mapping[str, str]
    status: Status
    incarnation: int


class EventKind(StrEnum):
    JOINED = "joined"  # seen for the first time, or back from dead or left
    UPDATED = "updated"  # other metadata or address, or a suspicion refuted
    SUSPECTED = "suspected"
    FAILED = "failed"
    LEFT = "left"
    REAPED = "reaped"  # forgotten, a day after it failed or left


class MemberEvent(NamedTuple):
    kind: EventKind
    member: MemberView


class DigestView(NamedTuple):
    """The newest record of an origin.

    `age_us` is the time it has been here by the local monotonic clock plus the age it
    was relayed with; only the time on the wire is missing.
    """

    origin: str
    term: int
    sequence: int
    data: bytes
    age_us: int


class Output:
    """What the host shall do, in order; taken after every call of the machine."""

    __slots__ = ("digest_changes", "events", "exchanges", "packets", "refusals", "replies")

    def __init__(self) -> None:
        self.packets: list[tuple[str, Packet]] = []
        # (exchange_id, address, packet, timeout_us): exactly one on_exchanged answers each
        self.exchanges: list[tuple[int, str, Packet, int]] = []
        self.replies: list[tuple[int, Packet]] = []
        self.events: list[MemberEvent] = []
        self.digest_changes: list[str] = []  # origins with a newer record
        self.refusals: list[tuple[Identity, str]] = []  # whom `admit` refused, and why

    def __bool__(self) -> bool:
        return bool(
            self.packets
            or self.exchanges
            or self.replies
            or self.events
            or self.digest_changes
            or self.refusals
        )


NOTHING: Final = Output()  # what an idle machine puts out; nobody changes it


@dataclass(slots=True)
class Counters:
    """Running totals of one machine since it was built, for metrics."""

    packets_sent: int = 0
    packets_received: int = 0
    updates_received: int = 0
    probes: int = 0
    probes_failed: int = 0
    stream_fallbacks: int = 0  # probes that only a stream could answer: UDP is blocked
    suspicions: int = 0
    refutations: int = 0
    name_conflicts: int = 0
    exchanges: int = 0
    exchanges_failed: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> count

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
