"""One row of the allocation table made whole: the record that API, client and scheduler see."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from core.model.allocation import (
    AllocatedResources,
    Allocation,
    AllocDeploymentStatus,
    ClientStatus,
    Desired,
    DesiredTransition,
    PortMapping,
)
from core.model.ids import alloc_id
from core.model.units import Units, allocated_devices
from core.state.alloc_columns import FLAG_CANARY

if TYPE_CHECKING:
    from core.state.allocs import AllocTable
    from core.state.nodes import NodeTable

DESIRED_NAMES = {each: each.name.lower() for each in Desired}
CLIENT_NAMES = {each: each.name.lower() for each in ClientStatus}


def allocation(table: "AllocTable", nodes: "NodeTable", row: int) -> Allocation:
    """Return the row as a record, with the job of its version (None when not kept)."""
    columns = table.columns
    record = table.job_record(row)
    key = table.key_of(row)
    group = record.groups[key.group]
    node = nodes.record(int(columns.node[row]))
    extras = table.extras.get(row)
    version = int(columns.job_version[row])
    job = next((j for j in (record.job, *record.older) if j.version == version), None)
    metrics, deployment = int(columns.metrics[row]), int(columns.deployment[row])
    whole = Allocation(
        id=alloc_id(key, table.datacenter_id),
        namespace=record.namespace,
        eval_id=table.evals.get(int(columns.eval[row])),
        name=f"{record.id}.{group}[{key.index}]",
        node_id=node.id if node else "",
        node_name=node.name if node else "",
        job_id=record.id,
        job=job,
        task_group=group,
        index=key.index,
        generation=key.generation,
        job_version=version,
        allocated_resources=_resources(table, nodes, row),
        metrics=table.metrics.get(metrics) if metrics >= 0 else None,
        desired_status=DESIRED_NAMES[Desired(int(columns.desired[row]))],
        desired_description=_text(table, int(columns.desired_text[row])),
        client_status=CLIENT_NAMES[ClientStatus(int(columns.client[row]))],
        client_description=_text(table, int(columns.client_text[row])),
        task_states=table.states.get(row, int(columns.task_shape[row])),
        deployment_id=table.deployments.get(deployment) if deployment >= 0 else "",
        create_index=int(columns.create_index[row]),
        modify_index=int(columns.modify_index[row]),
        alloc_modify_index=int(columns.alloc_modify_index[row]),
        create_time_ns=int(columns.create_time_us[row]) * 1000,
        modify_time_ns=int(columns.modify_time_us[row]) * 1000,
    )
    if extras is None:
        return whole
    status = extras.deployment_status
    if status is None and columns.flags[row] & FLAG_CANARY:
        status = AllocDeploymentStatus(canary=True)
    return msgspec.structs.replace(
        whole,
        previous_allocation=extras.previous,
        next_allocation=extras.next,
        followup_eval_id=extras.followup_eval_id,
        desired_transition=extras.transition or DesiredTransition(),
        reschedule_tracker=extras.tracker,
        deployment_status=status,
        network_status=extras.network_status,
        preempted_by_allocation=extras.preempted_by,
        preempted_allocations=extras.preempted,
    )


def ports_of(table: "AllocTable", nodes: "NodeTable", row: int) -> list[PortMapping]:
    """Return the host ports of a row with their labels."""
    data, asks = table.ports.get(row), int(table.columns.port_asks[row])
    if not data or asks < 0:
        return []
    node = nodes.record(int(table.columns.node[row]))
    networks = (node.node_resources.networks if node else None) or []
    host_ip = next((network.ip for network in networks if network.ip), "")
    return [
        PortMapping(label=ask.label, value=value, to=ask.to, host_ip=host_ip)
        for ask, value in zip(
            table.port_asks.get(asks), np.frombuffer(data, dtype="<i4").tolist(), strict=True
        )
    ]


def _resources(table: "AllocTable", nodes: "NodeTable", row: int) -> AllocatedResources:
    resources = table.resources.get(int(table.columns.resources[row]))
    units = table.units.get(row)
    if units:
        resources = _with_units(resources, units)
    ports = ports_of(table, nodes, row)
    if not ports:
        return resources
    shared = msgspec.structs.replace(resources.shared, ports=ports)
    return msgspec.structs.replace(resources, shared=shared)


def _with_units(resources: AllocatedResources, units: Units) -> AllocatedResources:
    tasks = dict(resources.tasks)
    for name, held in units.items():
        task = tasks.get(name)
        if task is not None:
            tasks[name] = msgspec.structs.replace(
                task,
                cpu=msgspec.structs.replace(task.cpu, reserved_cores=list(held.cores) or None),
                devices=allocated_devices(held),
            )
    return msgspec.structs.replace(resources, tasks=tasks)


def _text(table: "AllocTable", ordinal: int) -> str:
    return table.texts.get(ordinal) if ordinal >= 0 else ""
