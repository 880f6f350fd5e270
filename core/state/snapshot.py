"""The state as bytes: taken without stopping, checked when read.

Layout: magic, format byte, schema byte; then frames of `length, CRC-32 (both uint32,
little-endian), msgpack [section, piece]`; the last frame is `["end", digest]` with the
BLAKE2b of all bytes before it. The sum of a frame keeps damaged bytes from being loaded
at all, the digest notices frames that are missing or moved. A section is one part of
the state (a table, a set of columns, ...) and knows how to load its own pieces.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

import msgspec

from core.state.columns import ENCODER

MAGIC: Final = b"SERAISNP"
FORMAT: Final = 1
CHUNK_BYTES: Final = 1 << 18
HEADER_BYTES: Final = len(MAGIC) + 2
_HEAD: Final = struct.Struct("<II")
_END: Final = "end"
META: Final = "meta"
FRAME_BYTES_MAX: Final = 1 << 30


class SnapshotError(ValueError):
    """These bytes are no snapshot that this version can restore."""


class PartView(Protocol):
    """A part of the state, frozen."""

    name: str

    def pieces(self, *, is_sorted: bool = False) -> Iterator[Any]: ...


class Part(Protocol):
    """A part of the state that snapshots and hashes cover."""

    name: str

    def view(self) -> PartView: ...

    def load(self, piece: Any) -> None: ...


class Meta(msgspec.Struct, kw_only=True):
    """What is not in a table."""

    index: int
    log_time_us: int
    schema: int
    datacenter_id: str
    region: str
    datacenter: str
    is_authority: bool
    next_job_ordinal: int
    acl_bootstrap_index: int
    scheduler_config: dict[str, Any]
    table_indexes: dict[str, int]
    region_origin: str = ""
    index_offset: int = 0


class StateImage:
    """The whole state at `index`, immutable. `chunks()` may run in another thread, once."""

    def __init__(self, meta: Meta, views: list[PartView]) -> None:
        self.index = meta.index
        self._meta = meta
        self._views = views

    def chunks(self) -> Iterator[bytes]:
        """Yield the snapshot's bytes, some 256 KiB at a time; release the image after."""
        digest = hashlib.blake2b(digest_size=32)
        chunk = bytearray(MAGIC + bytes((FORMAT, self._meta.schema)))
        for section, piece in self._pieces():
            chunk += _frame(section, piece)
            if len(chunk) >= CHUNK_BYTES:
                digest.update(chunk)
                yield bytes(chunk)
                chunk.clear()
        digest.update(chunk)
        yield bytes(chunk) + _frame(_END, digest.digest())
        self._views = []

    def hash(self) -> str:
        """Return the hash of all that the snapshot holds, whatever order dicts are in."""
        digest = hashlib.blake2b(digest_size=16)
        for section, piece in self.pieces():
            digest.update(_frame(section, piece))
        return digest.hexdigest()

    def pieces(self) -> Iterator[tuple[str, Any]]:
        """Yield (section, piece) of all that the snapshot holds, in an order of its own."""
        return self._pieces(is_sorted=True)

    def _pieces(self, *, is_sorted: bool = False) -> Iterator[tuple[str, Any]]:
        yield META, ENCODER.encode(self._meta)
        for view in self._views:
            for piece in view.pieces(is_sorted=is_sorted):
                yield view.name, piece


def _frame(section: str, piece: Any) -> bytes:
    body = ENCODER.encode([section, piece])
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def cut(image: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Yield a snapshot in chunks, so that it is never copied as a whole."""
    for start in range(0, len(image), CHUNK_BYTES):
        yield image[start : start + CHUNK_BYTES]


def read_frames(chunks: Iterable[bytes | memoryview], schema_max: int) -> Iterator[tuple[str, Any]]:
    """Yield (section, piece) of a snapshot, however its bytes are cut into chunks.

    Raises:
        SnapshotError: It is not a snapshot, of a newer version, cut short or altered.
            What was yielded before must be thrown away.
    """
    buffer = bytearray()
    digest = hashlib.blake2b(digest_size=32)
    offset = 0  # of buffer[0] in the snapshot
    is_headed = is_ended = False
    for chunk in chunks:
        buffer += chunk
        if not is_headed:
            if len(buffer) < len(MAGIC) + 2:
                continue
            _check_header(bytes(buffer[: len(MAGIC) + 2]), schema_max)
            digest.update(buffer[: len(MAGIC) + 2])
            offset = len(MAGIC) + 2
            del buffer[:offset]
            is_headed = True
        at = 0
        while len(buffer) - at >= _HEAD.size:
            length, checksum = _HEAD.unpack_from(buffer, at)
            end = at + _HEAD.size + length
            if is_ended or length > FRAME_BYTES_MAX:
                raise SnapshotError(f"snapshot is damaged at byte {offset + at}")
            if end > len(buffer):
                break
            body = bytes(buffer[at + _HEAD.size : end])
            if zlib.crc32(body) != checksum:
                raise SnapshotError(f"snapshot is damaged at byte {offset + at}")
            section, piece = _read_frame(body, offset + at)
            if section == _END:
                if piece != digest.digest():
                    raise SnapshotError("snapshot is damaged: its digest does not match")
                is_ended = True
            else:
                digest.update(buffer[at:end])
                yield section, piece
            at = end
        del buffer[:at]
        offset += at
    if not is_ended or buffer:
        raise SnapshotError(f"snapshot is cut short at byte {offset + len(buffer)}")


def header_schema(header: bytes) -> int:
    """Return the schema byte of a snapshot's first `HEADER_BYTES`; 0 when it is cut short."""
    return header[-1] if len(header) == HEADER_BYTES else 0


def _check_header(header: bytes, schema_max: int) -> None:
    if not header.startswith(MAGIC):
        raise SnapshotError("these bytes are no Serai snapshot")
    if header[-2] != FORMAT:
        raise SnapshotError(f"snapshot has format {header[-2]}, this version reads {FORMAT}")
    if header[-1] > schema_max:
        raise SnapshotError(
            f"snapshot has schema {header[-1]}, this version knows up to {schema_max}: upgrade it"
        )


def _read_frame(body: bytes, offset: int) -> tuple[str, Any]:
    try:
        section, piece = msgspec.msgpack.decode(body, type=tuple[str, Any])
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"snapshot is damaged at byte {offset}: {error}") from error
    return section, piece
