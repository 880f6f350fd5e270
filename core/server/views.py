"""What lists and objects show: Nomad's JSON, made from records.

A stub is a short row of a list. Functions take records and return plain data with
Nomad's names; nothing here reads the state.
"""

from typing import Any

from core.model.allocation import AllocatedResources, Allocation
from core.model.job import Job
from core.model.node import Node
from core.model.summary import JobSummary
from core.server.listing import plain


def job_stub(job: Job, summary: JobSummary, *, has_meta: bool) -> dict[str, Any]:
    """Return Nomad's JobListStub."""
    return {
        "ID": job.id,
        "ParentID": job.parent_id or "",
        "Name": job.name,
        "Namespace": job.namespace,
        "Datacenters": job.datacenters or [],
        "NodePool": job.node_pool or "default",
        "Type": job.type,
        "Priority": job.priority,
        "Periodic": job.periodic is not None,
        "ParameterizedJob": job.parameterized_job is not None and not job.dispatched,
        "Stop": bool(job.stop),
        "Status": job.status or "pending",
        "StatusDescription": job.status_description or "",
        "Version": job.version or 0,
        "JobSummary": plain(summary),
        "CreateIndex": job.create_index or 0,
        "ModifyIndex": job.modify_index or 0,
        "JobModifyIndex": job.job_modify_index or 0,
        "SubmitTime": job.submit_time_ns or 0,
        "Meta": (job.meta or {}) if has_meta else None,
    }


def alloc_stub(
    alloc: Allocation, *, job_type: str = "", has_resources: bool = False, has_tasks: bool = True
) -> dict[str, Any]:
    """Return Nomad's AllocationListStub."""
    stub = {
        "ID": alloc.id,
        "EvalID": alloc.eval_id,
        "Name": alloc.name,
        "Namespace": alloc.namespace,
        "NodeID": alloc.node_id,
        "NodeName": alloc.node_name,
        "JobID": alloc.job_id,
        "JobType": job_type or (alloc.job.type if alloc.job else None) or "service",
        "JobVersion": alloc.job_version,
        "TaskGroup": alloc.task_group,
        "DesiredStatus": alloc.desired_status,
        "DesiredDescription": alloc.desired_description,
        "ClientStatus": alloc.client_status,
        "ClientDescription": alloc.client_description,
        "DesiredTransition": plain(alloc.desired_transition),
        "TaskStates": plain(alloc.task_states) if has_tasks else None,
        "DeploymentStatus": plain(alloc.deployment_status),
        "FollowupEvalID": alloc.followup_eval_id,
        "NextAllocation": alloc.next_allocation,
        "RescheduleTracker": plain(alloc.reschedule_tracker),
        "PreemptedAllocations": alloc.preempted_allocations,
        "PreemptedByAllocation": alloc.preempted_by_allocation,
        "CreateIndex": alloc.create_index,
        "ModifyIndex": alloc.modify_index,
        "CreateTime": alloc.create_time_ns,
        "ModifyTime": alloc.modify_time_ns,
    }
    if has_resources:
        stub["AllocatedResources"] = plain(alloc.allocated_resources)
    return stub


def alloc_view(alloc: Allocation) -> dict[str, Any]:
    """Return the whole allocation, with the deprecated `Resources` that tools still read."""
    shown: dict[str, Any] = plain(alloc)
    resources = alloc.allocated_resources
    if resources is not None:
        per_task = {
            name: {"CPU": task.cpu.cpu_shares, "MemoryMB": task.memory.memory_mb}
            for name, task in resources.tasks.items()
        }
        shown["TaskResources"] = {
            name: {**numbers, "DiskMB": 0, "Networks": None} for name, numbers in per_task.items()
        }
        shown["Resources"] = _total(resources)
    return shown


def _total(resources: AllocatedResources) -> dict[str, Any]:
    networks = resources.shared.networks
    return {
        "CPU": sum(task.cpu.cpu_shares for task in resources.tasks.values()),
        "MemoryMB": sum(task.memory.memory_mb for task in resources.tasks.values()),
        "DiskMB": resources.shared.disk_mb,
        "Networks": plain(networks),
    }


def node_stub(node: Node, *, has_resources: bool, has_os: bool) -> dict[str, Any]:
    """Return Nomad's NodeListStub."""
    attributes = node.attributes or {}
    stub: dict[str, Any] = {
        "Address": node.http_addr.rpartition(":")[0],
        "ID": node.id,
        "Datacenter": node.datacenter,
        "Name": node.name,
        "NodeClass": node.node_class,
        "NodePool": node.node_pool,
        "Version": attributes.get("nomad.version", ""),
        "Drain": node.drain_strategy is not None,
        "SchedulingEligibility": node.scheduling_eligibility,
        "Status": node.status,
        "StatusDescription": node.status_description,
        "Drivers": plain(node.drivers),
        "HostVolumes": plain(node.host_volumes),
        "LastDrain": None,
        "CreateIndex": node.create_index,
        "ModifyIndex": node.modify_index,
    }
    if has_resources:
        stub["NodeResources"] = plain(node.node_resources)
        stub["ReservedResources"] = plain(node.reserved_resources)
    if has_os:
        stub["Attributes"] = {"os.name": attributes.get("os.name", "")}
    return stub


def node_view(node: Node) -> dict[str, Any]:
    """Return the whole node without its secret, with the legacy `Drain` flag."""
    shown: dict[str, Any] = plain(node)
    shown["SecretID"] = ""
    shown["Drain"] = node.drain_strategy is not None
    cpu = node.node_resources.cpu.cpu_shares
    shown["Resources"] = {
        "CPU": cpu,
        "MemoryMB": node.node_resources.memory.memory_mb,
        "DiskMB": node.node_resources.disk.disk_mb,
    }
    return shown


TOKEN_STUB_FIELDS = (
    "AccessorID", "Name", "Type", "Policies", "Roles", "Global", "Hash", "CreateTime",
    "ExpirationTime", "CreateIndex", "ModifyIndex",
)  # fmt: skip


def token_stub(token: dict[str, Any]) -> dict[str, Any]:
    """Return a token without its secret."""
    return {name: token.get(name) for name in TOKEN_STUB_FIELDS}
