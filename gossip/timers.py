"""The timers of one machine: a heap of small tuples.

Nothing need be cancelled. Whoever armed a timer checks, when it fires, whether it still
means anything; that is cheaper than finding it in the heap, and a lost cancellation
can't happen.
"""

from heapq import heappop, heappush
from typing import Final

FOREVER_US: Final = 1 << 62

# What is due. The numbers break ties of the same microsecond.
PROBE: Final = 0  # end of one probe period and start of the next
PROBE_TIMEOUT: Final = 1  # argument: the probe's sequence
RELAY: Final = 2  # argument: the relayed probe's sequence
SUSPICION: Final = 3  # argument: the suspect's ordinal
GOSSIP: Final = 4
DIGEST: Final = 5
EXCHANGE: Final = 6
RECONNECT: Final = 7
REAP: Final = 8


class Timers:
    """Invariant: `deadline_us` is the due time of the oldest timer, or FOREVER_US."""

    __slots__ = ("_heap", "deadline_us")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []
        self.deadline_us = FOREVER_US

    def arm(self, due_us: int, timer: int, argument: int = 0) -> None:
        heappush(self._heap, (due_us, timer, argument))
        if due_us < self.deadline_us:  # noqa: PLR1730 -- min() costs as much as the push
            self.deadline_us = due_us

    def pop(self) -> tuple[int, int, int]:
        """Return the oldest (due_us, timer, argument); there must be one."""
        heap = self._heap
        due = heappop(heap)
        self.deadline_us = heap[0][0] if heap else FOREVER_US
        return due

    def drop_next(self, timer: int) -> None:
        """Drop the oldest if it is of this kind: it means nothing any more.

        No more than a courtesy to the host, which then need not wake for it.
        """
        heap = self._heap
        if heap and heap[0][1] == timer:
            heappop(heap)
            self.deadline_us = heap[0][0] if heap else FOREVER_US
