"""The bytes of a write-ahead log's segment: records, and what to think of a broken one.

A segment is a file of fixed length, zeros where nothing was written yet. It holds
records back to back, each a multiple of 8 bytes long:

    magic    4  b"SRwl"
    header   4  crc32 of the rest of the header, begun with the segment's number and the offset
    checksum 4  crc32 of the payload
    length   4  of the payload
    batch    8  which group commit wrote it
    kind     1  see `RecordKind`
    is_end   1  1 = the batch's last record
    padding  6
    payload
    mark     1 to 8 times b"Z"; not zero, so that a missing end can be told

All numbers little-endian. The header's checksum makes a record valid only where it was
written, and its length to be trusted when the payload is not. One batch is synced before
the next is written, so a record of batch n proves that batch n-1 was durable; that tells
a torn tail from a damaged middle.
"""

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

MAGIC: Final = b"SRwl"
_MARK: Final = b"Z"
_HEADER: Final = struct.Struct("<4sIIIQBB6x")
_CHECKED: Final = struct.Struct("<IIQBB6x")  # the header after magic and its checksum
HEADER_BYTES: Final = _HEADER.size
_SECTOR_BYTES: Final = 512  # a disk writes these whole
_WORD: Final = 0xFFFFFFFF


class RecordKind(IntEnum):
    SEGMENT = 1  # the first of a segment: where it continues
    HARD_STATE = 2
    RESET = 3
    TRUNCATE = 4
    ENTRY = 5


class Record(NamedTuple):
    offset: int
    end: int  # offset of the next
    batch: int
    kind: int
    is_end: bool
    payload: bytes


class Ending(NamedTuple):
    """Why reading a segment stopped at `offset`."""

    offset: int
    is_torn: bool  # something begun and not finished is there
    damage: str  # "" = none; else what is broken that was durable once


def add_record(
    buffer: bytearray,
    kind: int,
    payload: bytes,
    *,
    number: int,
    offset: int,
    batch: int,
    is_end: bool,
) -> int:
    """Append a record that will stand at `offset` of segment `number`; return its end."""
    checked = _CHECKED.pack(zlib.crc32(payload), len(payload), batch, kind, is_end)
    mark = _MARK * (8 - len(payload) % 8)
    buffer += MAGIC
    buffer += zlib.crc32(checked, _seed(number, offset)).to_bytes(4, "little")
    buffer += checked
    buffer += payload
    buffer += mark
    return offset + HEADER_BYTES + len(payload) + len(mark)


def record_at(data: bytes, offset: int, number: int) -> Record | None:
    """Return the valid record at `offset` of segment `number`, else None."""
    header = _header_at(data, offset, number)
    if header is None:
        return None
    checksum, length, batch, kind, is_end = header
    payload_end = offset + HEADER_BYTES + length
    end = _record_end(offset, length)
    mark = data[payload_end:end]
    payload = data[offset + HEADER_BYTES : payload_end]
    if mark != _MARK * (end - payload_end) or zlib.crc32(payload) != checksum:
        return None
    return Record(offset, end, batch, kind, bool(is_end), payload)


def _header_at(data: bytes, offset: int, number: int) -> tuple[int, int, int, int, int] | None:
    """Return a valid header's (checksum, length, batch, kind, is_end), else None."""
    header = data[offset : offset + HEADER_BYTES]
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return None
    _, own, checksum, length, batch, kind, is_end = _HEADER.unpack(header)
    if zlib.crc32(header[8:], _seed(number, offset)) != own:
        return None
    return checksum, length, batch, kind, is_end


def _record_end(offset: int, length: int) -> int:
    return offset + HEADER_BYTES + length + 8 - length % 8


class SegmentReader:
    """Iterate over a segment's records; afterwards `ending` says why it stopped.

    Args:
        data: The whole file.
        number: The segment's, part of each checksum.
        stop: Where the next segment says that this one ended; -1 = this is the newest.
    """

    def __init__(self, data: bytes, number: int, stop: int = -1) -> None:
        self._data = data
        self._number = number
        self._stop = stop
        self.ending = Ending(0, False, "")

    def __iter__(self) -> Iterator[Record]:
        offset, batch, is_finished = 0, 0, True
        while offset != self._stop:
            record = record_at(self._data, offset, self._number)
            if record is None or record.batch < batch:
                self.ending = self._judge(offset, batch, is_finished)
                return
            yield record
            offset, batch, is_finished = record.end, record.batch, record.is_end
        self.ending = Ending(offset, False, "")

    def _judge(self, offset: int, batch: int, is_finished: bool) -> Ending:
        """Torn, or damaged? What was never acknowledged may be cut, nothing else."""
        data = self._data
        if self._stop >= 0:
            return Ending(offset, False, f"a record is broken, {self._stop} bytes were durable")
        if not data[offset:].strip(b"\0"):
            return Ending(offset, not is_finished, "")
        for later in self._later_batches(offset):
            # A torn batch is the newest. The broken record is of `batch` if that one's end
            # is still to come, else of the one after it.
            if later > batch + is_finished:
                return Ending(offset, False, f"a record is broken, batch {later} follows it")
        header = _header_at(data, offset, self._number)
        end = _record_end(offset, header[1]) if header else offset + HEADER_BYTES
        if _is_unfinished(data, offset, end):
            return Ending(offset, True, "")
        return Ending(offset, False, "a record's bytes differ from its checksum")

    def _later_batches(self, offset: int) -> Iterator[int]:
        position = self._data.find(MAGIC, offset + 1)
        while position >= 0:
            record = record_at(self._data, position, self._number)
            if record is not None:
                yield record.batch
            position = self._data.find(MAGIC, position + 1)


def _is_unfinished(data: bytes, start: int, end: int) -> bool:
    """Say whether a part of the record never reached the disk; a flipped bit leaves none out.

    Missing is its end, where the file stops or all is blank from some byte on, or any whole
    sector: a disk writes sectors in any order, each whole.
    """
    if len(data.rstrip(b"\0")) < end:
        return True
    position = start
    while position < end:
        sector_end = position - position % _SECTOR_BYTES + _SECTOR_BYTES
        if not data[position:sector_end].strip(b"\0"):
            return True
        position = sector_end
    return False


def _seed(number: int, offset: int) -> int:
    return (number * 0x9E3779B1 + offset * 0x85EBCA6B) & _WORD
