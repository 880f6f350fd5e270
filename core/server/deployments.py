"""Watching rollouts, on the leader: go on when instances became healthy, give up in time.

The scheduler decides what a rollout does next; here it is only asked to look again, once
per `_GATHER_US` and deployment. A group that made no progress until its deadline fails
the deployment; with `auto_revert` the job goes back to its newest stable version in the
same entry. A successful deployment marks its job version as stable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.home_log import find_home
from core.model.evaluation import (
    Deployment,
    DeploymentState,
    DeploymentStatus,
    EvalTrigger,
    Evaluation,
)
from core.model.instant import ZERO_TIME, ns_of_rfc3339
from core.server import evaluations, promotion
from core.server.outbox import Timer
from core.state.commands import (
    RegisterJob,
    SetJobStability,
    UpsertDeployments,
    UpsertEvaluations,
)
from core.state.jobs import JobRecord
from core.state.result import Change
from core.state.rollouts import revert_target

if TYPE_CHECKING:
    from core.server.context import Server

_GATHER_US: Final = 250_000
_LATE: Final = "Failed due to progress deadline"
_REVERTED: Final = " - rolling back to job version {}"

_Health = tuple[int, int]  # healthy, unhealthy allocations of all groups


@dataclass(frozen=True, slots=True)
class Failing:
    """How a deployment is given up."""

    commands: list[Any]
    evaluation: Evaluation
    reverted_to: int | None  # the job version that comes back


def failing(
    server: Server,
    deployment: Deployment,
    record: JobRecord,
    description: str,
    *,
    eval_id: str = "",
) -> Failing:
    """Return the commands that fail a deployment; `auto_revert` brings back a stable version.

    Args:
        eval_id: The evaluation's id; "" draws a new one.
    """
    target = revert_target(deployment, record)
    if target is not None:
        description += _REVERTED.format(target.version or 0)
    failed = msgspec.structs.replace(
        deployment, status=DeploymentStatus.FAILED, status_description=description
    )
    due = evaluations.for_job(
        server, record, EvalTrigger.DEPLOYMENT_WATCHER, deployment_id=deployment.id, id=eval_id
    )
    command = UpsertDeployments(deployments=[failed])
    if target is None:
        command.evaluations = [due]
        return Failing([command], due, None)
    job = msgspec.structs.replace(target, stop=False, submit_time_ns=None)
    register = RegisterJob(job=job, indices=record.indices, evaluation=due)
    return Failing([command, register], due, target.version or 0)


def _hopeless(deployment: Deployment) -> str:
    """Return why a deployment without a progress deadline fails now, "" when it goes on."""
    for name, group in (deployment.task_groups or {}).items():
        if group.unhealthy_allocs and not group.progress_deadline_ns:
            return f"Failed due to unhealthy allocations of group {name!r}"
    return ""


def _waits_or_is_done(group: DeploymentState) -> bool:
    # Canaries that are healthy may wait for their promotion as long as it takes.
    if promotion.is_waiting(group):
        return group.healthy_allocs >= group.desired_canaries
    return group.healthy_allocs >= group.desired_total


class DeploymentWatch:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_active = False
        self._seen: dict[str, _Health] = {}
        self._due: dict[str, None] = {}  # deployments to evaluate at the end of the window
        self._deadlines: dict[str, tuple[int, Timer]] = {}

    def on_leadership(self, is_leader: bool) -> None:
        for _, timer in self._deadlines.values():
            timer.cancel()
        self._deadlines.clear()
        self._seen.clear()
        self._due.clear()
        self._is_active = is_leader
        if is_leader:
            for deployment in self._server.state.deployments.active():
                self._look(deployment, is_new=True)

    def on_applied(self, changes: list[Change]) -> None:
        if not self._is_active:
            return
        for key in dict.fromkeys(c.key for c in changes if c.table == "deployment"):
            deployment = self._server.state.deployments.get(key)
            if deployment is None or deployment.status is not DeploymentStatus.RUNNING:
                self._forget(key)
                if deployment is not None:
                    self._mark_stable(deployment)
            else:
                self._look(deployment, is_new=key not in self._seen)

    def _look(self, deployment: Deployment, *, is_new: bool) -> None:
        groups = (deployment.task_groups or {}).values()
        health = (
            sum(group.healthy_allocs for group in groups),
            sum(group.unhealthy_allocs for group in groups),
        )
        before = self._seen.get(deployment.id, (0, 0))
        self._seen[deployment.id] = health
        if health != before or is_new:
            if health != (0, 0):
                self._evaluate_soon(deployment.id)
        self._watch_deadline(deployment)

    def _evaluate_soon(self, deployment_id: str) -> None:
        if not self._due:
            self._server.outbox.after(_GATHER_US, self._evaluate_due)
        self._due[deployment_id] = None

    def _evaluate_due(self) -> None:
        due, self._due = self._due, {}
        commands: list[Any] = []
        for deployment_id in due:
            deployment = self._server.state.deployments.get(deployment_id)
            record = deployment and self._record_of(deployment)
            if deployment and record:
                commands += self._decided(deployment, record)
        if commands and self._is_active:
            self._server.consensus.propose(commands, lambda outcome: None)

    def _decided(self, deployment: Deployment, record: JobRecord) -> list[Any]:
        server = self._server
        if reason := _hopeless(deployment):
            return failing(server, deployment, record, reason).commands
        due = evaluations.for_job(
            server, record, EvalTrigger.DEPLOYMENT_WATCHER, deployment_id=deployment.id
        )
        if promotion.can_promote_itself(server.state, deployment):
            going_on = promotion.promoted(server.state, deployment, None, server.now.wall_us)
            return [UpsertDeployments(deployments=[going_on], evaluations=[due])]
        return [UpsertEvaluations(evaluations=[due])]

    # --- deadlines --------------------------------------------------------------------

    def _watch_deadline(self, deployment: Deployment) -> None:
        """Keep one timer at the earliest deadline of a group that is not complete."""
        moments = [
            ns_of_rfc3339(group.require_progress_by) // 1000
            for group in (deployment.task_groups or {}).values()
            if group.require_progress_by not in ("", ZERO_TIME) and not _waits_or_is_done(group)
        ]
        due_us = min(moments, default=0)
        known = self._deadlines.get(deployment.id)
        if known is not None:
            if known[0] == due_us:
                return
            known[1].cancel()
            del self._deadlines[deployment.id]
        if due_us:
            delay_us = max(0, due_us - self._server.now.wall_us)
            timer = self._server.outbox.after(delay_us, lambda: self._on_deadline(deployment.id))
            self._deadlines[deployment.id] = (due_us, timer)

    def _on_deadline(self, deployment_id: str) -> None:
        self._deadlines.pop(deployment_id, None)
        deployment = self._server.state.deployments.get(deployment_id)
        if deployment is None or deployment.status is not DeploymentStatus.RUNNING:
            return
        record = self._record_of(deployment)
        if record is None:
            return
        commands = failing(self._server, deployment, record, _LATE).commands
        self._server.consensus.propose(commands, lambda outcome: None)

    # --- small things -----------------------------------------------------------------

    def _record_of(self, deployment: Deployment) -> JobRecord | None:
        record = self._server.state.jobs.get(deployment.namespace, deployment.job_id)
        return None if record is None or record.is_stopped else record

    def _mark_stable(self, deployment: Deployment) -> None:
        record = self._record_of(deployment)
        if deployment.status is not DeploymentStatus.SUCCESSFUL or record is None:
            return
        if find_home(self._server.state, record.namespace, record.id) is not None:
            return  # other datacenters run it as well: core.federation decides
        job = self._server.state.jobs.version(record.ordinal, deployment.job_version)
        if job is not None and not job.stable:
            command = SetJobStability(
                namespace=record.namespace,
                job_id=record.id,
                version=deployment.job_version,
                stable=True,
            )
            self._server.consensus.propose([command], lambda outcome: None)

    def _forget(self, deployment_id: str) -> None:
        self._seen.pop(deployment_id, None)
        self._due.pop(deployment_id, None)
        known = self._deadlines.pop(deployment_id, None)
        if known is not None:
            known[1].cancel()
