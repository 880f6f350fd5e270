"""A small deterministic cluster: cores on virtual time, a bad network, disks that forget.

All randomness comes from one seed. A crash loses what was not synced; of the batch being
written any prefix may remain. Checkers look at every output as it happens and raise
`Violation`; they know nothing of how the core works inside.
"""

import heapq
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from raft.core import (
    Boot,
    Change,
    ChangeKind,
    Configuration,
    Entry,
    Kind,
    NeedChunk,
    Output,
    Persist,
    RaftCore,
    Role,
    Settings,
    SnapshotMeta,
    StageChunk,
)
from raft.engine import make
from raft.messages import Message, VoteAnswer, encode

SECOND_US = 1_000_000


class Violation(AssertionError):
    """A promise of Raft was broken."""


class ModelDisk:
    """What a crash leaves: the log, term and vote, and whole snapshots."""

    def __init__(self) -> None:
        self.term, self.voted_for = 0, ""
        self.base = SnapshotMeta()
        self.entries: list[Entry] = []
        self.snapshots: dict[str, tuple[SnapshotMeta, bytes]] = {}
        self.is_full = False
        self.is_refusing = False

    def write(self, batch: Persist, parts: int = 1 << 30) -> None:
        """Apply the first `parts` records of a batch, in the order that `Persist` says."""
        steps: list[Callable[[], None]] = []
        if batch.hard_state:
            steps.append(lambda: self._set_hard_state(batch))
        if batch.reset_to:
            steps.append(lambda: self._reset(batch.reset_to))
        if batch.truncate_from:
            steps.append(lambda: self._truncate(batch.truncate_from))
        steps += [lambda entry=entry: self._append(entry) for entry in batch.entries]
        for step in steps[:parts]:
            step()

    def boot(self) -> Boot:
        """Join log and snapshot as `Wal.open` does."""
        newest = max((m for m, _ in self.snapshots.values()), key=lambda m: m.index, default=None)
        if newest is None:
            return Boot(self.term, self.voted_for, list(self.entries))
        if newest.index < self.base.index:
            raise Violation("the log begins after the newest snapshot")
        if self.term_at(newest.index) == newest.term:
            entries = [entry for entry in self.entries if entry.index > newest.index]
        else:
            entries = []
            self._reset(newest)
            if self.term < newest.term:
                self.term, self.voted_for = newest.term, ""
        return Boot(self.term, self.voted_for, entries, newest)

    def term_at(self, index: int) -> int | None:
        if index == self.base.index:
            return self.base.term
        position = index - self.base.index - 1
        return self.entries[position].term if 0 <= position < len(self.entries) else None

    def holds(self, index: int, term: int) -> bool:
        if self.term_at(index) == term:
            return True
        return any(meta.index >= index for meta, _ in self.snapshots.values())

    def _set_hard_state(self, batch: Persist) -> None:
        self.term, self.voted_for = batch.hard_state.term, batch.hard_state.voted_for

    def _reset(self, meta: SnapshotMeta) -> None:
        self.base, self.entries = meta, []

    def _truncate(self, index: int) -> None:
        del self.entries[max(0, index - self.base.index - 1) :]

    def _append(self, entry: Entry) -> None:
        if entry.index != self.base.index + len(self.entries) + 1:
            raise Violation(f"entry {entry.index} leaves a gap on disk")
        self.entries.append(entry)


@dataclass
class Host:
    """One replica with its disk and its state machine (the list of applied commands)."""

    replica_id: str
    disk: ModelDisk = field(default_factory=ModelDisk)
    core: RaftCore | None = None
    life: int = 0  # events of an earlier life are void
    applied: list[bytes] = field(default_factory=list)
    applied_index: int = 0
    writing: list[Persist] = field(default_factory=list)
    arriving: bytearray = field(default_factory=bytearray)
    tick_us: int = 0
    write_us: int = 2_000
    stopped_until_us: int = 0


class Cluster:
    """Replicas `a`, `b`, ... under a seed. `faults` scales how bad the network is."""

    def __init__(
        self,
        seed: int,
        size: int = 3,
        *,
        settings: Settings | None = None,
        engine: str = "core",
    ) -> None:
        self.engine = engine
        self.rng = random.Random(seed)
        self.settings = settings or Settings(
            trailing_entries=5, chunk_bytes=1500, append_bytes=600, inflight_appends=4
        )
        self.now_us = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self.loss = self.duplication = 0.0
        self.delay_us = (200, 2_000)
        self.cut: set[tuple[str, str]] = set()  # only looked up, never iterated
        self.seen: Counter[str] = Counter()  # situations reached

        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[str, int], str] = {}
        self.places: dict[tuple[int, int], tuple[int, int, bytes]] = {}
        self.committed: dict[int, tuple[int, int, bytes]] = {}
        self.high_commit = 0
        self.proposed: dict[tuple[int, int], bytes] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.read_floor: dict[tuple[str, int, int], int] = {}
        self.next_command = 0

        names = [chr(ord("a") + i) for i in range(size)]
        self.hosts = {name: Host(name) for name in names}
        for name in names:
            self.start(name)
        first = Configuration.of({name: f"{name}:1" for name in names})
        self.hosts["a"].core.bootstrap(first, [b"first"], 0)
        self.drain(self.hosts["a"])

    # --- time ---------------------------------------------------------------------------

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._sequence, action))

    def run(self, duration_us: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; say whether `until` came true."""
        end = self.now_us + duration_us
        while self._queue and self._queue[0][0] <= end:
            if until():
                return True
            self.now_us, _, action = heapq.heappop(self._queue)
            action()
        self.now_us = end
        return until()

    def wait_for_leader(self) -> RaftCore:
        assert self.run(20 * SECOND_US, lambda: self.leader() is not None), "no leader in 20 s"
        return self.leader()

    def leader(self) -> RaftCore | None:
        """Return the newest leader that has committed in its term."""
        cores = [host.core for host in self.hosts.values() if host.core]
        ready = [
            core
            for core in cores
            if core.role is Role.LEADER and core.commit_index >= core.term_start_index
        ]
        return max(ready, key=lambda core: core.term, default=None)

    # --- life and death -----------------------------------------------------------------

    def start(self, name: str) -> None:
        host = self.hosts[name]
        host.life += 1
        host.disk.is_refusing = False
        boot = host.disk.boot()
        host.core = make(
            self.engine,
            replica_id=name,
            settings=self.settings,
            rng=random.Random(self.rng.getrandbits(64)),
            boot=boot,
            now_us=self.now_us,
        )
        host.applied, host.applied_index = [], boot.snapshot.index
        if boot.snapshot.index:
            host.applied = self._read_image(host, boot.snapshot)
        host.writing, host.arriving, host.tick_us = [], bytearray(), 0
        self.drain(host)

    def crash(self, name: str) -> None:
        """Lose what was not synced; of the batch being written a prefix may remain."""
        host = self.hosts[name]
        if host.core is None:
            return
        host.core = None
        host.life += 1
        if host.writing and not host.disk.is_full and not host.disk.is_refusing:
            batch = host.writing[0]
            records = len(batch.entries) + 3
            kept = self.rng.randint(0, records)
            self.seen["batch torn by a crash"] += 0 < kept < records
            host.disk.write(batch, kept)
        self.seen["crash"] += 1

    def partition(self, group: list[str]) -> None:
        """Cut `group` off from the others, both ways."""
        for one in self.hosts:
            for other in self.hosts:
                if (one in group) != (other in group):
                    self.cut.add((one, other))

    def heal(self) -> None:
        self.cut.clear()

    # --- the driver of a core -----------------------------------------------------------

    def drain(self, host: Host) -> None:
        core = host.core
        if core is None:
            return
        output = core.take_output()
        if core.role is Role.LEADER:
            self._check_leader(host.replica_id, core)
        if output.persist:
            self._persist(host, output.persist)
        for to, message in output.messages:
            self._check_vote(host.replica_id, to, message)
            self._deliver(host.replica_id, to, message)
        if output.installed:
            host.applied = self._read_image(host, output.installed)
            host.applied_index = output.installed.index
            self.seen["snapshot installed"] += 1
        for entry in output.committed:
            self._apply(host, core, entry)
        self._check_reads(host, core, output)
        for need in output.need_chunk:
            self._read_chunk(host, need)
        for stage in output.stage:
            self._stage_chunk(host, stage)
        self._arm(host, core)

    def _arm(self, host: Host, core: RaftCore) -> None:
        deadline = max(core.deadline_us, self.now_us)
        if deadline != host.tick_us and deadline < 1 << 60:
            host.tick_us = deadline
            self._on(host, deadline - self.now_us, self._tick(host, deadline))

    def _tick(self, host: Host, deadline: int) -> Callable[[RaftCore], None]:
        def tick(core: RaftCore) -> None:
            if host.tick_us == deadline:
                host.tick_us = 0
                core.tick(self.now_us)

        return tick

    def _on(self, host: Host, delay_us: int, act: Callable[[RaftCore], None]) -> None:
        """Do something in this life of the host, later; a stopped process does it later yet."""
        life = host.life

        def run() -> None:
            if host.life != life or host.core is None:
                return
            if self.now_us < host.stopped_until_us:
                self.after(host.stopped_until_us - self.now_us, run)
                return
            act(host.core)
            self.drain(host)

        self.after(delay_us, run)

    def _deliver(self, sender: str, to: str, message: Message) -> None:
        host = self.hosts.get(to)
        copies = 1 + (self.rng.random() < self.duplication)
        for _ in range(copies):
            if host is None or (sender, to) in self.cut or self.rng.random() < self.loss:
                continue
            arriving = host.core.read_message(encode(message)) if host.core else message
            self._on(
                host,
                self.rng.randint(*self.delay_us),
                lambda core, arriving=arriving: core.step(sender, arriving, self.now_us),
            )

    def _persist(self, host: Host, batch: Persist) -> None:
        self._check_places(host.core, batch)
        host.writing.append(batch)
        if len(host.writing) == 1:
            self._begin_write(host)

    def _begin_write(self, host: Host) -> None:
        self._on(host, self.rng.randint(host.write_us // 2, host.write_us), self._end_write(host))

    def _end_write(self, host: Host) -> Callable[[RaftCore], None]:
        def end(core: RaftCore) -> None:
            batch = host.writing.pop(0)
            disk = host.disk
            changes_log = bool(batch.entries or batch.truncate_from or batch.reset_to)
            if batch.is_retry:
                disk.is_refusing = False
            if changes_log and (disk.is_full or disk.is_refusing):
                disk.is_refusing = True
                self.seen["write refused by a full disk"] += 1
                core.persist_failed(batch.ticket, True, self.now_us)
            else:
                self.seen["vote on a full disk"] += disk.is_refusing and bool(batch.hard_state)
                disk.write(batch)
                core.persisted(batch.ticket, self.now_us)
            if host.writing:
                self._begin_write(host)

        return end

    # --- snapshots ----------------------------------------------------------------------

    def snapshot(self, name: str) -> None:
        """Save the applied state and let the core compact."""
        host = self.hosts[name]
        core = host.core
        if core is None or host.applied_index <= core.snapshot.index:
            return
        image = msgspec.msgpack.encode(host.applied)
        digest = f"{zlib.crc32(image):08x}"
        meta = msgspec.structs.replace(
            core.snapshot_meta(host.applied_index), size=len(image), digest=digest
        )

        def saved(core: RaftCore) -> None:
            if meta.index <= core.snapshot.index:
                return  # a newer one arrived meanwhile
            self._keep(host, meta, image)
            core.compact(meta.index, meta)
            self.seen["compaction"] += 1

        self._on(host, self.rng.randint(1_000, 20_000), saved)

    def _keep(self, host: Host, meta: SnapshotMeta, image: bytes) -> None:
        host.disk.snapshots[meta.snapshot_id] = (meta, image)
        for old in sorted(host.disk.snapshots)[:-2]:
            del host.disk.snapshots[old]

    def _read_image(self, host: Host, meta: SnapshotMeta) -> list[bytes]:
        return msgspec.msgpack.decode(host.disk.snapshots[meta.snapshot_id][1], type=list[bytes])

    def _read_chunk(self, host: Host, need: NeedChunk) -> None:
        def read(core: RaftCore) -> None:
            held = host.disk.snapshots.get(need.snapshot_id)
            if held is None:
                self.seen["snapshot gone while sent"] += 1
                core.chunk_read(need.ticket, b"", False, self.now_us, "gone")
                return
            data = held[1][need.offset : need.offset + need.size]
            is_last = need.offset + len(data) >= len(held[1])
            core.chunk_read(need.ticket, data, is_last, self.now_us)

        self._on(host, 100, read)

    def _stage_chunk(self, host: Host, stage: StageChunk) -> None:
        def write(core: RaftCore) -> None:
            if stage.offset == 0:
                host.arriving = bytearray()
            if stage.offset != len(host.arriving):
                core.chunk_staged(stage.ticket, self.now_us, "a gap")
                return
            host.arriving += stage.data
            if stage.is_last:
                image = bytes(host.arriving)
                if f"{zlib.crc32(image):08x}" != stage.meta.digest:
                    raise Violation("a snapshot was put together wrongly")
                self._keep(host, stage.meta, image)
            core.chunk_staged(stage.ticket, self.now_us)

        self._on(host, 300, write)

    # --- clients ------------------------------------------------------------------------

    def propose(self, name: str, count: int = 1, size: int = 20) -> None:
        """Propose unique commands at a replica, if it leads."""
        host = self.hosts[name]
        core = host.core
        if core is None or self.now_us < host.stopped_until_us:
            return
        data = []
        for _ in range(count):
            self.next_command += 1
            data.append(f"{self.next_command:08d}".encode().ljust(size, b"."))
        first = core.propose(data, self.now_us)
        if first is not None:
            for position, command in enumerate(data):
                self.proposed[first + position, core.term] = command
        self.drain(host)

    def read(self, name: str) -> None:
        """Ask for a barrier; it must see everything acknowledged until now."""
        host = self.hosts[name]
        if host.core is None or self.now_us < host.stopped_until_us:
            return
        ticket = host.core.read_barrier(self.now_us)
        if ticket is not None:
            floor = max(self.acknowledged.values(), default=0)
            self.read_floor[name, host.life, ticket] = floor
        self.drain(host)

    def change(self, kind: ChangeKind, replica_id: str) -> bool:
        core = self.leader()
        if core is None:
            return False
        index = core.change_membership(Change(kind, replica_id, f"{replica_id}:1"), self.now_us)
        self.drain(self.hosts[core.replica_id])
        return index is not None

    def add_host(self, name: str) -> None:
        """An empty replica that waits to be contacted."""
        self.hosts[name] = Host(name)
        self.start(name)

    # --- checkers -----------------------------------------------------------------------

    def _check_leader(self, name: str, core: RaftCore) -> None:
        """Election safety: one leader a term. Leader completeness: it has all committed."""
        if self.leaders.setdefault(core.term, name) != name:
            raise Violation(f"{name} and {self.leaders[core.term]} lead in term {core.term}")
        if core.last_index == core.term_start_index:
            for index in range(core.log.offset + 1, self.high_commit + 1):
                term = self.committed[index][0]
                if term < core.term and core.log.term_at(index) != term:
                    raise Violation(f"leader {name} of {core.term} lacks committed {index}")

    def _check_vote(self, name: str, to: str, message: Message) -> None:
        if isinstance(message, VoteAnswer) and message.is_granted and not message.is_pre_vote:
            held = self.votes.setdefault((name, message.term), to)
            if held != to:
                raise Violation(f"{name} voted for {held} and {to} in term {message.term}")
            if self.hosts[name].disk.term < message.term:
                raise Violation(f"{name} voted in {message.term} before it was on disk")

    def _check_places(self, core: RaftCore, batch: Persist) -> None:
        """Log matching: (index, term) names one content and one predecessor, everywhere."""
        for entry in batch.entries:
            prev_term = core.log.term_at(entry.index - 1)
            found = (prev_term if prev_term is not None else -1, int(entry.kind), entry.data)
            held = self.places.setdefault((entry.index, entry.term), found)
            if held[1:] != found[1:] or (-1 not in (held[0], found[0]) and held[0] != found[0]):
                raise Violation(f"({entry.index}, {entry.term}) is {found} and {held}")

    def _apply(self, host: Host, core: RaftCore, entry: Entry) -> None:
        """State machine safety, and a majority of disks behind what is newly committed."""
        if entry.index != host.applied_index + 1:
            raise Violation(f"{host.replica_id} applied {entry.index} after {host.applied_index}")
        host.applied_index = entry.index
        found = (entry.term, int(entry.kind), entry.data)
        if entry.index not in self.committed:
            self.committed[entry.index] = found
            self.high_commit = max(self.high_commit, entry.index)
            self._check_durable(core, entry)
        if self.committed[entry.index] != found:
            raise Violation(f"{entry.index} is {found} and {self.committed[entry.index]}")
        if entry.kind == Kind.COMMAND:
            host.applied.append(entry.data)
        if self.proposed.get((entry.index, entry.term)) == entry.data:
            if core.role is Role.LEADER and core.term == entry.term:
                self.acknowledged.setdefault(entry.data, entry.index)

    def _check_durable(self, core: RaftCore, entry: Entry) -> None:
        voters = core.configuration.voters
        holders = [name for name in voters if self.hosts[name].disk.holds(entry.index, entry.term)]
        # By log matching a later entry of the leader's term on disk says it of this one too.
        if len(holders) < core.configuration.quorum:
            raise Violation(f"{entry.index} is committed, on disk only at {holders}")

    def _check_reads(self, host: Host, core: RaftCore, output: Output) -> None:
        for ticket, index in output.reads_ready:
            floor = self.read_floor[host.replica_id, host.life, ticket]
            self.seen["read"] += 1
            if index < floor:
                raise Violation(f"a read at {index} misses the acknowledged write {floor}")
            if index > host.applied_index:
                raise Violation(f"a read at {index} is ready, applied is {host.applied_index}")
        self.seen["leadership lost during a read"] += len(output.reads_failed)

    def check_end(self) -> None:
        """After healing: all replicas agree, and nothing acknowledged is missing."""
        for host in self.hosts.values():
            if host.core is None:
                self.start(host.replica_id)
            host.disk.is_full = False
            host.stopped_until_us = 0
        self.heal()
        self.loss = self.duplication = 0.0

        def is_quiet() -> bool:
            leader = self.leader()
            if leader is None or leader.transfer_to:
                return False
            members = leader.configuration.addresses
            return all(self.hosts[name].applied_index == leader.last_index for name in members)

        if not self.run(60 * SECOND_US, is_quiet):
            raise Violation(f"the cluster did not come to rest: {self.story()}")
        leader = self.leader()
        expected = self.hosts[leader.replica_id].applied
        for name in leader.configuration.addresses:
            if self.hosts[name].applied != expected:
                raise Violation(f"{name} and {leader.replica_id} hold different states")
        missing = set(self.acknowledged) - set(expected)
        if missing:
            raise Violation(f"acknowledged and lost: {sorted(missing)[:3]}")
        if len(set(expected)) != len(expected):
            raise Violation("a command was applied twice")

    def story(self) -> str:
        """One line a replica, for a failed check."""
        return "; ".join(
            f"{host.replica_id} {host.core.role.value} term {host.core.term} "
            f"log {host.core.log.offset}..{host.core.last_index} commit {host.core.commit_index}"
            f" durable {host.core.journal.durable_index} leader {host.core.leader_id!r}"
            if host.core
            else f"{host.replica_id} down"
            for host in self.hosts.values()
        )


def torment(cluster: Cluster, duration_us: int) -> None:
    """Let clients work while faults come and go, as the cluster's seed has it."""
    rng = cluster.rng
    end = cluster.now_us + duration_us
    cluster.loss = rng.choice([0.0, 0.02, 0.1])
    cluster.duplication = rng.choice([0.0, 0.05])
    cluster.delay_us = rng.choice([(200, 2_000), (200, 30_000), (5_000, 80_000)])
    next_fault = cluster.now_us + 300_000
    newcomer = ord("m")
    while cluster.now_us < end:
        cluster.run(rng.randint(2_000, 40_000))
        names = list(cluster.hosts)
        name = rng.choice(names)
        for candidate in names:
            if rng.random() < 0.6:
                cluster.propose(candidate, rng.randint(1, 6), rng.choice([20, 20, 200]))
            if rng.random() < 0.2:
                cluster.read(candidate)
        if rng.random() < 0.05:
            cluster.snapshot(name)
        if cluster.now_us < next_fault:
            continue
        next_fault = cluster.now_us + rng.randint(50_000, 900_000)
        host = cluster.hosts[name]
        fault = rng.randrange(13)
        if fault <= 2:
            cluster.crash(name)
        elif fault <= 4:
            for down in names:
                if cluster.hosts[down].core is None:
                    cluster.start(down)
        elif fault == 5:
            cluster.partition(rng.sample(names, rng.randint(1, max(1, len(names) // 2))))
            cluster.seen["partition"] += 1
        elif fault == 6:
            cluster.cut.add((name, rng.choice(names)))
            cluster.seen["one-way cut"] += 1
        elif fault <= 8:
            cluster.heal()
        elif fault == 9:
            host.write_us = rng.choice([500, 2_000, 20_000, 300_000])
        elif fault == 10:
            host.disk.is_full = not host.disk.is_full
        elif fault == 11:
            leader = cluster.leader()
            if leader is not None and rng.random() < 0.5:
                leader.transfer_leadership("", cluster.now_us)
                cluster.drain(cluster.hosts[leader.replica_id])
                cluster.seen["hand-over"] += 1
            else:
                host.stopped_until_us = cluster.now_us + rng.randint(100_000, 2_000_000)
        else:
            newcomer = _change_membership(cluster, newcomer)


def _change_membership(cluster: Cluster, newcomer: int) -> int:
    leader = cluster.leader()
    if leader is None:
        return newcomer
    learners = list(leader.configuration.learners)
    voters = list(leader.configuration.voters)
    if learners:
        done = cluster.change(ChangeKind.PROMOTE, learners[0])
        cluster.seen["promotion"] += done
    elif len(voters) > 3:
        cluster.seen["removal"] += cluster.change(ChangeKind.REMOVE, cluster.rng.choice(voters))
    else:
        name = chr(newcomer)
        cluster.add_host(name)
        cluster.seen["learner"] += cluster.change(ChangeKind.ADD_LEARNER, name)
        return newcomer + 1
    return newcomer
