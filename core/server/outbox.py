"""Where the parts of a server put their effects, timers and questions to others.

One `Outbox` serves one machine. During a `handle()` call the parts emit effects here;
at its end the machine takes them, in order. A part that asks another agent leaves a
continuation: it runs when the `CallDone` comes, in a later `handle()`, exactly once.

Timers are a heap of (deadline, sequence): equal deadlines run in the order they were
set. A cancelled timer stays in the heap and is skipped.
"""

import heapq
from collections.abc import Callable
from typing import Any

from core.model.host import (
    FOREVER_US,
    Address,
    Call,
    CallDone,
    Effect,
    Log,
    Now,
    Reply,
)
from core.server.effects import Compute, Computed

Continuation = Callable[[CallDone], None]


class Timer:
    """One deadline. `cancel()` is harmless at any time."""

    __slots__ = ("action", "deadline_us")

    def __init__(self, deadline_us: int, action: Callable[[], None]) -> None:
        self.deadline_us = deadline_us
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Outbox:
    def __init__(self, now: Now) -> None:
        self.now = now
        self._effects: list[Effect] = []
        self._asked: dict[int, Continuation] = {}
        self._computing: dict[int, Callable[[Any], None]] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._sequence = 0

    # --- effects --------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def extend(self, effects: list[Effect]) -> None:
        self._effects.extend(effects)

    @property
    def has_effects(self) -> bool:
        return bool(self._effects)

    def take(self) -> list[Effect]:
        """Return what was emitted since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def log(self, level: str, message: str, **fields: Any) -> None:
        self.emit(Log(level, message, fields))

    def reply(self, request_id: int, body: Any = None, error: str = "") -> None:
        self.emit(Reply(request_id, body, error))

    # --- questions ------------------------------------------------------------------

    def ask(
        self, address: Address, method: str, body: Any, timeout_us: int, then: Continuation
    ) -> None:
        """Call another agent; `then` gets the `CallDone`, answered or not."""
        call_id = self.next_id()
        self._asked[call_id] = then
        self.emit(Call(call_id, address, method, body, timeout_us))

    def on_call_done(self, event: CallDone) -> None:
        """Run the continuation. A second or unknown answer is ignored."""
        then = self._asked.pop(event.call_id, None)
        if then is not None:
            then(event)

    def compute(self, problem: Any, then: Callable[[Any], None]) -> None:
        """Have `problem.solve()` run by a worker; `then` gets what it returned."""
        ticket = self.next_id()
        self._computing[ticket] = then
        self.emit(Compute(ticket, problem))

    def on_computed(self, event: Computed) -> bool:
        """Run the continuation; False when the ticket is not of `compute`."""
        then = self._computing.pop(event.ticket, None)
        if then is not None:
            then(event.solution)
        return then is not None

    def next_id(self) -> int:
        """Return a number that this machine has not used yet: of calls, tickets, timers."""
        self._sequence += 1
        return self._sequence

    # --- timers ---------------------------------------------------------------------

    @property
    def deadline_us(self) -> int:
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else FOREVER_US

    def at(self, deadline_us: int, action: Callable[[], None]) -> Timer:
        """Run `action` once monotonic time reached `deadline_us`."""
        timer = Timer(deadline_us, action)
        heapq.heappush(self._timers, (deadline_us, self.next_id(), timer))
        return timer

    def after(self, delay_us: int, action: Callable[[], None]) -> Timer:
        return self.at(self.now.mono_us + delay_us, action)

    def run_due(self) -> None:
        """Run every timer whose moment has come; those they set for now run as well."""
        while self.deadline_us <= self.now.mono_us:
            timer = heapq.heappop(self._timers)[2]
            action, timer.action = timer.action, None
            assert action is not None
            action()
