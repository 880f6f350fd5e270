"""From what apply changed to the keys that blocking queries watch.

TABLE                 any change of the table: "jobs", "allocs", "evals", ...
TABLE:ID              one record of it: "evals:ID", "nodes:ID", "deployments:ID"
job:NAMESPACE/ID      a job, its allocations, evaluations and deployments
node-allocs:ID        the allocations of a node
"""

from collections.abc import Iterable

import numpy as np

from core.state.result import Change
from core.state.state import State

# Names of State's tables that queries know under Nomad's plural.
PLURAL = {"deployment": "deployments", "job": "jobs", "node": "nodes"}

# Head of a key -> the tables behind it, by State's names.
_TABLES_OF = {
    "job": ("jobs",),
    "node-allocs": ("allocs", "nodes"),
    "deployments": ("deployment",),
    "homes": ("homes",),
    "multiregion": ("multiregion",),
    **{
        name: (name,)
        for name in (
            "jobs",
            "allocs",
            "evals",
            "nodes",
            "services",
            "acl_token",
            "node_pools",
            "quotas",
            "namespaces",
        )
    },
}


def watched_keys(state: State, changes: Iterable[Change]) -> dict[str, None]:
    """Return the keys touched by `changes`, in order of first mention."""
    keys: dict[str, None] = {}
    for change in changes:
        table = PLURAL.get(change.table, change.table)
        keys[table] = None
        if change.rows is not None:
            _alloc_keys(state, change, keys)
        elif table in ("jobs", "scaling_event"):
            keys[f"job:{change.namespace}/{change.key}"] = None
        elif change.key:
            keys[f"{table}:{change.key}"] = None
            owner = _owner(state, table, change.key)
            if owner:
                keys[owner] = None
    return keys


def index_behind(state: State, keys: Iterable[str]) -> int:
    """Return the newest index of the tables that `keys` speak of: of a thing not found.

    So who waits for it hears when it comes, and who had it hears when it went.
    """
    return max(
        (state.table_index(table) for key in keys for table in _TABLES_OF[key.partition(":")[0]]),
        default=0,
    )


def _alloc_keys(state: State, change: Change, keys: dict[str, None]) -> None:
    assert change.rows is not None
    columns = state.allocs.columns
    for ordinal in np.unique(columns.node[change.rows]).tolist():
        node = state.nodes.record(ordinal)
        if node is not None:
            keys[f"node-allocs:{node.id}"] = None
    for group_row in np.unique(columns.group_row[change.rows]).tolist():
        record = state.jobs.record(int(state.jobs.columns.job[group_row]))
        if record is not None:
            keys[f"job:{record.namespace}/{record.id}"] = None


def _owner(state: State, table: str, key: str) -> str:
    """Return the key of the job that an evaluation or deployment belongs to."""
    if table == "evals":
        evaluation = state.evals.get(key)
        return f"job:{evaluation.namespace}/{evaluation.job_id}" if evaluation else ""
    if table == "deployments":
        deployment = state.deployments.get(key)
        return f"job:{deployment.namespace}/{deployment.job_id}" if deployment else ""
    return ""
