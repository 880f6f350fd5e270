"""Values that many allocations share, stored once and named by an ordinal.

An ordinal lives as long as a row refers to it; the smallest free one is given out
next, so replicas agree. Reference counts are derived: after a restore they are counted
anew from the columns.
"""

import heapq
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from core.state.columns import ENCODER

R = TypeVar("R")

NONE: Final = -1  # ordinal of "no value"; columns hold it as -1


class Interned(Generic[R]):
    """Ordinal <-> value. Values are looked up by their encoding.

    Invariant: an ordinal with references has a value; one without has none, except
    between `ordinal` and the end of the same command.
    """

    def __init__(self, name: str, value_type: Any, *, is_read_seldom: bool = False) -> None:
        """Hold none.

        Args:
            is_read_seldom: A value is decoded when somebody asks, and not kept beside its
                encoding, of which it would take several times the memory.
        """
        self.name = name
        self._keeps_values = not is_read_seldom
        self._values: list[R | None] = []
        self._encoded: list[bytes | None] = []
        self._references: list[int] = []
        self._ordinals: dict[bytes, int] = {}
        self._free: list[int] = []
        self._decoder = msgspec.msgpack.Decoder(value_type)

    def __len__(self) -> int:
        return len(self._ordinals)

    def ordinal(self, value: R, references: int) -> int:
        """Return the ordinal of `value` and add `references` to it."""
        encoded = ENCODER.encode(value)
        known = self._ordinals.get(encoded)
        if known is None:
            if self._free:
                known = heapq.heappop(self._free)
                self._values[known] = value if self._keeps_values else None
                self._encoded[known] = encoded
            else:
                known = len(self._values)
                self._append(value, encoded)
            self._ordinals[encoded] = known
        self._references[known] += references
        return known

    def find(self, value: R) -> int:
        """Return the ordinal of `value`, or NONE."""
        return self._ordinals.get(ENCODER.encode(value), NONE)

    def get(self, ordinal: int) -> R:
        """Return the value of a referenced ordinal."""
        value = self._values[ordinal]
        if value is None:
            encoded = self._encoded[ordinal]
            assert encoded is not None, f"{self.name}: ordinal {ordinal} is free"
            read: R = self._decoder.decode(encoded)
            return read
        return value

    def references(self, ordinal: int) -> int:
        return self._references[ordinal]

    def release(self, ordinals: npt.NDArray[Any]) -> None:
        """Take back one reference for each element; NONE is skipped."""
        counts = np.bincount(ordinals[ordinals >= 0])
        for ordinal in np.flatnonzero(counts).tolist():
            self.drop(ordinal, int(counts[ordinal]))

    def drop(self, ordinal: int, references: int) -> None:
        """Take back references; without any left the value is forgotten."""
        left = self._references[ordinal] - references
        assert left >= 0, f"{self.name}: ordinal {ordinal} released more often than taken"
        self._references[ordinal] = left
        if left == 0:
            encoded = self._encoded[ordinal]
            assert encoded is not None
            del self._ordinals[encoded]
            self._values[ordinal] = None
            self._encoded[ordinal] = None
            heapq.heappush(self._free, ordinal)

    def view(self) -> "InternedView":
        return InternedView(self.name, self._encoded.copy())

    def load(self, piece: Any) -> None:
        """Take one piece of the view: `[[ordinal, encoded value], ...]`, ascending."""
        for ordinal, encoded in msgspec.msgpack.decode(piece, type=list[tuple[int, bytes]]):
            while len(self._values) < ordinal:
                self._free.append(len(self._values))
                self._append(None, None)
            self._append(self._decoder.decode(encoded) if self._keeps_values else None, encoded)
            self._ordinals[encoded] = ordinal

    def _append(self, value: R | None, encoded: bytes | None) -> None:
        self._values.append(value if self._keeps_values else None)
        self._encoded.append(encoded)
        self._references.append(0)

    def recount(self, ordinals: npt.NDArray[Any]) -> None:
        """After a restore: count the references that a column holds."""
        counts = np.bincount(ordinals[ordinals >= 0], minlength=len(self._values))
        self._references = counts.tolist()


class InternedView:
    """Interned values frozen at one moment."""

    def __init__(self, name: str, encoded: list[bytes | None]) -> None:
        self.name = name
        self._encoded = encoded

    def pieces(self, *, is_sorted: bool = False) -> Iterator[bytes]:
        del is_sorted  # ascending by ordinal anyhow
        taken = [(n, data) for n, data in enumerate(self._encoded) if data is not None]
        for low in range(0, len(taken), 1024):
            yield ENCODER.encode(taken[low : low + 1024])
