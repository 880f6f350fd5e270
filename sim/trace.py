"""The trace of a run: one line per delivered event, and the hash over all lines.

    TIME_US AGENT EVENT CHECKSUM

The checksum covers the event's whole content, so two runs with the same trace hash
handed the same bytes to the same machines at the same times. `-trace FILE` writes the
lines; the trace hash is that file's sha256.
"""

import hashlib
import zlib
from typing import BinaryIO

import msgspec

from core.model.host import Event
from core.server.effects import Computed

_encoder = msgspec.msgpack.Encoder(enc_hook=lambda value: repr(type(value)))


class Trace:
    def __init__(self, file: BinaryIO | None = None) -> None:
        self.lines = 0
        self._hash = hashlib.sha256()
        self._file = file

    def add(self, time_us: int, agent: str, event: Event) -> None:
        if isinstance(event, Computed):
            # Its content shows in the plan that is proposed next.
            content = b"%d" % event.ticket
        else:
            content = _encoder.encode(event)
        line = f"{time_us} {agent} {type(event).__name__} {zlib.crc32(content):08x}\n".encode()
        self._hash.update(line)
        self.lines += 1
        if self._file is not None:
            self._file.write(line)

    def note(self, time_us: int, what: str) -> None:
        """Add a line that is no event of a machine: a fault, a user's action."""
        line = f"{time_us} - {what}\n".encode()
        self._hash.update(line)
        if self._file is not None:
            self._file.write(line)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
