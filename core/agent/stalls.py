"""How long the event loop is away from its sockets: what one turn of it takes at most.

A turn runs every task that can run, each to where it next waits; whoever calls meanwhile is
not heard. A timer that wakes late tells about as much, but only how late it was itself, and
a short one costs an idle agent more than two clock readings a turn.

Who has more to do than fits asks `is_long` between two pieces of his work, and leaves the rest
to the next turn: then a turn is about as long as its longest piece.
"""

import time
from typing import Final

import trio

WINDOW_NS: Final = 15_000_000_000
TURN_NS: Final = 5_000_000  # after so long, tasks that can wait do


class Stalls(trio.abc.Instrument):
    """The longest turn of the loop lately: in the last 15 to 30 seconds."""

    def __init__(self) -> None:
        self._began_ns = time.monotonic_ns()
        self._window_ends_ns = self._began_ns + WINDOW_NS
        self._longest_ns = self._longest_before_ns = 0
        self.turns_ns = 0  # all turns so far

    @property
    def recent_us(self) -> int:
        return max(self._longest_ns, self._longest_before_ns) // 1_000

    def is_long(self) -> bool:
        """Whether this turn has taken long enough by now."""
        return time.monotonic_ns() - self._began_ns > TURN_NS

    def after_io_wait(self, timeout: float) -> None:
        self._began_ns = time.monotonic_ns()

    def before_io_wait(self, timeout: float) -> None:
        now_ns = time.monotonic_ns()
        if now_ns > self._window_ends_ns:
            self._longest_before_ns, self._longest_ns = self._longest_ns, 0
            self._window_ends_ns = now_ns + WINDOW_NS
        took_ns = now_ns - self._began_ns
        self.turns_ns += took_ns
        self._longest_ns = max(self._longest_ns, took_ns)
