"""A datacenter that reads that it was declared off, or that it has left: it stops its work.

Others have its jobs by now, from their backup. So whatever it still has is purged here, a
batch at a time: its allocations stop, and nothing of it is reported to anybody. What it is
asked for from then on it answers with what is to be done (`gone_text`). It never takes its
id again: with an empty data_dir its servers are a new datacenter.
"""

from typing import TYPE_CHECKING, Any, Final

from core.federation.rhythm import Rhythm
from core.federation.roster import is_own_off, roster_of
from core.model.evaluation import Evaluation
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.job_commands import purge_job
from core.state.result import CommandResult
from core.state.rollouts import put_evaluation

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator
    from core.state.context import Context
    from core.state.state import State

LOOK_US: Final = 1_000_000
BATCH: Final = 100  # jobs in one entry


class CeaseWork(Command):
    """Purge these jobs, homes and shares alike: this datacenter is off."""

    evaluations: dict[str, Evaluation]  # by uid


def cease_work(state: "State", command: CeaseWork, context: "Context") -> CommandResult:
    if not is_own_off(state):
        return CommandResult(error="this datacenter is not off", status=409)
    for uid, evaluation in command.evaluations.items():
        record = state.jobs.by_uid(uid)
        if record is None or record.is_purged:
            continue
        put_evaluation(state, evaluation, context)
        record = state.jobs.by_uid(uid) or record
        purge_job(state, record, context)
        context.changed("jobs", "JobDeregistered", record.id, record.namespace)
    return CommandResult()


def gone_text(state: "State") -> str:
    """Return what a datacenter that is off says to whoever wants something of it."""
    gone = roster_of(state).gone.get(state.datacenter_id)
    what = "has left the federation" if gone is not None and gone.has_left else "was declared off"
    return (
        f"datacenter {state.region}/{state.datacenter} ({state.datacenter_id}) {what}: its jobs"
        " are elsewhere. To use it again, stop its servers, empty their data_dir and start them"
    )


class Ceasing:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._is_busy = False
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def on_leadership(self, is_leader: bool) -> None:
        self._is_busy = False
        self._rhythm.on_leadership(is_leader)

    def look(self) -> None:
        state = self._host.state
        if self._is_busy or not is_own_off(state):
            return
        evaluations: dict[str, Evaluation] = {}
        for record in state.jobs:
            if len(evaluations) == BATCH:
                break
            if not record.is_purged:
                evaluations[record.uid] = self._coordinator.dividing.evaluation(record.job)
        if evaluations:
            self._is_busy = True
            self._host.log("warning", gone_text(state), stopped=len(evaluations))
            self._host.propose([CeaseWork(evaluations=evaluations)], self._done)

    def _done(self, _value: Any, _error: str) -> None:
        self._is_busy = False


register_handler(CeaseWork, cease_work)
