"""Deployments: the record of a job's way from one version to the next.

A deployment is created when a service or system job with an `update` block starts a version: its
first instances are placed, or running ones change. It ends *successful* when every group
has all its instances healthy and nothing is left to change, and is *cancelled* when the
job moves on or stops. That it fails (an unhealthy instance, a deadline) is decided by
whoever watches the reports; here a failed or paused one only holds the rollout
(reconcile.py, `update_limit`); a paused one does not end before it is resumed.

A job over several regions comes with its deployment, *pending* until its turn has come
(core.federation.multiregion). When it is let begin its groups are counted here, and when it
is complete it does not end but is *blocked*, until all regions are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from core.model.allocation import ClientStatus
from core.model.evaluation import Deployment, DeploymentState, DeploymentStatus, Evaluation
from core.model.job import Job
from core.scheduler.decisions import GroupChanges
from core.scheduler.reconcile import ROLLING, is_live, strategy_of
from core.scheduler.view import JobView

ACTIVE = (
    DeploymentStatus.RUNNING,
    DeploymentStatus.PAUSED,
    DeploymentStatus.PENDING,
    DeploymentStatus.BLOCKED,
    DeploymentStatus.UNBLOCKING,
)
RUNNING = "Deployment is running"
PROMOTION = "Deployment is running but requires manual promotion"
AUTO_PROMOTION = "Deployment is running pending automatic promotion"
SUPERSEDED = "Cancelled due to newer version of job"
STOPPED = "Cancelled because job is stopped"
SUCCESSFUL = "Deployment completed successfully"
PENDING = "Deployment is pending, waiting for peer region"
BEGINNING = "Deployment is beginning"  # its turn has come; what it has to do is not counted yet
BLOCKED = "Deployment is complete but waiting for peer region"
_WAITS = (
    DeploymentStatus.PAUSED,
    DeploymentStatus.PENDING,
    DeploymentStatus.BLOCKED,
    DeploymentStatus.UNBLOCKING,
)


@dataclass(slots=True)
class Rollout:
    """What a plan does with deployments."""

    deployment_id: str = ""  # that placements and in-place updates belong to
    created: Deployment | None = None
    ended: Deployment | None = None  # cancelled or successful


def roll_out(
    view: JobView, changes: list[GroupChanges], evaluation: Evaluation, new_id: Callable[[], str]
) -> Rollout:
    """Decide over the job's deployment, given what the reconciler wants to do."""
    rollout, job, current = Rollout(), view.job, view.deployment
    is_active = current is not None and current.status in ACTIVE
    is_ours = current is not None and job is not None and _is_of_version(current, job)
    if current is not None and is_active:
        if view.is_stopped:
            rollout.ended = _end(current, DeploymentStatus.CANCELLED, STOPPED)
        elif not is_ours:
            rollout.ended = _end(current, DeploymentStatus.CANCELLED, SUPERSEDED)
        elif (begun := _begun(view, current, changes)) is not None:
            rollout.created, rollout.deployment_id = begun, current.id
            return rollout
        elif current.status not in _WAITS and _is_complete(view, current, changes):
            rollout.ended = _complete(current)
        else:
            rollout.deployment_id = current.id
            return rollout
    if job is None or view.is_stopped or (job.type or "service") not in ROLLING:
        return rollout
    if (is_ours and is_active) or not _does_start(view, changes):
        return rollout
    if is_ours and current is not None and current.status == DeploymentStatus.FAILED:
        return rollout  # the same version again would fail again
    if view.is_held:
        return rollout
    groups = _group_states(view, changes)
    if groups:
        rollout.created = _created(view, job, evaluation, groups, new_id())
        rollout.deployment_id = rollout.created.id
    return rollout


def _begun(view: JobView, deployment: Deployment, changes: list[GroupChanges]) -> Deployment | None:
    """Return the deployment of one of several regions with its groups, if it was just let run."""
    is_new = deployment.status_description == BEGINNING
    groups = _group_states(view, changes) if is_new else {}
    if not groups or deployment.status != DeploymentStatus.RUNNING:
        return None  # nothing to roll out: it is complete
    return msgspec.structs.replace(
        deployment, task_groups=groups, status_description=_described(groups)
    )


def _is_of_version(deployment: Deployment, job: Job) -> bool:
    return deployment.job_version == (job.version or 0) and deployment.job_create_index == (
        job.create_index or 0
    )


def _does_start(view: JobView, changes: list[GroupChanges]) -> bool:
    # A version starts when something changes for it, or when none of it ran yet. Groups that
    # change all at once are no part of it.
    job = view.job
    assert job is not None
    changes = [one for one in changes if strategy_of(job, one.group) is not None]
    if any(
        one.in_place
        or one.waiting_updates
        or one.canaries.size
        or any(r.reason == "update" for r in one.replacements)
        for one in changes
    ):
        return True
    # What is left of a version may be its deployment alone: what ended long ago is collected.
    has_run = bool((view.rows.job_version == (job.version or 0)).any()) or (
        view.deployment is not None and _is_of_version(view.deployment, job)
    )
    return not has_run and any(one.fresh.size or one.replacements for one in changes)


def _is_complete(view: JobView, deployment: Deployment, changes: list[GroupChanges]) -> bool:
    live = is_live(view)
    ordinals = {name: ordinal for ordinal, name in view.group_names.items()}
    states = deployment.task_groups or {}
    is_system = view.job is not None and view.job.type == "system"
    for one in changes:
        state = states.get(one.name)
        if state is None or one.group is None:
            # A system job's groups without an update block are no part of its rollout.
            if not one.is_complete and not is_system:
                return False
            continue
        mine = live & (view.rows.group == ordinals.get(one.name, -1))
        healthy = int((view.rows.health[mine & view.rows.is_deployed] == 1).sum())
        if is_system:
            # Nodes came and went since; of one that is cut off nobody can tell, and on one
            # that takes no new work the old version stays.
            mine[[row for row, _ in one.stops]] = False
            mine &= view.rows.job_version == deployment.job_version
            there = int((view.rows.client_status[mine] != ClientStatus.UNKNOWN).sum())
            is_over = one.is_complete or (_only_lacks_room(one) and healthy >= state.desired_total)
            if not is_over or healthy < there:
                return False
        elif not one.is_complete or healthy < state.desired_total:
            return False
    return True


def _only_lacks_room(one: GroupChanges) -> bool:
    # A node that came later may be too full: that is no part of the way to this version.
    return not (one.replacements or one.in_place or one.waiting_updates or one.desired_canaries)


def _group_states(view: JobView, changes: list[GroupChanges]) -> dict[str, DeploymentState]:
    states = {}
    for one in changes:
        update = strategy_of(view.job, one.group)
        if one.group is None or update is None:
            continue
        if one.wanted:
            states[one.name] = DeploymentState(
                auto_revert=bool(update.auto_revert),
                auto_promote=bool(update.auto_promote),
                progress_deadline_ns=update.progress_deadline_ns or 0,
                desired_canaries=one.desired_canaries,
                desired_total=one.wanted,
            )
    return states


def _created(
    view: JobView,
    job: Job,
    evaluation: Evaluation,
    groups: dict[str, DeploymentState],
    deployment_id: str,
) -> Deployment:
    return Deployment(
        id=deployment_id,
        namespace=view.namespace,
        job_id=view.id,
        job_version=job.version or 0,
        job_modify_index=job.modify_index or 0,
        job_spec_modify_index=job.job_modify_index or 0,
        job_create_index=job.create_index or 0,
        task_groups=groups,
        eval_priority=evaluation.priority,
        status_description=_described(groups),
    )


def _described(groups: dict[str, DeploymentState]) -> str:
    waiting = [state for state in groups.values() if state.desired_canaries]
    if not waiting:
        return RUNNING
    return AUTO_PROMOTION if all(state.auto_promote for state in waiting) else PROMOTION


def _complete(deployment: Deployment) -> Deployment:
    if deployment.is_multiregion:
        return _end(deployment, DeploymentStatus.BLOCKED, BLOCKED)
    return _end(deployment, DeploymentStatus.SUCCESSFUL, SUCCESSFUL)


def _end(deployment: Deployment, status: DeploymentStatus, description: str) -> Deployment:
    return msgspec.structs.replace(deployment, status=status, status_description=description)
