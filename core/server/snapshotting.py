"""When a replica saves its state, and the images that arrive to take its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from core.server.effects import (
    ReadSnapshot,
    SaveSnapshot,
    SnapshotFailed,
    SnapshotRead,
    SnapshotSaved,
    SnapshotStaged,
    StageSnapshot,
)

if TYPE_CHECKING:
    from core.server.context import Server
    from core.state.state import State
    from raft.core import Output, SnapshotMeta
    from raft.engine import Engine


class Snapshots:
    """One replica's; saving is asked for when the log grew enough since the last one."""

    def __init__(self, server: Server, raft: Engine, index: int) -> None:
        self._server, self._raft = server, raft
        self._index = index  # of the newest snapshot, saved or being saved
        self._bytes = 0  # of the log since then
        self._is_saving = False
        self._images: dict[str, bytes | memoryview] = {}  # staged, by id
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
                self._server.measures.snapshots_saved += 1
                self._raft.compact(meta.index, meta)
            case SnapshotFailed():
                self._is_saving = False
                self._server.outbox.log(
                    "error", "a snapshot could not be saved", reason=event.reason
                )
            case SnapshotRead(ticket, _, _, data, is_last, error):
                self._raft.chunk_read(ticket, data, is_last, now_us, error)
            case SnapshotStaged(ticket, _, image, error):
                if image is not None:
                    self._images[self._staging_id] = image
                self._raft.chunk_staged(ticket, now_us, error)

    def take_image(self, meta: SnapshotMeta) -> bytes | memoryview | None:
        """Return the image of a snapshot that Raft installs, None when it never came."""
        image = self._images.pop(meta.snapshot_id, None)
        self._images.clear()
        return image

    def installed(self, index: int) -> None:
        """The state is that of a snapshot now: the log counts anew."""
        self._index, self._bytes = index, 0

    def grew(self, size: int) -> None:
        self._bytes += size

    def save_if_due(self, state: State, applied_index: int) -> None:
        limits = self._server.config.limits
        grown = applied_index - self._index
        if self._is_saving or (
            grown < limits.snapshot_entries and self._bytes < limits.snapshot_bytes
        ):
            return
        self._is_saving = True
        self.installed(applied_index)
        meta = msgspec.structs.replace(
            self._raft.snapshot_meta(applied_index), cluster_id=state.datacenter_id
        )
        outbox = self._server.outbox
        outbox.emit(SaveSnapshot(outbox.next_id(), meta, state.image()))
