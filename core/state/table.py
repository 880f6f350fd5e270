"""Tables of records by key: evaluations, deployments, tokens, and those of other floors.

Records are values: never changed in place, always replaced by `put`, so a frozen view
needs only the dict. Taking a view marks the dict as shared; the next write copies it
first (about 1 ms for 100,000 records), and a table that nobody writes costs nothing.

Iteration follows insertion, and restore inserts in the same order, so all replicas
iterate alike. The state hash sorts by key.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from core.state.columns import ENCODER

K = TypeVar("K", str, int)
R = TypeVar("R")

# A piece is encoded in one call that no other thread interrupts, so it is short: some bytes,
# not some records, for a record may have 200 bytes or 100,000.
_RECORDS_A_PIECE: Final = 256  # at most, and only where they are small
_PIECE_BYTES: Final = 1 << 16


class Table(Generic[K, R]):
    """Records of one type by key. `name` names the section in snapshots."""

    def __init__(self, name: str, key_type: type[K], record_type: Any) -> None:
        self.name = name
        self._records: dict[K, R] = {}
        self._is_shared = False
        self._decoder = msgspec.msgpack.Decoder(list[tuple[key_type, record_type]])  # type: ignore[valid-type]

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: K) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[K]:
        return iter(self._records)

    def get(self, key: K) -> R | None:
        return self._records.get(key)

    def values(self) -> Iterator[R]:
        return iter(self._records.values())

    def items(self) -> Iterator[tuple[K, R]]:
        return iter(self._records.items())

    def put(self, key: K, record: R) -> None:
        if self._is_shared:
            self._records = self._records.copy()
            self._is_shared = False
        old = self._records.get(key)
        self._records[key] = record
        self.on_put(key, old, record)

    def delete(self, key: K) -> R | None:
        """Remove and return the record; None when there is none."""
        if key not in self._records:
            return None
        if self._is_shared:
            self._records = self._records.copy()
            self._is_shared = False
        old = self._records.pop(key)
        self.on_delete(key, old)
        return old

    def on_put(self, key: K, old: R | None, new: R) -> None:
        """Hook for secondary indexes: after a record was created or replaced."""

    def on_delete(self, key: K, old: R) -> None:
        """Hook for secondary indexes: after a record was removed."""

    def view(self) -> "TableView[K, R]":
        self._is_shared = True
        return TableView(self.name, self._records)

    def load(self, piece: Any) -> None:
        for key, record in self._decoder.decode(piece):
            self.put(key, record)


class TableView(Generic[K, R]):
    """A table frozen at one moment."""

    def __init__(self, name: str, records: dict[K, R]) -> None:
        self.name = name
        self._records: dict[K, R] = records

    def pieces(self, *, is_sorted: bool = False) -> Iterator[bytes]:
        """Yield msgpack of `[[key, record], ...]`, a short piece at a time.

        How many go into one follows from the bytes of the one before, so that equal tables
        give equal pieces.
        """
        # Nothing changes these records any more, so they need no copy to be gone through.
        items = iter(self._records.items())
        if is_sorted:
            items = iter(sorted(self._records.items(), key=_key_of))
        count = 1
        while batch := list(itertools.islice(items, count)):
            piece = ENCODER.encode(batch)
            yield piece
            if len(piece) > _PIECE_BYTES:
                count = max(1, count // 4)
            elif len(piece) < _PIECE_BYTES // 4:
                count = min(_RECORDS_A_PIECE, 2 * count)


def _key_of(item: tuple[Any, Any]) -> Any:
    return item[0]


def ids_with_prefix(table: Table[str, Any], prefix: str) -> list[str]:
    """Return the keys that begin with `prefix`, sorted."""
    return sorted(key for key in table if key.startswith(prefix))
