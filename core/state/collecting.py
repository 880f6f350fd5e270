"""Garbage collection: forgetting what ended and nobody needs any more."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core.model.allocation import Desired
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
            "Allocations": _collect_allocations(state, command.evaluation_before_us, context),
            "Evaluations": _collect_evaluations(state, command.evaluation_before_us, context),
            "Deployments": _collect_deployments(state, command.deployment_before_us, context),
            "Jobs": _collect_jobs(state, command.job_before_us, context),
            "Nodes": _collect_nodes(state, command.node_before_us, context),
        }
    )


def _collect_allocations(state: "State", before_us: int, context: "Context") -> int:
    """Collect ended allocations that are old and not what the planner decides by.

    The planner needs the newest allocation of an index (was it complete? how often did
    it fail?), unless the server stopped that one or the job is dead.
    """
    columns = state.allocs.columns
    rows = state.allocs.rows()
    rows = rows[~HELD[columns.client[rows]] & (columns.modify_time_us[rows] <= before_us)]
    parts: list[Rows] = []
    for ordinal in np.unique(state.allocs.job_ordinals(rows)).tolist():
        record = state.jobs.record(ordinal)
        assert record is not None
        some = rows[state.allocs.job_ordinals(rows) == ordinal]
        # Of a share even the ended ones tell which indices are done: they must not run again.
        if not (record.is_stopped or (record.status == "dead" and not record.home)):
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


def _is_superseded(state: "State", record: JobRecord, rows: Rows) -> npt.NDArray[np.bool_]:
    """Return which rows of a living job have a successor, or were stopped by the server."""
    columns = state.allocs.columns
    newest = np.zeros(len(rows), dtype=bool)
    for group_row in record.group_rows:
        newest |= np.isin(rows, state.allocs.group_index(group_row).rows)
    is_stopped = columns.desired[rows] != Desired.RUN
    runs_once = record.job.type in _RUNS_ONCE
    return ~newest if runs_once else ~newest | is_stopped


def _collect_evaluations(state: "State", before_us: int, context: "Context") -> int:
    """Collect closed evaluations that no allocation refers to."""
    gone = [
        each
        for each in state.evals.values()
        if each.status not in OPEN_EVALS
        and each.modify_time_ns <= before_us * 1000
        and state.allocs.evals.find(each.id) < 0
    ]
    for each in gone:
        state.evals.delete(each.id)
        context.changed("evals", "EvaluationDeleted", each.id, each.namespace)
    return len(gone)


def _collect_deployments(state: "State", before_us: int, context: "Context") -> int:
    """Collect ended deployments that no allocation refers to."""
    gone = [
        each
        for each in state.deployments.values()
        if each.status not in ACTIVE_DEPLOYMENTS
        and each.modify_time_ns <= before_us * 1000
        and state.allocs.deployments.find(each.id) < 0
    ]
    for each in gone:
        state.deployments.delete(each.id)
        context.changed("deployment", "DeploymentDeleted", each.id, each.namespace)
    return len(gone)


def _collect_jobs(state: "State", before_us: int, context: "Context") -> int:
    """Collect dead jobs with nothing left of them; a parent never before its children."""
    gone = [
        record
        for record in state.jobs
        if record.status == "dead"
        and not record.home  # a share is forgotten when its home says so
        and (record.job.stop or record.job.type in _RUNS_ONCE)
        and record.modify_time_us <= before_us
        and not len(state.allocs.rows_of_job(record.ordinal))
        and not state.evals.has_any(record.namespace, record.id)
        and not state.jobs.children_of(record.namespace, record.id)
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
