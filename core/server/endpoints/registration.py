"""Job.*: registering, planning, stopping, scaling, reverting."""

from typing import Any, Final

import msgspec

from core.federation.copies import RegisterCopy, has_deployment, pending_deployment
from core.jobspec import canonicalize, diff_jobs, error_text, validate, warnings_of
from core.jobspec.regions import coordinator_of, generation_of
from core.jobspec.validate import MAX_COUNT
from core.model.allocation import DesiredTransition
from core.model.evaluation import EvalTrigger, Evaluation
from core.model.instant import ZERO_TIME, rfc3339_of_ns
from core.model.job import Job, TaskGroup
from core.model.query import Answer, OwnQuery, ReadQuery
from core.scheduler import dry_run
from core.server import children, evaluations
from core.server.endpoints.jobs import job_of, version_of
from core.server.endpoints.shared import check_registrations, checked, only_index
from core.server.endpoints.shares import is_part, parked
from core.server.listing import plain
from core.server.request import (
    Endpoint,
    Kind,
    Proposal,
    QueryError,
    Request,
    convert,
)
from core.server.views import alloc_stub
from core.state.commands import (
    DeregisterJob,
    RecordScaling,
    RegisterJob,
    SetDesiredTransition,
    SetJobStability,
    UpsertEvaluations,
)
from core.state.jobs import JobRecord
from core.state.pools import has_pool
from core.state.result import Applied
from core.state.rollouts import ACTIVE_DEPLOYMENTS

_SUBMISSION_FIELDS: Final = ("Source", "Format", "VariableFlags", "Variables")
_MAX_SUBMISSION_BYTES: Final = 1 << 20


# --- reading the job ---------------------------------------------------------------------


def read_job(request: Request) -> Job:
    """Return the body's job, canonical and valid.

    Raises:
        QueryError: 400 when there is none or its form is wrong, 500 with what validation
            found, as Nomad has it.
    """
    query = request.query
    if isinstance(query, ReadQuery) and request.text("job_id") in ("", query.job.id):
        known: Job = query.job
        return known
    job = canonical_job(request)
    errors = validate(job)
    if errors:
        raise QueryError(500, error_text(errors))
    return job


def canonical_job(request: Request) -> Job:
    """Return the body's job with every default filled in; it may still be invalid."""
    data = request.body().get("Job")
    if data is None:
        raise QueryError(400, "Job must be specified")
    job = convert(data, Job, "Job")
    if not job.id:
        raise QueryError(400, "Job ID hasn't been provided")
    path_id = request.text("job_id")
    if path_id and path_id != job.id:
        raise QueryError(400, "Job ID does not match name")
    region = request.server.config.region
    namespace = job.namespace or request.query.namespace
    job = msgspec.structs.replace(
        job,
        namespace="default" if namespace == "*" else namespace,
        region=region if job.region in (None, "", "global") else job.region,
    )
    try:
        return canonicalize(job, region=region)
    except (TypeError, ValueError, AttributeError) as error:
        raise QueryError(400, f"Request body is not valid: Job: {error}") from error


def _check_namespace(job: Job) -> None:
    if job.namespace != "default":
        raise QueryError(500, f'job "{job.id}" is in nonexistent namespace "{job.namespace}"')


def _check_pool(request: Request, job: Job, known: JobRecord | None) -> None:
    pool = job.node_pool or "default"
    is_kept = known is not None and (known.job.node_pool or "default") == pool
    if not is_kept and not has_pool(request.state, pool):
        raise QueryError(500, f'job "{job.id}" is in nonexistent node pool "{pool}"')


def _uid_of(request: Request, job: Job) -> str:
    """Return a new job's uid: the one that its claim carries, else a fresh one."""
    if job.uid and request.state.jobs.by_uid(job.uid) is None:
        return job.uid
    return request.draw_id()


# --- register ---------------------------------------------------------------------------


def job_register(request: Request) -> Proposal:
    job = read_job(request)
    _check_namespace(job)
    if job.multiregion and not isinstance(request.query, OwnQuery):
        # core.federation.submitting brings each region its copy.
        raise QueryError(503, f"job {job.id!r} runs in several regions: try again shortly")
    known = request.state.jobs.get(job.namespace or "default", job.id or "")
    if not isinstance(request.query, OwnQuery):
        _check_pool(request, job, known)
    if request.field("PreserveCounts", bool, False) and known is not None:
        job = _with_counts_of(known.job, job)
    check_index = None
    if request.field("EnforceIndex", bool, False):
        check_index = request.field("JobModifyIndex", int, 0)
    return registered(
        request,
        job,
        EvalTrigger.JOB_REGISTER,
        check_index=check_index,
        submission=_submission(request),
        priority=request.field("EvalPriority", int, 0) or None,
        warnings=warnings_of(job),
    )


def registered(
    request: Request,
    job: Job,
    trigger: EvalTrigger,
    *,
    check_index: int | None = None,
    submission: dict[str, Any] | None = None,
    priority: int | None = None,
    warnings: list[str] | None = None,
) -> Proposal:
    """Return the proposal that registers a canonical job, with its evaluation."""
    check_registrations(request)
    known = request.state.jobs.get(job.namespace or "default", job.id or "")
    due = _evaluation(request, job, trigger, priority)
    is_copy = isinstance(request.query, OwnQuery) and generation_of(job) > 0
    has_rollout = is_copy and has_deployment(job)
    command = RegisterJob(
        job=msgspec.structs.replace(
            job,
            uid=known.uid if known is not None else _uid_of(request, job),
            submit_time_ns=request.server.now.wall_us * 1000,
        ),
        evaluation=due,
        submission=submission,
        check_index=check_index,
        deployment=pending_deployment(job, request.draw_id()) if has_rollout else None,
    )

    def answer(applied: Applied) -> Answer:
        value = checked(applied).results[0].value
        body = {
            "EvalID": value["EvalID"],
            "EvalCreateIndex": applied.index if value["EvalID"] else 0,
            "JobModifyIndex": value["JobModifyIndex"],
            "Warnings": _warning_text(warnings or []),
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    parts = request.server.federation.division(command.job) if known is None else []
    if is_copy:
        generation, coordinator = generation_of(job), coordinator_of(job)
        copy = RegisterCopy(generation=generation, coordinator=coordinator, register=command)
        return Proposal([copy], answer)
    return Proposal([command, *parts], answer)


def _evaluation(
    request: Request, job: Job, trigger: EvalTrigger, priority: int | None
) -> Evaluation | None:
    """Return the job's evaluation; templates of other jobs run nothing themselves."""
    if job.is_template:
        return None
    now_ns = request.server.now.wall_us * 1000
    return Evaluation(
        id=request.draw_id(),
        priority=priority or job.priority or 50,
        type=job.type or "service",
        triggered_by=trigger,
        namespace=job.namespace or "default",
        job_id=job.id or "",
        create_time_ns=now_ns,
        modify_time_ns=now_ns,
    )


def _with_counts_of(old: Job, new: Job) -> Job:
    counts = {group.name: group.count for group in old.task_groups or []}
    groups = [
        msgspec.structs.replace(group, count=counts.get(group.name, group.count))
        for group in new.task_groups or []
    ]
    return msgspec.structs.replace(new, task_groups=groups)


def _submission(request: Request) -> dict[str, Any] | None:
    given = request.field("Submission", dict, {})
    if not given:
        return None
    kept = {name: given.get(name) for name in _SUBMISSION_FIELDS}
    if len(msgspec.json.encode(kept)) > _MAX_SUBMISSION_BYTES:
        return None  # Nomad drops an overlong source as well; the job itself is what counts
    return kept


def _warning_text(warnings: list[str]) -> str:
    if not warnings:
        return ""
    lines = "\n".join(f"* {text}" for text in warnings)
    return f"{len(warnings)} warning(s):\n\n{lines}"


# --- plan, validate ---------------------------------------------------------------------


def job_plan(request: Request) -> Answer:
    job = read_job(request)
    _check_namespace(job)
    state, server = request.state, request.server
    known = state.jobs.get(job.namespace or "default", job.id or "")
    outcome = dry_run(state, job, now_us=server.now.wall_us)
    diff = None
    if request.field("Diff", bool, False):
        diff = diff_jobs(known.job if known is not None else None, job)
    index = max(1, state.table_index("jobs"))
    body = {
        "Annotations": {
            "DesiredTGUpdates": outcome.desired_updates,
            "PreemptedAllocs": _stubs(request, outcome.preempted) or None,
        },
        "FailedTGAllocs": plain(outcome.failed_tg_allocs) or None,
        "SeraiPlacements": plain(outcome.placed) or None,
        "JobModifyIndex": outcome.job_modify_index,
        "CreatedEvals": outcome.created_evaluations,
        "Diff": diff,
        "NextPeriodicLaunch": _next_launch(job, server.now.wall_us),
        "Warnings": _warning_text(warnings_of(job)),
        "Index": index,
    }
    return Answer(body=body, index=index)


def _stubs(request: Request, alloc_ids: list[str]) -> list[dict[str, Any]]:
    allocs = request.state.allocs
    rows = [row for one in alloc_ids if (row := allocs.row_of(one)) is not None]
    return [alloc_stub(allocs.allocation(row)) for row in rows]


def _next_launch(job: Job, now_us: int) -> str:
    due_us = children.next_launch_us(job, now_us) if children.is_launched(job) else None
    return ZERO_TIME if due_us is None else rfc3339_of_ns(due_us * 1000)


def job_validate(request: Request) -> Answer:
    if request.body().get("Job") is None:
        raise QueryError(400, "Job must be specified")
    job = canonical_job(request)
    errors = validate(job)
    body = {
        "DriverConfigValidated": True,
        "ValidationErrors": errors or None,
        "Error": error_text(errors) if errors else "",
        "Warnings": _warning_text(warnings_of(job)),
    }
    return Answer(body=body)


# --- stop, evaluate ---------------------------------------------------------------------


def job_deregister(request: Request) -> Proposal:
    record = job_of(request)
    if is_part(request, record):
        return parked(request, record, is_parked=True)
    is_purge = request.flag("purge")
    due = evaluations.for_job(
        request.server,
        record,
        EvalTrigger.JOB_DEREGISTER,
        priority=request.number("eval_priority") or None,
        id=request.draw_id(),
    )
    command = DeregisterJob(
        namespace=record.namespace, job_id=record.id, purge=is_purge, evaluation=due,
        uid=record.uid,
    )  # fmt: skip
    return Proposal([command], _evaluated(due))


def job_evaluate(request: Request) -> Proposal:
    record = job_of(request)
    if record.job.periodic is not None:
        raise QueryError(500, "can't evaluate periodic job")
    if record.job.parameterized_job is not None and not record.job.dispatched:
        raise QueryError(500, "can't evaluate parameterized job")
    options = request.field("EvalOptions", dict, {})
    due = evaluations.for_job(
        request.server, record, EvalTrigger.JOB_REGISTER, id=request.draw_id()
    )
    commands: list[Any] = [UpsertEvaluations(evaluations=[due])]
    if options.get("ForceReschedule"):
        failed = _failed_allocations(request, record)
        if failed:
            commands.append(SetDesiredTransition(transitions=failed))
    return Proposal(commands, _evaluated(due))


def _failed_allocations(request: Request, record: JobRecord) -> dict[str, DesiredTransition]:
    allocs = request.state.allocs
    rows = allocs.rows_of_job(record.ordinal).tolist()
    return {
        allocs.id_of(row): DesiredTransition(force_reschedule=True)
        for row in rows
        if allocs.columns.client[row] == 3 and allocs.columns.desired[row] == 0
    }


def _evaluated(due: Evaluation) -> Any:
    def answer(applied: Applied) -> Answer:
        checked(applied)
        value = applied.results[0].value
        told = value if isinstance(value, dict) else {}
        modified = told.get("JobModifyIndex")
        body = {
            "EvalID": told.get("EvalID", due.id),
            "EvalCreateIndex": applied.index,
            "JobModifyIndex": modified or due.job_modify_index,
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return answer


# --- revert, stable, scale --------------------------------------------------------------


def job_revert(request: Request) -> Proposal:
    record = job_of(request)
    version = request.field("JobVersion", int, -1)
    if version < 0:
        raise QueryError(400, "JobVersion must be given")
    if version == record.version:
        raise QueryError(500, f"can't revert to current version: {version}")
    prior = request.body().get("EnforcePriorVersion")
    if prior is not None and prior != record.version:
        raise QueryError(
            500, f"Current job has version {record.version}; Enforcing version {prior}"
        )
    old = version_of(request, record, version)
    check_index = record.job.job_modify_index if prior is not None else None
    return registered(
        request,
        msgspec.structs.replace(old, stop=False),
        EvalTrigger.JOB_REGISTER,
        check_index=check_index,
        submission=record.submissions.get(version),
    )


def job_stable(request: Request) -> Proposal:
    record = job_of(request)
    command = SetJobStability(
        namespace=record.namespace,
        job_id=record.id,
        version=request.field("JobVersion", int, record.version),
        stable=request.field("Stable", bool, False),
    )
    return Proposal([command], only_index)


def job_scale(request: Request) -> Proposal:
    record = job_of(request)
    target = request.field("Target", dict, {})
    count = request.body().get("Count")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise QueryError(400, "scaling action count can't be negative, and must be a number")
    is_error = request.field("Error", bool, False)
    if count is not None and is_error:
        raise QueryError(400, "a scaling action can't have both a count and an error")
    groups = record.job.task_groups or []
    name = target.get("Group") or (groups[0].name if len(groups) == 1 else "")
    group = next((one for one in groups if one.name == name), None)
    if group is None:
        raise QueryError(400, f'task group "{name}" specified for scaling does not exist in job')
    if count is None:
        return _scaling_note(request, record, group, is_error=is_error)
    _check_bounds(group, count)
    if record.is_stopped:
        raise QueryError(400, "cannot scale a stopped job")
    deployment = request.state.deployments.latest_of_job(record.namespace, record.id)
    if deployment is not None and deployment.status in ACTIVE_DEPLOYMENTS:
        if not request.field("PolicyOverride", bool, False):
            raise QueryError(400, "job scaling blocked due to active deployment")
    expected = request.field("JobModifyIndex", int, 0)
    scaled = [
        msgspec.structs.replace(one, count=count) if one.name == name else one for one in groups
    ]
    proposal = registered(
        request,
        msgspec.structs.replace(record.job, task_groups=scaled),
        EvalTrigger.SCALING,
        check_index=expected or record.job.job_modify_index,
    )
    register = proposal.commands[0]
    eval_id = register.evaluation.id if register.evaluation is not None else None
    event = _scaling_event(request, group, count=count, is_error=False, eval_id=eval_id)
    noted = RecordScaling(namespace=record.namespace, job_id=record.id, group=name, event=event)
    return Proposal([*proposal.commands, noted], proposal.answer)


def _check_bounds(group: TaskGroup, count: int) -> None:
    """Refuse a count that no job may have, or that is outside the group's `scaling` block.

    Raises:
        QueryError: 400.
    """
    if count > MAX_COUNT:
        raise QueryError(400, f"group count {count} exceeds the limit of {MAX_COUNT}")
    if group.scaling is None:
        return
    low, high = group.scaling.min, group.scaling.max
    if low is not None and count < low:
        raise QueryError(400, f"group count was less than scaling policy minimum: {count} < {low}")
    if high and count > high:
        raise QueryError(
            400, f"group count was greater than scaling policy maximum: {count} > {high}"
        )


def _scaling_note(
    request: Request, record: JobRecord, group: TaskGroup, *, is_error: bool
) -> Proposal:
    """Note an event that changes nothing: what an autoscaler found out, or failed at."""
    event = _scaling_event(request, group, count=None, is_error=is_error, eval_id=None)
    command = RecordScaling(
        namespace=record.namespace, job_id=record.id, group=group.name, event=event
    )

    def answer(applied: Applied) -> Answer:
        checked(applied)
        body = {
            "EvalID": "",
            "EvalCreateIndex": 0,
            "JobModifyIndex": record.job.job_modify_index or 0,
            "Warnings": "",
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return Proposal([command], answer)


def _scaling_event(
    request: Request, group: TaskGroup, *, count: int | None, is_error: bool, eval_id: str | None
) -> dict[str, Any]:
    return {
        "Count": count,
        "PreviousCount": 1 if group.count is None else group.count,
        "Error": is_error,
        "Message": request.field("Message", str, ""),
        "Meta": request.field("Meta", dict, {}) or None,
        "EvalID": eval_id,
    }


ENDPOINTS = {
    "Job.Register": Endpoint(Kind.WRITE, job_register),
    "Job.Plan": Endpoint(Kind.READ, job_plan),
    "Job.Validate": Endpoint(Kind.READ, job_validate),
    "Job.Deregister": Endpoint(Kind.WRITE, job_deregister),
    "Job.Evaluate": Endpoint(Kind.WRITE, job_evaluate),
    "Job.Revert": Endpoint(Kind.WRITE, job_revert),
    "Job.Stable": Endpoint(Kind.WRITE, job_stable),
    "Job.Scale": Endpoint(Kind.WRITE, job_scale),
}
