"""Quota.*, Namespace.*: how much the jobs of a namespace may hold (core.state.quotas)."""

from typing import Any

from core.model.query import Answer
from core.server.endpoints.shared import only_index
from core.server.listing import listed
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request, convert
from core.state.commands import DeleteQuota, UpsertNamespace, UpsertQuota
from core.state.quotas import DEFAULT, default_namespace

_MOST = 1 << 53


def _index(request: Request, table: str) -> int:
    return max(1, request.state.table_index(table))


def quota_list(request: Request) -> Answer:
    return listed(
        request,
        request.state.quotas.values(),
        key=_name,
        show=lambda quota: quota,
        index=_index(request, "quotas"),
    )


def quota_get(request: Request) -> Answer:
    return Answer(body=_quota(request), index=_index(request, "quotas"))


def quota_usages(request: Request) -> Answer:
    """How much of each quota is held in this datacenter."""
    return listed(
        request,
        [_usage(request, quota) for quota in request.state.quotas.values()],
        key=_name,
        show=lambda usage: usage,
        index=_index(request, "allocs"),
    )


def quota_usage(request: Request) -> Answer:
    return Answer(body=_usage(request, _quota(request)), index=_index(request, "allocs"))


def quota_upsert(request: Request) -> Proposal:
    quota, name = _body_named(request)
    limits = []
    for place, limit in enumerate(
        convert(quota.get("Limits") or [], list[dict[str, Any]], "Limits")
    ):
        said = convert(limit.get("RegionLimit") or {}, dict[str, Any], "RegionLimit")
        amounts = {}
        for key in ("CPU", "MemoryMB"):
            amount = convert(said.get(key) or 0, int, f"Limits[{place}].RegionLimit.{key}")
            if abs(amount) > _MOST:
                raise QueryError(400, f"Limits[{place}].RegionLimit.{key}: {amount} is too much")
            amounts[key] = amount
        if unknown := [key for key, value in said.items() if key not in amounts and value]:
            raise QueryError(
                400, f"Limits[{place}].RegionLimit has {unknown[0]!r}: CPU and MemoryMB are kept"
            )
        limits.append({"Region": limit.get("Region"), "RegionLimit": amounts})
    spec = {"Name": name, "Description": quota.get("Description") or "", "Limits": limits}
    return Proposal([UpsertQuota(quota=spec)], only_index)


def quota_delete(request: Request) -> Proposal:
    return Proposal([DeleteQuota(name=request.required("name"))], only_index)


def _quota(request: Request) -> dict[str, Any]:
    quota = request.state.quotas.get(request.required("name"))
    if quota is None:
        raise QueryError(404, "quota not found")
    return quota


def _usage(request: Request, quota: dict[str, Any]) -> dict[str, Any]:
    state = request.state
    users = [one["Name"] for one in state.namespaces.values() if one.get("Quota") == quota["Name"]]
    held = [state.spent.get(name, [0, 0]) for name in users]
    amounts = {"CPU": sum(cpu for cpu, _ in held), "MemoryMB": sum(memory for _, memory in held)}
    return {
        "Name": quota["Name"],
        "Used": {state.region: {"Region": state.region, "RegionLimit": amounts}},
        "CreateIndex": quota["CreateIndex"],
        "ModifyIndex": quota["ModifyIndex"],
    }


def namespace_list(request: Request) -> Answer:
    return listed(
        request,
        [default_namespace(request.state)],
        key=_name,
        show=lambda namespace: namespace,
        index=_index(request, "namespaces"),
    )


def namespace_get(request: Request) -> Answer:
    if request.required("name") != DEFAULT:
        raise QueryError(404, "Namespace not found")
    return Answer(body=default_namespace(request.state), index=_index(request, "namespaces"))


def namespace_upsert(request: Request) -> Proposal:
    namespace, name = _body_named(request)
    meta = convert(namespace.get("Meta") or {}, dict[str, Any], "Meta")
    said = {
        "Name": name,
        "Description": convert(namespace.get("Description") or "", str, "Description"),
        "Quota": convert(namespace.get("Quota") or "", str, "Quota"),
        "Meta": meta,
    }
    return Proposal([UpsertNamespace(namespace=said)], only_index)


def _body_named(request: Request) -> tuple[dict[str, Any], str]:
    body, path = request.body(), request.text("name")
    name = convert(body.get("Name") or path, str, "Name")
    if path and name != path:
        raise QueryError(400, f"the body is of {name!r}, the path says {path!r}")
    return body, name


def _name(record: dict[str, Any]) -> str:
    return str(record["Name"])


def _watch(request: Request) -> tuple[str, ...]:
    return ("quotas", "namespaces")


ENDPOINTS = {
    "Quota.List": Endpoint(Kind.READ, quota_list, watches=_watch),
    "Quota.Get": Endpoint(Kind.READ, quota_get, watches=_watch),
    "Quota.Usages": Endpoint(Kind.READ, quota_usages),
    "Quota.Usage": Endpoint(Kind.READ, quota_usage),
    "Quota.Upsert": Endpoint(Kind.WRITE, quota_upsert),
    "Quota.Delete": Endpoint(Kind.WRITE, quota_delete),
    "Namespace.List": Endpoint(Kind.READ, namespace_list, watches=_watch),
    "Namespace.Get": Endpoint(Kind.READ, namespace_get, watches=_watch),
    "Namespace.Upsert": Endpoint(Kind.WRITE, namespace_upsert),
}
