"""The timers of one machine.

Nothing need be cancelled. Whoever armed a timer checks, when it fires, whether it still
means anything; that is cheaper than finding it in the heap, and a lost cancellation
can't happen.
"""

from heapq import heappop, heappush
from typing import Final

FOREVER_US: Final = 1 << 62

# What is due. The numbers break ties of the same microsecond.
PROBE_TIMEOUT: Final = 1  # of the open probe
RELAY: Final = 2  # argument: the relayed probe's sequence
SUSPICION: Final = 3  # argument: the suspect's ordinal
DIGEST: Final = 4
EXCHANGE: Final = 5
RECONNECT: Final = 6
REAP: Final = 7


class Timers:
    """Those of the probe cycle and of gossip, which are armed anew again and again, beside a heap
    of others.

    Invariants: `deadline_us` is the due time of the oldest timer, or FOREVER_US; `_others_us` that
    of the oldest one that is not of the probe cycle.
    """

    __slots__ = (
        "_heap",
        "_others_us",
        "deadline_us",
        "gossip_us",
        "probe_us",
        "timeout_us",
    )

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []
        self._others_us = FOREVER_US
        self.gossip_us = FOREVER_US  # the next round of gossip
        self.probe_us = FOREVER_US  # the end of the probe period; whoever sees to it arms it anew
        self.timeout_us = FOREVER_US
        self.deadline_us = FOREVER_US

    @property
    def timers_armed(self) -> int:
        """How many are armed."""
        alone = (self.probe_us, self.timeout_us, self.gossip_us)
        return len(self._heap) + sum(due_us < FOREVER_US for due_us in alone)

    def after_timeout_us(self) -> int:
        """Return when `tick` is due if the open probe is answered in time."""
        probe_us, others_us = self.probe_us, self._others_us
        return probe_us if probe_us < others_us else others_us

    def arm(self, due_us: int, timer: int, argument: int = 0) -> None:
        heappush(self._heap, (due_us, timer, argument))
        if due_us < self._others_us:
            self._others_us = due_us
            if due_us < self.deadline_us:  # noqa: PLR1730 -- as cheap as it gets
                self.deadline_us = due_us

    def arm_gossip(self, due_us: int) -> None:
        """Arm the next round of gossip, in place of the one that is due."""
        self.gossip_us = due_us
        self._find_oldest()

    def arm_period(self, due_us: int) -> None:
        """Arm the end of a probe period without a probe, in place of an earlier one."""
        self.probe_us = due_us
        self.drop_timeout()

    def arm_probe(self, due_us: int, timeout_us: int) -> None:
        """Arm the end of a probe period, and PROBE_TIMEOUT before it, in place of earlier ones."""
        self.probe_us = due_us
        self.timeout_us = timeout_us
        others_us = self._others_us
        self.deadline_us = timeout_us if timeout_us < others_us else others_us

    def drop_timeout(self) -> None:
        """Drop PROBE_TIMEOUT: the answer came. The host need not wake for it."""
        self.timeout_us = FOREVER_US
        probe_us, others_us = self.probe_us, self._others_us
        self.deadline_us = probe_us if probe_us < others_us else others_us

    def pop_timer(self) -> tuple[int, int, int]:
        """Return the oldest (due_us, timer, argument); there must be one, and neither the end of
        a probe period nor a round of gossip.
        """
        due_us = self.deadline_us
        if self.timeout_us == due_us:
            self.drop_timeout()
            return due_us, PROBE_TIMEOUT, 0
        due = heappop(self._heap)
        self._find_oldest()
        return due

    def _find_oldest(self) -> None:
        heap = self._heap
        others_us = heap[0][0] if heap else FOREVER_US
        if self.gossip_us < others_us:  # noqa: PLR1730 -- as cheap as it gets
            others_us = self.gossip_us
        self._others_us = others_us
        first_us = self.timeout_us if self.timeout_us < self.probe_us else self.probe_us
        self.deadline_us = first_us if first_us < others_us else others_us
