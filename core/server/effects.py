"""What a server machine asks of its host, and what it hears back, beside core.model.host.

Order on disk is order of the effects. Messages that promise something durable are
held by raft until `LogPersisted` returns the ticket.
"""

from typing import Any

from core.model.host import Effect, Event
from gossip.key_messages import KeyQuestion, KeyTarget, MemberKeys


class PersistLog(Effect, frozen=True):
    """Append to the write-ahead log and make it durable (one fdatasync for many)."""

    ticket: int
    batch: Any  # raft.core.Persist


class LogPersisted(Event, frozen=True):
    ticket: int


class LogPersistFailed(Event, frozen=True):
    """`is_full`: nothing was written and reads may go on; else the disk can't be trusted."""

    ticket: int
    reason: str
    is_full: bool


class SaveSnapshot(Effect, frozen=True):
    """Write a snapshot of the state at `meta.index`; the writing is the host's worker's.

    `image` is an immutable view (core.state.snapshot.StateImage): `image.chunks()` yields
    the bytes.
    """

    ticket: int
    meta: Any  # raft.core.SnapshotMeta
    image: Any


class SnapshotSaved(Event, frozen=True):
    ticket: int
    meta: Any


class SnapshotFailed(Event, frozen=True):
    """The snapshot could not be written; nothing of it remains. Try again later."""

    ticket: int
    reason: str


class ReadSnapshot(Effect, frozen=True):
    """Read a chunk of the newest snapshot, to send it to a replica that is far behind."""

    ticket: int
    snapshot_id: str
    offset: int
    size: int


class SnapshotRead(Event, frozen=True):
    ticket: int
    snapshot_id: str
    offset: int
    data: bytes
    is_last: bool
    error: str = ""


class StageSnapshot(Effect, frozen=True):
    """Write a received chunk; when `is_last`, install it by rename."""

    ticket: int
    meta: Any
    offset: int
    data: bytes
    is_last: bool


class SnapshotStaged(Event, frozen=True):
    ticket: int
    offset: int
    # The whole snapshot once `is_last` was written: bytes or a view of them.
    image: Any = None
    error: str = ""


class Compute(Effect, frozen=True):
    """Heavy pure work: the host runs `problem.solve()` in a worker, the simulator inline."""

    ticket: int
    problem: Any  # core.scheduler.problem


class Computed(Event, frozen=True):
    ticket: int
    solution: Any


class AskKeys(Effect, frozen=True):
    """Put a question about gossip keys to these members; `KeysAsked` follows, always."""

    ticket: int
    targets: list[KeyTarget]
    question: KeyQuestion


class KeysAsked(Event, frozen=True):
    ticket: int
    answers: list[MemberKeys]


class ShutdownRequested(Event, frozen=True):
    """The agent is asked to stop: hand over leadership, leave the pools."""
