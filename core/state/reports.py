"""What clients report of their allocations, and what operators ask of them."""

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from core.model.allocation import AllocDeploymentStatus, ClientStatus
from core.model.evaluation import Deployment
from core.model.instant import ZERO_TIME, ns_of_rfc3339, rfc3339_of_ns
from core.state import accounts
from core.state.allocs import FLAG_CANARY
from core.state.commands import AllocUpdate, SetDesiredTransition, UpdateAllocations
from core.state.group_index import NO_ROW
from core.state.packed_reports import take_packed
from core.state.result import CommandResult
from core.state.rollouts import ACTIVE_DEPLOYMENTS, put_evaluation

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

_FINAL = frozenset({ClientStatus.COMPLETE, ClientStatus.FAILED})
_STATUSES = frozenset(ClientStatus)


def update_allocations(
    state: "State", command: UpdateAllocations, context: "Context"
) -> CommandResult:
    """Take in reports. `value`: how many were of allocations that the state knows.

    A client's word that an allocation is complete or failed is final: a later report
    that it runs is an old one and is skipped. Lost and unknown are the servers' guesses,
    and the client's word goes over them; a lost allocation that turns out to run holds
    its resources again.
    """
    columns, allocs = state.allocs.columns, state.allocs
    statuses: dict[int, int] = {}
    rows_of = allocs.rows_of([update.alloc_id for update in command.updates]).tolist()
    for update, row in zip(command.updates, rows_of, strict=True):
        if row == NO_ROW or update.client_status not in _STATUSES:
            continue
        if row not in statuses:
            columns.touch(row)
        known = statuses.get(row, int(columns.client[row]))
        if known in _FINAL and update.client_status not in _FINAL:
            continue
        statuses[row] = update.client_status
        _take(state, row, update, context)
    if statuses:
        rows = np.fromiter(statuses.keys(), dtype=np.int64, count=len(statuses))
        client = np.fromiter(statuses.values(), dtype=np.uint8, count=len(statuses))
        accounts.move(state, rows, context, client=client)
        context.changed("allocs", "AllocationUpdated", rows=rows)
    count = len(statuses)
    if command.packed is not None:
        count += take_packed(state, command.packed, context)
    for evaluation in command.evaluations:
        put_evaluation(state, evaluation, context)
    return CommandResult(value=count)


def _take(state: "State", row: int, update: AllocUpdate, context: "Context") -> None:
    """Keep all of a report but the status."""
    allocs, columns = state.allocs, state.allocs.columns
    allocs.set_text("client_text", row, update.client_description)
    if update.task_states is not None:
        columns.task_shape[row] = allocs.states.put(
            row, int(columns.task_shape[row]), update.task_states
        )
    if update.network_status is not None:
        allocs.change_extras(row, network_status=update.network_status)
    if update.deployment_status is not None:
        _take_health(state, row, update, update.deployment_status, context)


def _take_health(
    state: "State", row: int, update: AllocUpdate, said: AllocDeploymentStatus, context: "Context"
) -> None:
    allocs = state.allocs
    ordinal = int(allocs.columns.deployment[row])
    if update.deployment_id and (
        ordinal < 0 or allocs.deployments.get(ordinal) != update.deployment_id
    ):
        return  # seen for an earlier deployment: it says nothing of this one
    extras = allocs.extras.get(row)
    old = extras.deployment_status if extras is not None else None
    was = old.healthy if old is not None else None
    if said.healthy is None or said.healthy == was:
        return
    allocs.change_extras(
        row,
        deployment_status=msgspec.structs.replace(
            said,
            canary=bool(allocs.columns.flags[row] & FLAG_CANARY),
            modify_index=context.index,
        ),
    )
    if ordinal < 0:
        return
    deployment = state.deployments.get(allocs.deployments.get(ordinal))
    if deployment is not None and deployment.status in ACTIVE_DEPLOYMENTS:
        group = allocs.job_record(row).groups[allocs.key_of(row).group]
        _count_health(state, deployment, group, was, said, context)


def _count_health(
    state: "State",
    deployment: Deployment,
    group: str,
    was: bool | None,
    said: AllocDeploymentStatus,
    context: "Context",
) -> None:
    """Move the deployment's counters; a healthy allocation restarts the progress deadline."""
    groups = dict(deployment.task_groups or {})
    if group not in groups:
        return
    old = groups[group]
    require_by = old.require_progress_by
    if said.healthy and old.progress_deadline_ns:
        at_ns = context.time_ns
        if said.timestamp not in {"", ZERO_TIME}:
            with suppress(ValueError):  # a client's text: without it log time will do
                at_ns = min(at_ns, ns_of_rfc3339(said.timestamp))
        require_by = max(require_by, rfc3339_of_ns(at_ns + old.progress_deadline_ns))
    groups[group] = msgspec.structs.replace(
        old,
        healthy_allocs=old.healthy_allocs + (said.healthy is True) - (was is True),
        unhealthy_allocs=old.unhealthy_allocs + (said.healthy is False) - (was is False),
        require_progress_by=require_by,
    )
    state.deployments.put(
        deployment.id,
        msgspec.structs.replace(
            deployment,
            task_groups=groups,
            modify_index=context.index,
            modify_time_ns=context.time_ns,
        ),
    )
    context.changed("deployment", "DeploymentAllocHealth", deployment.id, deployment.namespace)


def set_desired_transition(
    state: "State", command: SetDesiredTransition, context: "Context"
) -> CommandResult:
    """Ask the planner to move allocations; what is asked twice keeps what was said first."""
    allocs = state.allocs
    found: list[int] = []
    missing: list[str] = []
    for alloc, transition in command.transitions.items():
        row = allocs.row_of(alloc)
        if row is None:
            missing.append(alloc)
            continue
        extras = allocs.extras.get(row)
        old = extras.transition if extras is not None else None
        if old is not None:
            merged = {
                name: value
                for name in old.__struct_fields__
                if (value := getattr(transition, name)) is not None
            }
            transition = msgspec.structs.replace(old, **merged)
        allocs.change_extras(row, transition=transition)
        found.append(row)
    if found:
        rows = np.unique(np.array(found, dtype=np.int64))
        accounts.move(state, rows, context, desired=allocs.columns.desired[rows].copy())
        allocs.columns.alloc_modify_index[rows] = context.index
        context.changed("allocs", "AllocationUpdateDesiredStatus", rows=rows)
    for evaluation in command.evaluations:
        put_evaluation(state, evaluation, context)
    if missing and not found:
        return CommandResult(error="alloc not found", status=404)
    return CommandResult()
