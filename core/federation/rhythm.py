"""A slow beat while this server leads: what a leader's part does again and again."""

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
