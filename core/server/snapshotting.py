"""When a replica saves its state, and the images that arrive to take its place."""

from __future__ import annotations

import random
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.model.host import Halt
from core.server.effects import (
    ReadSnapshot,
    SaveSnapshot,
    SnapshotFailed,
    SnapshotRead,
    SnapshotSaved,
    SnapshotStaged,
    StageSnapshot,
)
from core.server.restoring import ImageProblem
from core.state.state import SnapshotError, State

if TYPE_CHECKING:
    from core.server.context import Server
    from raft.core import Output, SnapshotMeta
    from raft.engine import Engine


# A small change of a large state is not worth writing all of it: the log grows to this part
# of the last snapshot first. So of what is written, snapshots are four times the log at most,
# however large the state becomes.
_LOG_PART: Final = 4
# By how much later than the limit a snapshot may be due: replicas apply the same entries, and
# the fastest majority answers sooner while only one of them is writing.
_STAGGER_PART: Final = 4


class Snapshots:
    """One replica's; saving is asked for when the log grew enough since the last one."""

    def __init__(self, server: Server, raft: Engine, index: int) -> None:
        self._server, self._raft = server, raft
        self._index = index  # of the newest snapshot, saved or being saved
        self._bytes = 0  # of the log since then
        self._size = 0  # of the snapshot that was last saved, bytes
        # A stream of its own, another one at each server.
        self._rng = random.Random(zlib.crc32(server.config.name.encode()))
        self._entries_due = self._bytes_due = 0
        self._draw()
        self._is_saving = False
        self._arrived: dict[str, State] = {}  # staged and decoded, by id; the newest
        self._staging_id = ""

    def emit(self, output: Output) -> None:
        """Pass Raft's wishes about chunks to the host."""
        emit = self._server.outbox.emit
        for chunk in output.need_chunk:
            emit(ReadSnapshot(chunk.ticket, chunk.snapshot_id, chunk.offset, chunk.size))
        for staged in output.stage:
            self._staging_id = staged.meta.snapshot_id
            emit(
                StageSnapshot(
                    staged.ticket, staged.meta, staged.offset, staged.data, staged.is_last
                )
            )

    def on_disk(self, event: Any) -> None:
        """Take what the host reports of snapshots."""
        now_us = self._server.now.mono_us
        match event:
            case SnapshotSaved(_, meta):
                self._is_saving = False
                self._size = meta.size
                self._server.measures.snapshots_saved += 1
                self._raft.compact(meta.index, meta)
            case SnapshotFailed():
                self._is_saving = False
                self._server.outbox.log(
                    "error", "a snapshot could not be saved", reason=event.reason
                )
            case SnapshotRead(ticket, _, _, data, is_last, error):
                self._raft.chunk_read(ticket, data, is_last, now_us, error)
            case SnapshotStaged(ticket, _, None, error):
                self._raft.chunk_staged(ticket, now_us, error)
            case SnapshotStaged(ticket, _, image, _):
                # All of it is here. Raft hears of it once a worker made a state of it: what
                # it says of the cluster meanwhile is heeded, and heartbeats are answered.
                problem = ImageProblem(image, self._server.state.schema_max)
                then = partial(self._on_decoded, ticket, self._staging_id)
                self._server.outbox.compute(problem, then)

    def _on_decoded(self, ticket: int, snapshot_id: str, found: State | SnapshotError) -> None:
        if isinstance(found, SnapshotError):
            # It is what the leader has, byte for byte: to fetch it again would not help.
            self._server.outbox.emit(Halt(f"snapshot {snapshot_id} can't be restored: {found}"))
            return
        self._arrived = {snapshot_id: found}
        self._raft.chunk_staged(ticket, self._server.now.mono_us)

    def take_arrived(self, meta: SnapshotMeta) -> State | None:
        """Return the state of a snapshot that Raft installs, None when it never came."""
        state = self._arrived.pop(meta.snapshot_id, None)
        self._arrived.clear()
        return state

    def installed(self, index: int) -> None:
        """The state is that of a snapshot now: the log counts anew."""
        self._index, self._bytes = index, 0
        self._draw()

    def _draw(self) -> None:
        limits = self._server.config.limits
        later = 1 + self._rng.random() / _STAGGER_PART
        self._entries_due = int(limits.snapshot_entries * later)
        self._bytes_due = int(limits.snapshot_bytes * later)

    def _is_due(self, applied_index: int) -> bool:
        grown = applied_index - self._index
        is_long = grown >= self._entries_due or self._bytes >= self._bytes_due
        return is_long and self._bytes * _LOG_PART >= self._size

    def grew(self, size: int) -> None:
        self._bytes += size

    def save_if_due(self, state: State, applied_index: int) -> None:
        if self._is_saving or not self._is_due(applied_index):
            return
        self._is_saving = True
        self.installed(applied_index)
        meta = msgspec.structs.replace(
            self._raft.snapshot_meta(applied_index), cluster_id=state.datacenter_id
        )
        outbox = self._server.outbox
        outbox.emit(SaveSnapshot(outbox.next_id(), meta, state.image()))
