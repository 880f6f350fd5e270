"""What the host hands to a `RaftCore`, and what it gets back."""

from dataclasses import dataclass, field
from enum import Enum

import msgspec

from raft.messages import Entry, Message, SnapshotMeta

NO_SNAPSHOT = SnapshotMeta()
FOREVER_US = 1 << 62  # a deadline that never comes


class InvariantError(RuntimeError):
    """A promise of Raft would be broken. Stop this replica; the others are safe without it."""


class Role(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Refusal(Enum):
    """Why the last proposal, barrier, change or hand-over was not taken. Values are texts."""

    NONE = ""
    NOT_LEADER = "not the leader"
    WINDOW_FULL = "too many bytes proposed and not yet committed: try again shortly"
    TOO_LARGE = "the command is longer than entry_bytes"
    DISK_FULL = "the disk of the leader's data folder is full: free some space"
    TRANSFERRING = "leadership is being handed over: try again shortly"
    CHANGE_PENDING = "the previous membership change is not committed yet: try again shortly"
    NOT_READY = "the new leader has not committed an entry of its term yet: try again shortly"
    UNKNOWN_REPLICA = "no such replica, or not in the role that this needs"
    ALREADY_MEMBER = "this replica is a member already"
    LAST_VOTER = "the last voter can't be removed or demoted"
    TOO_FAR_BEHIND = "this learner has not caught up yet: try again later"
    UNSUPPORTED = "this engine can't remove its leader: transfer leadership first"


@dataclass(frozen=True, slots=True)
class Boot:
    """What a replica finds on its disk; the default is an empty disk.

    An empty replica knows nobody: it waits for `bootstrap` or for a leader's message.
    `entries` follow the snapshot without a gap.
    """

    term: int = 0
    voted_for: str = ""
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMeta = NO_SNAPSHOT


class HardState(msgspec.Struct, frozen=True, array_like=True):
    term: int
    voted_for: str  # "" = nobody yet


class Persist(msgspec.Struct, frozen=True, kw_only=True):
    """One batch for the write-ahead log, its parts in the order of the fields.

    A power cut may keep any prefix of a batch; each prefix is a legal state.
    """

    ticket: int
    is_retry: bool = False  # follows a refused one: what was refused comes again here
    hard_state: HardState | None = None
    reset_to: SnapshotMeta | None = None  # the log is empty and begins after this snapshot
    truncate_from: int = 0  # entries from here on are void; 0 = none
    entries: list[Entry] = []
    release_through: int = 0  # a durable snapshot holds these; whole segments may go


class NeedChunk(msgspec.Struct, frozen=True):
    """Read these bytes of a saved snapshot and call `chunk_read` with the ticket."""

    ticket: int
    to: str
    meta: SnapshotMeta
    offset: int
    size: int

    @property
    def snapshot_id(self) -> str:
        return self.meta.snapshot_id


class StageChunk(msgspec.Struct, frozen=True):
    """Write these bytes of an arriving snapshot and call `chunk_staged` with the ticket.

    When `is_last`: check size and digest, make it durable under its name, keep the image
    ready. It replaces the state only when `Output.installed` says so.
    """

    ticket: int
    meta: SnapshotMeta
    offset: int
    data: bytes
    is_last: bool


class Output(msgspec.Struct):
    """What the host shall do since the last `take_output`, independent unless said otherwise.

    `installed` comes before `committed`: load that snapshot, then apply the entries.
    """

    messages: list[tuple[str, Message]] = []
    persist: Persist | None = None
    committed: list[Entry] = []  # in order, each exactly once, of every kind
    reads_ready: list[tuple[int, int]] = []  # (ticket, index): serve it once applied to index
    reads_failed: list[int] = []
    role_changed: bool = False  # the role, the term or the known leader is another
    configuration_changed: bool = False
    need_chunk: list[NeedChunk] = []
    stage: list[StageChunk] = []
    installed: SnapshotMeta | None = None


class ChangeKind(Enum):
    ADD_LEARNER = "add-learner"
    PROMOTE = "promote"  # a learner that has caught up becomes a voter
    DEMOTE = "demote"  # a voter becomes a learner
    REMOVE = "remove"
    SET_ADDRESS = "set-address"


class Change(msgspec.Struct, frozen=True):
    """One step of membership: sets that differ by one voter always share a majority (4.1)."""

    kind: ChangeKind
    replica_id: str
    address: str = ""  # for ADD_LEARNER and SET_ADDRESS
