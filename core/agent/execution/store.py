"""The client's saved records: an append-only log of small puts and deletes.

    file:   "SERAI-CLIENT-STATE 1\\n", then records
    record: u32 length of the body, u32 CRC-32 of the body, body = msgpack [key, value | nil]

Puts of one batch share one fdatasync. A torn record at the end (a crash in the middle of a
write) is cut off: it was never acknowledged. A damaged one before the end is an error that
names the place, for what follows it cannot be trusted. When most of the file is history,
it is written anew beside itself and renamed over.
"""

import contextlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

MAGIC = b"SERAI-CLIENT-STATE 1\n"
HEAD_BYTES = 8
MIN_COMPACT_BYTES = 1 << 20
HISTORY_RATIO = 4  # compact when the file is so many times as long as what lives


class StoreDamaged(Exception):
    """The file holds what this program did not write; the text names the place."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, bytes | None])


class StateStore:
    """Invariant: `values` is what the file holds, once `append` has returned."""

    def __init__(self, path: Path) -> None:
        """Open or create the store and read it.

        Raises:
            StoreDamaged: The file is not ours or was changed.
            OSError: It can't be read or written.
        """
        self._path = path
        self.values: dict[str, bytes] = {}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = -1
        self._live_bytes = 0
        self._size = self._read()
        if self._size == 0:
            self._rewrite()
        else:
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, 0, os.SEEK_END)

    def append(self, changes: Iterable[tuple[str, bytes | None]]) -> None:
        """Make changes durable. Blocks: call it in a worker.

        Raises:
            OSError: The disk refuses; nothing of it holds.
        """
        changes = list(changes)
        data = b"".join(_record(key, value) for key, value in changes)
        try:
            _write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            # Half a record in the middle would make all that follows unreadable.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, 0, os.SEEK_END)
            raise
        self._size += len(data)
        for key, value in changes:
            self._apply(key, value)
        if self._size > MIN_COMPACT_BYTES and self._size > HISTORY_RATIO * self._live_bytes:
            self._rewrite()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _apply(self, key: str, value: bytes | None) -> None:
        previous = self.values.pop(key, None)
        if previous is not None:
            self._live_bytes -= len(key) + len(previous)
        if value is not None:
            self.values[key] = value
            self._live_bytes += len(key) + len(value)

    def _read(self) -> int:
        """Load the file; return how many of its bytes are good."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return 0
        if not data.startswith(MAGIC):
            if MAGIC.startswith(data):
                return 0  # the very first write was cut short
            raise StoreDamaged(f"{self._path} is no client state, or of another version")
        place = len(MAGIC)
        while place + HEAD_BYTES <= len(data):
            length = int.from_bytes(data[place : place + 4], "big")
            check = int.from_bytes(data[place + 4 : place + 8], "big")
            end = place + HEAD_BYTES + length
            if end > len(data):
                break  # torn
            body = data[place + HEAD_BYTES : end]
            if zlib.crc32(body) != check:
                if end == len(data):
                    break  # torn: the length was written, the body not wholly
                raise StoreDamaged(
                    f"{self._path} is damaged at byte {place}. Tasks of this node can't be told "
                    "apart from strangers' processes: stop them, then remove the file."
                )
            self._apply(*_decoder.decode(body))
            place = end
        return place

    def _rewrite(self) -> None:
        fresh = self._path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            data = MAGIC + b"".join(_record(key, value) for key, value in self.values.items())
            _write_all(fd, data)
            os.fdatasync(fd)
            os.rename(fresh, self._path)
            _sync_folder(self._path.parent)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
        self.close()
        self._fd = fd
        self._size = len(data)


def _record(key: str, value: bytes | None) -> bytes:
    body = _encoder.encode((key, value))
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
