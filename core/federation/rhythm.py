"""When a leader's part has something to do: at a slow beat, or at a deadline of its own."""

from collections.abc import Callable

from core.federation.host import FederationHost


class Rhythm:
    """Calls `action` at once when leadership begins, and then every `interval_us`.

    A beat while the server does not serve (it leads, but has not applied all yet) is skipped.
    A new leadership begins a rhythm of its own; what is left of an earlier one is silent.
    """

    def __init__(self, host: FederationHost, interval_us: int, action: Callable[[], None]) -> None:
        self._host, self._interval_us, self._action = host, interval_us, action
        self._number = 0

    def on_leadership(self, is_leader: bool) -> None:
        self._number += 1
        if is_leader:
            self._beat(self._number)

    def _beat(self, number: int) -> None:
        if number != self._number:
            return
        self._host.after(self._interval_us, lambda: self._beat(number))
        if self._host.is_serving:
            self._action()


class Alarm:
    """Calls `action` at the soonest deadline that was asked for, while this server leads.

    A call while the server does not serve is skipped; whoever has more to do asks again.
    """

    def __init__(self, host: FederationHost, action: Callable[[], None]) -> None:
        self._host, self._action = host, action
        self._is_active = False
        self._due_us = 0  # 0 = nothing is awaited

    def on_leadership(self, is_leader: bool) -> None:
        self._due_us = 0
        self._is_active = is_leader

    def ring_at(self, deadline_us: int | None) -> None:
        """Ring at this monotonic time, unless it rings sooner anyway; None = no need to."""
        if deadline_us is None or (self._due_us and deadline_us >= self._due_us):
            return
        self._due_us = deadline_us
        wait_us = max(1_000, deadline_us - self._host.now.mono_us)
        self._host.after(wait_us, lambda: self._ring(deadline_us))

    def _ring(self, due_us: int) -> None:
        if self._is_active and self._due_us == due_us:
            self._due_us = 0
            if self._host.is_serving:
                self._action()
