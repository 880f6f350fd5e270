"""Numpy columns that grow by doubling, and frozen views of them that cost nothing.

A view keeps references to the arrays. While one is out, whoever writes existing rows
calls `touch(rows)` first: the chunks concerned are copied for the view, others are not.
A worker may read the view at the same time: it copies a chunk, then looks whether the
writer saved that chunk meanwhile, and takes the saved one if so. Appending needs no
`touch`, for a view ends at its own length.

Invariant: no row below a view's length is written without `touch`.
"""

import weakref
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

CHUNK_BITS: Final = 11
CHUNK_ROWS: Final = 1 << CHUNK_BITS
_FIRST_CAPACITY: Final = 64
# From 64 Ki rows on, grow to 4 Mi at once: pages never written cost nothing (calloc),
# whereas copying a million rows would hold up the loop for tens of milliseconds.
_MANY_ROWS: Final = 1 << 16
_VERY_MANY_ROWS: Final = 1 << 22

Array = npt.NDArray[Any]
V = TypeVar("V")


class Columns:
    """Base of column tables: a subclass names its columns and their types in `DTYPES`.

    Every column is an attribute of that name, as long as the capacity: only the first
    `length` rows mean anything. Growth replaces the arrays, so keep no reference to one
    over an append.
    """

    NAME: ClassVar[str] = ""
    DTYPES: ClassVar[dict[str, str]]  # numpy type strings, little-endian
    DERIVED: ClassVar[frozenset[str]] = frozenset()  # rebuilt after restore, not saved

    def __init__(self) -> None:
        self.name = self.NAME
        self.length = 0
        self._capacity = _FIRST_CAPACITY
        self._views: weakref.WeakSet[ColumnsView] = weakref.WeakSet()
        for name, dtype in self.DTYPES.items():
            setattr(self, name, np.zeros(self._capacity, dtype=dtype))

    def extend(self, count: int) -> int:
        """Append `count` rows of zeros and return the number of the first."""
        first = self.length
        self.length += count
        if self.length > self._capacity:
            while self._capacity < self.length:
                is_leap = _MANY_ROWS <= self._capacity < _VERY_MANY_ROWS
                self._capacity = _VERY_MANY_ROWS if is_leap else self._capacity * 2
            for name, dtype in self.DTYPES.items():
                grown = np.zeros(self._capacity, dtype=dtype)
                grown[:first] = getattr(self, name)[:first]
                setattr(self, name, grown)
        return first

    def touch(self, rows: Any) -> None:
        """Announce that these existing rows (an int, or an array of them) will be written."""
        if not self._views:
            return
        if isinstance(rows, int | np.integer):
            chunks = [int(rows) >> CHUNK_BITS]
        else:
            chunks = np.unique(np.asarray(rows) >> CHUNK_BITS).tolist()
        for view in self._views:
            view.save(chunks)

    def view(self) -> "ColumnsView":
        """Return the columns as they are now, for a reader in another thread."""
        saved_columns = [name for name in self.DTYPES if name not in self.DERIVED]
        frozen = ColumnsView(
            self.NAME, self.length, {name: getattr(self, name) for name in saved_columns}
        )
        self._views.add(frozen)
        return frozen

    def load(self, piece: Any) -> None:
        """Take one piece of `ColumnsView.pieces`, in order."""
        start, length, name, data = piece
        if start + length > self.length:
            self.extend(start + length - self.length)
        column = getattr(self, name)
        shape = (length, *column.shape[1:])
        column[start : start + length] = np.frombuffer(data, dtype=column.dtype).reshape(shape)


class ColumnsView:
    """Columns frozen at one moment."""

    def __init__(self, name: str, length: int, arrays: dict[str, Array]) -> None:
        self.name = name
        self._length = length
        self._arrays = arrays
        self._saved: dict[int, dict[str, bytes]] = {}

    def save(self, chunks: list[int]) -> None:
        """Called by the writer before it changes these chunks."""
        for chunk in chunks:
            low = chunk << CHUNK_BITS
            if low >= self._length or chunk in self._saved:
                continue
            high = min(low + CHUNK_ROWS, self._length)
            self._saved[chunk] = {
                name: array[low:high].tobytes() for name, array in self._arrays.items()
            }

    def pieces(self, *, is_sorted: bool = False) -> Iterator[Any]:
        """Yield `[first row, rows, column, bytes]`; rows have an order, so sorting is moot."""
        del is_sorted
        for low in range(0, self._length, CHUNK_ROWS):
            high = min(low + CHUNK_ROWS, self._length)
            for name, array in self._arrays.items():
                data = array[low:high].tobytes()
                saved = self._saved.get(low >> CHUNK_BITS)
                if saved is not None:  # written since the view was taken, maybe just now
                    data = saved[name]
                yield [low, high - low, name, data]


class SparseColumn(Generic[V]):
    """Values that not every row has, in short lists that views share; None: it has none.

    A view takes the list of lists; the first write into one after that replaces it by a
    copy. Values are never changed in place.
    """

    def __init__(self, name: str, value_type: Any) -> None:
        self.name = name
        self._parts: list[list[V | None]] = []
        self._is_shared: list[bool] = []
        self._count = 0
        self._decoder = msgspec.msgpack.Decoder(list[tuple[int, value_type]])

    def __len__(self) -> int:
        return self._count

    def get(self, row: int) -> V | None:
        number = row >> _PART_BITS
        part = self._parts[number] if number < len(self._parts) else _NOTHING
        return part[row & _PART_MASK] if part else None

    def put(self, row: int, value: V) -> None:
        part, place = self._own(row), row & _PART_MASK
        self._count += part[place] is None
        part[place] = value

    def put_many(self, rows: list[int], values: list[V]) -> None:
        for row, value in zip(rows, values, strict=True):
            self.put(row, value)

    def remove(self, row: int) -> None:
        if self.get(row) is not None:
            self._own(row)[row & _PART_MASK] = None
            self._count -= 1

    def items(self) -> Iterator[tuple[int, V]]:
        for number, part in enumerate(self._parts):
            yield from _rows_of(number, part)

    def _own(self, row: int) -> list[V | None]:
        number = row >> _PART_BITS
        while number >= len(self._parts):
            self._parts.append([])
            self._is_shared.append(False)
        part = self._parts[number]
        if not part:
            part = self._parts[number] = [None] * _PART_ROWS
            self._is_shared[number] = False
        elif self._is_shared[number]:
            part = self._parts[number] = part.copy()
            self._is_shared[number] = False
        return part

    def view(self) -> "SparseView[V]":
        self._is_shared = [True] * len(self._parts)
        return SparseView(self.name, list(self._parts))

    def load(self, piece: Any) -> None:
        for row, value in self._decoder.decode(piece):
            self.put(row, value)


_PART_BITS: Final = 9
_PART_ROWS: Final = 1 << _PART_BITS
_PART_MASK: Final = _PART_ROWS - 1
_NOTHING: Final[list[Any]] = []
_PIECE_PARTS: Final = 4  # of so many parts a piece of a snapshot is made


def _rows_of(number: int, part: list[V | None]) -> Iterator[tuple[int, V]]:
    first = number << _PART_BITS
    for place, value in enumerate(part):
        if value is not None:
            yield first + place, value


class SparseView(Generic[V]):
    """A sparse column frozen at one moment."""

    def __init__(self, name: str, parts: list[list[V | None]]) -> None:
        self.name = name
        self._parts = parts

    def pieces(self, *, is_sorted: bool = False) -> Iterator[Any]:
        """Yield msgpack of `[[row, value], ...]`, up to some thousand at a time."""
        del is_sorted  # rows are always written in ascending order
        for start in range(0, len(self._parts), _PIECE_PARTS):
            rows = [
                row
                for number in range(start, min(start + _PIECE_PARTS, len(self._parts)))
                for row in _rows_of(number, self._parts[number])
            ]
            if rows:
                yield ENCODER.encode(rows)


ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
