"""Node pools that operators made. Pools that only nodes name exist without a record."""

import re
from typing import TYPE_CHECKING, Final

from core.state.commands import DeleteNodePool, UpsertNodePool
from core.state.result import CommandResult

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

BUILT_IN: Final = {
    "all": "Node pool with all nodes in the cluster.",
    "default": "Default node pool.",
}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_DESCRIPTION_MOST: Final = 256


def upsert_node_pool(state: "State", command: UpsertNodePool, context: "Context") -> CommandResult:
    """Create or replace a pool's record."""
    name = str(command.pool.get("Name") or "")
    if not _NAME.fullmatch(name):
        return CommandResult(
            error=f"invalid name {name!r}: letters, digits, '-' and '_', at most 128", status=400
        )
    if name in BUILT_IN:
        return CommandResult(error=f"modifying node pool {name!r} is not allowed", status=400)
    description = str(command.pool.get("Description") or "")
    if len(description) > _DESCRIPTION_MOST:
        return CommandResult(
            error=f"the description is longer than {_DESCRIPTION_MOST} characters", status=400
        )
    old = state.pools.get(name)
    meta = command.pool.get("Meta") or {}
    record = {
        "Name": name,
        "Description": description,
        "Meta": {str(key): str(value) for key, value in meta.items()},
        "NodeIdentityTTL": command.pool.get("NodeIdentityTTL") or 0,
        "SchedulerConfiguration": None,
        "CreateIndex": old["CreateIndex"] if old else context.index,
        "ModifyIndex": context.index,
    }
    state.pools.put(name, record)
    context.changed("node_pools", "NodePoolUpserted", name)
    return CommandResult(value=record)


def delete_node_pool(state: "State", command: DeleteNodePool, context: "Context") -> CommandResult:
    """Forget a pool that neither nodes nor jobs are in."""
    name = command.name
    if name in BUILT_IN:
        return CommandResult(error=f"deleting node pool {name!r} is not allowed", status=400)
    if name not in state.pools:
        return CommandResult(error="node pool not found", status=404)
    nodes = sorted(node.name for node in state.nodes if node.node_pool == name)
    if nodes:
        return CommandResult(
            error=f"node pool {name!r} has nodes: {', '.join(nodes[:5])}", status=400
        )
    jobs = sorted(
        record.id
        for record in state.jobs
        if (record.job.node_pool or "default") == name and record.status != "dead"
    )
    if jobs:
        return CommandResult(
            error=f"node pool {name!r} has jobs that are not dead: {', '.join(jobs[:5])}",
            status=400,
        )
    state.pools.delete(name)
    context.changed("node_pools", "NodePoolDeleted", name)
    return CommandResult()


def has_pool(state: "State", name: str) -> bool:
    """Whether there is such a pool; asked for each job, and answered without a look at all nodes
    where an operator made it or it is built in."""
    if name in BUILT_IN or name in state.pools:
        return True
    return any(node.node_pool == name for node in state.nodes)


def pool_names(state: "State") -> dict[str, None]:
    """Return the pools that there are: made by an operator, or named by a node."""
    return dict.fromkeys([*BUILT_IN, *state.pools, *(node.node_pool for node in state.nodes)])
