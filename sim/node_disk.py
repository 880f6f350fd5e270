"""The simulated disk of a client: the records of `SaveState`, by their keys.

Ten thousand nodes hold millions of records that differ in little, and hardly any is read
again. So what has rested for a while is packed: the records of one allocation together,
deflated against a dictionary that all nodes of a world share.
"""

import zlib
from typing import Final

import msgspec

FRESH_MAX: Final = 512  # records that may lie unpacked; beyond that the older half is packed
REST_US: Final = 5_000_000  # what was not written to for so long is packed as a whole
DICTIONARY_MAX: Final = 8_192
_RAW_DEFLATE: Final = -15

_Group = dict[str, bytes]  # key -> value
_decoder: Final = msgspec.msgpack.Decoder(_Group)


class Dictionary:
    """What packed records are deflated against: the first ones that were packed."""

    def __init__(self) -> None:
        self.data = b""

    def pack(self, group: _Group) -> bytes:
        data = msgspec.msgpack.encode(group)
        if not self.data:
            self.data = data[:DICTIONARY_MAX]
        deflate = zlib.compressobj(1, zlib.DEFLATED, _RAW_DEFLATE, 8, 0, self.data)
        return deflate.compress(data) + deflate.flush()

    def unpack(self, packed: bytes) -> _Group:
        return _decoder.decode(zlib.decompressobj(_RAW_DEFLATE, self.data).decompress(packed))


class NodeDisk:
    """Invariant: a key is fresh or in a packed group; a fresh value wins over a packed one."""

    __slots__ = ("_dictionary", "_fresh", "_is_stirred", "_packed")

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._fresh: dict[str, bytes | None] = {}  # the longest unchanged first; None: deleted
        self._packed: dict[str, bytes] = {}  # by allocation
        self._is_stirred = False  # written to since `rest` was called

    def save(self, key: str, value: bytes | None) -> None:
        """Keep a record; None deletes it."""
        fresh = self._fresh
        fresh.pop(key, None)
        self._is_stirred = True
        if value is not None or _group_of(key) in self._packed:
            fresh[key] = value
            if len(fresh) > FRESH_MAX:
                self._pack(FRESH_MAX // 2)

    def rest(self) -> None:
        """Pack all, if nothing was written since the last call; call it now and then."""
        if self._is_stirred:
            self._is_stirred = False
        elif len(self._fresh) > 1:
            self._pack(len(self._fresh))

    def records(self) -> dict[str, bytes]:
        """Return all records: what an agent that starts finds."""
        found: dict[str, bytes | None] = {}
        for packed in self._packed.values():
            found.update(self._dictionary.unpack(packed))
        found.update(self._fresh)
        return {key: value for key, value in found.items() if value is not None}

    def _pack(self, count: int) -> None:
        """Pack the oldest of what is fresh, if it is of allocations."""
        groups: dict[str, dict[str, bytes | None]] = {}
        for key in [*self._fresh][:count]:
            name = _group_of(key)
            if name:
                groups.setdefault(name, {})[key] = self._fresh.pop(key)
            else:
                self._fresh[key] = self._fresh.pop(key)
        for name, changed in groups.items():
            packed = self._packed.pop(name, None)
            before = self._dictionary.unpack(packed) if packed is not None else {}
            group = {k: v for k, v in {**before, **changed}.items() if v is not None}
            if group:
                self._packed[name] = self._dictionary.pack(group)


def _group_of(key: str) -> str:
    """Return the allocation that a record is of, "" for what is the node's."""
    kind, _, rest = key.partition("/")
    return rest.partition("/")[0] if kind in ("alloc", "task") else ""
