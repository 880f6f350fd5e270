"""The event wheel: what happens when, in a total order.

Near events lie in short slots, unsorted, and a slot is sorted by (time, sequence) when it is
opened: appending costs a fraction of a heap's push, and most events are near. Far ones wait
in a heap and move to the wheel when their turn approaches. An event that falls into the slot
being worked off is inserted at its place.

How long a slot is changes the cost alone, never the order. Best is one that holds a few
events, and is shorter than the way to a neighbour, so that hardly anything falls into the
open one.
"""

import heapq
from bisect import insort
from collections.abc import Callable
from typing import Any, Final

SLOT_US: Final = 128
HORIZON_US: Final = 1 << 22  # what lies beyond is far
BLOCK: Final = 256  # so many empty slots are passed at a time

# (time, sequence, function, argument): sequence is unique, so nothing else is compared.
_Item = tuple[int, int, Callable[[Any], None], Any]


class Wheel:
    """Virtual time. `now_us` only moves forward, by working off events.

    Invariant: slot `n & _mask` holds events of slot `n` only, for the one such `n` that
    lies no more than `_mask` beyond the open one.
    """

    __slots__ = (
        "_far", "_mask", "_open", "_open_slot", "_opened", "_sequence", "_shift", "_slots",
        "now_us",
    )  # fmt: skip

    def __init__(self, slot_us: int = SLOT_US) -> None:
        """`slot_us` is a power of two, at most `HORIZON_US / BLOCK`."""
        self.now_us = 0
        self._sequence = 0
        self._shift = slot_us.bit_length() - 1
        self._mask = (HORIZON_US >> self._shift) - 1
        assert 1 << self._shift == slot_us and self._mask >= BLOCK - 1, slot_us
        self._slots: list[list[_Item]] = [[] for _ in range(self._mask + 1)]
        self._far: list[_Item] = []
        self._open: list[_Item] = []  # the current slot, sorted descending
        self._open_slot = 0  # number of the slot that is open, counted from time zero
        self._opened = 0  # events that ever lay in a slot when it was opened, or came after

    @property
    def events(self) -> int:
        """Events worked off since the start."""
        return self._opened - len(self._open)

    def at(self, time_us: int, function: Callable[[Any], None], argument: Any = None) -> None:
        """Call `function(argument)` at `time_us`; a time gone by means now."""
        if time_us < self.now_us:  # noqa: PLR1730 -- max() costs a fifth of this method
            time_us = self.now_us
        self._sequence = sequence = self._sequence + 1
        slot, mask = time_us >> self._shift, self._mask
        if 0 < slot - self._open_slot <= mask:
            self._slots[slot & mask].append((time_us, sequence, function, argument))
        elif slot > self._open_slot:
            heapq.heappush(self._far, (time_us, sequence, function, argument))
        else:
            insort(self._open, (time_us, sequence, function, argument), key=_descending)
            self._opened += 1

    def after(self, delay_us: int, function: Callable[[Any], None], argument: Any = None) -> None:
        self.at(self.now_us + delay_us, function, argument)

    def run_until(self, end_us: int) -> None:
        """Work off all events up to and including `end_us`, then stand at `end_us`."""
        while True:
            opened = self._open
            while opened:
                time_us, sequence, function, argument = opened.pop()
                if time_us > end_us:
                    opened.append((time_us, sequence, function, argument))
                    self.now_us = end_us
                    return
                self.now_us = time_us
                function(argument)
            if not self._advance(end_us):
                self.now_us = max(self.now_us, end_us)
                return

    def _advance(self, end_us: int) -> bool:
        """Open the next slot that holds events; False when there is none before the end."""
        slots, far, mask, shift = self._slots, self._far, self._mask, self._shift
        last_slot = end_us >> shift
        number = self._open_slot
        while number < last_slot:
            if far and far[0][0] >> shift <= number + mask:
                self._pull_far()
            if self._sequence == self._opened + len(far):
                # nothing within the horizon: go to where the far ones begin
                if not far or far[0][0] > end_us:
                    return False
                self._open_slot = number = (far[0][0] >> shift) - 1
                continue
            # up to there, no event is among the far ones
            stop = min(last_slot, number + mask)
            while number < stop:
                number += 1
                place = number & mask
                slot = slots[place]
                if slot:
                    self._open_slot = number
                    self._opened += len(slot)
                    slots[place] = []
                    slot.sort(reverse=True)
                    self._open = slot
                    return True
                if not place % BLOCK and not any(slots[place : place + BLOCK]):
                    number = min(number + BLOCK - 1, stop)
            self._open_slot = number
        return False

    def _pull_far(self) -> None:
        far, mask, shift = self._far, self._mask, self._shift
        while far and far[0][0] >> shift <= self._open_slot + mask:
            item = heapq.heappop(far)
            self._slots[(item[0] >> shift) & mask].append(item)


def _descending(item: _Item) -> tuple[int, int]:
    return (-item[0], -item[1])
