"""The timers of one machine: a heap of small tuples.

Nothing is ever cancelled. Whoever armed a timer checks, when it fires, whether it still
means anything; that is cheaper than finding it in the heap, and a lost cancellation
can't happen.
"""

from enum import IntEnum
from heapq import heappop, heappush
from typing import Final

FOREVER_US: Final = 1 << 62


class Timer(IntEnum):
    """What is due. The numbers break ties of the same microsecond."""

    PROBE = 0  # end of one probe period and start of the next
    PROBE_TIMEOUT = 1  # argument: the probe's sequence
    RELAY = 2  # argument: the relayed probe's sequence
    SUSPICION = 3  # argument: the suspect's ordinal
    GOSSIP = 4
    DIGEST = 5
    EXCHANGE = 6
    RECONNECT = 7
    REAP = 8


class Timers:
    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []

    @property
    def deadline_us(self) -> int:
        """When the next timer is due, or FOREVER_US."""
        return self._heap[0][0] if self._heap else FOREVER_US

    def arm(self, due_us: int, timer: int, argument: int = 0) -> None:
        heappush(self._heap, (due_us, timer, argument))

    def pop_due(self, now_us: int) -> tuple[int, int, int] | None:
        """Return the oldest (due_us, timer, argument) that is due, or None."""
        heap = self._heap
        return heappop(heap) if heap and heap[0][0] <= now_us else None

    def clear(self) -> None:
        self._heap.clear()
