"""Quotas: how much cpu and memory the jobs of a namespace may hold together in this datacenter.

A quota names limits by region, as Nomad's; a namespace names its quota. What is held is counted
as nodes count it: from the placement until the client says that it ended. Limits are kept at
apply (plan_check.py), so that no planner can exceed them; what runs already when a quota comes or
shrinks runs on.

Invariant: `state.spent` has an entry for each namespace with a quota, and no other; it equals
a recount of the allocations. Where nobody uses quotas it is empty, and costs nothing.
"""

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from core.state.allocs import HELD
from core.state.commands import DeleteQuota, UpsertNamespace, UpsertQuota
from core.state.result import CommandResult

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

Ints = npt.NDArray[np.int64]

DEFAULT: Final = "default"
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,128}")
_DESCRIPTION_MOST: Final = 256
_AMOUNTS: Final = ("CPU", "MemoryMB")


class Limit(NamedTuple):
    """What a quota allows here. An amount of 0 is no limit, one below 0 allows nothing."""

    quota: str
    cpu: int  # MHz
    memory: int  # MiB


def default_namespace(state: "State") -> dict[str, Any]:
    """Return the record of the namespace `default`, as an operator left it."""
    return state.namespaces.get(DEFAULT) or {
        "Name": DEFAULT,
        "Description": "Default shared namespace",
        "Quota": "",
        "Capabilities": None,
        "NodePoolConfiguration": None,
        "VaultConfiguration": None,
        "ConsulConfiguration": None,
        "Meta": None,
        "CreateIndex": 1,
        "ModifyIndex": 1,
    }


def limit_of(state: "State", namespace: str) -> Limit | None:
    """Return the limit of a namespace, None when it has no quota."""
    if namespace not in state.spent:
        return None
    name = str((state.namespaces.get(namespace) or {}).get("Quota") or "")
    quota = state.quotas.get(name) or {}
    for limit in quota.get("Limits") or []:
        if limit["Region"] == state.region:
            return Limit(name, *(int(limit["RegionLimit"][key]) for key in _AMOUNTS))
    return Limit(name, 0, 0)


def left_of(state: "State", namespace: str) -> tuple[Limit, list[int | None]] | None:
    """Return a namespace's limit and what is left of it: [cpu, memory], None = without limit."""
    limit = limit_of(state, namespace)
    if limit is None:
        return None
    spent = state.spent[namespace]
    amounts = (limit.cpu, limit.memory)
    return limit, [
        None if not amount else max(amount, 0) - used
        for amount, used in zip(amounts, spent, strict=True)
    ]


# --- what is held -----------------------------------------------------------------------


def spend(state: "State", rows: Ints, asks: Ints) -> None:
    """Count what rows hold, or with negative `asks` give up; int64[rows, 3]."""
    ordinals = state.allocs.job_ordinals(rows)
    for ordinal in np.unique(ordinals).tolist():
        record = state.jobs.record(ordinal)
        if record is None or (held := state.spent.get(record.namespace)) is None:
            continue
        cpu, memory, _ = asks[ordinals == ordinal].sum(axis=0).tolist()
        held[0] += cpu
        held[1] += memory


def recount(state: "State") -> None:
    """Count anew, for the namespaces that have a quota now."""
    state.spent = {
        name: [0, 0]
        for name, record in sorted((one["Name"], one) for one in state.namespaces.values())
        if record.get("Quota")
    }
    if state.spent:
        rows = state.allocs.rows()
        rows = rows[HELD[state.allocs.columns.client[rows]]]
        if len(rows):
            spend(state, rows, state.allocs.asks(rows))


# --- commands -----------------------------------------------------------------------------


def upsert_quota(state: "State", command: UpsertQuota, context: "Context") -> CommandResult:
    """Create or replace a quota. `value`: its record."""
    said = command.quota
    name, description = str(said.get("Name") or ""), str(said.get("Description") or "")
    if not _NAME.fullmatch(name):
        return _refused(f"invalid name {name!r}: letters, digits and '-', at most 128")
    if len(description) > _DESCRIPTION_MOST:
        return _refused(f"the description is longer than {_DESCRIPTION_MOST} characters")
    limits: dict[str, dict[str, int]] = {}
    for limit in said.get("Limits") or []:
        region = str(limit.get("Region") or "")
        if not region or region in limits:
            return _refused(f"quota {name!r}: a limit needs a region of its own")
        amounts = limit.get("RegionLimit") or {}
        limits[region] = {key: int(amounts.get(key) or 0) for key in _AMOUNTS}
    if not limits:
        return _refused(f"quota {name!r} limits nothing: give it a limit with a region")
    old = state.quotas.get(name)
    record = {
        "Name": name,
        "Description": description,
        "Limits": [{"Region": key, "RegionLimit": value} for key, value in limits.items()],
        "CreateIndex": old["CreateIndex"] if old else context.index,
        "ModifyIndex": context.index,
    }
    state.quotas.put(name, record)
    context.changed("quotas", "QuotaUpserted", name)
    return CommandResult(value=record)


def delete_quota(state: "State", command: DeleteQuota, context: "Context") -> CommandResult:
    """Forget a quota that no namespace has."""
    name = command.name
    if name not in state.quotas:
        return CommandResult(error="quota not found", status=404)
    users = sorted(one["Name"] for one in state.namespaces.values() if one.get("Quota") == name)
    if users:
        return _refused(f"quota {name!r} is in use by namespaces: {', '.join(users)}")
    state.quotas.delete(name)
    context.changed("quotas", "QuotaDeleted", name)
    return CommandResult()


def upsert_namespace(state: "State", command: UpsertNamespace, context: "Context") -> CommandResult:
    """Change a namespace's record; `default` is the one that there is."""
    said = command.namespace
    name, quota = str(said.get("Name") or ""), str(said.get("Quota") or "")
    if name != DEFAULT:
        return _refused(f"namespace {name!r}: no other than {DEFAULT!r} is possible yet")
    if quota and quota not in state.quotas:
        return _refused(f"quota {quota!r} not found: apply it first")
    description = str(said.get("Description") or "")
    if len(description) > _DESCRIPTION_MOST:
        return _refused(f"the description is longer than {_DESCRIPTION_MOST} characters")
    meta = said.get("Meta") or {}
    record = {
        **default_namespace(state),
        "Description": description,
        "Quota": quota,
        "Meta": {str(key): str(value) for key, value in meta.items()} or None,
        "ModifyIndex": context.index,
    }
    state.namespaces.put(name, record)
    recount(state)
    context.changed("namespaces", "NamespaceUpserted", name)
    return CommandResult(value=record)


def _refused(text: str) -> CommandResult:
    return CommandResult(error=text, status=400)
