"""Drives one machine: events in, effects out, and a tick when its deadline comes.

An effect may cause an event at once (a call to ourselves, for one). So events queue,
and one is handled to its end before the next: a machine is never entered twice.

Calls of others may be gathered (`gather`): those that came while the loop was busy reach
the machine as one event, as many as it takes in about `_GATHERED_US`. Under load that is what
makes a group commit large; a call that comes alone waits for one turn of the event loop. What
is left waits for the next turn: timers, sockets and disk come in between, so a server that
is asked more than it can answer still leads.

An exception out of a machine, or out of what carries out an effect, leaves behind a
half-changed state that nobody has thought through. Going on could persist or acknowledge
it, so the loop stops for good and reports why; the agent ends, and the next start
recovers from what is durable.
"""

import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from core.model.host import (
    FOREVER_US,
    Effect,
    Event,
    Machine,
    Now,
    Requested,
    RequestedTogether,
    Tick,
)

_GATHERED_US: Final = 4_000
_GATHERED_LEAST: Final = 8
_GATHERED_MOST: Final = 1_024
_WAITING_MOST: Final = 256  # calls that wait to be taken; then no more are read
_LATE_US: Final = 20_000
_TURNS_TO_HEAR: Final = 2  # of the event loop: one finds what has arrived, one reads it


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
        *,
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self.role = role
        self.machine = machine
        self.busy_us = 0  # time spent inside the machine, for the metrics
        self.longest_us = 0
        self.events = 0
        self.is_stopped = False  # it halted or failed: it hears of nothing any more
        self._on_failure = on_failure
        self._carry_out = carry_out
        self._recorder = recorder
        self._queue: deque[Event] = deque()
        self._gathered: list[Requested] = []
        self._gathered_most = _GATHERED_LEAST  # calls that were taken in about _GATHERED_US
        self._roomy = trio.Event()
        self._is_draining = False
        self._rearm = trio.Event()
        self._armed_us = FOREVER_US

    def deliver(self, event: Event) -> None:
        """Hand an event to the machine, at once unless it is busy with another.

        Never raises: a machine that can't go on is stopped and reported to `on_failure`
        with the type of the event that it failed at.
        """
        if self.is_stopped:
            return
        self._queue.append(event)
        if self._is_draining:
            return
        self._is_draining = True
        try:
            while self._queue and not self.is_stopped:
                event = self._queue.popleft()
                try:
                    self._step(event)
                except Exception as error:
                    self.stop()
                    self._on_failure(type(event).__name__, error)
        finally:
            self._is_draining = False
        if self.is_stopped:
            return
        if self.machine.deadline_us < self._armed_us:
            self._rearm.set()

    def gather(self, request: Requested) -> None:
        """Hand a call to the machine soon, with all others that come until then."""
        if not self.is_stopped:
            self._gathered.append(request)
            self._rearm.set()

    async def until_taken(self) -> None:
        """Wait while so many calls wait for the machine that nobody should bring more."""
        while len(self._gathered) > _WAITING_MOST:
            await self._roomy.wait()

    def _deliver_gathered(self) -> None:
        most = self._gathered_most
        gathered, self._gathered = self._gathered[:most], self._gathered[most:]
        if len(gathered) == 1:
            self.deliver(gathered[0])
        elif gathered:
            # Its own work: that it had to wait for a processor is no reason to take fewer.
            began_ns = time.thread_time_ns()
            self.deliver(RequestedTogether(tuple(gathered)))
            spent_us = (time.thread_time_ns() - began_ns) // 1000
            if spent_us > _GATHERED_US:
                self._gathered_most = max(most // 2, _GATHERED_LEAST)
            elif len(gathered) == most:
                self._gathered_most = min(most * 2, _GATHERED_MOST)
        if self._gathered:
            self._rearm.set()
        if len(self._gathered) <= _WAITING_MOST:
            self._let_more_in()

    def _let_more_in(self) -> None:
        if self._roomy.statistics().tasks_waiting:
            self._roomy.set()
            self._roomy = trio.Event()

    def stop(self) -> None:
        """Hand the machine nothing more; effects of the event at hand are still carried out."""
        self.is_stopped = True
        self._queue.clear()
        self._gathered.clear()
        self._let_more_in()

    def _step(self, event: Event) -> None:
        moment = now()
        try:
            effects = self.machine.handle(event, moment)
        except Exception:
            if self._recorder is not None:  # so that a replay meets it too
                self._recorder.record(self.role, event, moment, [])
            raise
        spent_us = time.monotonic_ns() // 1000 - moment.mono_us
        self.busy_us += spent_us
        self.longest_us = max(self.longest_us, spent_us)
        self.events += 1
        if self._recorder is not None:
            self._recorder.record(self.role, event, moment, effects)
        for effect in effects:
            self._carry_out(effect)

    @staticmethod
    async def _hear_first() -> None:
        """We are late: what others sent meanwhile lies in the sockets, and comes first.

        A replica that was held up, by its own work or for want of a processor, would else take
        its own silence for the others': a follower would miss a leader whose heartbeat has
        come, and a leader would step down over answers that it has not read.
        """
        for _ in range(_TURNS_TO_HEAR):
            await trio.lowlevel.checkpoint()

    async def run_timers(self) -> None:
        """Deliver `Tick` whenever the machine's deadline is reached, and what was gathered.

        Until the machine is stopped.
        """
        while not self.is_stopped:
            self._rearm = trio.Event()
            self._deliver_gathered()
            self._armed_us = self.machine.deadline_us
            left_us = self._armed_us - time.monotonic_ns() // 1000
            if left_us > 0:
                with trio.move_on_after(left_us / 1e6):
                    await self._rearm.wait()
                if time.monotonic_ns() // 1000 < self.machine.deadline_us:
                    continue
            if time.monotonic_ns() // 1000 - self._armed_us > _LATE_US:
                await self._hear_first()
            self.deliver(Tick())
            # A machine that is always due must not starve the sockets.
            await trio.lowlevel.checkpoint()


def place_of(error: BaseException, frames: int = 3) -> str:
    """Return where an exception came from, innermost last: "handle (server/machine.py:88)"."""
    trail = traceback.extract_tb(error.__traceback__)[-frames:]
    return " > ".join(f"{frame.name} ({_short(frame.filename)}:{frame.lineno})" for frame in trail)


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])


Handlers = dict[type[Effect], Callable[[Any], None]]
