"""New evaluations: "look at this job again", with the reason.

Only the leader draws them, before it proposes; their ids come from its generator and
travel in the entry, so every replica holds the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.model.evaluation import EvalTrigger, Evaluation
from core.server import lookups
from core.state.jobs import JobRecord
from core.state.result import Change

if TYPE_CHECKING:
    from core.server.context import Server

SYSTEM_TYPES = frozenset({"system", "sysbatch"})


class SystemJobs:
    """The names of system jobs, so that a node's arrival need not look at every job."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._names: dict[tuple[str, str], None] = {}

    def on_leadership(self, is_leader: bool) -> None:
        self._names.clear()
        if is_leader:
            for record in self._server.state.jobs:
                self._note(record.namespace, record.id)

    def on_applied(self, changes: list[Change]) -> None:
        for change in changes:
            if change.table == "jobs":
                self._note(change.namespace, change.key)

    def running(self) -> list[JobRecord]:
        """Return the system jobs that are not stopped."""
        jobs = self._server.state.jobs
        found = [jobs.get(namespace, job_id) for namespace, job_id in self._names]
        return [record for record in found if record is not None and not record.is_stopped]

    def _note(self, namespace: str, job_id: str) -> None:
        record = self._server.state.jobs.get(namespace, job_id)
        if record is not None and record.job.type in SYSTEM_TYPES:
            self._names[namespace, job_id] = None
        else:
            self._names.pop((namespace, job_id), None)


def for_job(
    server: Server,
    record: JobRecord,
    trigger: EvalTrigger,
    *,
    node_id: str = "",
    deployment_id: str = "",
    priority: int | None = None,
    id: str = "",
) -> Evaluation:
    """Return a pending evaluation of a job; `id` "" draws a new one."""
    job = record.job
    return Evaluation(
        id=id or server.new_id(),
        priority=priority or job.priority or 50,
        type=job.type or "service",
        triggered_by=trigger,
        namespace=record.namespace,
        job_id=record.id,
        job_modify_index=job.job_modify_index or 0,
        node_id=node_id,
        deployment_id=deployment_id,
        create_time_ns=server.now.wall_us * 1000,
        modify_time_ns=server.now.wall_us * 1000,
    )


def for_node(server: Server, node_id: str, trigger: EvalTrigger) -> list[Evaluation]:
    """Return an evaluation of each job that a change of this node concerns.

    Those are the jobs with a live allocation there, and every system job: it may have to
    start or stop on the node.
    """
    state = server.state
    concerned: dict[tuple[str, str], JobRecord] = {}
    for record in lookups.jobs_on_node(state, node_id):
        concerned[record.namespace, record.id] = record
    for record in server.system_jobs.running():
        concerned[record.namespace, record.id] = record
    return [
        for_job(server, record, trigger, node_id=node_id)
        for _, record in sorted(concerned.items(), key=lambda item: item[0])
    ]
