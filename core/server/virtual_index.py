"""Indices of lists over several logs, which have nothing in common but the list.

    index = max(previous + 1, milliseconds since 2020) << 12 | tag of this server

Behind an index stands a vector: the real index of each datacenter's part. The sum of them
would lose changes: (10, 5) and (5, 10) collide. A server keeps the vectors of its last
1,024 indices; one that it does not know (another server's, or of before a restart) tells it
nothing, so such a query is answered at once.

An index is always beyond those given before, and beyond any that a single log gives, so a
region that grows to two datacenters is never seen to go back.
"""

from typing import Final

EPOCH_MS: Final = 1_577_836_800_000  # 2020-01-01
KEPT: Final = 1_024
TAG_BITS: Final = 12
FIRST: Final = 1 << 44  # below any of these, beyond the index of any log

Vector = tuple[tuple[str, int], ...]  # (datacenter id, its real index), by id


def is_virtual(index: int) -> bool:
    """Return whether an index can only be one of several logs."""
    return index >= FIRST


class VirtualIndices:
    """The indices that one server has given.

    Invariant: `_newest[scope]` is the largest index given for that scope, and is kept.
    """

    def __init__(self, tag: int) -> None:
        self._tag = tag & ((1 << TAG_BITS) - 1)
        self._last_ms = 0
        self._last = 0  # index given
        self._kept: dict[int, tuple[str, Vector]] = {}  # oldest first
        self._newest: dict[str, int] = {}  # scope -> index

    def vector_of(self, scope: str, index: int) -> Vector | None:
        """Return what an index stands for; None when it is not known, or of another list."""
        found = self._kept.get(index)
        return found[1] if found is not None and found[0] == scope else None

    def index_of(self, scope: str, vector: Vector, wall_us: int, known: int = 0) -> int:
        """Return the index of a vector; the same one as long as the list did not change.

        Args:
            scope: Which list: its method and whatever chooses its rows.
            known: The index that the caller has. One of this server's is never followed by a
                smaller one, also when it was of a list over other datacenters than now.
        """
        newest = self._newest.get(scope, 0)
        if newest and self._kept[newest][1] == vector and not newest < known <= self._last:
            return newest
        self._last_ms = max(self._last_ms + 1, wall_us // 1000 - EPOCH_MS, FIRST >> TAG_BITS)
        index = self._last = self._last_ms << TAG_BITS | self._tag
        self._kept[index] = scope, vector
        self._newest[scope] = index
        if len(self._kept) > KEPT:
            oldest = next(iter(self._kept))
            old_scope, _ = self._kept.pop(oldest)
            if self._newest.get(old_scope) == oldest:
                del self._newest[old_scope]
        return index
