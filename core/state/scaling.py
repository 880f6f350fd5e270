"""Scaling events: who changed a group's count, when, and why; the newest first."""

from typing import TYPE_CHECKING, Any, Final

from core.state.commands import RecordScaling
from core.state.result import CommandResult

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

EVENTS_KEPT: Final = 20  # of each group


def scaling_key(namespace: str, job_id: str) -> str:
    return f"{namespace}\0{job_id}"


def events_of(state: "State", namespace: str, job_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return Nomad's ScalingEvents of a job by group, newest first."""
    return state.scaling_events.get(scaling_key(namespace, job_id)) or {}


def record_scaling(state: "State", command: RecordScaling, context: "Context") -> CommandResult:
    """Note an event; the job's own change, if there is one, is a command of its own."""
    record = state.jobs.get(command.namespace, command.job_id)
    if record is None:
        return CommandResult(error="job not found", status=404)
    event = {**command.event, "Time": context.time_ns, "CreateIndex": context.index}
    known = events_of(state, command.namespace, command.job_id)
    events = [event, *known.get(command.group, [])][:EVENTS_KEPT]
    state.scaling_events.put(
        scaling_key(command.namespace, command.job_id), {**known, command.group: events}
    )
    context.changed("scaling_event", "ScalingEvent", command.job_id, command.namespace)
    context.touch_job(record.ordinal)
    return CommandResult()
