"""Reading a folder of segments: what they hold, and which broken ones are no damage."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from raft.disk import Disk
from raft.messages import SnapshotMeta
from raft.records import REJOIN, Reading, SegmentStart, WalDamagedError
from raft.segment import RecordKind, SegmentFile, SegmentReader, record_at

FORMAT: Final = 1
NEWEST: Final = "newest"
_NAME: Final = re.compile(r"log-(\d{16})\.wal")


@dataclass(slots=True)
class Segment:
    number: int
    last_index: int  # no entry in it is beyond


@dataclass(slots=True)
class Found:
    """What the segments hold. The last four are of the newest one."""

    reading: Reading
    stray: str  # what was removed, in words
    segments: list[Segment] = field(default_factory=list)  # oldest first
    end: int = 0  # where its last record ends
    unfinished: int = 0  # bytes after that which a crash left half written
    capacity: int = 0  # its length


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"log-{number:016d}.wal"


def newest_of(folder: Path, disk: Disk, names: list[str]) -> int:
    """Return the number of the segment up to which the log goes, 0 when nobody noted it.

    Raises:
        WalDamagedError: That segment and all later ones are missing, or the note can't be read.
        OSError: The note can't be read from the disk.
    """
    if NEWEST not in names:
        return 0
    text = disk.read(folder / NEWEST)
    if not re.fullmatch(rb"\d{16}\n", text):
        raise WalDamagedError(
            f"{folder / NEWEST} is damaged: it should hold the number of the newest segment. "
            f"{REJOIN}."
        )
    number = int(text)
    path = segment_path(folder, number)
    # On a full disk a later segment may not have been noted; the noted one may be gone since.
    is_later = any(path.name <= name for name in names if _NAME.fullmatch(name))
    if not is_later:
        raise WalDamagedError(f"{path} is missing: it is the newest segment. {REJOIN}.")
    return number


def read_log(folder: Path, disk: Disk, *, owner: str, snapshot: SnapshotMeta) -> Found:
    """Read all segments, a piece at a time.

    Args:
        owner: Whose data folder this is; "" = not checked.
        snapshot: The newest durable snapshot's meta.

    Raises:
        WalDamagedError: What was durable is broken, missing or another server's.
        OSError: A file can't be read.
    """
    return _Folder(folder, disk, owner).read(snapshot)


class _Folder:
    def __init__(self, folder: Path, disk: Disk, owner: str) -> None:
        self._folder = folder
        self._disk = disk
        self._owner = owner

    def read(self, snapshot: SnapshotMeta) -> Found:
        matches = [_NAME.fullmatch(name) for name in self._disk.list(self._folder)]
        numbers = [int(match[1]) for match in matches if match]
        starts = {number: self._start_of(number) for number in numbers}
        numbers, stray = self._drop_released(numbers, starts, snapshot)
        reading = Reading(self._folder)
        found = Found(reading, stray)
        for number in numbers:
            is_newest = number == numbers[-1]
            file = self._file(number)
            stop = -1 if is_newest else starts[number + 1].previous_end
            reader = SegmentReader(file, number, stop)
            for record in reader:
                reading.take(record, number)
            ending = reader.ending
            if ending.damage:
                self._damaged(number, ending.offset, ending.damage)
            found.segments.append(Segment(number, reading.highest_index))
            reading.highest_index = reading.last_index
            if is_newest:
                found.end = ending.offset
                found.unfinished = file.written_end(ending.offset) - ending.offset
                found.capacity = file.size
        return found

    def _drop_released(
        self, numbers: list[int], starts: dict[int, SegmentStart], snapshot: SnapshotMeta
    ) -> tuple[list[int], str]:
        """Remove what a power cut left of segments whose removal was under way.

        Several are removed at once, and their names may have gone in any order. What the
        snapshot does not hold is never released: so before a gap stands only what may go,
        if the log after the gap begins within the snapshot.
        """
        gaps = [at for at in range(1, len(numbers)) if numbers[at] != numbers[at - 1] + 1]
        if not gaps:
            return numbers, ""
        first = numbers[gaps[-1]]
        if starts[first].last_index > snapshot.index:
            raise WalDamagedError(
                f"{segment_path(self._folder, first - 1)} is missing: the log goes on after "
                f"entry {starts[first].last_index}, the newest snapshot holds "
                f"{snapshot.index}. {REJOIN}."
            )
        dropped = numbers[: gaps[-1]]
        for number in dropped:
            self._disk.remove(segment_path(self._folder, number))
        return numbers[gaps[-1] :], (
            f"{self._folder}: removed {len(dropped)} segments before {first:016d} that a crash "
            "had left; the snapshot holds what was in them"
        )

    def _file(self, number: int) -> SegmentFile:
        path = segment_path(self._folder, number)
        return SegmentFile(
            lambda offset, size: self._disk.read(path, offset, size), self._disk.size(path)
        )

    def _start_of(self, number: int) -> SegmentStart:
        path, file = segment_path(self._folder, number), self._file(number)
        record = record_at(file, 0, number)
        if record is None or record.kind != RecordKind.SEGMENT:
            self._damaged(number, 0, "its first record is broken")
        try:
            start = msgspec.msgpack.decode(record.payload, type=SegmentStart)
        except msgspec.MsgspecError as error:
            self._damaged(number, 0, f"its first record can't be read: {error}")
        if start.format != FORMAT:
            raise WalDamagedError(
                f"{path} has format {start.format}, this program reads {FORMAT}: run the "
                "version that wrote it"
            )
        if file.size < start.capacity:
            self._damaged(number, file.size, f"the file ends here, it had {start.capacity} bytes")
        if self._owner and start.owner not in ("", self._owner):
            raise WalDamagedError(
                f"{path} was written by server {start.owner}, this data folder is of "
                f"{self._owner}: put back what belongs here. {REJOIN}."
            )
        return start

    def _damaged(self, number: int, offset: int, what: str) -> NoReturn:
        raise WalDamagedError(
            f"{segment_path(self._folder, number)} at offset {offset}: {what}. The disk lost or "
            f"changed what was durable. {REJOIN}."
        )
