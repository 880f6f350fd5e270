"""Job.*: what is known of jobs. Changing them is in registration.py."""

import itertools
from typing import Any

import numpy as np

from core.federation.rollout_log import find_rollout
from core.federation.submitting import described
from core.jobspec import diff_jobs
from core.model.allocation import AllocDeploymentStatus
from core.model.job import Job
from core.model.query import Answer
from core.server import lookups, views
from core.server.endpoints.allocations import listed_allocs
from core.server.endpoints.shared import on_namespace
from core.server.listing import listed, plain
from core.server.request import Endpoint, Kind, QueryError, Request
from core.state.jobs import JobRecord
from core.state.scaling import events_of


def job_list(request: Request) -> Answer:
    state = request.state
    has_meta = request.flag("meta")
    region = request.text("submitted_to")  # asked for another region's list: only its own
    # A part of a job is listed where its home is; here only if this datacenter is meant.
    with_parts = bool(request.query.datacenter) and not request.query.is_part
    return listed(
        request,
        [
            record
            for record in state.jobs
            if on_namespace(request, record.namespace)
            and (with_parts or not record.home)
            and (not region or record.job.region in (region, "*"))
        ],
        key=lambda record: f"{record.namespace}.{record.id}",
        show=lambda record: views.job_stub(
            record.job, state.jobs.summary(record), has_meta=has_meta
        ),
        prefix_of=lambda record: record.id,
        filtered_as=lambda record: plain(record.job),
        index=max(state.table_index("jobs"), state.table_index("allocs")),
    )


def job_get(request: Request) -> Answer:
    record = job_of(request)
    return Answer(body=record.job, index=record.job.modify_index or 1)


def job_allocations(request: Request) -> Answer:
    """List a job's allocations; those of an earlier job of that name only with `all`."""
    record = job_or_none(request)
    if record is None:
        return Answer(body=[], index=max(1, request.state.table_index("allocs")))
    allocs = lookups.allocs_of_job(request.state, record)
    return listed_allocs(request, allocs, max(1, request.state.jobs.allocs_index(record)))


def job_evaluations(request: Request) -> Answer:
    found = request.state.evals.of_job(request.query.namespace, request.required("job_id"))
    newest_first = sorted(found, key=lambda one: (one.create_index, one.id), reverse=True)
    index = max((one.modify_index for one in found), default=request.state.table_index("evals"))
    return Answer(body=newest_first, index=index)


def job_deployments(request: Request) -> Answer:
    found = request.state.deployments.of_job(request.query.namespace, request.required("job_id"))
    newest_first = sorted(found, key=lambda one: (one.create_index, one.id), reverse=True)
    return Answer(body=newest_first, index=request.state.table_index("deployment"))


def job_latest_deployment(request: Request) -> Answer:
    latest = request.state.deployments.latest_of_job(
        request.query.namespace, request.required("job_id")
    )
    index = latest.modify_index if latest else request.state.table_index("deployment")
    return Answer(body=latest, index=index)


def job_rollout(request: Request) -> Answer:
    """Return the rollout of a job over several regions, as its coordinator has it."""
    namespace, job_id = request.query.namespace, request.required("job_id")
    found = find_rollout(request.state, namespace, job_id)
    if found is None:
        raise QueryError(404, f"job {job_id!r} has no rollout over several regions")
    return Answer(body=described(found), index=request.state.table_index("multiregion"))


def job_summary(request: Request) -> Answer:
    record = job_of(request)
    summary = request.state.jobs.summary(record)
    return Answer(body=summary, index=summary.modify_index)


def job_versions(request: Request) -> Answer:
    namespace, job_id = request.query.namespace, request.required("job_id")
    versions = request.state.jobs.versions(namespace, job_id)
    if not versions:
        raise QueryError(404, "job versions not found")
    diffs: list[Any] | None = None
    if request.flag("diffs"):
        base = _diff_base(request, versions)
        if base is None:
            diffs = [diff_jobs(old, new) for new, old in itertools.pairwise(versions)]
        else:
            diffs = [diff_jobs(base, one) for one in versions]
    body = {"Versions": versions, "Diffs": diffs}
    return Answer(body=body, index=versions[0].modify_index or 1)


def _diff_base(request: Request, versions: list[Job]) -> Job | None:
    """Return what every version is compared with; None: with the one before it.

    Raises:
        QueryError: 404, there is no such version or tag.
    """
    tag, number = request.text("diff_tag"), request.text("diff_version")
    if not tag and not number:
        return None
    wanted = request.number("diff_version") if number else -1
    for job in versions:
        if job.version == wanted or (tag and (job.version_tag or {}).get("Name") == tag):
            return job
    raise QueryError(404, f"there is no version {tag or number} to compare with")


def job_submission(request: Request) -> Answer:
    record = job_of(request)
    version = request.number("version", record.version)
    found = record.submissions.get(version)
    if found is None:
        raise QueryError(404, "job source not found")
    body = {
        **found,
        "JobID": record.id,
        "Namespace": record.namespace,
        "Version": version,
        "JobModifyIndex": record.job.job_modify_index,
    }
    return Answer(body=body, index=record.job.modify_index or 1)


def job_services(request: Request) -> Answer:
    found = request.state.services.of_job(request.query.namespace, request.required("job_id"))
    return Answer(
        body=sorted(found, key=lambda one: one.id), index=request.state.table_index("services")
    )


def job_scale_status(request: Request) -> Answer:
    record = job_of(request)
    state = request.state
    events = events_of(state, record.namespace, record.id)
    groups = {
        group.name: {
            "Desired": 0 if record.is_stopped else _count(group.count),
            **_group_numbers(request, record, group.name),
            "Events": events.get(group.name) or [],
        }
        for group in record.job.task_groups or []
    }
    body = {
        "JobID": record.id,
        "Namespace": record.namespace,
        "JobCreateIndex": record.job.create_index,
        "JobModifyIndex": record.job.job_modify_index,
        "JobStopped": record.is_stopped,
        "TaskGroups": groups,
    }
    index = max(
        record.job.modify_index or 1,
        state.jobs.allocs_index(record),
        *(event["CreateIndex"] for found in events.values() for event in found[:1]),
    )
    return Answer(body=body, index=index)


def _count(count: int | None) -> int:
    return 1 if count is None else count


def _group_numbers(request: Request, record: JobRecord, group: str) -> dict[str, int]:
    """Return how many of a group's allocations are placed, running, healthy, unhealthy."""
    allocs = request.state.allocs
    rows = allocs.rows_of_job(record.ordinal, group)
    rows = rows[allocs.is_live(rows)]
    running = int(np.count_nonzero(allocs.columns.client[rows] == 1))
    healthy = unhealthy = 0
    for row in rows.tolist():
        extras = allocs.extras.get(row)
        status: AllocDeploymentStatus | None = extras.deployment_status if extras else None
        if status is not None and status.healthy is not None:
            healthy += status.healthy
            unhealthy += not status.healthy
    return {"Placed": len(rows), "Running": running, "Healthy": healthy, "Unhealthy": unhealthy}


# --- finding ----------------------------------------------------------------------------


def job_of(request: Request) -> JobRecord:
    """Return the job that `job_id` names.

    Raises:
        QueryError: 404.
    """
    return lookups.job_record(request.state, request.query.namespace, request.required("job_id"))


def job_or_none(request: Request) -> JobRecord | None:
    return request.state.jobs.get(request.query.namespace, request.required("job_id"))


def version_of(request: Request, record: JobRecord, version: int) -> Job:
    """Return a kept version of a job.

    Raises:
        QueryError: 404.
    """
    job = request.state.jobs.version(record.ordinal, version)
    if job is None:
        raise QueryError(404, f"job {record.id!r} in namespace {record.namespace!r} at version"
                              f" {version} not found")  # fmt: skip
    return job


def _watch_jobs(request: Request) -> tuple[str, ...]:
    return ("jobs", "allocs")


def watch_job(request: Request) -> tuple[str, ...]:
    return (f"job:{request.query.namespace}/{request.text('job_id')}",)


ENDPOINTS = {
    "Job.List": Endpoint(Kind.READ, job_list, watches=_watch_jobs),
    "Job.Get": Endpoint(Kind.READ, job_get, watches=watch_job),
    "Job.Allocations": Endpoint(Kind.READ, job_allocations, watches=watch_job),
    "Job.Evaluations": Endpoint(Kind.READ, job_evaluations, watches=watch_job),
    "Job.Deployments": Endpoint(Kind.READ, job_deployments, watches=watch_job),
    "Job.LatestDeployment": Endpoint(Kind.READ, job_latest_deployment, watches=watch_job),
    "Job.Rollout": Endpoint(Kind.READ, job_rollout, watches=lambda request: ("multiregion",)),
    "Job.Summary": Endpoint(Kind.READ, job_summary, watches=watch_job),
    "Job.Versions": Endpoint(Kind.READ, job_versions, watches=watch_job),
    "Job.Submission": Endpoint(Kind.READ, job_submission, watches=watch_job),
    "Job.Services": Endpoint(Kind.READ, job_services, watches=lambda request: ("services",)),
    "Job.ScaleStatus": Endpoint(Kind.READ, job_scale_status, watches=watch_job),
}
