"""Drives one machine: events in, effects out, and a tick when its deadline comes.

An effect may cause an event at once (a call to ourselves, for one). So events queue,
and one is handled to its end before the next: a machine is never entered twice.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import trio

from core.model.host import FOREVER_US, Effect, Event, Machine, Now, Tick


def now() -> Now:
    """Return this moment, microseconds: monotonic and wall clock."""
    return Now(time.monotonic_ns() // 1000, time.time_ns() // 1000)


class Recorder(Protocol):
    def record(self, role: str, event: Event, now: Now, effects: list[Effect]) -> None: ...


class MachineLoop:
    """One machine and the queue of what happened to it."""

    def __init__(
        self,
        role: str,
        machine: Machine,
        carry_out: Callable[[Effect], None],
        recorder: Recorder | None = None,
    ) -> None:
        self.role = role
        self.machine = machine
        self.busy_us = 0  # time spent inside the machine, for the metrics
        self.longest_us = 0
        self.events = 0
        self._carry_out = carry_out
        self._recorder = recorder
        self._queue: deque[Event] = deque()
        self._is_draining = False
        self._rearm = trio.Event()
        self._armed_us = FOREVER_US

    def deliver(self, event: Event) -> None:
        """Hand an event to the machine, at once unless it is busy with another."""
        self._queue.append(event)
        if self._is_draining:
            return
        self._is_draining = True
        try:
            while self._queue:
                self._step(self._queue.popleft())
        finally:
            self._is_draining = False
        if self.machine.deadline_us < self._armed_us:
            self._rearm.set()

    def _step(self, event: Event) -> None:
        moment = now()
        effects = self.machine.handle(event, moment)
        spent_us = time.monotonic_ns() // 1000 - moment.mono_us
        self.busy_us += spent_us
        self.longest_us = max(self.longest_us, spent_us)
        self.events += 1
        if self._recorder is not None:
            self._recorder.record(self.role, event, moment, effects)
        for effect in effects:
            self._carry_out(effect)

    async def run_timers(self) -> None:
        """Deliver `Tick` whenever the machine's deadline is reached."""
        while True:
            self._rearm = trio.Event()
            self._armed_us = self.machine.deadline_us
            left_us = self._armed_us - time.monotonic_ns() // 1000
            if left_us > 0:
                with trio.move_on_after(left_us / 1e6):
                    await self._rearm.wait()
                if time.monotonic_ns() // 1000 < self.machine.deadline_us:
                    continue
            self.deliver(Tick())
            # A machine that is always due must not starve the sockets.
            await trio.lowlevel.checkpoint()


Handlers = dict[type[Effect], Callable[[Any], None]]
