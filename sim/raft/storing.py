"""The storage of one process: what it opened, and the two workers that use it.

As core.agent.disk has it: the write-ahead log is written by a worker that takes all batches
that wait (group commit), snapshots are saved, read and staged by another. What a worker does
takes its time first and happens at the end of it; a crash before carries it out up to a
random step (sim.raft.disk).
"""

import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.state.snapshot import StateImage
from core.state.state import State
from raft.core import NeedChunk, Persist, SnapshotMeta, StageChunk
from raft.engine import Engine
from raft.snapshots import SnapshotDamagedError, SnapshotGoneError, SnapshotStore
from raft.storage import Storage
from raft.wal import DiskFullError, WalFailedError
from sim.raft.disk import PowerCut

if TYPE_CHECKING:
    from sim.raft.host import Host

FOLDER: Final = Path("raft")
SEGMENT_BYTES: Final = 4096
_TORN_BYTES: Final = 600  # a write of so much spans sectors, and can be torn

Report = Callable[[Engine], None]


class Storing:
    """Opens the folder of `host.disk`, and works in it until `end`.

    Raises (on opening):
        PowerCut: The power went in the midst of it.
        WalDamagedError, SnapshotDamagedError: What was durable is broken or missing.
        DiskFullError, OSError: There is no room to start.
    """

    def __init__(self, host: "Host", rng: random.Random) -> None:
        self._host = host
        self._rng = rng
        storage = Storage.open(FOLDER, owner=host.name, disk=host.disk, segment_bytes=SEGMENT_BYTES)
        self._wal, self._store = storage.wal, storage.snapshots
        self.newest, self.recovery = storage.newest, storage.recovery
        self._batches: list[Persist] = []  # wait for the log's worker
        self._writing: list[Persist] = []  # it is writing these
        self._slow: deque[Callable[[SnapshotStore], Report]] = deque()  # the other's work
        self._arrived: tuple[str, bytes] = ("", b"")  # the snapshot staged last: id, body
        self._is_saving = False
        self._doom: Callable[[], None] | None = None  # how the process ends in its next write

    def state(self) -> State:
        """Return the state of the newest snapshot."""
        return State.restore([self._store.view(self.newest)]) if self.newest.index else State()

    def state_arrived(self, meta: SnapshotMeta) -> State:
        """Return the state of a snapshot that was staged."""
        snapshot_id, body = self._arrived
        assert snapshot_id == meta.snapshot_id
        return State.restore([body])

    def end(self) -> list[Persist]:
        """Let what the workers are doing get as far as chance has it; return what was written."""
        disk, faults = self._host.disk, self._host.world.faults
        if self._writing and self._rng.random() < 0.8:
            faults["crash during a write"] += 1
            disk.die_after = self._rng.choice((0, 1, 1, 1, 1, 2, 3))
            with suppress(PowerCut, DiskFullError, WalFailedError):
                self._wal.append(self._writing)
        disk.die_after = None
        if self._slow and self._rng.random() < 0.8:
            faults["crash during a snapshot"] += 1
            disk.die_after = self._rng.randrange(6)
            with suppress(PowerCut):
                self._slow[0](self._store)
        disk.die_after = None
        return self._writing

    # --- the log's worker ---------------------------------------------------------------

    def write(self, batch: Persist) -> None:
        """Have a batch written; the engine is told once it is durable."""
        self._batches.append(batch)
        if not self._writing:
            self._begin_write()

    def die_writing(self, end: Callable[[], None]) -> None:
        """Call `end` in the midst of one of the next writes of the log."""
        self._doom = end

    def spare(self) -> None:
        """Let the process live after all."""
        self._doom = None

    def _begin_write(self) -> None:
        self._writing, self._batches = self._batches, []
        if not self._writing:
            return
        half_us = self._host.write_us // 2
        self._host.after(half_us + int(self._rng.random() * half_us), self._end_write)
        # Rather in a write of several sectors: it can be torn.
        is_long = _size(self._writing) > _TORN_BYTES
        if self._doom is not None and (is_long or self._rng.random() < 0.1):
            doom, self._doom = self._doom, None
            self._host.after(self._rng.randrange(half_us), doom)

    def _end_write(self) -> None:
        host, taken = self._host, self._writing
        engine = host.engine
        assert engine is not None
        try:
            self._wal.append(taken)
        except DiskFullError:
            host.world.situations["write refused by a full disk"] += 1
            self._writing = []
            for batch in taken:
                engine.persist_failed(batch.ticket, True, host.now_us)
        except Exception:
            for batch in taken:
                engine.persist_failed(batch.ticket, False, host.now_us)
            host.halt("server stopped by a failed fsync")
            return
        else:
            self._writing = []
            for batch in taken:
                host.durable.write(batch)
            host.world.watch.on_durable(host)
            for batch in taken:
                engine.persisted(batch.ticket, host.now_us)
        if self._batches:
            self._begin_write()

    # --- the worker of snapshots --------------------------------------------------------

    def _queue(self, work: Callable[[SnapshotStore], Report]) -> None:
        """Have the worker do something with the snapshots; it returns what to tell the engine."""
        self._slow.append(work)
        if len(self._slow) == 1:
            self._begin_slow()

    def _begin_slow(self) -> None:
        delay_us = self._rng.randint(100, 100 + self._host.write_us * 3)
        self._host.after(delay_us, self._end_slow)

    def _end_slow(self) -> None:
        engine = self._host.engine
        assert engine is not None
        report = self._slow[0](self._store)
        self._slow.popleft()
        if self._slow:
            self._begin_slow()
        report(engine)

    def save(self, meta: SnapshotMeta, image: StateImage) -> bool:
        """Have a snapshot saved, and the log compacted then; say whether it was begun."""
        if self._is_saving:
            return False
        self._is_saving = True
        self._queue(partial(self._save, meta, image))
        return True

    def _save(self, meta: SnapshotMeta, image: StateImage, store: SnapshotStore) -> Report:
        try:
            saved = store.save(meta, image.chunks())
        except OSError:
            return self._not_saved
        return partial(self._saved, saved)

    def _not_saved(self, engine: Engine) -> None:
        self._is_saving = False
        self._host.world.situations["snapshot not saved on a full disk"] += 1

    def _saved(self, meta: SnapshotMeta, engine: Engine) -> None:
        self._is_saving = False
        self._host.world.watch.on_snapshot(self._host, meta)
        self._host.world.watch.situations.on_compaction(engine, meta)
        engine.compact(meta.index, meta)

    def read(self, need: NeedChunk) -> None:
        """Read a chunk for a follower."""
        self._queue(partial(self._read, need))

    def _read(self, need: NeedChunk, store: SnapshotStore) -> Report:
        try:
            data, is_last = store.read(need.snapshot_id, need.offset, need.size)
        except (SnapshotGoneError, SnapshotDamagedError, OSError) as error:
            return partial(self._gone, need, str(error))
        return lambda engine: engine.chunk_read(need.ticket, data, is_last, self._host.now_us)

    def _gone(self, need: NeedChunk, reason: str, engine: Engine) -> None:
        self._host.world.situations["snapshot gone while it was sent"] += 1
        engine.chunk_read(need.ticket, b"", False, self._host.now_us, reason)

    def stage(self, chunk: StageChunk) -> None:
        """Write a chunk that arrived."""
        self._queue(partial(self._stage, chunk))

    def _stage(self, chunk: StageChunk, store: SnapshotStore) -> Report:
        try:
            store.stage(chunk.meta, chunk.offset, chunk.data, is_last=chunk.is_last)
            body = bytes(store.view(chunk.meta)) if chunk.is_last else b""
        except (SnapshotDamagedError, SnapshotGoneError, OSError) as error:
            return partial(self._not_staged, chunk, error)
        return partial(self._staged, chunk, body)

    def _not_staged(self, chunk: StageChunk, error: Exception, engine: Engine) -> None:
        if isinstance(error, SnapshotDamagedError):
            self._host.world.situations["damaged snapshot refused"] += 1
        engine.chunk_staged(chunk.ticket, self._host.now_us, str(error))

    def _staged(self, chunk: StageChunk, body: bytes, engine: Engine) -> None:
        if chunk.is_last:
            self._host.world.watch.on_snapshot(self._host, chunk.meta)
            self._arrived = (chunk.meta.snapshot_id, body)
        engine.chunk_staged(chunk.ticket, self._host.now_us)


def _size(batches: list[Persist]) -> int:
    return sum(len(entry.data) for batch in batches for entry in batch.entries)
