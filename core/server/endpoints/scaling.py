"""Scaling.*: the `scaling` blocks of the jobs, as an autoscaler reads them."""

from collections.abc import Iterator
from typing import Any

from core.model.ids import derived_id
from core.model.job import ScalingPolicy
from core.model.query import Answer
from core.server.endpoints.shared import on_namespace
from core.server.request import Endpoint, Kind, QueryError, Request
from core.state.jobs import JobRecord


def _policies(request: Request) -> Iterator[dict[str, Any]]:
    for record in request.state.jobs:
        if record.is_stopped or record.home or not on_namespace(request, record.namespace):
            continue
        for group in record.job.task_groups or []:
            if group.scaling is not None:
                target = {"Group": group.name}
                yield _shown(request, record, group.scaling, "horizontal", target)
            for task in group.tasks or []:
                for policy in task.scaling_policies or []:
                    kind = policy.type or "vertical"
                    target = {"Group": group.name, "Task": task.name}
                    yield _shown(request, record, policy, kind, target)


def _shown(
    request: Request, record: JobRecord, policy: ScalingPolicy, kind: str, target: dict[str, str]
) -> dict[str, Any]:
    # The id derives from what the policy is of, so it stays though the job changes.
    seed = "/".join((record.uid, kind, *target.values()))
    return {
        "ID": derived_id(seed, request.server.datacenter_id),
        "Namespace": record.namespace,
        "Target": {"Namespace": record.namespace, "Job": record.id, **target},
        "Min": policy.min,
        "Max": policy.max,
        "Policy": policy.policy or {},
        "Enabled": policy.enabled is not False,
        "Type": kind,
        "CreateIndex": record.job.create_index or 0,
        "ModifyIndex": record.job.job_modify_index or 0,
    }


_STUB = ("ID", "Enabled", "Type", "Target", "CreateIndex", "ModifyIndex")


def policy_list(request: Request) -> Answer:
    job_id, kind = request.text("job"), request.text("type")
    found = [
        {name: policy[name] for name in _STUB}
        for policy in _policies(request)
        if (not job_id or policy["Target"]["Job"] == job_id)
        and (not kind or policy["Type"].startswith(kind))
    ]
    found.sort(key=lambda policy: str(policy["ID"]))
    return Answer(body=found, index=max(1, request.state.table_index("jobs")))


def policy_get(request: Request) -> Answer:
    wanted = request.required("id")
    for policy in _policies(request):
        if policy["ID"] == wanted:
            return Answer(body=policy, index=policy["ModifyIndex"])
    raise QueryError(404, "policy not found")


ENDPOINTS = {
    "Scaling.ListPolicies": Endpoint(Kind.READ, policy_list, watches=lambda request: ("jobs",)),
    "Scaling.GetPolicy": Endpoint(Kind.READ, policy_get, watches=lambda request: ("jobs",)),
}
