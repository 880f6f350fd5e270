"""`stop_on_client_after`: a client that is cut off ends what must not run beside another.

Its servers start the replacement once that time has passed (core.scheduler.disconnect), so
it is counted here from the last answer of any server. The call for allocations may stay
out for a minute; while such an allocation runs the client asks more often, so that a
silence of its length is one.

An agent that starts anew counts from its start: it can't know when it was last answered.
"""

from collections.abc import Callable, Iterable

from core.client import task_events
from core.client.alloc_runner import AllocRunner
from core.client.contact import ServerContact
from core.client.outbox import Outbox, Timer
from core.model.host import CallDone

_LOOKS = 6  # during the shortest limit
_SHORTEST_US = 50_000


class CutOff:
    def __init__(
        self, box: Outbox, contact: ServerContact, runners: Callable[[], Iterable[AllocRunner]]
    ) -> None:
        self._box, self._contact, self._runners = box, contact, runners
        self._timer: Timer | None = None
        self._is_asking = False

    def watch(self) -> None:
        """Begin, or go on: an allocation came, or one ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._box.after(0, self._look)

    def _look(self) -> None:
        limited = [
            (runner, limit_us)
            for runner in self._runners()
            if not runner.is_finished and (limit_us := runner.stops_when_cut_off_us)
        ]
        if not limited:
            return
        silent_us = self._box.now.mono_us - self._contact.last_contact_us
        for runner, limit_us in limited:
            if silent_us >= limit_us:
                wall_us = self._box.now.wall_us
                runner.stop(task_events.cut_off(wall_us, limit_us), now=True)
        shortest_us = min(limit_us for _, limit_us in limited)
        if silent_us * 3 >= shortest_us:
            self._ask()
        self._timer = self._box.after(max(shortest_us // _LOOKS, _SHORTEST_US), self._look)

    def _ask(self) -> None:
        # An empty report: its answer says that a server hears us.
        if self._is_asking or not self._contact.is_registered:
            return
        self._is_asking = True
        empty: dict[str, list[str]] = {"updates": [], "services": [], "removed_services": []}
        self._contact.ask("Node.Update", empty, self._on_answered)

    def _on_answered(self, event: CallDone) -> None:
        self._is_asking = False
