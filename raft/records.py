"""What the records of a write-ahead log say: a batch as records, and records as a log again."""

import struct
from pathlib import Path
from typing import Final

import msgspec

from raft.messages import Entry, Kind, SnapshotMeta
from raft.output import HardState, Persist
from raft.segment import Record, RecordKind

_ENTRY: Final = struct.Struct("<QQB")
_INDEX: Final = struct.Struct("<Q")
REJOIN: Final = (
    "Remove this replica from the cluster, empty its data folder and let it join again as a "
    "new one; with a single server, restore a snapshot"
)


class WalDamagedError(RuntimeError):
    """What was durable is broken. The text names file, offset and the way out."""


class SegmentStart(msgspec.Struct, frozen=True, array_like=True):
    """The first record of each segment: where it continues."""

    format: int
    number: int
    previous_end: int  # where the segment before ends; 0 = there was none
    last_index: int
    last_term: int
    term: int
    voted_for: str
    owner: str = ""  # whose data folder it was written in; "" = nobody said
    capacity: int = 0  # bytes of the file, all reserved before the first record


class Reading:
    """What the records read so far amount to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hard_state = HardState(0, "")
        self.base = (0, 0)
        self.entries: list[Entry] = []
        self.batch = 0
        self.is_whole = True  # the batch's last record was read
        self.highest_index = 0  # in the segment being read
        self._number = 0

    @property
    def last_index(self) -> int:
        return self.base[0] + len(self.entries)

    def take(self, record: Record, number: int) -> None:
        self.batch, self.is_whole = record.batch, record.is_end
        try:
            self._take(record, number)
        except (msgspec.DecodeError, struct.error, ValueError) as error:
            raise WalDamagedError(
                f"{self._folder}: log segment {number} at offset {record.offset}: {error}. "
                f"{REJOIN}."
            ) from error

    def _take(self, record: Record, number: int) -> None:
        payload = record.payload
        if record.kind == RecordKind.ENTRY:
            index, term, kind = _ENTRY.unpack_from(payload)
            if index != self.last_index + 1:
                raise ValueError(f"entry {index} follows {self.last_index}")
            self.entries.append(Entry(index, term, Kind(kind), payload[_ENTRY.size :]))
            self.highest_index = max(self.highest_index, index)
        elif record.kind == RecordKind.HARD_STATE:
            self.hard_state = msgspec.msgpack.decode(payload, type=HardState)
        elif record.kind == RecordKind.TRUNCATE:
            (index,) = _INDEX.unpack(payload)
            if index <= self.base[0]:
                # What stood there went with the segments before: a snapshot holds it, or
                # rather what replaced it. Of which term it was, nobody needs any more.
                self.base = (index - 1, 0)
            del self.entries[index - self.base[0] - 1 :]
        elif record.kind == RecordKind.RESET:
            meta = msgspec.msgpack.decode(payload, type=SnapshotMeta)
            self.base, self.entries = (meta.index, meta.term), []
            self.highest_index = max(self.highest_index, meta.index)
        elif record.kind == RecordKind.SEGMENT:
            self._begin(msgspec.msgpack.decode(payload, type=SegmentStart), number)
        else:
            raise ValueError(f"record of unknown kind {record.kind}: run the version that wrote it")

    def _begin(self, start: SegmentStart, number: int) -> None:
        if self._number and start.last_index != self.last_index:
            raise ValueError(
                f"it continues after entry {start.last_index}, the one before ends at "
                f"{self.last_index}: one of them is of another log"
            )
        if not self._number:
            self.base = (start.last_index, start.last_term)
            self.hard_state = HardState(start.term, start.voted_for)
        self._number = number
        self.highest_index = self.last_index


def records_of(batch: Persist) -> list[tuple[int, bytes]]:
    """Return a batch's records in an order of which every prefix is a legal state."""
    records: list[tuple[int, bytes]] = []
    if batch.hard_state is not None:
        records.append((RecordKind.HARD_STATE, msgspec.msgpack.encode(batch.hard_state)))
    if batch.reset_to is not None:
        records.append((RecordKind.RESET, msgspec.msgpack.encode(batch.reset_to)))
    if batch.truncate_from:
        records.append((RecordKind.TRUNCATE, _INDEX.pack(batch.truncate_from)))
    kind = RecordKind.ENTRY
    pack = _ENTRY.pack
    records += [(kind, pack(e.index, e.term, e.kind) + e.data) for e in batch.entries]
    return records
