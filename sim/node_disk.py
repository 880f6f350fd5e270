"""The simulated disk of a client: the records of `SaveState`, by their keys.

Ten thousand nodes hold millions of records that differ in little, and hardly any is read
again. So what has rested for a while is packed: many records together in a block, deflated
against a dictionary that all nodes of a world share. A block is never searched: what is
saved anew goes over it, and now and then all blocks become one.
"""

import zlib
from typing import Final

import msgspec

FRESH_MAX: Final = 96  # records that may lie unpacked; beyond that the older half is packed
BLOCKS_MAX: Final = 8  # more become one
REST_US: Final = 5_000_000  # what was not written to for so long is packed as a whole
DICTIONARY_MAX: Final = 8_192
_RAW_DEFLATE: Final = -15

_Block = dict[str, bytes | None]  # key -> value; None: deleted
_decoder: Final = msgspec.msgpack.Decoder(_Block)


class Dictionary:
    """What packed records are deflated against: the first ones that were packed."""

    def __init__(self) -> None:
        self.data = b""

    def pack(self, block: _Block) -> bytes:
        data = msgspec.msgpack.encode(block)
        if not self.data:
            self.data = data[:DICTIONARY_MAX]
        deflate = zlib.compressobj(1, zlib.DEFLATED, _RAW_DEFLATE, 8, 0, self.data)
        return deflate.compress(data) + deflate.flush()

    def unpack(self, packed: bytes) -> _Block:
        return _decoder.decode(zlib.decompressobj(_RAW_DEFLATE, self.data).decompress(packed))


class NodeDisk:
    """Invariant: of one key, what is fresh wins over any block, and a later block over others."""

    __slots__ = ("_blocks", "_dictionary", "_fresh", "_is_stirred")

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        self._fresh: _Block = {}  # the longest unchanged first
        self._blocks: list[bytes] = []
        self._is_stirred = False  # written to since `rest` was called

    @property
    def packed_bytes(self) -> int:
        return sum(map(len, self._blocks))

    def save(self, key: str, value: bytes | None) -> None:
        """Keep a record; None deletes it."""
        fresh = self._fresh
        fresh.pop(key, None)
        self._is_stirred = True
        if value is not None or self._blocks:
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
        found: _Block = {}
        for block in self._blocks:
            found.update(self._dictionary.unpack(block))
        found.update(self._fresh)
        return {key: value for key, value in found.items() if value is not None}

    def _pack(self, count: int) -> None:
        """Make a block of the oldest of what is fresh."""
        records = [*self._fresh.items()]
        block = dict(records[:count])
        self._fresh = dict(records[count:])  # a new one: a dict that was large stays large
        self._blocks.append(self._dictionary.pack(block))
        if len(self._blocks) > BLOCKS_MAX:
            whole: _Block = {}
            for packed in self._blocks:
                whole.update(self._dictionary.unpack(packed))
            kept: _Block = {key: value for key, value in whole.items() if value is not None}
            self._blocks = [self._dictionary.pack(kept)] if kept else []
