"""One server process of the simulation: an engine, its storage, its state, its clients.

It does what core.server.consensus and core.agent.disk do, in the same order, on simulated
time: the write-ahead log is written by a worker that takes all batches that wait (group
commit), snapshots by another. What a worker does takes its time first and happens at the
end of it; a crash before carries it out up to a random step (sim.raft.disk).
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from core.state.snapshot import StateImage
from core.state.state import State
from raft.core import (
    Configuration,
    Entry,
    InvariantError,
    Kind,
    NeedChunk,
    Output,
    Persist,
    Role,
    SnapshotMeta,
    StageChunk,
)
from raft.engine import Engine, make
from raft.messages import Message
from raft.records import WalDamagedError
from raft.snapshots import SnapshotDamagedError, SnapshotGoneError, SnapshotStore
from raft.wal import DiskFullError, Wal, WalFailedError
from sim.raft import registers
from sim.raft.clock import Clock
from sim.raft.disk import MemoryDisk, PowerCut
from sim.raft.durable import DurableLog
from sim.seeds import Violation

if TYPE_CHECKING:
    from sim.raft.clients import Attempt
    from sim.raft.world import World

FOLDER: Final = Path("raft")
SEGMENT_BYTES: Final = 4096
FOREVER_US: Final = 1 << 60

Report = Callable[[Engine], None]


class Host:
    """A server. `engine` is None while no process runs."""

    def __init__(self, world: "World", name: str, rng: random.Random) -> None:
        self.world = world
        self.name = name
        self.disk = MemoryDisk(random.Random(rng.getrandbits(64)))
        self.durable = DurableLog()
        self.engine: Engine | None = None
        self.state = State()
        self.applied_index = 0
        self.write_us = 2_000  # what a sync takes
        self.pump_us = 0  # how long events gather before their output is taken
        self._rng = rng
        self._life = 0  # events of an earlier life are void
        self._stopped_until_us = 0
        self.was_stopped = False  # since its start: it may be behind its clock
        self.clock = Clock()
        self._is_pumping = False
        self._tick_us = 0
        self._doom: Callable[[], None] | None = None  # how it ends during its next write
        self._reset()

    def _reset(self) -> None:
        self._wal: Wal | None = None
        self._store: SnapshotStore | None = None
        self._batches: list[Persist] = []  # wait for the log's worker
        self._writing: list[Persist] = []  # it is writing these
        self._slow: deque[Callable[[SnapshotStore], Report]] = (
            deque()
        )  # for the worker of snapshots
        self._staged: dict[str, bytes] = {}
        self._is_saving = False
        self._waiting: dict[int, tuple[int, Attempt]] = {}  # index -> (term, who waits)
        self._barriers: dict[int, Attempt] = {}
        self._ready: list[tuple[int, Attempt]] = []

    # --- clock ------------------------------------------------------------------------

    @property
    def now_us(self) -> int:
        """What this server's clock shows."""
        return self.clock.at(self.world.now_us)

    @property
    def is_stopped(self) -> bool:
        return self.world.now_us < self._stopped_until_us

    def stop(self, duration_us: int) -> None:
        """SIGSTOP, and SIGCONT later: whatever comes meanwhile waits."""
        self._stopped_until_us = self.world.now_us + duration_us
        self.was_stopped = True

    def go_on(self) -> None:
        self._stopped_until_us = 0

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do something in this life of the process; if it is stopped then, once it goes on."""
        self.world.after(delay_us, self._do, self._life, action, arguments)

    def _do(self, life: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if life != self._life or self.engine is None:
            return
        if self.world.now_us < self._stopped_until_us:
            self.world.after(
                self._stopped_until_us - self.world.now_us, self._do, life, action, arguments
            )
            return
        self._guarded(action, *arguments)

    def _guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        """Carry out an event; what the shipped code raises stops the process."""
        try:
            action(*arguments)
        except Violation:
            raise
        except (InvariantError, Exception) as error:
            self.world.watch.on_assertion(self.name, error)
            self.kill()
            return
        if not self._is_pumping:
            if self.pump_us:
                self._is_pumping = True
                self.world.after(self._rng.randrange(self.pump_us), self._pump_late, self._life)
            else:
                self.pump()

    def _pump_late(self, life: int) -> None:
        if life == self._life and self.engine is not None:
            self._is_pumping = False
            self.pump()

    # --- life and death ---------------------------------------------------------------

    def start(self) -> bool:
        """Start the process on what its disk holds; say whether it runs."""
        self._life += 1
        self._reset()
        self._is_pumping, self._tick_us = False, 0
        self.disk.is_flipping = False  # a bit that is wrong at a start stops the server
        watch = self.world.watch
        try:
            self._open()
        except PowerCut:
            self.world.faults["power cut at start"] += 1
            self.cut_power()
            return False
        except (OSError, DiskFullError):
            self.world.situations["start put off by a full disk"] += 1
            self.disk.kill()
            return False
        except (WalDamagedError, SnapshotDamagedError) as error:
            raise Violation("durability", f"{self.name} can't start again: {error}") from error
        except InvariantError as error:
            watch.on_assertion(self.name, error)
            self.disk.kill()
            return False
        watch.on_start(self)
        self.pump()
        return self.engine is not None

    def _open(self) -> None:
        self._store = SnapshotStore(FOLDER, disk=self.disk)
        newest = self._store.newest()
        self._wal, recovery = Wal.open(
            FOLDER, snapshot=newest, disk=self.disk, segment_bytes=SEGMENT_BYTES
        )
        body = self._store.load(newest) if newest.index else b""
        if recovery.torn:
            self.world.situations["torn tail cut"] += 1
        boot = recovery.boot
        self.world.watch.on_recovered(self, boot)
        self.durable = DurableLog.of(boot)
        self.state = State.restore([body]) if newest.index else State()
        self.applied_index = newest.index
        self.engine = make(
            self.world.engine,
            replica_id=self.name,
            settings=self.world.settings,
            rng=random.Random(self._rng.getrandbits(64)),
            boot=boot,
            now_us=self.now_us,
        )

    def bootstrap(self, configuration: Configuration, first: Sequence[bytes]) -> None:
        assert self.engine is not None
        self.engine.bootstrap(configuration, list(first), self.now_us)
        self.pump()

    def kill(self) -> None:
        """kill -9: the cache stays, and what a worker was doing may be half done."""
        if self.engine is None:
            return
        self._end_work()
        self.disk.kill()
        self._end_process()

    def cut_power(self) -> None:
        """The machine is off: what was not synced may be lost or torn."""
        if self.engine is not None:
            self._end_work()
        if self.disk.cut_power():
            self.world.situations["write torn by a power cut"] += 1
        self._end_process()

    def _end_work(self) -> None:
        """Let what the workers are doing get as far as chance has it."""
        slow = self._slow[0] if self._slow else None
        wal, writing = self._wal, self._writing
        if writing and wal is not None and self._rng.random() < 0.8:
            self.world.faults["crash during a write"] += 1
            self.disk.die_after = self._rng.choice((0, 1, 1, 1, 1, 2, 3))
            with suppress(PowerCut, DiskFullError, WalFailedError):
                wal.append(writing)
        self.disk.die_after = None
        if slow is not None and self._store is not None and self._rng.random() < 0.8:
            self.world.faults["crash during a snapshot"] += 1
            self.disk.die_after = self._rng.randrange(6)
            with suppress(PowerCut):
                slow(self._store)
        self.disk.die_after = None

    def _end_process(self) -> None:
        engine, self.engine = self.engine, None
        self._doom = None
        self._life += 1
        self._stopped_until_us = 0
        self.was_stopped = False
        self.world.watch.on_end(self, engine, self._writing)

    def die_writing(self, end: Callable[[], None]) -> None:
        """Call `end` in the midst of one of the next writes of the log."""
        self._doom = end

    def spare(self) -> None:
        """Let it live after all."""
        self._doom = None

    def _meet_doom(self, duration_us: int) -> None:
        doom, self._doom = self._doom, None
        if doom is not None:
            self.after(self._rng.randrange(duration_us), doom)

    def halt(self, reason: str) -> None:
        """The disk can't be trusted: the process ends, what it did not sync is anyone's guess."""
        self.world.situations[reason] += 1
        self.disk.is_sync_failing = False
        self.cut_power()

    # --- the engine -------------------------------------------------------------------

    def on_message(self, sender: str, message: Message) -> None:
        assert self.engine is not None
        self.world.watch.on_message(self, sender, message)
        self.engine.step(sender, message, self.now_us)

    def pump(self) -> None:
        """Take the engine's output and carry it out, as core.server.consensus does."""
        engine = self.engine
        if engine is None:
            return
        try:
            output = engine.take_output()
            self.world.watch.on_output(self, engine, output)
            self._carry_out(engine, output)
        except Violation:
            raise
        except (InvariantError, Exception) as error:
            self.world.watch.on_assertion(self.name, error)
            self.kill()
            return
        if self.engine is engine:
            self._arm(engine)

    def _carry_out(self, engine: Engine, output: Output) -> None:
        if output.persist is not None:
            self._batches.append(output.persist)
            if not self._writing:
                self._begin_write()
        for to, message in output.messages:
            self.world.send(self.name, to, message)
        if output.installed is not None:
            self._install(output.installed)
        for entry in output.committed:
            self._apply(engine, entry)
        if output.role_changed and engine.role is not Role.LEADER and self._waiting:
            waiting, self._waiting = self._waiting, {}
            for _, attempt in waiting.values():
                attempt.lost(engine.leader_id)
        for ticket in output.reads_failed:
            self.world.watch.situations.on_read_failed(engine)
            self._barriers.pop(ticket).refused(engine.leader_id)
        for ticket, index in output.reads_ready:
            attempt = self._barriers.pop(ticket)
            self.world.watch.on_read_ready(self, attempt, index)
            self._ready.append((index, attempt))
        if self._ready:
            self._serve_reads()
        for need in output.need_chunk:
            self._queue_slow(partial(self._read_chunk, need))
        for stage in output.stage:
            self._queue_slow(partial(self._stage_chunk, stage))

    def _arm(self, engine: Engine) -> None:
        deadline_us = engine.deadline_us
        if deadline_us == self._tick_us or deadline_us > FOREVER_US:
            return
        self._tick_us = deadline_us
        self.after(self.clock.wait_us(deadline_us - self.now_us), self._tick, deadline_us)

    def _tick(self, deadline_us: int) -> None:
        if self._tick_us == deadline_us and self.engine is not None:
            self._tick_us = 0
            self.engine.tick(self.now_us)

    # --- the write-ahead log's worker ---------------------------------------------------

    def _begin_write(self) -> None:
        self._writing, self._batches = self._batches, []
        if self._writing:
            half_us = self.write_us // 2
            self.after(half_us + int(self._rng.random() * half_us), self._end_write)
            if self._doom is not None and (_size(self._writing) > 600 or self._rng.random() < 0.1):
                self._meet_doom(half_us)  # rather in a write of several sectors: it can be torn

    def _end_write(self) -> None:
        engine, wal, taken = self.engine, self._wal, self._writing
        assert engine is not None and wal is not None
        watch = self.world.watch
        try:
            wal.append(taken)
        except DiskFullError:
            self.world.situations["write refused by a full disk"] += 1
            self._writing = []
            for batch in taken:
                engine.persist_failed(batch.ticket, True, self.now_us)
        except Exception:
            for batch in taken:
                engine.persist_failed(batch.ticket, False, self.now_us)
            self.halt("server stopped by a failed fsync")
            return
        else:
            self._writing = []
            for batch in taken:
                self.durable.write(batch)
            watch.on_durable(self)
            for batch in taken:
                engine.persisted(batch.ticket, self.now_us)
        if self._batches:
            self._begin_write()

    # --- the worker of snapshots --------------------------------------------------------

    def _queue_slow(self, work: Callable[[SnapshotStore], Report]) -> None:
        """Have the worker do something with the snapshots; it returns what to tell the engine."""
        self._slow.append(work)
        if len(self._slow) == 1:
            self._begin_slow()

    def _begin_slow(self) -> None:
        self.after(self._rng.randint(100, 100 + self.write_us * 3), self._end_slow)

    def _end_slow(self) -> None:
        engine, store = self.engine, self._store
        assert engine is not None and store is not None
        report = self._slow[0](store)
        self._slow.popleft()
        if self._slow:
            self._begin_slow()
        report(engine)

    def snapshot(self) -> bool:
        """Save the applied state and let the engine compact; say whether it was begun."""
        engine = self.engine
        if engine is None or self._is_saving or self.applied_index <= engine.snapshot.index:
            return False
        try:
            meta = engine.snapshot_meta(self.applied_index)
        except ValueError:
            return False  # not at this moment
        self._is_saving = True
        self._queue_slow(partial(self._save, meta, self.state.image()))
        return True

    def _save(self, meta: SnapshotMeta, image: StateImage, store: SnapshotStore) -> Report:
        try:
            saved = store.save(meta, image.chunks())
        except OSError:
            return self._not_saved
        return partial(self._saved, saved)

    def _not_saved(self, engine: Engine) -> None:
        self._is_saving = False
        self.world.situations["snapshot not saved on a full disk"] += 1

    def _saved(self, meta: SnapshotMeta, engine: Engine) -> None:
        self._is_saving = False
        self.world.watch.on_snapshot(self, meta)
        engine.compact(meta.index, meta)

    def _read_chunk(self, need: NeedChunk, store: SnapshotStore) -> Report:
        try:
            data, is_last = store.read(need.snapshot_id, need.offset, need.size)
        except (SnapshotGoneError, SnapshotDamagedError, OSError) as error:
            return partial(self._chunk_gone, need, str(error))
        return lambda engine: engine.chunk_read(need.ticket, data, is_last, self.now_us)

    def _chunk_gone(self, need: NeedChunk, reason: str, engine: Engine) -> None:
        self.world.situations["snapshot gone while it was sent"] += 1
        engine.chunk_read(need.ticket, b"", False, self.now_us, reason)

    def _stage_chunk(self, stage: StageChunk, store: SnapshotStore) -> Report:
        try:
            store.stage(stage.meta, stage.offset, stage.data, is_last=stage.is_last)
            body = store.load(stage.meta) if stage.is_last else b""
        except (SnapshotDamagedError, SnapshotGoneError, OSError) as error:
            return partial(self._stage_failed, stage, error)
        return partial(self._chunk_staged, stage, body)

    def _stage_failed(self, stage: StageChunk, error: Exception, engine: Engine) -> None:
        if isinstance(error, SnapshotDamagedError):
            self.world.situations["damaged snapshot refused"] += 1
        engine.chunk_staged(stage.ticket, self.now_us, str(error))

    def _chunk_staged(self, stage: StageChunk, body: bytes, engine: Engine) -> None:
        if stage.is_last:
            self.world.watch.on_snapshot(self, stage.meta)
            self._staged = {stage.meta.snapshot_id: body}
        engine.chunk_staged(stage.ticket, self.now_us)

    def _install(self, meta: SnapshotMeta) -> None:
        self.state = State.restore([self._staged[meta.snapshot_id]])
        self.applied_index = meta.index
        self.world.on_members(meta.configuration_index, meta.configuration)
        self.world.situations["snapshot installed"] += 1
        self.world.watch.on_installed(self)

    # --- state and clients --------------------------------------------------------------

    def _apply(self, engine: Engine, entry: Entry) -> None:
        self.world.watch.on_apply(self, engine, entry)
        self.applied_index = entry.index
        if entry.kind != Kind.COMMAND:
            if entry.kind == Kind.CONFIGURATION:
                self.world.on_members(entry.index, Configuration.decode(entry.data))
            return
        applied = self.state.apply(entry.index, entry.data)
        self.world.watch.on_applied(self, entry, applied)
        waiting = self._waiting.pop(entry.index, None)
        if waiting is None:
            return
        term, attempt = waiting
        if term == entry.term:
            self.world.watch.on_acknowledged(entry, attempt)
            attempt.written(applied)
        else:
            attempt.lost(engine.leader_id)

    def request(self, attempt: "Attempt") -> None:
        """A client's request arrived."""
        engine = self.engine
        assert engine is not None
        if attempt.is_read:
            ticket = engine.read_barrier(self.now_us)
            if ticket is None:
                attempt.refused(engine.leader_id)
                return
            self.world.watch.on_read(attempt)
            self._barriers[ticket] = attempt
            self.world.situations["read served by a lease"] += engine.has_lease(self.now_us)
            return
        index = engine.propose([attempt.entry(self.world.wall_us)], self.now_us)
        if index is None:
            self.world.watch.situations.on_refused(engine)
            attempt.refused(engine.leader_id)
            return
        self._waiting[index] = (engine.term, attempt)

    def _serve_reads(self) -> None:
        ready, self._ready = self._ready, []
        for index, attempt in ready:
            if index <= self.applied_index:
                attempt.read(registers.read(self.state, attempt.key))
            else:
                self._ready.append((index, attempt))

    def story(self) -> str:
        engine = self.engine
        if engine is None:
            return f"{self.name} down"
        return (
            f"{self.name} {engine.role.value} term {engine.term} last {engine.last_index} commit "
            f"{engine.commit_index} applied {self.applied_index} leader {engine.leader_id!r}"
        )


def _size(batches: list[Persist]) -> int:
    return sum(len(entry.data) for batch in batches for entry in batch.entries)
