"""Reports to the servers: what changed here, gathered, sent, and kept until acknowledged.

A report is not a queue of events but a set of names: at the moment of sending the present
state of each is read. So any number of changes while no server answers cost nothing, and
the last state is never lost. After a restart of the agent everything is reported once.
"""

from collections.abc import Callable
from typing import Any

from core.client.contact import ServerContact
from core.client.outbox import Outbox, Timer
from core.client.wire import is_unknown_node
from core.model.allocation import ClientStatus
from core.model.host import CallDone
from core.model.service import ServiceRegistration
from core.state.commands import AllocUpdate

MAX_UPDATES = 512  # of one call


class Reporter:
    """Invariant: a name is in `_changed` or in the call that is out, until acknowledged."""

    def __init__(
        self,
        box: Outbox,
        contact: ServerContact,
        gather_us: int,
        update_of: Callable[[str], AllocUpdate | None],
        acknowledged: Callable[[str], None],
    ) -> None:
        self._box = box
        self._contact = contact
        self._gather_us = gather_us
        self._update_of = update_of
        self._acknowledged = acknowledged  # of a terminal status
        self._changed: dict[str, None] = {}
        self._services: dict[str, ServiceRegistration | None] = {}  # None = taken out
        self._is_out = False
        self._sent = 0  # names in the call that is out
        self._failures = 0
        self._timer: Timer | None = None

    @property
    def is_idle(self) -> bool:
        return not (self._changed or self._services or self._is_out)

    @property
    def waiting(self) -> int:
        """How many allocations and services wait for an acknowledgement."""
        return len(self._changed) + len(self._services) + self._sent

    def alloc_changed(self, alloc_id: str) -> None:
        self._changed[alloc_id] = None
        self._arm(self._gather_us)

    def service_up(self, registration: ServiceRegistration) -> None:
        self._services[registration.id] = registration
        self._arm(self._gather_us)

    def service_down(self, registration_id: str) -> None:
        self._services[registration_id] = None
        self._arm(self._gather_us)

    def flush(self) -> None:
        """Send now, if something waits and a server takes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_out or not (self._changed or self._services):
            return
        if not self._contact.is_registered:
            return  # `on_registered` calls again
        names = list(self._changed)[:MAX_UPDATES]
        for name in names:
            del self._changed[name]
        services, self._services = self._services, {}
        updates = [update for name in names if (update := self._update_of(name)) is not None]
        body: dict[str, Any] = {
            "updates": updates,
            "services": [item for item in services.values() if item is not None],
            "removed_services": [key for key, item in services.items() if item is None],
        }
        self._is_out = True
        self._sent = len(names) + len(services)
        self._contact.ask(
            "Node.Update", body, lambda event: self._on_answer(event, names, updates, services)
        )

    def _on_answer(
        self,
        event: CallDone,
        names: list[str],
        updates: list[AllocUpdate],
        services: dict[str, ServiceRegistration | None],
    ) -> None:
        self._is_out = False
        self._sent = 0
        if event.error:
            self._box.measures.reports_retried += 1
            for name in names:
                self._changed[name] = None
            self._services = services | self._services  # what came later wins
            if not is_unknown_node(event.error):
                self._arm(self._contact.pause_us(self._failures))
            self._failures += 1
            return
        self._failures = 0
        self._box.measures.reports_sent += 1
        for update in updates:
            if ClientStatus(update.client_status).is_terminal:
                self._acknowledged(update.alloc_id)
        if self._changed or self._services:
            self._arm(self._gather_us)

    def _arm(self, delay_us: int) -> None:
        if self._timer is None and not self._is_out:
            self._timer = self._box.after(delay_us, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.flush()
