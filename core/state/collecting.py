"""Garbage collection: forgetting what ended and nobody needs any more."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core.model.allocation import Desired
from core.model.evaluation import Deployment, Evaluation
from core.model.node import NodeStatus
from core.state.allocs import HELD, Rows
from core.state.commands import CollectGarbage
from core.state.job_commands import forget_job, purge_job
from core.state.jobs import JobRecord
from core.state.result import CommandResult
from core.state.rollouts import ACTIVE_DEPLOYMENTS, OPEN_EVALS

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

_RUNS_ONCE = ("batch", "sysbatch")


def collect_garbage(state: "State", command: CollectGarbage, context: "Context") -> CommandResult:
    """Collect allocations, evaluations, deployments, jobs and nodes, in this order.

    `value`: how many of each went.
    """
    return CommandResult(
        value={
            "Allocations": _collect_allocations(state, command, context),
            "Evaluations": _collect_evaluations(state, command.evaluation_before_us, context),
            "Deployments": _collect_deployments(state, command.deployment_before_us, context),
            "Jobs": _collect_jobs(state, command.job_before_us, context),
            "Nodes": _collect_nodes(state, command.node_before_us, context),
        }
    )


def _collect_allocations(state: "State", command: CollectGarbage, context: "Context") -> int:
    """Collect ended allocations that are old and not what the planner decides by.

    The planner needs what it wanted last of an index (was it complete? how often did it
    fail?). It needs none of a job that is stopped, or that is collected by this very command:
    who is looked at again must not run again.
    """
    before_us = command.evaluation_before_us
    columns = state.allocs.columns
    rows = state.allocs.rows()
    rows = rows[~HELD[columns.client[rows]] & (columns.modify_time_us[rows] <= before_us)]
    parts: list[Rows] = []
    for ordinal in np.unique(state.allocs.job_ordinals(rows)).tolist():
        record = state.jobs.record(ordinal)
        assert record is not None
        some = rows[state.allocs.job_ordinals(rows) == ordinal]
        if not (record.is_stopped or _goes_whole(state, record, command, len(some))):
            some = some[_is_superseded(state, record, some)]
        parts.append(some)
    gone = np.sort(np.concatenate(parts)) if parts else rows[:0]
    if not len(gone):
        return 0
    groups = state.jobs.columns
    at = columns.group_row[gone]
    groups.touch(at)
    np.add.at(groups.collected, (at, columns.client[gone]), 1)
    ordinals = np.unique(state.allocs.job_ordinals(gone)).tolist()
    state.allocs.collect(gone)
    context.changed("allocs", "AllocationsCollected")
    for ordinal in ordinals:
        record = state.jobs.record(ordinal)
        if record is not None and record.is_purged and not len(state.allocs.rows_of_job(ordinal)):
            forget_job(state, ordinal)
    return len(gone)


def _goes_whole(state: "State", record: JobRecord, command: CollectGarbage, ended: int) -> bool:
    """Whether a job is forgotten by this command, if `ended` of its allocations are.

    Of a share even the ended ones tell which indices are done: it goes when its home says so.
    """
    evals = state.evals.of_job(record.namespace, record.id)
    return (
        _is_forgettable(state, record, command.job_before_us)
        and ended == len(state.allocs.rows_of_job(record.ordinal))
        and all(_is_closed(each, command.evaluation_before_us) for each in evals)
    )


def _is_forgettable(state: "State", record: JobRecord, before_us: int) -> bool:
    """Whether a job may go as soon as nothing is left of it."""
    return (
        record.status == "dead"
        and not record.home
        and (bool(record.job.stop) or record.job.type in _RUNS_ONCE)
        and record.modify_time_us <= before_us
        and not state.jobs.children_of(record.namespace, record.id)
    )


def _is_superseded(state: "State", record: JobRecord, rows: Rows) -> npt.NDArray[np.bool_]:
    """Return which rows of a living job decide nothing.

    Of an index the newest one decides that the server did not stop: it may stand behind canaries
    that were given up. Of batch jobs the newest stays as well, though it was stopped.
    """
    columns = state.allocs.columns
    stay: list[Rows] = []
    for group_row in record.group_rows:
        front = state.allocs.group_index(group_row).rows.astype(np.int64)
        if record.job.type in _RUNS_ONCE:
            stay.append(front)
        while len(front := front[front >= 0]):
            is_wanted = columns.desired[front] == Desired.RUN
            stay.append(front[is_wanted])
            front = columns.older[front[~is_wanted]].astype(np.int64)
    return ~np.isin(rows, np.concatenate(stay)) if stay else np.ones(len(rows), dtype=bool)


def _collect_evaluations(state: "State", before_us: int, context: "Context") -> int:
    """Collect closed evaluations that no allocation refers to."""
    gone = [
        each
        for each in state.evals.values()
        if _is_closed(each, before_us) and state.allocs.evals.find(each.id) < 0
    ]
    for each in gone:
        state.evals.delete(each.id)
        context.changed("evals", "EvaluationDeleted", each.id, each.namespace)
    return len(gone)


def _is_closed(each: Evaluation, before_us: int) -> bool:
    return each.status not in OPEN_EVALS and each.modify_time_ns <= before_us * 1000


def _collect_deployments(state: "State", before_us: int, context: "Context") -> int:
    """Collect ended deployments that no allocation refers to.

    The newest one of a job that goes on says how its version fared: without it a version that
    failed would be rolled out again.
    """
    gone = [
        each
        for each in state.deployments.values()
        if each.status not in ACTIVE_DEPLOYMENTS
        and each.modify_time_ns <= before_us * 1000
        and state.allocs.deployments.find(each.id) < 0
        and not _is_last_word(state, each)
    ]
    for each in gone:
        state.deployments.delete(each.id)
        context.changed("deployment", "DeploymentDeleted", each.id, each.namespace)
    return len(gone)


def _is_last_word(state: "State", deployment: Deployment) -> bool:
    record = state.jobs.get(deployment.namespace, deployment.job_id)
    newest = state.deployments.latest_of_job(deployment.namespace, deployment.job_id)
    return record is not None and not record.is_stopped and newest is deployment


def _collect_jobs(state: "State", before_us: int, context: "Context") -> int:
    """Collect dead jobs with nothing left of them; a parent never before its children."""
    gone = [
        record
        for record in state.jobs
        if _is_forgettable(state, record, before_us)
        and not len(state.allocs.rows_of_job(record.ordinal))
        and not state.evals.has_any(record.namespace, record.id)
    ]
    for record in gone:
        purge_job(state, state.jobs.record(record.ordinal) or record, context)
        context.changed("jobs", "JobDeregistered", record.id, record.namespace)
    return len(gone)


def _collect_nodes(state: "State", before_us: int, context: "Context") -> int:
    """Collect nodes that are down for long and have no allocation left."""
    gone = []
    for node in state.nodes:
        ordinal = state.nodes.ordinal_of(node.id)
        assert ordinal is not None
        if (
            node.status == NodeStatus.DOWN
            and node.status_updated_at * 1_000_000 <= before_us
            and not len(state.allocs.rows_of_node(ordinal))
        ):
            gone.append(node.id)
    for node_id in gone:
        state.nodes.purge(node_id)
        context.changed("nodes", "NodeDeregistration", node_id)
    return len(gone)
