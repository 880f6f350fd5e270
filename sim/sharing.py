"""What the simulated replicas of one log may share: what nobody changes.

Three replicas hold the same entries and save the same snapshots. An entry's bytes are decoded
once and every replica applies the same record of them; each has a state of its own, made by
its own apply, so one that goes astray shows in the comparison of states. With `-wire` nothing
is shared: the trace is the same, which is how it is known that no apply changes a command.
"""

import ctypes
import hashlib
import sys
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from core.state.commands import Entry
from core.state.entry import decode_entry

KEPT: Final = 64  # entries that somebody lacks; who is further behind decodes for itself
KEPT_IMAGES: Final = 2  # of one datacenter


class _Shared:
    __slots__ = ("data", "entry", "lacking", "schema_max")

    def __init__(self, data: bytes, entry: Entry, schema_max: int, lacking: int) -> None:
        self.data = data
        self.entry = entry
        self.schema_max = schema_max
        self.lacking = lacking  # replicas that have not asked for it yet


class Decoded:
    """The newest entries of one log, decoded, until all of its replicas asked for them.

    The key is the identity of the bytes, which are held on to, so it means nothing else
    meanwhile. An entry that some replica can't understand is not kept: each finds that out.
    """

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        self._entries: OrderedDict[int, _Shared] = OrderedDict()

    def decode(self, data: bytes, schema_max: int) -> Entry:
        """As `core.state.entry.decode_entry`."""
        known = self._entries.get(id(data))
        if known is not None and known.schema_max == schema_max:
            known.lacking -= 1
            if not known.lacking:
                del self._entries[id(data)]
            return known.entry
        entry = decode_entry(data, schema_max)
        if self._replicas > 1:
            self._entries[id(data)] = _Shared(data, entry, schema_max, self._replicas - 1)
            if len(self._entries) > KEPT:
                self._entries.popitem(last=False)
        return entry


class Images:
    """The newest snapshots of one state: equal ones on several disks are one object."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, bytes] = OrderedDict()  # by sha256

    def shared(self, image: bytes, digest: str = "") -> bytes:
        """Return an image of the same bytes; `digest` is its sha256, if known."""
        digest = digest or hashlib.sha256(image).hexdigest()
        known = self._known.setdefault(digest, image)
        if len(self._known) > KEPT_IMAGES:
            self._known.popitem(last=False)
        return known


def trim() -> None:
    """Give the memory back that glibc holds on to after large messages, where it is glibc."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
