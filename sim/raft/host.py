"""One server process of the simulation: an engine, its storage, its state, its clients.

It does what core.server.consensus does, in the same order, on simulated time; the workers
that write to its disk are in sim.raft.storing.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from core.server.waiting import Waiting
from core.state.state import State
from raft.core import Configuration, Entry, InvariantError, Kind, Output, Role, SnapshotMeta
from raft.engine import Engine, make
from raft.messages import Message
from raft.records import WalDamagedError
from raft.snapshots import SnapshotDamagedError
from raft.wal import DiskFullError
from sim.raft import registers
from sim.raft.clock import Clock
from sim.raft.disk import MemoryDisk, PowerCut
from sim.raft.durable import DurableLog
from sim.raft.storing import Storing
from sim.seeds import Violation

if TYPE_CHECKING:
    from sim.raft.clients import Attempt
    from sim.raft.world import World

FOREVER_US: Final = 1 << 60


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
        self._storing: Storing | None = None
        self._waiting: Waiting[Attempt, Attempt] = Waiting()
        self._committed: deque[Entry] = deque()  # not yet applied
        self._held_until_us = 0  # nothing is applied before

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
        self._stopped_until_us = self._held_until_us = 0

    def hold_apply(self, duration_us: int) -> bool:
        """Apply nothing for so long, as while a restore is decoded (core.server.restoring)."""
        if self.engine is None:
            return False
        self._held_until_us = self.world.now_us + duration_us
        self.after(duration_us, lambda: None)  # an event like any other: the output is taken
        return True

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
        self._waiting = Waiting()
        self._committed.clear()
        self._held_until_us = 0
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
            self._give_up_start()
            return False
        except (WalDamagedError, SnapshotDamagedError) as error:
            raise Violation("durability", f"{self.name} can't start again: {error}") from error
        except InvariantError as error:
            watch.on_assertion(self.name, error)
            self._give_up_start()
            return False
        watch.on_start(self)
        self.pump()
        return self.engine is not None

    def _give_up_start(self) -> None:
        self._storing = None
        self.disk.kill()

    def _open(self) -> None:
        storing = self._storing = Storing(self, self._rng)
        recovery, newest = storing.recovery, storing.newest
        if recovery.torn:
            self.world.situations["torn tail cut"] += 1
        boot = recovery.boot
        self.world.watch.on_recovered(self, boot)
        self.durable = DurableLog.of(boot)
        self.state = storing.state()
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
        if self.engine is not None:
            self._end(self.disk.kill)

    def cut_power(self) -> None:
        """The machine is off: what was not synced may be lost or torn."""
        self._end(self._darken)

    def _darken(self) -> None:
        if self.disk.cut_power():
            self.world.situations["write torn by a power cut"] += 1

    def _end(self, leave_disk: Callable[[], None]) -> None:
        storing, self._storing = self._storing, None
        writing = storing.end() if storing is not None else []
        leave_disk()
        engine, self.engine = self.engine, None
        self._life += 1
        self._stopped_until_us = 0
        self.was_stopped = False
        self.world.watch.on_end(self, engine, writing)

    def die_writing(self, end: Callable[[], None]) -> None:
        """Call `end` in the midst of one of the next writes of the log."""
        if self._storing is not None:
            self._storing.die_writing(end)

    def spare(self) -> None:
        """Let it live after all."""
        if self._storing is not None:
            self._storing.spare()

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
        storing = self._storing
        assert storing is not None
        if output.persist is not None:
            storing.write(output.persist)
        for to, message in output.messages:
            self.world.send(self.name, to, message)
        if output.installed is not None:
            self._install(storing, output.installed)
        for entry in output.committed:
            self.world.watch.on_committed(self, engine, entry)
        self._committed += output.committed
        while self._committed and self.world.now_us >= self._held_until_us:
            self._apply(engine, self._committed.popleft())
        if output.role_changed and engine.role is not Role.LEADER:
            for attempt in self._waiting.lose():
                attempt.lost(engine.leader_id)
        for ticket in output.reads_failed:
            self.world.watch.situations.on_read_failed(engine)
            self._waiting.refuse(ticket).refused(engine.leader_id)
        for ticket, index in output.reads_ready:
            self.world.watch.on_read_ready(self, self._waiting.allow(ticket, index), index)
        for attempt in self._waiting.serve(self.applied_index):
            self.world.watch.on_read_answered(self, attempt)
            attempt.read(registers.read(self.state, attempt.key))
        for need in output.need_chunk:
            storing.read(need)
        for chunk in output.stage:
            storing.stage(chunk)

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

    # --- snapshots ------------------------------------------------------------------------

    def snapshot(self) -> bool:
        """Save the applied state and let the engine compact; say whether it was begun."""
        engine, storing = self.engine, self._storing
        if engine is None or storing is None or self.applied_index <= engine.snapshot.index:
            return False
        try:
            meta = engine.snapshot_meta(self.applied_index)
        except ValueError:
            return False  # not at this moment
        return storing.save(meta, self.state.image())

    def _install(self, storing: Storing, meta: SnapshotMeta) -> None:
        self.state = storing.state_arrived(meta)
        self.applied_index = meta.index
        self._committed.clear()
        self.world.on_members(meta.configuration_index, meta.configuration)
        self.world.situations["snapshot installed"] += 1
        self.world.watch.on_installed(self)

    # --- state and clients --------------------------------------------------------------

    def _apply(self, engine: Engine, entry: Entry) -> None:
        self.world.watch.on_apply(self, entry)
        self.applied_index = entry.index
        if entry.kind != Kind.COMMAND:
            if entry.kind == Kind.CONFIGURATION:
                self.world.on_members(entry.index, Configuration.decode(entry.data))
            return
        applied = self.state.apply(entry.index, entry.data)
        self.world.watch.on_applied(self, entry, applied)
        attempt, is_theirs = self._waiting.settle(entry.index, entry.term)
        if attempt is None:
            return
        if is_theirs:
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
            self.world.watch.on_read(self, attempt)
            self._waiting.ask(ticket, attempt)
            self.world.situations["read served by a lease"] += engine.has_lease(self.now_us)
            self.world.situations["read during a hand-over"] += engine.transfer_to != ""
            return
        index = engine.propose([attempt.entry(self.world.wall_us)], self.now_us)
        if index is None:
            self.world.watch.situations.on_refused(engine)
            attempt.refused(engine.leader_id)
            return
        self._waiting.propose(index, engine.term, [attempt])

    @property
    def waiting_count(self) -> int:
        """How many requests of clients it has taken and not answered."""
        return len(self._waiting)

    def story(self) -> str:
        engine = self.engine
        if engine is None:
            return f"{self.name} down"
        return (
            f"{self.name} {engine.role.value} term {engine.term} last {engine.last_index} commit "
            f"{engine.commit_index} applied {self.applied_index} leader {engine.leader_id!r}"
        )
