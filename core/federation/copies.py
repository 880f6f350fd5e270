"""A region's copy of a job over several regions: what its home keeps, and what steers it.

    RegisterCopy   the region's job is registered, its deployment is *pending*
    SteerCopy      its deployment begins, becomes successful, fails, or is cancelled; or the
                   job is stopped

Both name the submission that they are of by its generation: a copy follows the largest, and
answers whoever comes with a smaller one with the larger. The record outlives the job for a
day, so that what was on its way to a purged job does not bring it back.

    Invariant: a copy's generation never goes back.
    Invariant: a deployment that is pending begins by `Want.RUN` of its own generation alone.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.claims import claim_key
from core.federation.multiregion import Report, Status, Want
from core.jobspec.regions import call_of, coordinator_of, generation_of
from core.model.evaluation import Deployment, DeploymentState, DeploymentStatus, Evaluation
from core.model.job import Job
from core.scheduler.reconcile import strategy_of
from core.scheduler.rollout import BEGINNING, PENDING, SUCCESSFUL, SUPERSEDED
from core.state.commands import Command, DeregisterJob, RegisterJob
from core.state.entry import register_handler
from core.state.job_commands import deregister_job, register_job
from core.state.jobs import JobRecord
from core.state.result import CommandResult
from core.state.rollouts import ACTIVE_DEPLOYMENTS, put_deployment, put_evaluation, revert_target
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "copies"
CALLS_KEPT: Final = 16
KEPT_US: Final = 24 * 3600 * 1_000_000
_LOOKED_AT: Final = 4  # old copies that an entry looks at, to see whether their jobs are gone
FAILED_BY_PEER: Final = "Failed because of an error in peer region"
REVERTED: Final = " - rolling back to job version {}"
_STATUS: Final = {
    DeploymentStatus.PENDING: Status.PENDING,
    DeploymentStatus.RUNNING: Status.RUNNING,
    DeploymentStatus.PAUSED: Status.RUNNING,
    DeploymentStatus.BLOCKED: Status.BLOCKED,
    DeploymentStatus.UNBLOCKING: Status.BLOCKED,
    DeploymentStatus.SUCCESSFUL: Status.SUCCESSFUL,
    DeploymentStatus.FAILED: Status.FAILED,
    DeploymentStatus.CANCELLED: Status.CANCELLED,
}


class Copy(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What a datacenter knows of its region's copy. Kept by the job's name."""

    namespace: str
    job_id: str
    generation: int
    coordinator: str  # datacenter id
    deployment_id: str = ""  # "" = it has none: it runs, or was let go, at once
    version: int = 0
    is_stopped: bool = False
    is_dropped: bool = False  # the job does not list this region any more
    calls: tuple[str, ...] = ()  # ids of the submissions that took effect here, newest last
    changed_us: int = 0  # log time


class RegisterCopy(Command):
    """Register a region's copy. `register` has the deployment, pending, if it has one."""

    generation: int
    coordinator: str
    register: RegisterJob


class SteerCopy(Command):
    """Let a copy go on as its coordinator says."""

    namespace: str
    job_id: str
    generation: int
    coordinator: str
    want: Want
    call_id: str = ""
    is_purge: bool = False
    evaluation: Evaluation | None = None


def copies_of(state: "State") -> "Table[str, Copy]":
    return state.table(TABLE)


def find_copy(state: "State", namespace: str, job_id: str) -> Copy | None:
    """Return what is known of a job's copy here; of one whose home just came, by its marks."""
    known = copies_of(state).get(claim_key(namespace, job_id))
    record = state.jobs.get(namespace, job_id)
    if known is not None or record is None or record.home or not generation_of(record.job):
        return known
    return Copy(
        namespace=namespace, job_id=job_id, generation=generation_of(record.job),
        coordinator=coordinator_of(record.job), version=record.version,
    )  # fmt: skip


def report_of(state: "State", copy: Copy) -> Report:
    """Return what this datacenter has to say of a copy."""
    deployment = state.deployments.get(copy.deployment_id)
    status, reason = Status.SUCCESSFUL, ""
    if copy.is_dropped:
        status, reason = Status.CANCELLED, "the job does not list the region any more"
    elif deployment is not None:
        status, reason = _STATUS[deployment.status], deployment.status_description
    elif copy.deployment_id:
        status, reason = Status.CANCELLED, "the job was changed or is gone there"
    return Report(
        region=state.region, generation=copy.generation, status=status,
        home=state.datacenter_id, deployment_id=copy.deployment_id, version=copy.version,
        reason=reason,
    )  # fmt: skip


def has_deployment(job: Job) -> bool:
    """Whether a job rolls out by deployments, so that its regions can take turns."""
    if job.is_template or job.stop:
        return False
    return any(strategy_of(job, group) is not None for group in job.task_groups or [])


def pending_deployment(job: Job, deployment_id: str) -> Deployment:
    """Return the deployment that a copy comes with. Its groups are counted when it begins."""
    groups = {}
    for group in job.task_groups or []:
        update, count = strategy_of(job, group), 1 if group.count is None else group.count
        if update is not None and (count or job.type == "system"):
            groups[group.name] = DeploymentState(
                auto_revert=bool(update.auto_revert),
                auto_promote=bool(update.auto_promote),
                progress_deadline_ns=update.progress_deadline_ns or 0,
                desired_total=count,
            )
    return Deployment(
        id=deployment_id, namespace=job.namespace or "default", job_id=job.id or "",
        is_multiregion=True, task_groups=groups, status=DeploymentStatus.PENDING,
        status_description=PENDING, eval_priority=job.priority or 50,
    )  # fmt: skip


# --- apply --------------------------------------------------------------------------------


def register_copy(state: "State", command: RegisterCopy, context: "Context") -> CommandResult:
    """Take a copy. `value`: as `RegisterJob`; 409 when a newer submission was here before."""
    job = command.register.job
    namespace, job_id = job.namespace or "default", job.id or ""
    known = find_copy(state, namespace, job_id)
    if known is not None and known.generation > command.generation:
        return _superseded(known)
    record = state.jobs.get(namespace, job_id)
    if known is not None and known.generation == command.generation:
        if record is None:
            return CommandResult(error=f"job {job_id!r} is gone", status=409)
        return CommandResult(value=_registered(record))
    active = [one for one in state.deployments.of_job(namespace, job_id)
              if one.status in ACTIVE_DEPLOYMENTS]  # fmt: skip
    result = register_job(state, command.register, context)
    if result.is_error:
        return result
    for deployment in active:
        _set(state, deployment, DeploymentStatus.CANCELLED, SUPERSEDED, context)
    deployment_id = command.register.deployment.id if command.register.deployment else ""
    _put(
        state,
        Copy(
            namespace=namespace, job_id=job_id, generation=command.generation,
            coordinator=command.coordinator, deployment_id=deployment_id,
            calls=_calls(known, call_of(job)), version=result.value["Version"],
        ),
        context,
    )  # fmt: skip
    return result


def _registered(record: JobRecord) -> dict[str, Any]:
    return {
        "JobModifyIndex": record.job.job_modify_index,
        "Version": record.version,
        "UID": record.uid,
        "IsNew": False,
        "EvalID": "",  # that of the first time is on its way, or done
        "EvalCreateIndex": 0,
    }


def _calls(known: Copy | None, call_id: str) -> tuple[str, ...]:
    before = known.calls if known is not None else ()
    return (*before, call_id)[-CALLS_KEPT:] if call_id and call_id not in before else before


def _superseded(known: Copy) -> CommandResult:
    return CommandResult(
        error=f"job {known.job_id!r}: a newer version of it came meanwhile",
        status=409,
        value={"Superseded": known.generation},
    )


def steer_copy(state: "State", command: SteerCopy, context: "Context") -> CommandResult:
    """Do what is wanted of a copy, as far as it still can be. `value`: {} or {Superseded}."""
    known = find_copy(state, command.namespace, command.job_id)
    if known is not None and known.generation > command.generation:
        return CommandResult(value={"Superseded": known.generation})
    if known is not None and known.generation == command.generation:
        if known.coordinator != command.coordinator:  # the one before was lost and adopted
            known = msgspec.structs.replace(known, coordinator=command.coordinator)
            _put(state, known, context)
    if command.want in (Want.STOP, Want.CANCEL):
        if known is None or known.generation < command.generation:
            return _leave(state, command, known, context)
    elif known is not None and known.generation == command.generation:
        deployment = state.deployments.get(known.deployment_id)
        if deployment is not None:
            _steer(state, command, deployment, context)
    return CommandResult(value={})


def _steer(state: "State", command: SteerCopy, deployment: Deployment, context: "Context") -> None:
    due = command.evaluation
    if command.want is Want.RUN and deployment.status is DeploymentStatus.PENDING:
        _set(state, deployment, DeploymentStatus.RUNNING, BEGINNING, context)
    elif command.want is Want.UNBLOCK and deployment.status is DeploymentStatus.BLOCKED:
        _set(state, deployment, DeploymentStatus.SUCCESSFUL, SUCCESSFUL, context)
    elif command.want is Want.FAIL and deployment.status in ACTIVE_DEPLOYMENTS:
        _fail(state, deployment, due, context)
        return
    else:
        return
    if due is not None:
        put_evaluation(state, due, context)


def _fail(
    state: "State", deployment: Deployment, due: Evaluation | None, context: "Context"
) -> None:
    """Fail a deployment for another region's sake; by `auto_revert` the job goes back too."""
    record = state.jobs.get(deployment.namespace, deployment.job_id)
    target = revert_target(deployment, record) if record is not None else None
    why = FAILED_BY_PEER
    if target is not None:
        why += REVERTED.format(target.version or 0)
    _set(state, deployment, DeploymentStatus.FAILED, why, context)
    if target is None or record is None:
        if due is not None:
            put_evaluation(state, due, context)
        return
    job = msgspec.structs.replace(target, stop=False, submit_time_ns=None)
    register_job(state, RegisterJob(job=job, indices=record.indices, evaluation=due), context)


def _leave(
    state: "State", command: SteerCopy, known: Copy | None, context: "Context"
) -> CommandResult:
    """The region has no more part in the job: a rollout under way ends, or the job itself."""
    record = state.jobs.get(command.namespace, command.job_id)
    is_stop = command.want is Want.STOP
    if record is not None and record.home:
        return CommandResult(error=f"the home of job {record.id!r} is elsewhere", status=409)
    if record is not None:
        for deployment in state.deployments.of_job(command.namespace, command.job_id):
            if deployment.is_multiregion and deployment.status in ACTIVE_DEPLOYMENTS:
                _set(state, deployment, DeploymentStatus.CANCELLED, SUPERSEDED, context)
        if is_stop:
            stop = DeregisterJob(
                namespace=command.namespace, job_id=command.job_id, purge=command.is_purge,
                evaluation=command.evaluation,
            )  # fmt: skip
            result = deregister_job(state, stop, context)
            if result.is_error:
                return result
    _put(
        state,
        Copy(
            namespace=command.namespace, job_id=command.job_id, generation=command.generation,
            coordinator=command.coordinator, is_stopped=is_stop, is_dropped=not is_stop,
            calls=_calls(known, command.call_id),
            version=record.version if record is not None else 0,
        ),
        context,
    )  # fmt: skip
    return CommandResult(value={})


def _set(
    state: "State",
    deployment: Deployment,
    status: DeploymentStatus,
    why: str,
    context: "Context",
) -> None:
    changed = msgspec.structs.replace(deployment, status=status, status_description=why)
    put_deployment(state, changed, context)


def _put(state: "State", copy: Copy, context: "Context") -> None:
    """Keep a copy, and forget old ones whose jobs are gone: a few at each entry."""
    copies, key = copies_of(state), claim_key(copy.namespace, copy.job_id)
    copies.delete(key)  # the table's order is that of the last change
    copies.put(key, msgspec.structs.replace(copy, changed_us=context.time_us))
    context.changed("copies", "CopyChanged", copy.job_id, copy.namespace)
    for _ in range(_LOOKED_AT):
        oldest = next(iter(copies))
        old = copies.get(oldest)
        assert old is not None, "the key was read from the table"
        if old.changed_us + KEPT_US >= context.time_us:
            return
        copies.delete(oldest)
        if state.jobs.get(old.namespace, old.job_id) is not None:
            copies.put(oldest, old)


register_table(TABLE, Copy)
register_handler(RegisterCopy, register_copy)
register_handler(SteerCopy, steer_copy)
