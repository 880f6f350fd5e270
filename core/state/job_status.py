"""A job's status, by Nomad's rules: pending, running or dead; and a parent's count of them."""

from typing import TYPE_CHECKING

import msgspec

from core.model.job import Job
from core.state.jobs import STATUSES, JobRecord

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State


def settle_jobs(state: "State", context: "Context") -> None:
    """Compute the status of every job that the entry touched, at the entry's end.

    A child's change counts at its parent, whose own status does not depend on it.
    """
    for ordinal in list(context.touched_jobs):
        record = state.jobs.record(ordinal)
        if record is None or record.is_purged:
            continue
        status = job_status(state, record)
        if status == record.status:
            continue
        job = msgspec.structs.replace(record.job, status=status, modify_index=context.index)
        state.jobs.put(msgspec.structs.replace(record, job=job, modify_time_us=context.time_us))
        count_child(state, record, record.status, status, context)
        context.changed("jobs", "JobStatus", record.id, record.namespace)


def job_status(state: "State", record: JobRecord) -> str:
    """Return pending, running or dead, by Nomad's rules."""
    job = record.job
    if runs_until_stopped(job):
        return "dead" if job.stop else "running"
    if state.jobs.live(record) or record.elsewhere:
        return "running"
    if state.evals.open_count(record.namespace, record.id):
        return "pending"
    has_evals = state.evals.has_any(record.namespace, record.id)
    placed = record.group_rows and bool(state.jobs.columns.counts[record.group_rows].any())
    # What it was stays once its evaluations are collected.
    return "dead" if has_evals or placed or job.stop else record.status


def runs_until_stopped(job: Job) -> bool:
    return job.is_template or job.type == "system"


def count_child(
    state: "State", record: JobRecord, before: str | None, after: str | None, context: "Context"
) -> None:
    """Move a child job between its parent's counters."""
    if not record.job.parent_id:
        return
    parent = state.jobs.get(record.namespace, record.job.parent_id)
    if parent is None:
        return
    counts = list(parent.children)
    if before is not None:
        counts[STATUSES.index(before)] -= 1
    if after is not None:
        counts[STATUSES.index(after)] += 1
    pending, running, dead = counts
    state.jobs.put(
        msgspec.structs.replace(
            parent, children=(pending, running, dead), summary_modify_index=context.index
        )
    )
    context.changed("jobs", "JobStatus", parent.id, parent.namespace)
