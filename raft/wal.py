"""The write-ahead log: entries, term and vote, in segments on a real disk.

    log-<number>.wal   segments of records (raft.segment); the newest is written to
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
from raft.segment import HEADER_BYTES, RecordKind, SegmentReader, add_record, record_at

FORMAT: Final = 1
SEGMENT_BYTES: Final = 16 * 1024 * 1024
RESERVE_BYTES: Final = 64 * 1024


class DiskFullError(RuntimeError):
    """Nothing of the batches was written; the log is as before. Reads may go on."""


class WalFailedError(RuntimeError):
    """A write or sync failed: what is on disk is unknown. The process must stop."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening found. `torn` is "" or a sentence for the operator's log."""

    boot: Boot
    torn: str


@dataclass(slots=True)
class _Segment:
    number: int
    last_index: int  # no entry in it is beyond


class Wal:
    """One open log. Not thread-safe: one worker calls `append` at a time."""

    def __init__(self, folder: Path, disk: Disk, lock: File, segment_bytes: int) -> None:
        self._folder = folder
        self._disk = disk
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []  # oldest first
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
        self._failure = ""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        snapshot: SnapshotMeta = NO_SNAPSHOT,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple["Wal", Recovery]:
        """Open or begin the log in `folder`.

        Args:
            snapshot: The newest durable snapshot's meta.
            segment_bytes: Length of a new segment; one batch may exceed it.

        Raises:
            FolderInUseError: Another process has it open.
            WalDamagedError: What was durable is broken or missing.
            OSError: The folder can't be read or written.
        """
        disk = disk or RealDisk()
        disk.make_folder(folder)
        lock = disk.lock(folder / "lock")
        wal = cls(folder, disk, lock, segment_bytes)
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
        if records:
            self._write(records, may_use_reserve=may_use_reserve)
        self._is_refusing = is_refusing
        if not (self._has_reserve or is_refusing):
            self._keep_reserve()
        for batch in batches:
            self._note(batch)
        release = max((batch.release_through for batch in batches), default=0)
        if release:
            self._release(release)

    def _write(self, records: list[tuple[int, bytes]], *, may_use_reserve: bool) -> None:
        size = sum(HEADER_BYTES + 8 + len(payload) for _, payload in records)
        try:
            if self._file is None or self._offset + size > self._capacity:
                self._roll(size, may_use_reserve=may_use_reserve)
            assert self._file is not None
            self._batch += 1
            number = self._segments[-1].number
            buffer = bytearray()
            offset = self._offset
            for position, (kind, payload) in enumerate(records, 1):
                offset = add_record(
                    buffer,
                    kind,
                    payload,
                    number=number,
                    offset=offset,
                    batch=self._batch,
                    is_end=position == len(records),
                )
            self._file.write_at(self._offset, buffer)
        except OSError as error:
            self._on_write_error(error)
        self._sync(self._file)
        self._offset = offset

    def _on_write_error(self, error: OSError) -> NoReturn:
        """Undo a write that found no room; else fail for good."""
        if not is_full(error):
            self._fail(error)
        try:
            if self._file is not None:
                # Half a batch may be there: back to zeros, so that it can't be read as one.
                self._file.truncate(self._offset)
                self._file.allocate(self._capacity)
        except OSError as second:
            if not is_full(second):
                self._fail(second)
            self._capacity = self._offset  # no room that we could count on
        self._is_refusing = True
        raise DiskFullError(f"the disk of {self._folder} is full: {error.strerror}") from error

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

    def _path(self, number: int) -> Path:
        return self._folder / f"log-{number:016d}.wal"

    def _roll(self, need_bytes: int, *, may_use_reserve: bool) -> None:
        """Begin a new segment. It gets its name once it is whole and durable."""
        number = self._segments[-1].number + 1 if self._segments else 1
        start = SegmentStart(
            format=FORMAT,
            number=number,
            previous_end=self._offset,
            last_index=self._last_index,
            last_term=self._term_at(self._last_index) or 0,
            term=self._hard_state.term,
            voted_for=self._hard_state.voted_for,
        )
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
        capacity = max(self._segment_bytes, end + need_bytes)
        spare = self._folder / "log.new"
        try:
            file = self._create(spare, capacity)
        except OSError as error:
            if not (may_use_reserve and is_full(error) and end + need_bytes <= RESERVE_BYTES):
                raise
            if not self._has_reserve:
                raise
            spare, capacity = self._folder / "reserve", RESERVE_BYTES
            file = self._disk.open(spare)
        file.write_at(0, buffer)
        self._sync(file)
        try:
            self._disk.rename(spare, self._path(number))
            self._disk.sync_folder(self._folder)
        except OSError as error:
            file.close()
            self._fail(error)
        if self._file is not None:
            self._file.close()
        self._file, self._capacity, self._offset = file, capacity, end
        self._segments.append(_Segment(number, self._last_index))
        self._has_reserve = self._has_reserve and spare.name != "reserve"

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
        """Hold some room back while there is any."""
        try:
            file = self._create(self._folder / "reserve.new", RESERVE_BYTES)
            self._sync(file)
            file.close()
            self._disk.rename(self._folder / "reserve.new", self._folder / "reserve")
            self._disk.sync_folder(self._folder)
            self._has_reserve = True
        except OSError as error:
            if not is_full(error):
                self._fail(error)

    def _release(self, index: int) -> None:
        """Remove the oldest segments that hold nothing beyond `index`. Never the newest."""
        count = 0
        for segment in self._segments[:-1]:
            if segment.last_index > index:
                break
            count += 1
        if not count:
            return
        for segment in self._segments[:count]:
            self._disk.remove(self._path(segment.number))
        self._disk.sync_folder(self._folder)
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

    # --- reading ------------------------------------------------------------------------

    def _recover(self, snapshot: SnapshotMeta) -> Recovery:
        names = self._disk.list(self._folder)
        self._has_reserve = "reserve" in names
        for name in names:
            if name.endswith(".new"):  # a segment whose making was interrupted
                self._disk.remove(self._folder / name)
        numbers = [int(n[4:20]) for n in names if n.startswith("log-") and n.endswith(".wal")]
        reading = Reading(self._folder)
        torn = ""
        starts = [self._start_of(number) for number in numbers]
        for position, number in enumerate(numbers):
            is_newest = position == len(numbers) - 1
            stop = -1 if is_newest else starts[position + 1].previous_end
            data = self._disk.read(self._path(number))
            reader = SegmentReader(data, number, stop)
            for record in reader:
                reading.take(record, number)
            ending = reader.ending
            if ending.damage:
                self._damaged(number, ending.offset, ending.damage)
            self._segments.append(_Segment(number, reading.highest_index))
            reading.highest_index = reading.last_index
            if is_newest:
                torn = self._reopen(number, data, ending.offset, is_torn=ending.is_torn)
        self._take_over(reading)
        return Recovery(self._boot(reading, snapshot), torn)

    def _start_of(self, number: int) -> SegmentStart:
        data = self._disk.read(self._path(number), 0, 4096)
        record = record_at(data, 0, number)
        if record is None or record.kind != RecordKind.SEGMENT:
            self._damaged(number, 0, "its first record is broken")
        start = msgspec.msgpack.decode(record.payload, type=SegmentStart)
        if start.format != FORMAT:
            raise WalDamagedError(
                f"{self._path(number)} has format {start.format}, this program reads "
                f"{FORMAT}: run the version that wrote it"
            )
        return start

    def _reopen(self, number: int, data: bytes, offset: int, *, is_torn: bool) -> str:
        """Go on where the newest segment ends; cut what a crash left half written."""
        path = self._path(number)
        self._file = self._disk.open(path)
        self._capacity = max(len(data), offset)
        self._offset = offset
        if not is_torn:
            return ""
        self._file.truncate(offset)
        self._file.allocate(self._capacity)
        self._sync(self._file)
        cut = len(data[offset:].rstrip(b"\0"))
        if not cut:
            return ""
        return f"{path}: cut {cut} bytes of an unfinished write at offset {offset}"

    def _take_over(self, reading: Reading) -> None:
        self._batch = reading.batch
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

    def _damaged(self, number: int, offset: int, what: str) -> NoReturn:
        raise WalDamagedError(
            f"{self._path(number)} at offset {offset}: {what}. The disk lost or changed what "
            f"was durable. {REJOIN}."
        )


def _changes_log(batch: Persist) -> bool:
    return bool(batch.entries or batch.truncate_from or batch.reset_to)


__all__ = ["DiskFullError", "Recovery", "Wal", "WalDamagedError", "WalFailedError"]
