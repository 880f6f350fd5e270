"""Applying plans: stops, in-place updates, placements, deployment, evaluations."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core.model.allocation import AllocDeploymentStatus, ClientStatus
from core.model.evaluation import EvalTrigger, Evaluation
from core.model.ids import derived_id
from core.model.plan import AllocStop, Plan
from core.state import accounts
from core.state.allocs import FLAG_CANARY, HELD
from core.state.commands import ApplyPlans
from core.state.jobs import JobRecord
from core.state.plain_plans import PlainRun
from core.state.plan_check import BatchRows, check_plan, port_mask
from core.state.resources import ask_of
from core.state.result import CommandResult, PlanResult
from core.state.rollouts import count_placed, may_plan_write, put_deployment, put_evaluation

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

Ints = npt.NDArray[np.int64]


def apply_plans(state: "State", command: ApplyPlans, context: "Context") -> CommandResult:
    """Apply each plan as far as it holds. `value`: a `PlanResult` per plan."""
    results: list[PlanResult] = []
    run = PlainRun(state, context)
    for number, plan in enumerate(command.plans):
        result = run.take(plan, number)
        if result is None:
            run.flush()
            result = _apply_plan(state, plan, number, context)
        results.append(result)
    run.flush()
    for plan, result in zip(command.plans, results, strict=True):
        if result.dropped or result.withheld_stops or result.refused_in_place:
            _plan_again(state, plan, context)
    return CommandResult(value=results)


def _plan_again(state: "State", plan: Plan, context: "Context") -> None:
    """Have a plan's job looked at again: something of the plan no longer held.

    By the same entry, for whoever planned may not be there any more to learn of it.
    """
    record = state.jobs.by_uid(plan.job_uid)
    finished = state.evals.get(plan.eval_id)
    if record is None or record.is_purged or finished is None:
        return
    again = Evaluation(
        id=derived_id(f"{plan.eval_id}/{context.index}", state.datacenter_id),
        priority=finished.priority,
        type=record.job.type or "service",
        triggered_by=EvalTrigger.MAX_PLANS,
        namespace=record.namespace,
        job_id=record.id,
        job_modify_index=record.job.job_modify_index or 0,
        previous_eval=finished.id,
    )
    put_evaluation(state, again, context)


def _apply_plan(state: "State", plan: Plan, number: int, context: "Context") -> PlanResult:
    record = state.jobs.by_uid(plan.job_uid)
    try:
        if record is not None:
            names = [batch.group for batch in plan.placements]
            known = {group.name for group in record.job.task_groups or []} | set(record.groups)
            if unknown := [name for name in names if name not in known]:
                return PlanResult(
                    eval_id=plan.eval_id, error=f"job {record.id!r} has no group {unknown[0]!r}"
                )
        checked = check_plan(state, record, plan)
    except ValueError as error:
        return PlanResult(eval_id=plan.eval_id, error=str(error))
    if plan.deployment is not None and may_plan_write(state, plan.deployment):
        put_deployment(state, plan.deployment, context)
    for row, stop in checked.stops:
        _stop(state, row, stop, context)
    refused = _update_in_place(state, plan, checked.in_place, context)
    placed = 0
    for rows, codes in zip(checked.batches, checked.codes, strict=True):
        if record is not None and (accepted := np.flatnonzero(codes == 0)).size:
            _place(state, record, plan, rows, accepted, context)
            placed += accepted.size
    _note_preempted(state, plan)
    for evaluation in plan.evaluations:
        put_evaluation(state, evaluation, context)
    return PlanResult(
        eval_id=plan.eval_id,
        placed=placed,
        dropped=checked.dropped(number),
        withheld_stops=checked.withheld,
        refused_in_place=refused,
    )


def _stop(state: "State", row: int, stop: AllocStop, context: "Context") -> None:
    """Carry out one stop. A client that is done already keeps its last word."""
    columns = state.allocs.columns
    rows = np.array([row], dtype=np.int64)
    client = None
    if stop.client_status is not None and HELD[columns.client[row]]:
        client = np.array([stop.client_status], dtype=np.uint8)
    accounts.move(
        state, rows, context, client=client, desired=np.array([stop.desired], dtype=np.uint8)
    )
    columns.alloc_modify_index[row] = context.index
    state.allocs.set_text("desired_text", row, stop.description)
    if client is not None:
        status = ClientStatus(stop.client_status or 0)
        state.allocs.set_text("client_text", row, f"alloc is {status.name.lower()}")
    if stop.followup_eval_id or stop.preempted_by:
        changes = {}
        if stop.followup_eval_id:
            changes["followup_eval_id"] = stop.followup_eval_id
        if stop.preempted_by:
            changes["preempted_by"] = stop.preempted_by
        state.allocs.change_extras(row, **changes)
    context.changed("allocs", "AllocationUpdateDesiredStatus", rows=rows)


def _update_in_place(
    state: "State", plan: Plan, is_ok: list[bool], context: "Context"
) -> list[str]:
    """Carry out the in-place updates that hold; return the ids of the others."""
    allocs, columns = state.allocs, state.allocs.columns
    done: list[int] = []
    refused = []
    for update, ok in zip(plan.in_place, is_ok, strict=True):
        row = allocs.row_of(update.alloc_id)
        if not ok or row is None:
            refused.append(update.alloc_id)
            continue
        rows = np.array([row], dtype=np.int64)
        columns.touch(row)
        old = columns.resources[rows].copy()
        more = np.array([ask_of(update.resources)], dtype=np.int64) - allocs.asks(rows)
        columns.resources[row] = allocs.resources.ordinal(update.resources, 1)
        allocs.release_resources(old)
        accounts.hold(state, rows, more)
        if columns.job_version[row] != update.job_version:
            columns.flags[row] &= np.uint8(255 - FLAG_CANARY)  # it was one of another version
        columns.job_version[row] = update.job_version
        old_deployment = int(columns.deployment[row])
        if update.deployment_id:
            columns.deployment[row] = allocs.deployments.ordinal(update.deployment_id, 1)
            if old_deployment >= 0:
                allocs.deployments.drop(old_deployment, 1)
            if columns.deployment[row] != old_deployment:
                allocs.change_extras(row, deployment_status=None)
                group = allocs.job_record(row).groups[allocs.key_of(row).group]
                count_placed(state, update.deployment_id, group, 1, [], context)
        columns.alloc_modify_index[row] = context.index
        done.append(row)
    if done:
        rows = np.array(done, dtype=np.int64)
        accounts.move(state, rows, context, desired=columns.desired[rows].copy())
        context.changed("allocs", "PlanResult", rows=rows)
    return refused


def _place(
    state: "State",
    record: JobRecord,
    plan: Plan,
    batch_rows: BatchRows,
    accepted: Ints,
    context: "Context",
) -> None:
    """Make the accepted rows of a batch allocations, column by column."""
    batch, allocs = batch_rows.batch, state.allocs
    current = state.jobs.record(record.ordinal)
    assert current is not None
    grown = state.jobs.with_groups(current, [batch.group])
    if grown is not current:
        state.jobs.put(grown)
    group_row = grown.group_rows[grown.groups.index(batch.group)]
    count = len(accepted)
    rows = allocs.append(count)
    columns = allocs.columns
    columns.group_row[rows] = group_row
    columns.index[rows] = batch_rows.index[accepted]
    columns.generation[rows] = batch_rows.generation[accepted]
    columns.node[rows] = batch_rows.node[accepted]
    columns.job_version[rows] = batch.job_version
    columns.eval[rows] = allocs.evals.ordinal(plan.eval_id, count)
    columns.resources[rows] = allocs.resources.ordinal(batch.resources, count)
    if batch.metrics is not None:
        columns.metrics[rows] = allocs.metrics.ordinal(batch.metrics, count)
    if batch.scores:
        columns.score[rows] = np.frombuffer(batch.scores, dtype="<f4")[accepted]
    if batch.canary:
        columns.flags[rows] |= np.uint8(FLAG_CANARY)
    for name in ("create_index", "modify_index", "alloc_modify_index"):
        getattr(columns, name)[rows] = context.index
    columns.create_time_us[rows] = context.time_us
    columns.modify_time_us[rows] = context.time_us
    allocs.link(rows)
    accounts.enter(
        state, rows, np.broadcast_to(np.array(batch_rows.ask, dtype=np.int64), (count, 3)), context
    )
    _place_ports(state, batch_rows, accepted, rows)
    if batch.units:
        allocs.units.put_many(rows.tolist(), [batch.units[at] for at in accepted.tolist()])
    _place_extras(state, batch_rows, accepted, rows, context)
    if batch.deployment_id:
        columns.deployment[rows] = allocs.deployments.ordinal(batch.deployment_id, count)
        canaries = [allocs.id_of(row) for row in rows.tolist()] if batch.canary else []
        count_placed(state, batch.deployment_id, batch.group, count, canaries, context)
    groups = state.jobs.columns
    groups.queued[group_row] = max(0, int(groups.queued[group_row]) - count)
    context.changed("allocs", "PlanResult", rows=rows)


def _place_ports(state: "State", batch_rows: BatchRows, accepted: Ints, rows: Ints) -> None:
    batch, allocs = batch_rows.batch, state.allocs
    if not batch.port_asks:
        return
    allocs.columns.port_asks[rows] = allocs.port_asks.ordinal(batch.port_asks, len(rows))
    packed = batch_rows.ports.astype("<i4")
    for row, source in zip(rows.tolist(), accepted.tolist(), strict=True):
        allocs.ports.put(row, packed[source].tobytes())
        mask = port_mask(packed[source].tolist())
        assert mask is not None, "the check let a bad port pass"
        state.nodes.take_ports(int(batch_rows.node[source]), mask)


def _place_extras(
    state: "State", batch_rows: BatchRows, accepted: Ints, rows: Ints, context: "Context"
) -> None:
    """Keep what only some placements have: predecessor, tracker, canary status."""
    batch, allocs = batch_rows.batch, state.allocs
    if not (batch.previous or batch.trackers or batch.canary):
        return
    follows = []
    for row, source in zip(rows.tolist(), accepted.tolist(), strict=True):
        previous = batch.previous[source] if batch.previous else ""
        tracker = batch.trackers.get(source)
        status = AllocDeploymentStatus(canary=True) if batch.canary else None
        if not (previous or tracker or status):
            continue
        allocs.change_extras(row, previous=previous, tracker=tracker, deployment_status=status)
        before = allocs.row_of(previous) if previous else None
        if before is not None and not batch.canary:
            allocs.change_extras(before, next=allocs.id_of(row))
            follows.append(before)
    if follows:
        changed = np.unique(np.array(follows, dtype=np.int64))
        accounts.move(state, changed, context, desired=allocs.columns.desired[changed].copy())


def _note_preempted(state: "State", plan: Plan) -> None:
    victims: dict[str, list[str]] = {}
    for stop in plan.stops:
        if stop.preempted_by:
            victims.setdefault(stop.preempted_by, []).append(stop.alloc_id)
    for winner, ids in victims.items():
        row = state.allocs.row_of(winner)
        if row is not None:
            state.allocs.change_extras(row, preempted=ids)
