"""The event wheel: what happens when, in a total order.

Near events lie in short slots, in the order in which they were asked for, and a slot is sorted by
time when it is opened: appending costs a fraction of a heap's push, and most events are near. Far
ones wait in a heap and move to the wheel when their turn approaches, before all that were asked
for later. An event that falls into the slot
being worked off is inserted at its place.

How long a slot is changes the cost alone, never the order. Best is one that holds a few
events, and is shorter than the way to a neighbour, so that hardly anything falls into the
open one.
"""

import heapq
from bisect import insort
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

SLOT_US: Final = 128
HORIZON_US: Final = 1 << 22  # what lies beyond is far
NEVER: Final = 1 << 62  # number of a slot that never comes
NEAR: Final = 8  # so many slots are looked at first
BLOCK: Final = 64  # then so many at a time

_Item = tuple[int, Callable[[Any], None], Any]  # time, function, argument
_TIME: Final = itemgetter(0)


class Wheel:
    """Virtual time. `now_us` only moves forward, by working off events.

    Invariants: slot `n & _mask` holds events of slot `n` only, for the one such `n` that lies no
    more than `_mask` beyond the open one; a far event was asked for before all that lie in its
    slot; `_far_slot` is the slot of the oldest far event.
    """

    __slots__ = (
        "_far", "_far_slot", "_is_running", "_mask", "_open", "_open_slot", "_opened",
        "_sequence", "_shift", "_slots", "now_us",
    )  # fmt: skip

    def __init__(self, slot_us: int = SLOT_US) -> None:
        """`slot_us` is a power of two."""
        self.now_us = 0
        self._sequence = 0
        self._shift = slot_us.bit_length() - 1
        self._mask = (HORIZON_US >> self._shift) - 1
        assert 1 << self._shift == slot_us, slot_us
        self._slots: list[list[_Item] | None] = [None] * (self._mask + 1)
        # time, sequence, event: a sequence is unique, so that no function is compared
        self._far: list[tuple[int, int, _Item]] = []
        self._far_slot = NEVER
        self._open: list[_Item] = []  # what is left of the current slot, sorted
        self._open_slot = 0  # number of the slot that is open, counted from time zero
        self._is_running = False
        self._opened = 0  # events that ever lay in a slot when it was opened, or came after

    @property
    def events(self) -> int:
        """Events worked off since the start."""
        return self._opened - len(self._open)

    def at(self, time_us: int, function: Callable[[Any], None], argument: Any = None) -> None:
        """Call `function(argument)` at `time_us`; a time gone by means now."""
        self._sequence = sequence = self._sequence + 1
        number = time_us >> self._shift
        mask = self._mask
        if 0 < number - self._open_slot <= mask:
            slots, place = self._slots, number & mask
            slot = slots[place]
            if slot is None:
                slots[place] = [(time_us, function, argument)]
            else:
                slot.append((time_us, function, argument))
        elif number > self._open_slot:
            heapq.heappush(self._far, (time_us, sequence, (time_us, function, argument)))
            self._far_slot = min(self._far_slot, number)
        else:
            insort(self._open, (max(time_us, self.now_us), function, argument), key=_TIME)
            self._opened += 1

    def after(self, delay_us: int, function: Callable[[Any], None], argument: Any = None) -> None:
        self.at(self.now_us + delay_us, function, argument)

    def soon(self, delay_us: int, function: Callable[[Any], None], argument: Any) -> None:
        """As `after`, for a delay of one slot at least and half the horizon at most, and for
        callers so frequent that the difference counts.
        """
        time_us = self.now_us + delay_us
        self._sequence += 1
        slots, place = self._slots, time_us >> self._shift & self._mask
        slot = slots[place]
        if slot is None:
            slots[place] = [(time_us, function, argument)]
        else:
            slot.append((time_us, function, argument))

    def run_until(self, end_us: int) -> None:
        """Work off all events up to and including `end_us`, then stand at `end_us`."""
        assert not self._is_running, "an event must not turn the wheel itself"
        self._is_running = True
        try:
            self._work_off(end_us)
        finally:
            self._is_running = False

    def _work_off(self, end_us: int) -> None:
        slots, mask = self._slots, self._mask
        whole = (end_us + 1 >> self._shift) - 1  # the last slot that ends by then
        while True:
            # what falls into the open slot meanwhile comes behind what is being worked off
            events = iter(self._open)
            try:
                if self._open_slot <= whole:
                    for time_us, function, argument in events:
                        self.now_us = time_us
                        function(argument)
                else:
                    for item in events:
                        if item[0] > end_us:
                            self._open = [item, *events]
                            self.now_us = end_us
                            return
                        self.now_us = item[0]
                        item[1](item[2])
            except BaseException:
                self._open = [*events]
                raise
            number = self._open_slot + 1
            slot = slots[number & mask]
            if slot is not None and number <= whole and number < self._far_slot:
                # the usual case, where there is much to do
                self._open_up(slot, number)
            elif not self._advance(end_us):
                break
        self._open = []
        self.now_us = max(self.now_us, end_us)

    def _advance(self, end_us: int) -> bool:
        """Open the next slot that holds events; False when there is none before the end."""
        place = self._open_slot + 1 & self._mask
        for slot in self._slots[place : place + NEAR]:
            if slot is not None:
                break
        else:
            return self._advance_far(end_us)
        number = slot[0][0] >> self._shift
        if number > end_us >> self._shift or number >= self._far_slot:
            return self._advance_far(end_us)
        self._open_up(slot, number)
        return True

    def _open_up(self, slot: list[_Item], number: int) -> None:
        self._open_slot = number
        self._opened += len(slot)
        self._slots[number & self._mask] = None
        if len(slot) > 1:
            slot.sort(key=_TIME)
        self._open = slot

    def _advance_far(self, end_us: int) -> bool:
        """As `_advance`, when the next slots are empty, or it has to be looked closer."""
        slots, far, mask, shift = self._slots, self._far, self._mask, self._shift
        last_slot = end_us >> shift
        number = self._open_slot
        while number < last_slot:
            if far and far[0][0] >> shift <= number + mask:
                self._pull_far()
            if self._sequence == self._opened + len(far):
                # nothing within the horizon: go to where the far ones begin
                if not far or far[0][0] > end_us:
                    self._open_slot = last_slot - 1  # the next may still fall into the last
                    return False
                self._open_slot = number = (far[0][0] >> shift) - 1
                continue
            # up to there, no event is among the far ones
            stop = min(last_slot, number + mask)
            while number < stop:
                place = number + 1 & mask
                ahead = slots[place : place + min(BLOCK, stop - number)]
                slot = next(filter(None, ahead), None)
                if slot is not None:
                    self._open_up(slot, slot[0][0] >> shift)
                    return True
                number += len(ahead)
            self._open_slot = number
        return False

    def _pull_far(self) -> None:
        far, mask, shift = self._far, self._mask, self._shift
        pulled: dict[int, list[_Item]] = {}
        while far and far[0][0] >> shift <= self._open_slot + mask:
            time_us, _, item = heapq.heappop(far)
            pulled.setdefault(time_us >> shift & mask, []).append(item)
        for place, items in pulled.items():
            self._slots[place] = items + (self._slots[place] or [])
        self._far_slot = far[0][0] >> shift if far else NEVER
