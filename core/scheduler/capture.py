"""From the state to the scheduler's views: the only module that reads `core.state`.

Columns are copied; records are only referred to, for apply replaces and never edits them.
What is looked at one by one are the rows that are not in plain order: those that failed,
were asked to move, are unknown, or share their index with another that runs.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from core.model.allocation import ClientStatus, Desired
from core.model.evaluation import EvalStatus, EvalTrigger
from core.model.node import Node, NodeStatus
from core.model.units import Units, unit_names
from core.scheduler.allowance import Allowance
from core.scheduler.preempt import PRIORITY_GAP, JobOf, Running
from core.scheduler.view import AllocRows, Ints, JobView, Mask, NodesView, SchedulerConfig
from core.state.alloc_columns import FLAG_CANARY
from core.state.allocs import HELD
from core.state.jobs import JobRecord
from core.state.quotas import left_of

if TYPE_CHECKING:
    from core.state.state import State


def capture_nodes(state: "State", before: NodesView | None = None) -> NodesView:
    """Return the nodes as they are now.

    Args:
        before: An earlier picture of the same state; what did not change since is shared.
    """
    nodes = state.nodes
    version = state.table_index("nodes")
    if before is not None and before.version == version and len(before) == len(nodes):
        return dataclasses.replace(before, **_usage(state))
    class_id = nodes.class_id.astype(np.int64)
    records = [nodes.record(ordinal) for ordinal in range(len(nodes))]
    return NodesView(
        records=records,
        cpu_capacity=nodes.cpu_capacity.copy(),
        memory_capacity=nodes.memory_capacity.copy(),
        disk_capacity=nodes.disk_capacity.copy(),
        is_ready=nodes.is_ready.copy(),
        class_id=class_id,
        class_keys={
            number: nodes.class_key(number)
            for number in np.unique(class_id).tolist()
            if number >= 0
        },
        version=version,
        **_usage(state),
    )


def _usage(state: "State") -> dict[str, Any]:
    nodes = state.nodes
    return {
        "cpu_used": nodes.cpu_used.copy(),
        "memory_used": nodes.memory_used.copy(),
        "disk_used": nodes.disk_used.copy(),
        "ports_used": nodes.ports_by_node(),
        "units_held": _units_by_node(state),
    }


def capture_config(state: "State") -> SchedulerConfig:
    """Return the scheduler's settings."""
    return SchedulerConfig.of(state.scheduler_config)


def capture_allowances(state: "State") -> dict[str, Allowance]:
    """Return what their quotas leave to the namespaces that have one."""
    known = {name: left_of(state, name) for name in state.spent}
    return {name: Allowance(one[0].quota, one[1]) for name, one in known.items() if one}


def capture_job(state: "State", record: JobRecord) -> JobView:
    """Return one job with its allocations."""
    rows = state.allocs.rows_of_job(record.ordinal)
    deployment = state.deployments.latest_of_job(record.namespace, record.id)
    table = _rows(state, rows, deployment.id if deployment is not None else "")
    view = JobView(
        namespace=record.namespace,
        id=record.id,
        uid=record.uid,
        job=None if record.is_purged else record.job,
        datacenter_id=state.allocs.datacenter_id,
        ordinal=record.ordinal,
        group_names=dict(enumerate(record.groups)),
        indices=record.indices,
        rows=table,
        deployment=deployment,
    )
    for name, group_row in zip(record.groups, record.group_rows, strict=True):
        index = state.allocs.group_index(group_row)
        if len(index.indices):
            given = index.indices.astype(np.int64), index.generations.astype(np.int64)
            view.generations[name] = given
    live = (table.desired == Desired.RUN) & (
        (table.client_status <= ClientStatus.RUNNING)
        | (table.client_status == ClientStatus.UNKNOWN)
    )
    if state.evals.open_count(record.namespace, record.id):
        known = state.evals.of_job(record.namespace, record.id)
        view.blocked = [one for one in known if one.status == EvalStatus.BLOCKED]
        view.retries = frozenset(
            one.id
            for one in known
            if one.status == EvalStatus.PENDING
            and one.triggered_by == EvalTrigger.RETRY_FAILED_ALLOC
        )
    if not len(rows):  # of a new job, as most are
        return view
    _add_details(state, view, rows, live)
    _add_versions(state, view, record, live)
    for ordinal in np.unique(table.node[live]).tolist():
        gone = _gone(state.nodes.record(ordinal))
        if gone:
            view.node_gone[ordinal] = gone
    return view


def capture_running(
    state: "State", work: Iterable[JobView], config: SchedulerConfig
) -> Running | None:
    """Return what jobs of the batch may displace; None when none of them may displace anything."""
    most = max(
        (
            one.job.priority or 0
            for one in work
            if one.job is not None and not one.is_stopped and one.job.type in config.preempting
        ),
        default=0,
    )
    if most <= PRIORITY_GAP:
        return None  # as for nearly every batch: the jobs are not even looked through
    jobs = {
        record.ordinal: JobOf(
            record.namespace, record.id, record.job.type or "service", record.job.priority or 50
        )
        for record in state.jobs.records.values()
        if (record.job.priority or 50) <= most - PRIORITY_GAP
    }
    if not jobs:
        return None
    allocs, columns = state.allocs, state.allocs.columns
    rows = allocs.rows()
    rows = rows[allocs.is_live(rows)]
    job_of = state.jobs.columns.job[columns.group_row[rows]].astype(np.int64)
    is_lower = np.isin(job_of, np.array(sorted(jobs), np.int64))
    rows, job_of = rows[is_lower], job_of[is_lower]
    return Running(
        node=columns.node[rows].astype(np.int64),
        asks=allocs.asks(rows),
        job=job_of,
        group=allocs.group_ordinals(rows).astype(np.int64),
        index=columns.index[rows].astype(np.int64),
        generation=columns.generation[rows].astype(np.int64),
        jobs=jobs,
        ports=_ports(state, rows),
        units=_units(state, rows),
        datacenter_id=allocs.datacenter_id,
    )


def _ports(state: "State", rows: Ints) -> dict[int, list[int]]:
    # What rows would free if they went: not what another holds too, until it has ended.
    found: dict[int, list[int]] = {}
    node_of = state.allocs.columns.node
    for at, row in enumerate(rows.tolist()):
        data = state.allocs.ports.get(row)
        if data:
            shared = state.nodes.ports_shared(int(node_of[row]))
            held = np.frombuffer(data, "<i4").tolist()
            found[at] = [port for port in held if not shared >> port & 1]
    return found


def nameless_view(state: "State", namespace: str, job_id: str) -> JobView:
    """Return the view of a job that nobody knows (any more): it wants and has nothing."""
    return JobView(
        namespace=namespace,
        id=job_id,
        uid="",
        job=None,
        datacenter_id=state.allocs.datacenter_id,
        ordinal=0,
        group_names={},
        indices={},
        rows=AllocRows.empty(),
    )


def purged_records(
    state: "State", names: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], list[JobRecord]]:
    """Return the purged jobs that still have allocations, for those of `names`."""
    found: dict[tuple[str, str], list[JobRecord]] = {name: [] for name in names}
    if len(state.jobs.records) == len(state.jobs):
        return found
    for record in state.jobs.records.values():
        name = record.namespace, record.id
        if record.is_purged and name in found:
            found[name].append(record)
    return found


def _rows(state: "State", rows: Ints, deployment_id: str) -> AllocRows:
    if not len(rows):
        return AllocRows.empty()
    allocs, columns = state.allocs, state.allocs.columns
    group_row = columns.group_row[rows]
    newest = np.zeros(len(rows), np.bool_)
    for group in np.unique(group_row).tolist():
        front = allocs.group_index(group).rows
        newest |= np.isin(rows, front[front >= 0])
    health = np.full(len(rows), -1, np.int64)
    ordinal = allocs.deployments.find(deployment_id) if deployment_id else -1
    is_deployed = (columns.deployment[rows] == ordinal) & (ordinal >= 0)
    for at in np.flatnonzero(is_deployed).tolist():
        extras = allocs.extras.get(int(rows[at]))
        status = extras.deployment_status if extras is not None else None
        if status is not None and status.healthy is not None:
            health[at] = int(status.healthy)
    return AllocRows(
        group=allocs.group_ordinals(rows).astype(np.int64),
        index=columns.index[rows].astype(np.int64),
        generation=columns.generation[rows].astype(np.int64),
        node=columns.node[rows].astype(np.int64),
        desired=columns.desired[rows].astype(np.int64),
        client_status=columns.client[rows].astype(np.int64),
        job_version=columns.job_version[rows].astype(np.int64),
        health=health,
        is_deployed=is_deployed,
        is_newest=newest,
        is_canary=(columns.flags[rows] & FLAG_CANARY) != 0,
        asks=allocs.asks(rows),
        ports=_ports(state, rows),
        units=_units(state, rows),
    )


def _units(state: "State", rows: Ints) -> dict[int, frozenset[str]]:
    # What rows would free if they went, as `_ports`. Few allocations hold any.
    allocs = state.allocs
    if not len(allocs.units):
        return {}
    found: dict[int, frozenset[str]] = {}
    held: dict[int, Counter[str]] = {}  # by node: how many hold a name
    for at, row in enumerate(rows.tolist()):
        units = allocs.units.get(row)
        if not units:
            continue
        node = int(allocs.columns.node[row])
        if node not in held:
            held[node] = Counter(name for one in _holding(state, node) for name in unit_names(one))
        found[at] = frozenset(name for name in unit_names(units) if held[node][name] < 2)
    return found


def _holding(state: "State", node: int) -> list[Units]:
    allocs = state.allocs
    rows = allocs.rows_of_node(node)
    known = [allocs.units.get(row) for row in rows[HELD[allocs.columns.client[rows]]].tolist()]
    return [units for units in known if units]


def _units_by_node(state: "State") -> dict[int, frozenset[str]]:
    # Few allocations hold any; those that hold none cost nothing here.
    columns = state.allocs.columns
    held: dict[int, set[str]] = {}
    for row, units in state.allocs.units.items():
        if HELD[columns.client[row]]:
            held.setdefault(int(columns.node[row]), set()).update(unit_names(units))
    return {node: frozenset(names) for node, names in held.items()}


def _add_details(state: "State", view: JobView, rows: Ints, live: Mask) -> None:
    table, extras = view.rows, state.allocs.extras
    is_open = table.desired == Desired.RUN
    closer = is_open & (
        (table.client_status == ClientStatus.FAILED) | (table.client_status == ClientStatus.UNKNOWN)
    )
    shared = _shared(table, live)
    for at in np.flatnonzero(shared).tolist():
        view.scores[at] = float(state.allocs.columns.score[rows[at]])
    closer |= shared
    for at in np.flatnonzero(closer | live).tolist():
        extra = extras.get(int(rows[at]))
        transition = extra.transition if extra is not None else None
        is_moved = transition is not None and bool(
            transition.migrate or transition.reschedule or transition.force_reschedule
        )
        if closer[at] or is_moved:
            view.details[at] = state.allocs.allocation(int(rows[at]))


def _shared(table: AllocRows, live: Mask) -> Mask:
    # The live rows of an index of which an older generation runs too: its client is back.
    older = live & ~table.is_newest & ~table.is_canary
    if not older.any():
        return older
    place = (table.group << 32) | table.index
    result: Mask = live & np.isin(place, place[older])
    return result


def _add_versions(state: "State", view: JobView, record: JobRecord, live: Mask) -> None:
    table = view.rows
    failed = (table.desired == Desired.RUN) & (table.client_status == ClientStatus.FAILED)
    # What is lost may come back in its version, while canaries are tried out: also what stands
    # behind a canary that ended itself.
    tried = table.is_newest & table.is_canary
    place = (table.group << 32) | table.index
    closer = live | failed | table.is_newest
    if tried.any():
        closer |= np.isin(place, place[tried])
    for version in np.unique(table.job_version[closer]).tolist():
        job = state.jobs.version(record.ordinal, version)
        if job is not None:
            view.versions[version] = job


def _gone(node: Node | None) -> str:
    if node is None or node.status == NodeStatus.DOWN:
        return "down"
    return "disconnected" if node.status == NodeStatus.DISCONNECTED else ""
