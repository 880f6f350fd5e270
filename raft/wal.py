"""The write-ahead log: entries, term and vote, in segments on a real disk.

    log-<number>.wal   segments of records (raft.segment); the newest is written to
    newest             its number: were it gone, the log would seem to end before it
    reserve            a spare segment: a vote can be written when the disk is full
    lock               held by the process that works here

A `Persist` becomes records; all records of one `append` share one `fdatasync`. A new
segment's first record says where it continues: the end of the one before, the last (index,
term), term and vote. So each suffix of the segments stands alone, and whole segments go
once a snapshot holds what is in them.

Opening reads everything. A torn tail, a batch that a crash interrupted, is cut and
reported: nothing in it was acknowledged. Anything else that is broken stops here with
`WalDamagedError`, since to go on could lose what others rely on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from raft.disk import Disk, File, RealDisk, is_full
from raft.messages import SnapshotMeta
from raft.output import NO_SNAPSHOT, Boot, HardState, Persist
from raft.records import REJOIN, Reading, SegmentStart, WalDamagedError, records_of
from raft.recovery import FORMAT, NEWEST, Found, Segment, newest_of, read_log, segment_path
from raft.segment import HEADER_BYTES, RecordKind, add_record

SEGMENT_BYTES: Final = 16 * 1024 * 1024
RESERVE_BYTES: Final = 64 * 1024
LOCK: Final = "lock"
RESERVE: Final = "reserve"
_START_BYTES: Final = 1024  # room for a segment's first record
_ZEROS: Final = bytes(1 << 20)


class DiskFullError(RuntimeError):
    """Nothing of the batches was written; the log is as before. Reads may go on."""


class WalFailedError(RuntimeError):
    """A write or sync failed: what is on disk is unknown. The process must stop."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening found. `torn` and `stray` are "" or a sentence for the operator's log."""

    boot: Boot
    torn: str
    stray: str = ""


class Wal:
    """One open log. Not thread-safe: one worker calls `append` at a time."""

    def __init__(
        self, folder: Path, disk: Disk, lock: File, segment_bytes: int, owner: str
    ) -> None:
        self._folder = folder
        self._owner = owner
        self._disk = disk
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []  # oldest first
        self._file: File | None = None
        self._capacity = 0
        self._offset = 0  # where the next batch goes
        self._batch = 0
        self._hard_state = HardState(0, "")
        self._base = (0, 0)  # (index, term) before the first entry
        self._terms: list[tuple[int, int]] = []  # (first index, term) of each run of a term
        self._last_index = 0
        self._is_refusing = False  # the disk was full; what followed is void
        self._has_reserve = False
        self._has_newest = False
        self._failure = ""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        snapshot: SnapshotMeta = NO_SNAPSHOT,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        lock: File | None = None,
        owner: str = "",
    ) -> tuple["Wal", Recovery]:
        """Open or begin the log in `folder`.

        Args:
            snapshot: The newest durable snapshot's meta.
            lock: The folder's lock, closed with the log; None = take it here.
            owner: Whose data folder this is: a segment of another's is refused.
            segment_bytes: Length of a new segment; one batch may exceed it.

        Raises:
            FolderInUseError: Another process has it open.
            WalDamagedError: What was durable is broken or missing.
            DiskFullError: There is not even room to begin.
            OSError: The folder can't be read or written.
        """
        disk = disk or RealDisk()
        if lock is None:
            disk.make_folder(folder)
            lock = disk.lock(folder / LOCK)
        wal = cls(folder, disk, lock, segment_bytes, owner)
        try:
            return wal, wal._recover(snapshot)
        except BaseException:
            wal.close()
            raise

    @property
    def last_index(self) -> int:
        return self._last_index

    @property
    def is_refusing(self) -> bool:
        """The disk was full at the last try."""
        return self._is_refusing

    def close(self) -> None:
        """Give the folder back. Nothing is written: all that counts was synced."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._failure = self._failure or "it was closed"
        self._lock.close()

    # --- writing ------------------------------------------------------------------------

    def append(self, batches: Sequence[Persist]) -> None:
        """Write the batches in order and return once they are durable.

        Raises:
            DiskFullError: Nothing was written. Until a batch with `is_retry` only hard
                states are taken.
            WalFailedError: The disk can't be trusted any more.
        """
        if self._failure:
            raise WalFailedError(f"write-ahead log in {self._folder}: {self._failure}")
        records: list[tuple[int, bytes]] = []
        is_refusing = self._is_refusing
        for batch in batches:
            is_refusing = is_refusing and not batch.is_retry
            if is_refusing and _changes_log(batch):
                self._is_refusing = True
                raise DiskFullError(f"the disk of {self._folder} is full")
            records += records_of(batch)
        may_use_reserve = all(not batch.entries for batch in batches)
        if not (may_use_reserve or self._has_reserve):
            self._keep_reserve()  # what is left of the last one belongs to votes
        if records:
            self._write(records, may_use_reserve=may_use_reserve)
        self._is_refusing = is_refusing
        for batch in batches:
            self._note(batch)
        release = max((batch.release_through for batch in batches), default=0)
        if release:
            self._release(release)

    def _write(self, records: list[tuple[int, bytes]], *, may_use_reserve: bool) -> None:
        size = sum(HEADER_BYTES + 8 + len(payload) for _, payload in records)
        buffer = bytearray()
        try:
            if self._file is None or self._offset + size > self._capacity:
                self._roll(size, may_use_reserve=may_use_reserve)
            assert self._file is not None
            number = self._segments[-1].number
            offset = self._offset
            for position, (kind, payload) in enumerate(records, 1):
                offset = add_record(
                    buffer,
                    kind,
                    payload,
                    number=number,
                    offset=offset,
                    batch=self._batch + 1,
                    is_end=position == len(records),
                )
            self._file.write_at(self._offset, buffer)
        except OSError as error:
            self._on_write_error(error, len(buffer))
        self._sync(self._file)
        self._offset = offset
        self._batch += 1

    def _on_write_error(self, error: OSError, size: int) -> NoReturn:
        """Undo a write of `size` bytes that found no room; else fail for good."""
        if not is_full(error):
            self._fail(error)
        try:
            if self._file is not None:
                # Half a batch may be there, and must not be read as one later.
                self._blank(self._file, size)
        except OSError as second:
            self._fail(second)
        self._is_refusing = True
        raise DiskFullError(f"the disk of {self._folder} is full: {error.strerror}") from error

    def _blank(self, file: File, size: int) -> None:
        """Put zeros over `size` bytes after the last whole batch, durably.

        They were reserved; a file system that copies on write may have no room even so.
        Then this segment ends here, and the next one says so.
        """
        try:
            for offset in range(self._offset, self._offset + size, len(_ZEROS)):
                rest = self._offset + size - offset
                file.write_at(offset, _ZEROS[:rest])
        except OSError as error:
            if not is_full(error):
                raise
            self._capacity = self._offset
        file.sync()

    def _fail(self, error: OSError) -> NoReturn:
        # After a failed fsync the kernel may drop dirty pages and report success next time.
        self._failure = f"{error.strerror or error}; restart once the disk is sound"
        raise WalFailedError(f"write-ahead log in {self._folder}: {self._failure}") from error

    def _sync(self, file: File) -> None:
        try:
            file.sync()
        except OSError as error:
            self._fail(error)

    # --- segments -----------------------------------------------------------------------

    def _roll(self, need_bytes: int, *, may_use_reserve: bool) -> None:
        """Begin a new segment. It gets its name once it is whole and durable."""
        number = self._segments[-1].number + 1 if self._segments else 1
        capacity = max(self._segment_bytes, need_bytes + _START_BYTES)
        start = SegmentStart(
            format=FORMAT,
            number=number,
            previous_end=self._offset,
            last_index=self._last_index,
            last_term=self._term_at(self._last_index) or 0,
            term=self._hard_state.term,
            voted_for=self._hard_state.voted_for,
            owner=self._owner,
            capacity=capacity,
        )
        spare = self._folder / "log.new"
        try:
            file = self._create(spare, capacity)
        except OSError as error:
            fits = need_bytes + _START_BYTES <= RESERVE_BYTES
            if not (is_full(error) and may_use_reserve and self._has_reserve and fits):
                raise
            spare, capacity = self._folder / RESERVE, RESERVE_BYTES
            start = msgspec.structs.replace(start, capacity=capacity)
            file = self._disk.open(spare)
        buffer = bytearray()
        end = add_record(
            buffer,
            RecordKind.SEGMENT,
            msgspec.msgpack.encode(start),
            number=number,
            offset=0,
            batch=self._batch,
            is_end=True,
        )
        try:
            file.write_at(0, buffer)
            file.sync()
            self._disk.rename(spare, segment_path(self._folder, number))
            self._disk.sync_folder(self._folder)
        except OSError as error:
            file.close()
            self._fail(error)
        if self._file is not None:
            self._file.close()
        self._file, self._capacity, self._offset = file, capacity, end
        self._segments.append(Segment(number, self._last_index))
        self._has_reserve = self._has_reserve and spare.name != RESERVE
        self._note_newest(number)

    def _note_newest(self, number: int) -> None:
        """Write down, durably, up to which segment the log goes."""
        path, spare = self._folder / NEWEST, self._folder / f"{NEWEST}.new"
        data = b"%016d\n" % number
        try:
            file = self._disk.open(path if self._has_newest else spare, is_new=not self._has_newest)
            try:
                file.write_at(0, data)  # within a sector: the old number, or the new one
                file.sync()
            finally:
                file.close()
            if not self._has_newest:
                self._disk.rename(spare, path)
                self._disk.sync_folder(self._folder)
        except OSError as error:
            if not is_full(error):
                self._fail(error)
            return  # it only serves to notice a loss; the next segment notes it
        self._has_newest = True

    def _create(self, path: Path, size: int) -> File:
        file = self._disk.open(path, is_new=True)
        try:
            file.allocate(size)
        except OSError:
            file.close()
            self._disk.remove(path)
            raise
        return file

    def _keep_reserve(self) -> None:
        """Hold room back for votes; without it nothing else is written.

        Raises:
            DiskFullError: There is no room to hold back.
        """
        try:
            file = self._create(self._folder / f"{RESERVE}.new", RESERVE_BYTES)
        except OSError as error:
            if not is_full(error):
                self._fail(error)
            self._is_refusing = True
            raise DiskFullError(f"the disk of {self._folder} is full: {error.strerror}") from error
        try:
            file.sync()
            file.close()
            self._disk.rename(self._folder / f"{RESERVE}.new", self._folder / RESERVE)
            self._disk.sync_folder(self._folder)
        except OSError as error:
            self._fail(error)
        self._has_reserve = True

    def _release(self, index: int) -> None:
        """Remove the oldest segments that hold nothing beyond `index`. Never the newest."""
        count = 0
        for segment in self._segments[:-1]:
            if segment.last_index > index:
                break
            count += 1
        if not count:
            return
        try:
            for segment in self._segments[:count]:
                self._disk.remove(segment_path(self._folder, segment.number))
            self._disk.sync_folder(self._folder)
        except OSError as error:
            self._fail(error)
        del self._segments[:count]

    # --- what the log holds now, without its data -----------------------------------------

    def _note(self, batch: Persist) -> None:
        if batch.hard_state is not None:
            self._hard_state = batch.hard_state
        if batch.reset_to is not None:
            self._base = (batch.reset_to.index, batch.reset_to.term)
            self._terms = []
            self._last_index = batch.reset_to.index
        if batch.truncate_from and batch.truncate_from <= self._last_index:
            self._last_index = batch.truncate_from - 1
            while self._terms and self._terms[-1][0] > self._last_index:
                self._terms.pop()
        for entry in batch.entries:
            if not self._terms or self._terms[-1][1] != entry.term:
                self._terms.append((entry.index, entry.term))
            self._last_index = entry.index
        if self._segments:
            newest = self._segments[-1]
            newest.last_index = max(newest.last_index, self._last_index)

    def _term_at(self, index: int) -> int | None:
        if index == self._base[0]:
            return self._base[1]
        if not self._base[0] < index <= self._last_index:
            return None
        return next(term for first, term in reversed(self._terms) if first <= index)

    # --- opening ------------------------------------------------------------------------

    def _recover(self, snapshot: SnapshotMeta) -> Recovery:
        names = self._disk.list(self._folder)
        self._has_reserve = RESERVE in names
        noted = newest_of(self._folder, self._disk, names)
        self._has_newest = NEWEST in names
        for name in names:
            if name.endswith(".new"):  # a segment whose making was interrupted
                self._disk.remove(self._folder / name)
        found = read_log(self._folder, self._disk, owner=self._owner, snapshot=snapshot)
        self._segments = found.segments
        torn = self._reopen(found) if found.segments else ""
        if found.segments and noted < found.segments[-1].number:
            self._note_newest(found.segments[-1].number)
        self._take_over(found.reading)
        return Recovery(self._boot(found.reading, snapshot), torn, found.stray)

    def _reopen(self, found: Found) -> str:
        """Go on where the newest segment ends; cut what a crash left half written.

        What was read may be in the kernel's memory only, if the process was killed before
        its sync: now it is relied on, so now it is synced, and the names with it.
        """
        path = segment_path(self._folder, found.segments[-1].number)
        self._file = self._disk.open(path)
        self._capacity, self._offset = found.capacity, found.end
        self._blank(self._file, found.unfinished)
        self._disk.sync_folder(self._folder)
        if not found.unfinished:
            return ""
        return f"{path}: cut {found.unfinished} bytes of an unfinished write at offset {found.end}"

    def _take_over(self, reading: Reading) -> None:
        # What follows half a batch belongs to it: else a tear of it would look like damage.
        self._batch = reading.batch if reading.is_whole else reading.batch - 1
        self._hard_state = reading.hard_state
        self._base = reading.base
        self._last_index = reading.base[0]
        self._note(Persist(ticket=0, entries=reading.entries))

    def _boot(self, reading: Reading, snapshot: SnapshotMeta) -> Boot:
        """Join log and snapshot; a snapshot that was installed just before a crash wins."""
        base_index = reading.base[0]
        if base_index > snapshot.index:
            raise WalDamagedError(
                f"{self._folder}: the log begins after {base_index}, but the newest snapshot "
                f"is {'at ' + str(snapshot.index) if snapshot.index else 'missing'}. {REJOIN}."
            )
        hard_state = reading.hard_state
        if hard_state.term < snapshot.term:
            hard_state = HardState(snapshot.term, "")
        entries = reading.entries[snapshot.index - base_index :]
        if self._term_at(snapshot.index) != snapshot.term:
            entries = []
            self.append([Persist(ticket=0, hard_state=hard_state, reset_to=snapshot)])
        return Boot(hard_state.term, hard_state.voted_for, entries, snapshot)


def _changes_log(batch: Persist) -> bool:
    return bool(batch.entries or batch.truncate_from or batch.reset_to)


__all__ = ["DiskFullError", "Recovery", "Wal", "WalDamagedError", "WalFailedError"]
