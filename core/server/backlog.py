"""Committed entries that are not applied yet, and how many of them one turn takes.

Whoever was held up finds many. Between two turns the host reads its sockets and sends what
waits: a replica must hear and be heard while it catches up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from core.server.restoring import Restoring
from core.state.state import State
from raft.core import Entry

# What is applied before the host has its turn: 5 ms or so where entries are what they are most.
APPLIED_ENTRIES: Final = 128
APPLIED_BYTES: Final = 96 << 10


class Backlog:
    def __init__(self, restoring: Restoring) -> None:
        self._restoring = restoring
        self._entries: deque[Entry] = deque()
        self._taken = (0, 0)  # entries and bytes of this turn

    @property
    def is_due(self) -> bool:
        """Whether something only waits for its turn."""
        return bool(self._entries) and not self._restoring.waits_with(self._entries[0])

    def begin(self) -> None:
        """Begin a turn."""
        self._taken = (0, 0)

    def add(self, entries: Iterable[Entry]) -> None:
        self._entries += entries

    def clear(self) -> None:
        """Forget all: a snapshot took their place."""
        self._entries.clear()
        self._restoring.forget()

    def next(self, state: State) -> Entry | None:
        """Take the entry to apply now; None when there is none, or this turn took enough."""
        count, size = self._taken
        if not self._entries or count >= APPLIED_ENTRIES or size >= APPLIED_BYTES:
            return None
        if self._restoring.keeps_back(self._entries[0], state):
            return None
        entry = self._entries.popleft()
        self._taken = (count + 1, size + len(entry.data))
        return entry
