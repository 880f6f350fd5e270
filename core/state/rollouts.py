"""Evaluations and deployments: tables with their indexes, and the commands about them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from core.model.evaluation import Deployment, DeploymentStatus, EvalStatus, Evaluation
from core.model.instant import ZERO_TIME, rfc3339_of_ns
from core.model.job import Job
from core.state.allocs import FLAG_CANARY
from core.state.commands import DeleteEvaluations, UpsertDeployments, UpsertEvaluations
from core.state.jobs import JobRecord
from core.state.result import CommandResult
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

OPEN_EVALS: Final = frozenset({EvalStatus.PENDING, EvalStatus.BLOCKED})
ACTIVE_DEPLOYMENTS: Final = frozenset(
    {
        DeploymentStatus.RUNNING,
        DeploymentStatus.PAUSED,
        DeploymentStatus.PENDING,
        DeploymentStatus.BLOCKED,
        DeploymentStatus.UNBLOCKING,
    }
)

JobName = tuple[str, str]  # namespace, id


class EvalTable(Table[str, Evaluation]):
    """Evaluations by id, by job, and those still open."""

    def __init__(self) -> None:
        super().__init__("evals", str, Evaluation)
        self._by_job: dict[JobName, dict[str, None]] = {}
        self._open_by_job: dict[JobName, int] = {}
        self._open: dict[str, None] = {}

    def of_job(self, namespace: str, job_id: str) -> list[Evaluation]:
        """Return a job's evaluations in order of creation."""
        return [self._records[key] for key in self._by_job.get((namespace, job_id), {})]

    def has_any(self, namespace: str, job_id: str) -> bool:
        return bool(self._by_job.get((namespace, job_id)))

    def open_count(self, namespace: str, job_id: str) -> int:
        """Return how many of a job's evaluations are pending or blocked."""
        return self._open_by_job.get((namespace, job_id), 0)

    def open(self) -> Iterator[Evaluation]:
        """Iterate over pending and blocked evaluations, oldest first: a new leader's work."""
        found = [self._records[key] for key in self._open]
        return iter(sorted(found, key=lambda each: (each.create_index, each.id)))

    def on_put(self, key: str, old: Evaluation | None, new: Evaluation) -> None:
        if old is not None:
            self._count(old, -1)
            name = (old.namespace, old.job_id)
            if name != (new.namespace, new.job_id):
                del self._by_job[name][key]
                if not self._by_job[name]:
                    del self._by_job[name]
        self._by_job.setdefault((new.namespace, new.job_id), {})[key] = None
        self._count(new, 1)

    def on_delete(self, key: str, old: Evaluation) -> None:
        self._count(old, -1)
        name = (old.namespace, old.job_id)
        del self._by_job[name][key]
        if not self._by_job[name]:
            del self._by_job[name]

    def _count(self, evaluation: Evaluation, by: int) -> None:
        if evaluation.status not in OPEN_EVALS:
            return
        name = (evaluation.namespace, evaluation.job_id)
        count = self._open_by_job.get(name, 0) + by
        if count:
            self._open_by_job[name] = count
        else:
            del self._open_by_job[name]
        if by > 0:
            self._open[evaluation.id] = None
        else:
            del self._open[evaluation.id]


class DeploymentTable(Table[str, Deployment]):
    """Deployments by id and by job."""

    def __init__(self) -> None:
        super().__init__("deployments", str, Deployment)
        self._by_job: dict[JobName, dict[str, None]] = {}
        self._active: dict[str, None] = {}

    def of_job(self, namespace: str, job_id: str) -> list[Deployment]:
        """Return a job's deployments in order of creation."""
        return [self._records[key] for key in self._by_job.get((namespace, job_id), {})]

    def latest_of_job(self, namespace: str, job_id: str) -> Deployment | None:
        """Return the job's newest deployment, active or ended."""
        found = self.of_job(namespace, job_id)
        return max(found, key=lambda deployment: deployment.create_index, default=None)

    def active(self) -> Iterator[Deployment]:
        """Iterate over the deployments that are not ended."""
        found = [self._records[key] for key in self._active]
        return iter(sorted(found, key=lambda each: (each.create_index, each.id)))

    def on_put(self, key: str, old: Deployment | None, new: Deployment) -> None:
        if old is not None and (old.namespace, old.job_id) != (new.namespace, new.job_id):
            self.on_delete(key, old)
        self._by_job.setdefault((new.namespace, new.job_id), {})[key] = None
        if new.status in ACTIVE_DEPLOYMENTS:
            self._active[key] = None
        else:
            self._active.pop(key, None)

    def on_delete(self, key: str, old: Deployment) -> None:
        self._active.pop(key, None)
        name = (old.namespace, old.job_id)
        del self._by_job[name][key]
        if not self._by_job[name]:
            del self._by_job[name]


def count_placed(
    state: "State",
    deployment_id: str,
    group: str,
    count: int,
    canaries: list[str],
    context: "Context",
) -> None:
    """Add placements to a deployment; the first ones start its progress deadline."""
    deployment = state.deployments.get(deployment_id)
    states = dict((deployment.task_groups if deployment else None) or {})
    if deployment is None or group not in states:
        return
    old = states[group]
    require_by = old.require_progress_by
    if old.progress_deadline_ns and require_by in {"", ZERO_TIME}:
        require_by = rfc3339_of_ns(context.time_ns + old.progress_deadline_ns)
    states[group] = msgspec.structs.replace(
        old,
        placed_allocs=old.placed_allocs + count,
        placed_canaries=[*(old.placed_canaries or []), *canaries] or old.placed_canaries,
        require_progress_by=require_by,
    )
    state.deployments.put(
        deployment_id,
        msgspec.structs.replace(
            deployment,
            task_groups=states,
            modify_index=context.index,
            modify_time_ns=context.time_ns,
        ),
    )
    context.changed("deployment", "DeploymentUpdate", deployment_id, deployment.namespace)


def put_evaluation(state: "State", evaluation: Evaluation, context: "Context") -> None:
    """Create or replace an evaluation; its queued counts become the job's."""
    old = state.evals.get(evaluation.id)
    new = msgspec.structs.replace(
        evaluation,
        create_index=old.create_index if old else context.index,
        create_time_ns=(old.create_time_ns if old else 0)
        or evaluation.create_time_ns
        or context.time_ns,
        modify_index=context.index,
        modify_time_ns=context.time_ns,
    )
    state.evals.put(new.id, new)
    context.changed("evals", "EvaluationUpdated", new.id, new.namespace)
    record = state.jobs.get(new.namespace, new.job_id)
    if record is not None:
        if new.queued_allocations:
            state.jobs.set_queued(record, new.queued_allocations)
        context.touch_job(record.ordinal)


def put_deployment(state: "State", deployment: Deployment, context: "Context") -> None:
    """Create or replace a deployment; promoted canaries become ordinary allocations.

    What was counted stays: placements and health come from the allocations, and the
    caller's copy may be older.
    """
    old = state.deployments.get(deployment.id)
    groups = dict(deployment.task_groups or {})
    for name, before in ((old.task_groups if old else None) or {}).items():
        if name in groups:
            now = groups[name]
            groups[name] = msgspec.structs.replace(
                now,
                placed_canaries=before.placed_canaries,
                placed_allocs=before.placed_allocs,
                healthy_allocs=before.healthy_allocs,
                unhealthy_allocs=before.unhealthy_allocs,
                require_progress_by=max(now.require_progress_by, before.require_progress_by),
            )
            if now.promoted and not before.promoted:
                _promote(state, before.placed_canaries or [], context)
    new = msgspec.structs.replace(
        deployment,
        task_groups=groups,
        create_index=old.create_index if old else context.index,
        create_time_ns=old.create_time_ns if old else context.time_ns,
        modify_index=context.index,
        modify_time_ns=context.time_ns,
    )
    state.deployments.put(new.id, new)
    context.changed("deployment", "DeploymentUpdate", new.id, new.namespace)


def may_plan_write(state: "State", planned: Deployment) -> bool:
    """Whether a plan's word on a deployment still counts: it was made from an older picture.

    What ended meanwhile stays so, and what is to go on or be complete must still be running.
    """
    old = state.deployments.get(planned.id)
    if old is None or planned.status == old.status:
        return True
    if old.status not in ACTIVE_DEPLOYMENTS:
        return False
    is_over = planned.status not in ACTIVE_DEPLOYMENTS
    return is_over or old.status is DeploymentStatus.RUNNING


def revert_target(deployment: Deployment, record: JobRecord) -> Job | None:
    """Return the newest older stable version; None = no group asks for it, or none is left."""
    groups = (deployment.task_groups or {}).values()
    if deployment.job_version != (record.job.version or 0):
        return None  # somebody registered another version meanwhile
    if not any(group.auto_revert for group in groups):
        return None
    return next((job for job in record.older if job.stable), None)


def _promote(state: "State", canaries: list[str], context: "Context") -> None:
    columns = state.allocs.columns
    found = [row for alloc in canaries if (row := state.allocs.row_of(alloc)) is not None]
    if not found:
        return
    rows = np.array(found, dtype=np.int64)
    columns.touch(rows)
    columns.flags[rows] &= np.uint8(255 - FLAG_CANARY)
    columns.modify_index[rows] = context.index
    columns.alloc_modify_index[rows] = context.index
    for row in found:
        extras = state.allocs.extras.get(row)
        if extras is not None and extras.deployment_status is not None:
            status = msgspec.structs.replace(
                extras.deployment_status, canary=False, modify_index=context.index
            )
            state.allocs.change_extras(row, deployment_status=status)
    nodes = state.nodes.columns
    nodes.touch(columns.node[rows])
    nodes.allocs_index[columns.node[rows]] = context.index
    context.changed("allocs", "AllocationUpdateDesiredStatus", rows=rows)


def upsert_evaluations(
    state: "State", command: UpsertEvaluations, context: "Context"
) -> CommandResult:
    for evaluation in command.evaluations:
        put_evaluation(state, evaluation, context)
    return CommandResult()


def delete_evaluations(
    state: "State", command: DeleteEvaluations, context: "Context"
) -> CommandResult:
    """Delete evaluations. `value`: how many there were."""
    deleted = 0
    for key in command.ids:
        old = state.evals.delete(key)
        if old is not None:
            deleted += 1
            context.changed("evals", "EvaluationDeleted", key, old.namespace)
            record = state.jobs.get(old.namespace, old.job_id)
            if record is not None:
                context.touch_job(record.ordinal)
    return CommandResult(value=deleted)


def upsert_deployments(
    state: "State", command: UpsertDeployments, context: "Context"
) -> CommandResult:
    """Create or change deployments; one that ended meanwhile stays as it ended."""
    for deployment in command.deployments:
        old = state.deployments.get(deployment.id)
        is_over = old is not None and old.status not in ACTIVE_DEPLOYMENTS
        if is_over and old is not None and deployment.status != old.status:
            return CommandResult(
                error=f"deployment {deployment.id} has ended meanwhile: {old.status}", status=409
            )
    for deployment in command.deployments:
        put_deployment(state, deployment, context)
    for evaluation in command.evaluations:
        put_evaluation(state, evaluation, context)
    return CommandResult()
