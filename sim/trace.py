"""The trace of a run: one line per delivered event, and the hash over all lines.

    TIME_US AGENT EVENT CHECKSUM

The checksum covers the event's whole content, so two runs with the same trace hash
handed the same bytes to the same machines at the same times. `-trace FILE` writes the
lines; the trace hash is that file's sha256.
"""

import hashlib
import re
from typing import BinaryIO, Final
from zlib import crc32

import msgspec

from core.model.host import Event
from core.server.effects import Computed

GATHERED: Final = 2_048  # lines that are hashed and written together

_encode: Final = msgspec.msgpack.Encoder(enc_hook=lambda value: repr(type(value))).encode
# The head of a map or list that is longer than its size needs: so a record of many fields begins,
# most of them left out. Once it has travelled as bytes it is a plain map with a short head.
_LONG_HEAD: Final = re.compile(rb"[\xdc\xde]\x00[\x00-\x0f]", re.DOTALL)


class Trace:
    def __init__(self, file: BinaryIO | None = None) -> None:
        self._hash = hashlib.sha256()
        self._file = file
        self._gathered: list[str] = []
        self._flushed = 0

    @property
    def lines(self) -> int:
        return self._flushed + len(self._gathered)

    def add(self, time_us: int, agent: str, event: Event) -> None:
        """Note an event before the machine sees it, for the machine may keep and change it."""
        kind = event.__class__
        # Of a computation the content shows in the plan that is proposed next.
        content = b"%d" % event.ticket if kind is Computed else _encode(event)  # type: ignore[attr-defined]
        if _LONG_HEAD.search(content):
            content = _encode(msgspec.msgpack.decode(content))
        gathered = self._gathered
        gathered.append(f"{time_us} {agent} {kind.__name__} {crc32(content):08x}\n")
        if len(gathered) >= GATHERED:
            self.flush()

    def note(self, time_us: int, what: str) -> None:
        """Add a line that is no event of a machine: a fault, a user's action."""
        self._gathered.append(f"{time_us} - {what}\n")

    def flush(self) -> None:
        """Hash and write what was gathered."""
        lines = "".join(self._gathered).encode()
        self._flushed += len(self._gathered)
        self._gathered.clear()
        self._hash.update(lines)
        if self._file is not None:
            self._file.write(lines)

    def hexdigest(self) -> str:
        self.flush()
        return self._hash.hexdigest()
