"""The tail of the log that is held in memory: everything after the last compaction.

The place just before it, (`offset`, `offset_term`), is remembered, so that the first
entry held can still be matched against its predecessor.
"""

from collections import deque
from typing import Final

from raft.messages import Entry
from raft.output import InvariantError

ENTRY_OVERHEAD_BYTES = 24  # what an entry costs beside its data, for windows and batches
# To free 25,000 entries at once takes 11 ms, in which no heartbeat is answered.
FREED_BYTES: Final = 2 << 20


class Log:
    """Entries `first_index`..`last_index`, without a gap and with terms that never sink."""

    def __init__(self, offset: int, offset_term: int, entries: list[Entry]) -> None:
        self.offset = offset
        self.offset_term = offset_term
        self._entries: list[Entry] = []
        self._dropped: deque[Entry] = deque()  # compacted, their memory not yet given back
        self.last_index = offset
        self.last_term = offset_term
        self.append(entries)

    @property
    def first_index(self) -> int:
        return self.offset + 1

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at `index`, None when it is not held."""
        if index > self.offset:
            return self._entries[index - self.offset - 1].term if index <= self.last_index else None
        return self.offset_term if index == self.offset else None

    def matches(self, index: int, term: int) -> bool:
        """Say whether the log holds that place. By log matching all before is equal too."""
        return self.term_at(index) == term

    def append(self, entries: list[Entry]) -> None:
        index, term = self.last_index, self.last_term
        for entry in entries:
            index += 1
            if entry.index != index or entry.term < term:
                raise InvariantError(
                    f"entry ({entry.index}, term {entry.term}) can't follow "
                    f"({index - 1}, term {term})"
                )
            term = entry.term
        self._entries += entries
        self.last_index, self.last_term = index, term

    def truncate_from(self, index: int) -> None:
        """Forget the entries from `index` on."""
        if not self.offset < index <= self.last_index:
            raise InvariantError(
                f"can't truncate from {index}: the log is {self.first_index}..{self.last_index}"
            )
        del self._entries[index - self.offset - 1 :]
        self.last_index = index - 1
        self.last_term = self._entries[-1].term if self._entries else self.offset_term

    def slice(self, first: int, last: int) -> list[Entry]:
        """Return the entries first..last, both included; [] when first > last."""
        return self._entries[first - self.offset - 1 : last - self.offset]

    def held(self, first: int, last: int) -> list[Entry]:
        """Return first..last, both included; [] unless all of them are held."""
        is_held = self.offset < first <= last <= self.last_index
        return self.slice(first, last) if is_held else []

    def batch(self, first: int, limit_bytes: int) -> tuple[list[Entry], int]:
        """Return entries from `first` on, at least one, up to `limit_bytes`; and their bytes."""
        size = 0
        start = position = first - self.offset - 1
        held = self._entries
        end = len(held)
        while position < end:
            cost = len(held[position].data) + ENTRY_OVERHEAD_BYTES
            if size + cost > limit_bytes and position > start:
                break
            size += cost
            position += 1
        return held[start:position], size

    def tail_begin(self, floor: int, index: int, limit_bytes: int) -> int:
        """Return the place at or after `floor` behind which the entries up to `index` have at
        most `limit_bytes`."""
        floor = max(floor, self.offset)
        size = 0
        while index > floor:
            size += len(self._entries[index - self.offset - 1].data) + ENTRY_OVERHEAD_BYTES
            if size > limit_bytes:
                break
            index -= 1
        return index

    def hint(self, index: int, term: int) -> tuple[int, int]:
        """Return the newest place (index, term) not beyond either argument.

        No later place can match a log that has `term` at `index`: terms never sink. So one
        exchange skips a whole term of conflicts (the optimisation at the end of section
        3.5). What is compacted is committed; the search ends there.
        """
        index = min(index, self.last_index)
        while index > self.offset:
            found = self._entries[index - self.offset - 1].term
            if found <= term:
                return index, found
            index -= 1
        return self.offset, self.offset_term

    def compact(self, index: int) -> None:
        """Drop the entries up to `index`, which a durable snapshot holds."""
        term = self.term_at(index)
        if term is None:
            raise InvariantError(
                f"can't compact to {index}: the log is {self.first_index}..{self.last_index}"
            )
        count = index - self.offset
        self._dropped += self._entries[:count]
        del self._entries[:count]
        self.offset, self.offset_term = index, term

    def free_some(self) -> None:
        """Give back some of the memory of what was compacted, as often as the host calls."""
        freed = 0
        while self._dropped and freed < FREED_BYTES:
            freed += len(self._dropped.popleft().data) + ENTRY_OVERHEAD_BYTES

    def reset(self, index: int, term: int) -> None:
        """Begin anew after a snapshot's last place."""
        self._entries.clear()
        self.offset = self.last_index = index
        self.offset_term = self.last_term = term
