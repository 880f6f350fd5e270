"""What clients report of their allocations, and what operators ask of them."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from core.model.allocation import ClientStatus
from core.state import accounts
from core.state.commands import AllocUpdate, SetDesiredTransition, UpdateAllocations
from core.state.group_index import NO_ROW
from core.state.health import HealthReport, take_health
from core.state.result import CommandResult
from core.state.rollouts import put_evaluation
from core.state.taking_reports import take_packed

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
    said = update.deployment_status
    if said is not None and said.healthy is not None:
        report = HealthReport(row, said.healthy, said.timestamp, update.deployment_id)
        take_health(state, [report], context)


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
