"""What leads to a write about a job, noted on its way and kept with the write.

Nothing is noted of a job that is registered where it was submitted: its versions tell it
all, and its registration stays one command. A write that crosses datacenters carries a
trail (`Query.trail`): each that passes it on, asks elsewhere or refuses adds its event, and
the datacenter that carries it out commits them in the entry of the write.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.causes import (
    CausalClock,
    Event,
    Kind,
    RecordCause,
    chain_of,
    events_of,
    last_of,
    plain_events,
)
from core.federation.chains import versions_of
from core.federation.copies import RegisterCopy
from core.model.query import Query
from core.server.endpoints.table import ENDPOINTS
from core.server.request import Kind as EndpointKind
from core.state.commands import DeregisterJob, RegisterJob

if TYPE_CHECKING:
    from core.server.context import Server

_JOB_BODIES: Final = frozenset({"Job.Register"})
_KINDS: Final = {"Job.Scale": Kind.SCALED, "Job.Revert": Kind.REVERTED}


class Trails:
    """One per server."""

    def __init__(self, server: "Server", clock: CausalClock) -> None:
        self._server = server
        self.clock = clock

    def passed_on(self, query: Query, goal: str) -> Query:
        """Return a query on its way to another datacenter; a write about a job notes it.

        Args:
            goal: Where it goes, as people name it.
        """
        endpoint = ENDPOINTS.get(query.method)
        if endpoint is None or endpoint.kind is not EndpointKind.WRITE:
            return query
        if not (query.method in _JOB_BODIES or query.params.get("job_id")):
            return query
        forwarded = self.clock.event(
            Kind.FORWARDED, after=last_of(query.trail), to=goal, method=query.method
        )
        return msgspec.structs.replace(query, trail=[*query.trail, *plain_events([forwarded])])

    def recorded(self, query: Query, commands: list[Any]) -> list[Any]:
        """Return the commands of a write with the record of what led to it, if anything did."""
        for one in commands:
            command = one.register if isinstance(one, RegisterCopy) else one
            if isinstance(command, RegisterJob):
                job = command.job
                names = job.namespace or "default", job.id or "", job.uid or ""
                kind = _KINDS.get(query.method, Kind.REGISTERED)
                submitted_us = (job.submit_time_ns or 0) // 1000
                break
            if isinstance(command, DeregisterJob):
                known = self._server.state.jobs.get(command.namespace, command.job_id)
                names = command.namespace, command.job_id, known.uid if known is not None else ""
                kind = Kind.PURGED if command.purge else Kind.STOPPED
                submitted_us = 0
                break
        else:
            return commands
        trail = events_of(query.trail)
        if not trail and kind is not Kind.PURGED:
            return commands
        return [*commands, self._record(names, kind, trail, submitted_us)]

    def _record(
        self, names: tuple[str, str, str], kind: Kind, trail: list[Event], submitted_us: int
    ) -> RecordCause:
        namespace, job_id, uid = names
        past: list[Event] = []
        if kind is Kind.PURGED:  # its versions go with it, and were all that told of it
            state = self._server.state
            record = state.jobs.get(namespace, job_id)
            known = chain_of(state, namespace, job_id).events
            past = versions_of(state, record, known) if record is not None else []
        facts = {"submitted_us": submitted_us} if submitted_us else {}
        done = Event(kind=kind, uid=uid, after=tuple(last_of(trail)), facts=facts)
        events = [msgspec.structs.replace(event, uid=event.uid or uid) for event in trail]
        command = RecordCause(namespace=namespace, job_id=job_id, events=[*past, *events, done])
        recorded: RecordCause = self.clock.seen(command)
        return recorded
