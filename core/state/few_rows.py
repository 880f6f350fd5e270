"""The check of small, plain plans, row by row: as core.state.plan_check, for less.

Most plans of a busy datacenter place a handful of instances of a job that has none yet.
For so few rows each numpy call costs more than all that it computes. What is not plain,
or has instances already, is left to the general check.
"""

from typing import TYPE_CHECKING, Final

import numpy as np

from core.model.ids import INDEX_BITS
from core.model.plan import PlacementBatch, Plan

if TYPE_CHECKING:
    from core.state.jobs import JobRecord
    from core.state.plan_check import BatchRows, Codes
    from core.state.state import State

JOB, NODE, INDEX, CPU = 1, 2, 3, 5  # places in core.state.plan_check.REASONS
_ROWS_MOST: Final = 16
_EVERY_NODE: Final = ("system", "sysbatch")


def check_few(
    state: "State", record: "JobRecord | None", batches: "list[BatchRows]", plan: Plan
) -> "list[Codes] | None":
    """Return a code for each row of each batch; None when the general check has to look."""
    if record is None or record.is_stopped or plan.stops or plan.in_place or not batches:
        return None
    if len({rows.batch.group for rows in batches}) < len(batches):
        return None
    if not all(_is_plain(rows.batch, len(rows.index)) for rows in batches):
        return None
    if not all(_is_new(state, record, rows.batch.group) for rows in batches):
        return None
    free: dict[int, list[int]] = {}  # by node: cpu, memory, disk
    return [_codes(state, record, rows, free) for rows in batches]


def _is_plain(batch: PlacementBatch, count: int) -> bool:
    return count <= _ROWS_MOST and not (batch.port_asks or batch.units or batch.canary)


def _is_new(state: "State", record: "JobRecord", group: str) -> bool:
    ordinal = state.jobs.group_ordinal(record, group)
    if ordinal is None:
        return True
    return not len(state.allocs.group_index(record.group_rows[ordinal]).indices)


def _codes(
    state: "State", record: "JobRecord", rows: "BatchRows", free: dict[int, list[int]]
) -> "Codes":
    batch, columns = rows.batch, state.nodes.columns
    codes: Codes = np.zeros(len(rows.index), np.uint8)
    if state.jobs.version(record.ordinal, batch.job_version) is None:
        codes[:] = JOB
        return codes
    nodes, ask = len(state.nodes), rows.ask
    ranges = None
    if record.indices and record.job.type not in _EVERY_NODE:
        # Planned before the share shrank: another datacenter may run these by now.
        ranges = record.indices.get(batch.group, [])
    seen: set[int] = set()
    ranks: dict[int, int] = {}  # by node: which of the batch's rows there this is
    taken: dict[int, int] = {}
    for at, (index, node) in enumerate(zip(rows.index.tolist(), rows.node.tolist(), strict=True)):
        is_repeated = index in seen
        seen.add(index)
        if not 0 <= node < nodes or not columns.is_ready[node]:
            codes[at] = NODE
            continue
        if is_repeated or not 0 <= index < 1 << INDEX_BITS:
            codes[at] = INDEX
            continue
        if ranges is not None and not any(low <= index < high for low, high in ranges):
            codes[at] = INDEX
            continue
        left = free.get(node)
        if left is None:
            left = free[node] = [
                int(columns.cpu_capacity[node]) - int(columns.cpu_used[node]),
                int(columns.memory_capacity[node]) - int(columns.memory_used[node]),
                int(columns.disk_capacity[node]) - int(columns.disk_used[node]),
            ]
        ranks[node] = rank = ranks.get(node, 0) + 1
        for dimension in range(3):  # the first that lacks is the one reported
            if ask[dimension] > 0 and rank * ask[dimension] > left[dimension]:
                codes[at] = CPU + dimension
                break
        else:
            taken[node] = taken.get(node, 0) + 1
    for node, count in taken.items():
        free[node] = [have - count * want for have, want in zip(free[node], ask, strict=True)]
    return codes
