"""Where the parts of a client put their effects, timers, questions to servers and counts.

One `Outbox` serves one machine. Its parts emit effects here during a `handle()` call; at
the end the machine takes them, in order. A question leaves a continuation that runs when
its `CallDone` comes, exactly once.

Timers are a heap of (deadline, sequence): equal deadlines run in the order they were set.
A cancelled timer stays in the heap and is skipped; once most of them are, all those go.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any, Final

from core.client.measures import Measures
from core.model.host import FOREVER_US, Address, Call, CallDone, Effect, Log, Now, Reply

Continuation = Callable[[CallDone], None]
SWEEP_FROM: Final = 64  # so many cancelled timers may always stay


class Timer:
    """One deadline. `cancel()` is harmless at any time."""

    __slots__ = ("_action", "_box", "deadline_us", "is_pending")

    def __init__(self, box: "Outbox", deadline_us: int, action: Callable[[], None]) -> None:
        self._box = box
        self.deadline_us = deadline_us
        self._action: Callable[[], None] | None = action
        self.is_pending = True

    def cancel(self) -> None:
        if self.is_pending:
            self.is_pending = False
            self._action = None
            self._box.on_cancelled()

    def fire(self) -> None:
        action, self._action = self._action, None
        self.is_pending = False
        if action is not None:
            action()


class Outbox:
    """Invariant: `now` is the moment of the event being handled."""

    def __init__(self, rng: random.Random, now: Now) -> None:
        self.rng = rng
        self.now = now
        self.measures = Measures()
        self._effects: list[Effect] = []
        self._asked: dict[int, Continuation] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._cancelled = 0  # timers, at most so many of them in the heap
        self._sequence = 0

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        effects = self._effects
        if effects:
            self._effects = []
            return effects
        return []

    def log(self, level: str, message: str, **fields: Any) -> None:
        self.emit(Log(level, message, fields))

    def reply(self, request_id: int, body: Any = None, error: str = "") -> None:
        self.emit(Reply(request_id, body, error))

    def refuse(self, request_id: int, status: int, error: str) -> None:
        """Answer a call with an error and the HTTP status it means."""
        self.emit(Reply(request_id, {"status": status, "error": error}, error))

    def ask(
        self, address: Address, method: str, body: Any, timeout_us: int, then: Continuation
    ) -> None:
        self._sequence += 1
        self._asked[self._sequence] = then
        self.emit(Call(self._sequence, address, method, body, timeout_us))

    def on_answer(self, event: CallDone) -> None:
        then = self._asked.pop(event.call_id, None)
        if then is not None:
            then(event)

    def after(self, delay_us: int, action: Callable[[], None]) -> Timer:
        """Run `action` once `delay_us` has passed, in a later `handle()` call."""
        timer = Timer(self, self.now.mono_us + delay_us, action)
        self._sequence += 1
        heapq.heappush(self._timers, (timer.deadline_us, self._sequence, timer))
        return timer

    def on_cancelled(self) -> None:
        """A timer was cancelled; a deadline of hours that nobody waits for is only weight."""
        self._cancelled += 1
        if self._cancelled > max(SWEEP_FROM, len(self._timers) // 2):
            self._timers[:] = [entry for entry in self._timers if entry[2].is_pending]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def run_timers(self) -> int:
        """Run what is due, timers of zero delay that were set meanwhile included.

        Returns:
            `deadline_us`, now that they ran.
        """
        timers, now_us = self._timers, self.now.mono_us
        while timers:
            due_us, _, timer = timers[0]
            if timer.is_pending:
                if due_us > now_us:
                    return due_us
                heapq.heappop(timers)
                timer.fire()
            else:
                heapq.heappop(timers)
        return FOREVER_US

    @property
    def deadline_us(self) -> int:
        timers = self._timers
        while timers and not timers[0][2].is_pending:
            heapq.heappop(timers)
        return timers[0][0] if timers else FOREVER_US
