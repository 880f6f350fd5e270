"""Registering, stopping and marking jobs."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from core.model.job import Job
from core.state.commands import (
    DeregisterJob,
    MarkLaunch,
    RegisterJob,
    SetJobStability,
    TagJobVersion,
)
from core.state.job_status import count_child, runs_until_stopped
from core.state.jobs import VERSIONS_KEPT, JobRecord, spec_key
from core.state.result import CommandResult
from core.state.rollouts import put_deployment, put_evaluation
from core.state.scaling import scaling_key

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

_GROUPS_MAX = 256  # core.model.ids.GROUP_BITS
# Floors above may own names: each is asked why a new job must not have one, "" = it may.
NameGuard = Callable[["State", str, str, str], str]  # state, namespace, job id, uid
_name_guards: list[NameGuard] = []
# And whether a job may be changed here now.
ChangeGuard = Callable[["State", JobRecord], str]
_change_guards: list[ChangeGuard] = []


def guard_names(guard: NameGuard) -> None:
    """Have `guard` asked, in apply, before a job of a new name is registered."""
    if guard not in _name_guards:
        _name_guards.append(guard)


def guard_changes(guard: ChangeGuard) -> None:
    """Have `guard` asked, in apply, before a known job is changed by its owner."""
    if guard not in _change_guards:
        _change_guards.append(guard)


def _refuse_change(state: "State", record: JobRecord | None) -> CommandResult | None:
    if record is None:
        return None
    for guard in _change_guards:
        if error := guard(state, record):
            return CommandResult(error=error, status=503)
    return None


def _refuse_name(state: "State", namespace: str, job_id: str, job: Job) -> str:
    if job.parent_id:
        return ""  # a child's name is its parent's
    errors = (guard(state, namespace, job_id, job.uid or "") for guard in _name_guards)
    return next((error for error in errors if error), "")


def register_job(state: "State", command: RegisterJob, context: "Context") -> CommandResult:
    """Create or update a job.

    An unchanged specification keeps version and job modify index; a changed one, also a
    stopped job started again, gets the next version. `value`: {JobModifyIndex, Version,
    UID, IsNew}.
    """
    job = command.job
    namespace, job_id = job.namespace or "default", job.id or ""
    record = state.jobs.get(namespace, job_id)
    if error := _enforce_index(record, command.check_index):
        return CommandResult(error=error, status=409)
    names = [group.name for group in job.task_groups or []]
    if len(set(names) | set(record.groups if record else [])) > _GROUPS_MAX:
        return CommandResult(
            error=f"job {job_id!r} has had more than {_GROUPS_MAX} groups: purge it first",
            status=400,
        )
    if record is not None and record.home:
        return CommandResult(error=_runs_for(record), status=409)
    is_new = record is None
    parent = state.jobs.get(namespace, job.parent_id) if job.parent_id else None
    if refused := _refuse_change(state, record) or _refuse_change(state, parent):
        return refused
    if is_new and parent is not None:
        if parent.is_stopped:
            return CommandResult(error=f"job {parent.id!r} is stopped", status=409)
        if (first := _child_of_token(state, parent, job)) is not None:
            return CommandResult(value=_registered(first, "", is_new=False))
    if is_new and (error := _refuse_name(state, namespace, job_id, job)):
        return CommandResult(error=error, status=409)
    if record is None:
        record = _create(state, namespace, job_id, job, context)
    elif spec_key(record.job) != spec_key(job):
        record = _new_version(state, record, job, context)
    # The share is kept: what of a job runs here, only the federation's commands change.
    record = msgspec.structs.replace(record, indices=command.indices or record.indices)
    if command.submission is not None:
        kept = {str(version.version) for version in (record.job, *record.older)}
        sources = {v: source for v, source in record.sources.items() if v in kept}
        sources[str(record.version)] = command.submission
        record = msgspec.structs.replace(record, sources=sources)
    record = _put(state, record, names, context)
    if is_new and record.job.parent_id:
        count_child(state, record, None, record.status, context)
    _follow_up(state, command, record, context)
    context.touch_job(record.ordinal)
    return CommandResult(value=_registered(record, command.eval_id, is_new=is_new))


def _registered(record: JobRecord, eval_id: str, *, is_new: bool) -> dict[str, Any]:
    return {
        "JobModifyIndex": record.job.job_modify_index,
        "Version": record.version,
        "UID": record.uid,
        "EvalID": eval_id,
        "IsNew": is_new,
    }


def _child_of_token(state: "State", parent: JobRecord, job: Job) -> JobRecord | None:
    """Return the child that was dispatched with the same idempotency token before."""
    if not (token := job.dispatch_idempotency_token):
        return None
    children = state.jobs.children_of(parent.namespace, parent.id)
    return next((one for one in children if one.job.dispatch_idempotency_token == token), None)


def _put(state: "State", record: JobRecord, names: list[str], context: "Context") -> JobRecord:
    """Store a registered job, with rows for groups it had none for."""
    before = record.groups
    record = state.jobs.with_groups(record, names)
    if record.groups != before:
        record = msgspec.structs.replace(record, summary_modify_index=context.index)
    state.jobs.put(record)
    context.changed("jobs", "JobRegistered", record.id, record.namespace)
    return record


def put_share(
    state: "State",
    job: Job,
    indices: dict[str, list[tuple[int, int]]],
    home: str,
    context: "Context",
) -> JobRecord:
    """Create or update the record of a share; uid and version are those of its home.

    Args:
        indices: With every group of the job, for an empty dict would mean all of it.
        home: Datacenter id.
    """
    record = state.jobs.get(job.namespace or "default", job.id or "")
    if record is None:
        record = _create(state, job.namespace or "default", job.id or "", job, context)
        record = msgspec.structs.replace(
            record, job=msgspec.structs.replace(record.job, version=job.version)
        )
    elif record.job.version != job.version:
        record = _new_version(state, record, job, context)
        record = msgspec.structs.replace(
            record, job=msgspec.structs.replace(record.job, version=job.version)
        )
    record = msgspec.structs.replace(record, indices=indices, home=home)
    record = _put(state, record, [group.name for group in job.task_groups or []], context)
    context.touch_job(record.ordinal)
    return record


def adopt_job(
    state: "State",
    job: Job,
    *,
    older: list[Job],
    sources: dict[str, dict[str, Any]],
    launched_us: int,
    dead_children: int,
    context: "Context",
) -> JobRecord:
    """Create or complete the record of a job whose home came here, with all its versions.

    Args:
        job: The newest version, as its last home had it.
        dead_children: How many children it leaves behind there.
    """
    record = put_share(state, job, {}, "", context)
    adopted = msgspec.structs.replace(
        job,
        status=record.job.status,
        create_index=record.job.create_index,
        modify_index=context.index,
        job_modify_index=record.job.job_modify_index,
    )
    record = msgspec.structs.replace(
        record,
        job=adopted,
        older=older,
        sources=sources,
        launched_us=launched_us,
        children=(0, 0, dead_children),
    )
    state.jobs.put(record)
    context.changed("jobs", "JobRegistered", record.id, record.namespace)
    count_child(state, record, None, record.status, context)  # its parent began anew before it
    return record


def _runs_for(record: JobRecord) -> str:
    return (
        f"job {record.id!r} of region {record.job.region} runs a part here: its home is"
        f" datacenter {record.home}; change it there"
    )


def _follow_up(state: "State", command: RegisterJob, record: JobRecord, context: "Context") -> None:
    """Store the deployment and the evaluation with the indexes that only apply knows."""
    if command.deployment is not None:
        put_deployment(
            state,
            msgspec.structs.replace(
                command.deployment,
                job_version=record.version,
                job_modify_index=record.job.modify_index or 0,
                job_spec_modify_index=record.job.job_modify_index or 0,
                job_create_index=record.job.create_index or 0,
            ),
            context,
        )
    if command.evaluation is not None:
        modified = record.job.job_modify_index or 0
        put_evaluation(
            state, msgspec.structs.replace(command.evaluation, job_modify_index=modified), context
        )


def _enforce_index(record: JobRecord | None, expected: int | None) -> str:
    """Return why a compare-and-set registration is refused, "" when it is not."""
    if expected is None:
        return ""
    start = f"Enforcing job modify index {expected}: "
    if expected == 0:
        return start + "job already exists" if record is not None else ""
    if record is None:
        return start + "job does not exist"
    if record.job.job_modify_index != expected:
        found = record.job.job_modify_index
        return start + f"job exists with conflicting job modify index: {found}"
    return ""


def _create(state: "State", namespace: str, job_id: str, job: Job, context: "Context") -> JobRecord:
    ordinal = state.jobs.next_ordinal
    state.jobs.next_ordinal += 1
    uid = job.uid or _derived_uid(state, namespace, job_id, context.index)
    job = msgspec.structs.replace(
        job,
        namespace=namespace,
        uid=uid,
        version=0,
        status=_initial_status(job),
        status_description="",
        stable=False,
        submit_time_ns=job.submit_time_ns or context.time_ns,
        create_index=context.index,
        modify_index=context.index,
        job_modify_index=context.index,
    )
    return JobRecord(
        ordinal=ordinal,
        uid=uid,
        namespace=namespace,
        id=job_id,
        job=job,
        summary_create_index=context.index,
        summary_modify_index=context.index,
        modify_time_us=context.time_us,
    )


def _derived_uid(state: "State", namespace: str, job_id: str, index: int) -> str:
    seed = f"{state.datacenter_id}/{namespace}/{job_id}/{index}".encode()
    return hashlib.blake2b(seed, digest_size=16).hexdigest()


def _initial_status(job: Job) -> str:
    return "dead" if job.stop else "running" if runs_until_stopped(job) else "pending"


def _new_version(state: "State", record: JobRecord, job: Job, context: "Context") -> JobRecord:
    old = record.job
    job = msgspec.structs.replace(
        job,
        namespace=record.namespace,
        uid=record.uid,
        version=record.version + 1,
        status=old.status,
        status_description="",
        stable=False,
        version_tag=None,
        submit_time_ns=context.time_ns if job.submit_time_ns is None else job.submit_time_ns,
        create_index=old.create_index,
        modify_index=context.index,
        job_modify_index=context.index,
    )
    older = _kept_versions(state, record, [old, *record.older])
    return msgspec.structs.replace(
        record,
        job=job,
        older=older,
        sources={
            version: kept
            for version, kept in record.sources.items()
            if version in {str(each.version) for each in older}
        },
        modify_time_us=context.time_us,
    )


def _kept_versions(state: "State", record: JobRecord, older: list[Job]) -> list[Job]:
    """Return the versions to keep: the newest, the tagged, and those allocations are of."""
    if len(older) < VERSIONS_KEPT:
        return older
    rows = state.allocs.rows_of_job(record.ordinal)
    used = set(np.unique(state.allocs.columns.job_version[rows]).tolist())
    return [
        job
        for place, job in enumerate(older)
        if place < VERSIONS_KEPT - 1 or job.version_tag is not None or job.version in used
    ]


def deregister_job(state: "State", command: DeregisterJob, context: "Context") -> CommandResult:
    """Stop a job (a new version with `stop`), or purge it. `value`: {JobModifyIndex, UID}."""
    record = state.jobs.get(command.namespace, command.job_id)
    if record is not None and command.uid not in ("", record.uid):
        return CommandResult(error="job not found: another one has its name now", status=404)
    if refused := _refuse_change(state, record):
        return refused
    if command.evaluation is not None:
        put_evaluation(
            state,
            msgspec.structs.replace(command.evaluation, job_modify_index=context.index),
            context,
        )
    if record is None:
        return CommandResult(error="job not found", status=404)
    if record.home:
        return CommandResult(error=_runs_for(record), status=409)
    if command.purge:
        purge_job(state, record, context)
    elif not record.job.stop:
        stopped = msgspec.structs.replace(record.job, stop=True)
        record = _new_version(state, record, stopped, context)
        state.jobs.put(record)
        context.touch_job(record.ordinal)
    context.changed("jobs", "JobDeregistered", record.id, record.namespace)
    modified = context.index if command.purge else record.job.job_modify_index
    answer = {"JobModifyIndex": modified, "UID": record.uid, "EvalID": command.eval_id}
    return CommandResult(value=answer)


def purge_job(state: "State", record: JobRecord, context: "Context") -> None:
    """Free the job's name; what remains is for its allocations, until they are collected."""
    count_child(state, record, record.status, None, context)
    record = state.jobs.record(record.ordinal) or record
    state.jobs.purge(record)
    context.touched_jobs.pop(record.ordinal, None)
    state.scaling_events.delete(scaling_key(record.namespace, record.id))
    for deployment in state.deployments.of_job(record.namespace, record.id):
        state.deployments.delete(deployment.id)
        context.changed("deployment", "DeploymentDeleted", deployment.id, record.namespace)
    if not len(state.allocs.rows_of_job(record.ordinal)):
        forget_job(state, record.ordinal)


def forget_job(state: "State", ordinal: int) -> None:
    """Drop the record of a purged job that has no allocations any more."""
    record = state.jobs.record(ordinal)
    assert record is not None
    for row in record.group_rows:
        state.allocs.forget_group(row)
    state.jobs.forget(ordinal)


def set_job_stability(
    state: "State", command: SetJobStability, context: "Context"
) -> CommandResult:
    record = state.jobs.get(command.namespace, command.job_id)
    if record is None:
        return CommandResult(error="job not found", status=404)
    if refused := _refuse_change(state, record):
        return refused
    versions = [record.job, *record.older]
    place = next((n for n, job in enumerate(versions) if job.version == command.version), None)
    if place is None:
        return CommandResult(
            error=f"job {command.job_id!r} has no version {command.version}", status=404
        )
    _change_version(state, record, place, context, stable=command.stable)
    return CommandResult()


def tag_job_version(state: "State", command: TagJobVersion, context: "Context") -> CommandResult:
    """Name a version or take a name off. A name stands at one version at most."""
    record = state.jobs.get(command.namespace, command.job_id)
    if record is None:
        return CommandResult(error="job not found", status=404)
    if refused := _refuse_change(state, record):
        return refused
    versions = [record.job, *record.older]
    names = [(job.version_tag or {}).get("Name") for job in versions]
    numbers = [job.version or 0 for job in versions]
    if command.tag is None:
        if command.name not in names:
            return CommandResult(
                error=f"job {command.job_id!r} has no version with the tag {command.name!r}",
                status=404,
            )
        place = names.index(command.name)
    elif command.version not in numbers:
        return CommandResult(
            error=f"job {command.job_id!r} has no version {command.version}", status=404
        )
    else:
        place = numbers.index(command.version)
        if command.name in names and names.index(command.name) != place:
            held = numbers[names.index(command.name)]
            return CommandResult(
                error=f"the tag {command.name!r} stands at version {held}: unset it there first",
                status=400,
            )
    _change_version(state, record, place, context, version_tag=command.tag)
    return CommandResult()


def _change_version(
    state: "State", record: JobRecord, place: int, context: "Context", **fields: Any
) -> None:
    """Mark a kept version, the newest being at place 0; its specification stays."""
    versions = [record.job, *record.older]
    versions[place] = msgspec.structs.replace(versions[place], modify_index=context.index, **fields)
    state.jobs.put(msgspec.structs.replace(record, job=versions[0], older=versions[1:]))
    context.changed("jobs", "JobRegistered", record.id, record.namespace)


def mark_launch(state: "State", command: MarkLaunch, context: "Context") -> CommandResult:
    """Note a periodic job's launch; a moment before the noted one changes nothing."""
    record = state.jobs.get(command.namespace, command.job_id)
    if record is None:
        return CommandResult(error="job not found", status=404)
    if refused := _refuse_change(state, record):
        return refused
    if command.launched_us > record.launched_us:
        state.jobs.put(msgspec.structs.replace(record, launched_us=command.launched_us))
        context.changed("jobs", "JobLaunched", record.id, record.namespace)
    return CommandResult()
