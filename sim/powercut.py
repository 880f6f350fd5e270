"""Power cuts under the real storage driver: `python -m sim.powercut --seeds N`.

A replica's storage (raft.storage) works on real files; between any two operations of its
driver the power may go. kill -9 would prove nothing of that: the kernel keeps what was
written. So sim.platter records each operation and draws states that a power cut leaves; in
another folder a storage is opened on each as a server's start does. What must hold:

    starts           it opens, and it opens again after one more write
    acknowledged     all that a replica let out a word about is there: entries, term, vote
    not invented     and nothing else, but for a prefix of what was being appended
    snapshot         the newest saved one is there, byte for byte, or the one being saved;
                     one that arrives altered is refused
    votes            a full disk refuses entries; a vote it takes, and keeps

A seed is a history of a replica: group commits, votes, tails cut, snapshots saved and
installed, segments released, the disk full and free again; kills in the midst of it, after
which the same files are opened again; and power cuts, after which it goes on from what was
left. So an entry that a killed process had written and not synced, and that the next one
found and relied on, is lost by the next power cut if opening does not sync it. The replica
speaks through the shipped journal (sim.promises), which decides what may be said when.
"""

import argparse
import contextlib
import hashlib
import itertools
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from raft.messages import Configuration, Entry, Kind, SnapshotMeta
from raft.output import NO_SNAPSHOT, Boot, HardState, Persist
from raft.snapshots import SnapshotDamagedError, SnapshotGoneError
from raft.storage import Storage
from raft.wal import DiskFullError, Recovery, WalDamagedError, WalFailedError
from sim.log_model import Log, body_of, difference
from sim.platter import Killed, Platter, RecordingDisk, State, write_out
from sim.promises import Promises
from sim.seeds import Outcome, Program, Violation, main

OWNER: Final = "3f0e3a52-7d0e-4d0c-9a4e-8f3f0a1b2c3d"
SEGMENT_BYTES: Final = 4096
STEPS: Final = 30  # of one history
_CUT_SHARE: Final = 0.2  # of the operations after which a power cut is looked at
_WRITE_CUT_SHARE: Final = 0.8  # of the writes: these can be torn
_BROKEN: Final = (WalDamagedError, WalFailedError, SnapshotDamagedError, SnapshotGoneError, OSError)

FAULTS: Final = (
    "power cut", "kill", "disk full", "write lost", "write torn",
    "later change kept, earlier lost", "new name undone", "rename undone", "removal undone",
)  # fmt: skip
SITUATIONS: Final = (
    "torn tail cut", "all of an append in flight survived", "part of an append in flight survived",
    "segment begun", "segments released", "stray segments removed", "tail cut by the leader",
    "snapshot saved", "snapshot installed", "snapshot in flight survived", "reserve used",
    "altered snapshot refused", "vote taken by a full disk", "entries refused by a full disk",
    "two power cuts, both in a write", "power cut after a kill", "went on after a power cut",
)  # fmt: skip


class History:
    """One seed: a replica's storage, and what it may have lost at any moment."""

    def __init__(self, seed: int, folder: Path, *, has_faults: bool) -> None:
        self.rng = random.Random(f"powercut {seed}")
        self.outcome = Outcome()
        self._has_faults = has_faults
        self._folder = folder
        self._generation = itertools.count()
        self._looks = itertools.count()
        self._log = Log()  # written: every append up to it returned
        self._memory = Log()  # as the replica has it, written or not
        self._promises = Promises(self._log)
        self._written = 0  # the newest batch whose append returned
        self._snapshots: list[SnapshotMeta] = [NO_SNAPSHOT]  # acknowledged: the last counts
        self._in_flight: list[Persist] = []
        self._saving: SnapshotMeta | None = None
        self._was_killed = False
        self._is_looking = False
        self._begin(None)

    # --- life -----------------------------------------------------------------------------

    def _begin(self, state: State | None) -> None:
        self._root = self._folder / f"life-{next(self._generation)}"
        self._root.mkdir()
        write_out(state or {}, self._root)
        self.disk = RecordingDisk(self._root, Platter(state), self._look)
        self._open()

    def _open(self) -> None:
        """Start, as a server does; what is found is relied on from here."""
        storage = self._start(self._root, self.disk)
        self.storage = storage
        self._rely_on(storage.newest, storage.recovery)

    def _rely_on(self, newest: SnapshotMeta, recovery: Recovery) -> None:
        # What the snapshot holds may have been released from the log.
        boot = recovery.boot
        base = (newest.index, newest.term)
        self._log = Log(HardState(boot.term, boot.voted_for), base, tuple(boot.entries))
        self._memory, self._promises, self._written = self._log, Promises(self._log), 0
        self._snapshots = [newest]
        self._in_flight, self._saving = [], None

    def _start(self, root: Path, disk: RecordingDisk | None) -> Storage:
        """Open a folder and judge what it holds.

        Raises:
            Violation: It does not open, or holds something else than it must.
        """
        try:
            storage = Storage.open(
                root / "raft", owner=OWNER, disk=disk, segment_bytes=SEGMENT_BYTES
            )
        except _BROKEN as error:
            text = str(error).replace(str(root), "")
            raise Violation("starts", f"{type(error).__name__}: {text}") from error
        try:
            self._judge(storage)
        except BaseException:
            storage.close()
            raise
        self.outcome.situations["torn tail cut"] += bool(storage.recovery.torn)
        self.outcome.situations["stray segments removed"] += bool(storage.recovery.stray)
        return storage

    def run(self) -> None:
        steps: list[tuple[int, Callable[[], None]]] = [
            (10, self._append), (3, self._vote), (2, self._cut_tail), (3, self._save),
            (2, self._install), (2, self._release),
        ]  # fmt: skip
        if self._has_faults:
            steps += [(2, self._fill), (2, self._kill), (2, self._die_soon), (2, self._cut_power)]
        weights = [weight for weight, _ in steps]
        try:
            for _ in range(STEPS):
                ((_, step),) = self.rng.choices(steps, weights)
                try:
                    step()
                except Killed:
                    self._revive()
        finally:
            self.storage.close()

    # --- what a replica does ---------------------------------------------------------------

    def _append(self) -> None:
        self._hand_over(*[self._batch() for _ in range(self.rng.randint(1, 4))])

    def _batch(self) -> Persist:
        """Return a batch that follows what is recorded so far."""
        newest = self._memory
        term = newest.hard_state.term
        hard_state = None
        if self.rng.random() < 0.2 or term == 0:
            term += 1
            hard_state = HardState(term, self.rng.choice(("", "a", "b")))
        entries = []
        count = self.rng.randint(0 if hard_state is not None else 1, 5)
        for index in range(newest.last_index + 1, newest.last_index + 1 + count):
            entries.append(Entry(index, term, Kind.COMMAND, self._payload()))
        return self._record(hard_state=hard_state, entries=entries)

    def _payload(self) -> bytes:
        size = self.rng.choice((0, 8, 40, 200, 700, 700, 1500, 5000))
        if self.rng.random() < 0.1:
            return bytes(size)  # zeros, as where nothing was written
        return self.rng.randbytes(size)

    def _vote(self) -> None:
        term = self._memory.hard_state.term + 1
        self._hand_over(self._record(hard_state=HardState(term, self.rng.choice("abc"))))

    def _cut_tail(self) -> None:
        """A new leader's entries replace some that were never committed."""
        log = self._log
        lowest = max(log.base[0], self._snapshots[-1].index) + 1
        if log.last_index < lowest:
            return
        index = self.rng.randint(lowest, log.last_index)
        term = log.hard_state.term + 1
        entries = [Entry(index, term, Kind.NOOP, b"")]
        self._hand_over(
            self._record(hard_state=HardState(term, ""), truncate_from=index, entries=entries)
        )
        self.outcome.situations["tail cut by the leader"] += 1

    def _save(self) -> None:
        newest = self._snapshots[-1]
        if self._log.last_index <= newest.index:
            return
        index = self.rng.randint(newest.index + 1, self._log.last_index)
        term = self._log.term_at(index)
        body = body_of(index, term)
        self._saving = SnapshotMeta(index, term, Configuration.of({"a": "1"}), 1)
        saved = self.storage.snapshots.save(self._saving, [body[:500], body[500:]])
        self._snapshots.append(saved)
        self._saving = None
        self.outcome.situations["snapshot saved"] += 1
        self._release()

    def _install(self) -> None:
        """A leader sends a snapshot of what this log does not hold."""
        index = self._log.last_index + self.rng.randint(1, 9)
        term = max(1, self._log.hard_state.term + self.rng.randint(0, 1))
        body = body_of(index, term)
        meta = SnapshotMeta(
            index, term, Configuration.of({"a": "1"}), 1, len(body),
            hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        with contextlib.suppress(SnapshotDamagedError):
            self._stage(meta, bytes([body[0] ^ 1]) + body[1:])
            raise Violation("snapshot", f"{meta.snapshot_id} was taken with a bit altered")
        self.outcome.situations["altered snapshot refused"] += 1
        self._saving = meta
        self._stage(meta, body)
        self._snapshots.append(meta)
        self._saving = None
        hard_state = None
        if term > self._log.hard_state.term:
            hard_state = HardState(term, "")
        self._hand_over(self._record(hard_state=hard_state, reset_to=meta, release_through=index))
        self.outcome.situations["snapshot installed"] += 1

    def _stage(self, meta: SnapshotMeta, body: bytes) -> None:
        for offset in range(0, len(body), 500):
            is_last = offset + 500 >= len(body)
            piece = body[offset : offset + 500]
            self.storage.snapshots.stage(meta, offset, piece, is_last=is_last)

    def _release(self) -> None:
        before = self._segment_count()
        if self._snapshots[-1].index:
            self._hand_over(self._record(release_through=self._snapshots[-1].index))
        self.outcome.situations["segments released"] += self._segment_count() < before

    # --- full disk -------------------------------------------------------------------------

    def _fill(self) -> None:
        """No file can grow. Entries are refused sooner or later, votes are not."""
        self._hand_over(self._record(entries=[self._entry()]))
        self.disk.is_full = True
        for _ in range(self.rng.randint(1, 3)):
            refused = self._append_until_refused()
            self.outcome.faults["disk full"] += refused
            self.outcome.situations["entries refused by a full disk"] += refused
            try:
                for _ in range(self.rng.randint(1, 30)):
                    self._vote()
            except DiskFullError as error:
                raise Violation("votes", f"a vote was refused by a full disk: {error}") from error
            self.outcome.situations["vote taken by a full disk"] += refused
            has_reserve = (self._root / "raft" / "reserve").exists()
            self.outcome.situations["reserve used"] += not has_reserve
            with contextlib.suppress(DiskFullError):  # try again, with no more room than before
                self._hand_over(self._record(is_retry=True, entries=[self._entry()]))
        self.disk.is_full = False
        self._hand_over(self._record(is_retry=True, truncate_from=self._log.last_index + 1))

    def _append_until_refused(self) -> bool:
        for _ in range(self.rng.randint(1, 12)):
            try:
                if not self._promises.is_full:
                    self._append()
            except DiskFullError:
                return True
        return False

    def _entry(self) -> Entry:
        term = max(1, self._memory.hard_state.term)
        return Entry(self._log.last_index + 1, term, Kind.COMMAND, self._payload())

    # --- ends ------------------------------------------------------------------------------

    def _kill(self) -> None:
        raise Killed

    def _die_soon(self) -> None:
        self.disk.die_after = self.rng.randint(0, 8)

    def _revive(self) -> None:
        """The process was killed; another one opens the same files."""
        self.outcome.faults["kill"] += 1
        self._was_killed = True
        self._let_go()
        self.disk = RecordingDisk(self._root, self.disk.platter, self._look)
        self._open()

    def _cut_power(self) -> None:
        """The power goes in the midst of some work; go on from what is left."""
        self.disk.die_after = self.rng.randint(0, 12)
        with contextlib.suppress(Killed):
            while True:
                self.rng.choice((self._append, self._append, self._vote, self._save))()
        self._let_go()
        state = self.disk.platter.draw(self.rng, Counter())
        shutil.rmtree(self._root)
        self._begin(state)
        self.outcome.situations["went on after a power cut"] += 1

    def _let_go(self) -> None:
        """Free lock and files, as the kernel does when a process is gone."""
        with contextlib.suppress(Killed):
            self.storage.close()
        self.storage.wal.close()

    # --- handing over ----------------------------------------------------------------------

    def _record(self, **said: Any) -> Persist:
        """Return the batch that the journal makes of a `Persist` that says this."""
        meant = Persist(ticket=0, **said)
        batch = self._promises.record(meant, self._memory)
        if batch is None:
            raise Violation("acknowledged", f"the journal makes nothing of {meant}")
        *_, self._memory = (self._memory, *self._memory.steps(meant))
        return batch

    def _hand_over(self, *batches: Persist) -> None:
        self._in_flight = list(batches)
        segments = self._segment_count()
        try:
            self.storage.wal.append(batches)
        except DiskFullError:
            self._in_flight = []
            # What was not written and nobody relies on never arrived; the vote still counts.
            self._memory = replace(self._log, hard_state=self._memory.hard_state)
            self._promises.refused(list(batches), self._memory.hard_state)
            raise
        for batch in batches:
            *_, self._log = (self._log, *self._log.steps(batch))
            self._written = batch.ticket
            self.outcome.acknowledged += 1
        self._in_flight = []
        for batch in batches:
            self._promises.durable(batch)
        self.outcome.situations["segment begun"] += self._segment_count() > segments

    def _segment_count(self) -> int:
        return sum(1 for _ in (self._root / "raft").glob("log-*.wal"))

    # --- judging ---------------------------------------------------------------------------

    def _possible_logs(self) -> list[Log]:
        """Return what a cut may leave of the log: all acknowledged, any prefix in flight.

        Raises:
            Violation: Something is acknowledged that the log was not even given.
        """
        logs, floor, given = [self._log], 0, self._written
        for batch in self._in_flight:
            logs += logs[-1].steps(batch)
            given = batch.ticket
            if given <= self._promises.claimed:
                floor = len(logs) - 1
        if self._promises.claimed > given:
            raise Violation("acknowledged", f"batch {self._promises.claimed}, not yet written")
        return logs[floor:]

    def _look(self, is_write: bool) -> None:
        """An operation of the driver is done: what if the power went now?"""
        if not self._has_faults or self._is_looking:
            return
        if self.rng.random() > (_WRITE_CUT_SHARE if is_write else _CUT_SHARE):
            return
        self._is_looking = True
        root = self._folder / f"look-{next(self._looks)}"
        root.mkdir()
        try:
            seen: Counter[str] = Counter()
            state = self.disk.platter.draw(self.rng, seen)
            self.outcome.faults += seen
            self.outcome.faults["power cut"] += 1
            self.outcome.situations["power cut after a kill"] += self._was_killed
            write_out(state, root)
            boot = self._write_on(root, self._start(root, None))
            if seen["write torn"]:
                shutil.rmtree(root)
                root.mkdir()
                self._cut_twice(root, state, boot)
        finally:
            shutil.rmtree(root)
            self._is_looking = False

    def _cut_twice(self, root: Path, state: State, boot: Boot) -> None:
        """Start from a torn state, and let the first append after it be torn as well."""
        write_out(state, root)
        disk = RecordingDisk(root, Platter(state), lambda _: None)
        storage = self._start(root, disk)
        index = boot.entries[-1].index if boot.entries else boot.snapshot.index
        entries = [
            Entry(index + 1 + more, max(1, boot.term), Kind.COMMAND, self.rng.randbytes(600))
            for more in range(3)
        ]
        disk.die_after = 1
        with contextlib.suppress(Killed):
            storage.wal.append([Persist(ticket=1, hard_state=HardState(9, ""), entries=entries)])
        storage.close()
        second = disk.platter.draw(self.rng, Counter())
        shutil.rmtree(root)
        root.mkdir()
        write_out(second, root)
        try:
            again = Storage.open(root / "raft", owner=OWNER, segment_bytes=SEGMENT_BYTES)
        except _BROKEN as error:
            text = str(error).replace(str(root), "")
            raise Violation("starts", f"after a second power cut: {text}") from error
        again.close()
        found = again.recovery.boot.entries
        if found[: len(boot.entries)] != boot.entries:
            raise Violation("acknowledged", "a second power cut took what the first had left")
        self.outcome.situations["two power cuts, both in a write"] += 1

    def _write_on(self, root: Path, storage: Storage) -> Boot:
        """What was recovered can be written to, and is read again; return what it was."""
        boot = storage.recovery.boot
        index = (boot.entries[-1].index if boot.entries else boot.snapshot.index) + 1
        term = max(boot.term, 1)
        entry = Entry(index, term, Kind.NOOP, b"")
        try:
            storage.wal.append(
                [Persist(ticket=1, hard_state=HardState(term, boot.voted_for), entries=[entry])]
            )
            storage.close()
            again = Storage.open(root / "raft", owner=OWNER, segment_bytes=SEGMENT_BYTES)
            again.close()
        except _BROKEN as error:
            text = str(error).replace(str(root), "")
            raise Violation("starts", f"after one more write: {text}") from error
        found = again.recovery.boot
        if found.entries != [*boot.entries, entry] or found.term != term:
            raise Violation("acknowledged", f"entry {index}, written after a start, is gone")
        return boot

    def _judge(self, storage: Storage) -> None:
        """Compare what was found with what may be.

        Raises:
            Violation: It can't be.
        """
        newest = storage.newest
        acknowledged = self._snapshots[-1]
        is_in_flight = self._saving is not None and newest.snapshot_id == self._saving.snapshot_id
        if newest.snapshot_id != acknowledged.snapshot_id and not is_in_flight:
            raise Violation(
                "snapshot",
                f"the newest is {newest.snapshot_id}, saved was {acknowledged.snapshot_id}",
            )
        self.outcome.situations["snapshot in flight survived"] += is_in_flight
        if newest.index:
            body = b"".join(storage.snapshots.pieces(newest))
            if body != body_of(newest.index, newest.term):
                raise Violation("snapshot", f"{newest.snapshot_id} holds other bytes")
        found = storage.recovery.boot
        last_index = found.entries[-1].index if found.entries else newest.index
        if last_index < self._promises.durable_index:
            text = f"the log ends at {last_index}, {self._promises.durable_index} was counted on"
            raise Violation("acknowledged", text)
        possible = self._possible_logs()
        for reached, log in enumerate(possible):
            if log.boot(newest) == found:
                last = len(possible) - 1
                situations = self.outcome.situations
                situations["all of an append in flight survived"] += reached == last > 0
                situations["part of an append in flight survived"] += 0 < reached < last
                return
        raise Violation(*difference(found, possible[0].boot(newest)))


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """Play one history on real files in memory, if this machine has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="serai-powercut-", dir=memory if memory.is_dir() else None
    ) as folder:
        history = History(seed, Path(folder), has_faults=options.has_faults)
        try:
            history.run()
        except Violation as violation:
            history.outcome.violations.append((violation.checker, violation.text))
        return history.outcome


PROGRAM: Final = Program(
    name="sim.powercut",
    about="Cut the power between any two operations of the storage driver, and start again.",
    faults=FAULTS,
    situations=SITUATIONS,
    run_seed=run_seed,
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
