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
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

MAGIC: Final = b"SRwl"
_MARK: Final = b"Z"
_HEADER: Final = struct.Struct("<4sIIIQBB6x")
_CHECKED: Final = struct.Struct("<IIQBB6x")  # the header after magic and its checksum
HEADER_BYTES: Final = _HEADER.size
_SECTOR_BYTES: Final = 512  # a disk writes these whole
_WORD: Final = 0xFFFFFFFF
_PIECE_BYTES: Final = 1 << 20  # of a segment, in memory at once while it is read


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


class SegmentFile:
    """A segment's bytes, a piece of it in memory at a time.

    Args:
        read: Returns the file's bytes from an offset on, that many or up to its end.
        size: Of the file, bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self.size = size
        self._read = read
        self._start = 0
        self._piece = b""

    def get(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets, fewer where the file ends."""
        inside = start - self._start
        if inside < 0 or end > self._start + len(self._piece):
            if start >= self.size:
                return b""
            self._piece = self._read(start, max(_PIECE_BYTES, end - start))
            self._start, inside = start, 0
        return self._piece[inside : inside + end - start]

    def pieces(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) from `start` to the file's end."""
        while start < self.size:
            piece = self.get(start, start + _PIECE_BYTES)
            if not piece:
                return
            yield start, piece
            start += len(piece)

    def written_end(self, start: int) -> int:
        """Return the offset after the last byte that is not zero; `start` when all are."""
        end = start
        for offset, piece in self.pieces(start):
            if kept := len(piece.rstrip(b"\0")):
                end = offset + kept
        return end

    def find(self, word: bytes, start: int) -> int:
        """Return where `word` next stands, -1 when nowhere."""
        tail = b""
        for offset, piece in self.pieces(start):
            position = (tail + piece).find(word)
            if position >= 0:
                return offset - len(tail) + position
            tail = (tail + piece)[1 - len(word) :]
        return -1


def record_at(file: SegmentFile, offset: int, number: int) -> Record | None:
    """Return the valid record at `offset` of segment `number`, else None."""
    header = _header_at(file, offset, number)
    if header is None:
        return None
    checksum, length, batch, kind, is_end = header
    end = _record_end(offset, length)
    data = file.get(offset + HEADER_BYTES, end)
    payload, mark = data[:length], data[length:]
    if mark != _MARK * (8 - length % 8) or zlib.crc32(payload) != checksum:
        return None
    return Record(offset, end, batch, kind, bool(is_end), payload)


def _header_at(
    file: SegmentFile, offset: int, number: int
) -> tuple[int, int, int, int, int] | None:
    """Return a valid header's (checksum, length, batch, kind, is_end), else None."""
    header = file.get(offset, offset + HEADER_BYTES)
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
        file: The segment's bytes.
        number: The segment's, part of each checksum.
        stop: Where the next segment says that this one ended; -1 = this is the newest.
    """

    def __init__(self, file: SegmentFile, number: int, stop: int = -1) -> None:
        self._file = file
        self._number = number
        self._stop = stop
        self.ending = Ending(0, False, "")

    def __iter__(self) -> Iterator[Record]:
        offset, batch, is_finished = 0, 0, True
        while offset != self._stop:
            record = record_at(self._file, offset, self._number)
            if record is None or record.batch < batch:
                self.ending = self._judge(offset, batch, is_finished)
                return
            yield record
            offset, batch, is_finished = record.end, record.batch, record.is_end
        self.ending = Ending(offset, False, "")

    def _judge(self, offset: int, batch: int, is_finished: bool) -> Ending:
        """Torn, or damaged? What was never acknowledged may be cut, nothing else."""
        if self._stop >= 0:
            return Ending(offset, False, f"a record is broken, {self._stop} bytes were durable")
        written_end = self._file.written_end(offset)
        if written_end == offset:
            return Ending(offset, not is_finished, "")
        for later in self._later_batches(offset):
            if later > batch + is_finished:
                return Ending(offset, False, f"a record is broken, batch {later} follows it")
        header = _header_at(self._file, offset, self._number)
        end = _record_end(offset, header[1]) if header else offset + HEADER_BYTES
        if written_end < end or self._lacks_sector(offset, end):
            return Ending(offset, True, "")
        return Ending(offset, False, "a record's bytes differ from its checksum")

    def _later_batches(self, offset: int) -> Iterator[int]:
        position = self._file.find(MAGIC, offset + 1)
        while position >= 0:
            record = record_at(self._file, position, self._number)
            if record is not None:
                yield record.batch
            position = self._file.find(MAGIC, position + 1)

    def _lacks_sector(self, start: int, end: int) -> bool:
        """Say whether a part of the record never reached the disk; no flipped bit does that.

        A disk writes sectors in any order, each whole.
        """
        position = start
        while position < end:
            sector_end = position - position % _SECTOR_BYTES + _SECTOR_BYTES
            if not self._file.get(position, min(sector_end, end)).strip(b"\0"):
                return True
            position = sector_end
        return False


def _seed(number: int, offset: int) -> int:
    return (number * 0x9E3779B1 + offset * 0x85EBCA6B) & _WORD
