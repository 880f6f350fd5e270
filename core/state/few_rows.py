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
    from core.state.resources import Ask
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
    batch = rows.batch
    if state.jobs.version(record.ordinal, batch.job_version) is None:
        return np.full(len(rows.index), JOB, np.uint8)
    index, node = rows.index.tolist(), rows.node.tolist()
    return np.array(check_rows(state, record, batch.group, index, node, rows.ask, free), np.uint8)


def check_rows(
    state: "State",
    record: "JobRecord",
    group: str,
    index: list[int],
    node: list[int],
    ask: "Ask",
    free: dict[int, list[int]],
) -> list[int]:
    """Return a code for each row of a batch of a group that has none yet.

    Args:
        free: By node, cpu, memory and disk that are left; what is accepted is taken off.
    """
    columns, nodes = state.nodes.columns, len(state.nodes)
    codes = [0] * len(index)
    ranges = None
    if record.indices and record.job.type not in _EVERY_NODE:
        # Planned before the share shrank: another datacenter may run these by now.
        ranges = record.indices.get(group, [])
    seen: set[int] = set()
    ranks: dict[int, int] = {}  # by node: which of the batch's rows there this is
    taken: dict[int, int] = {}
    for at, (number, ordinal) in enumerate(zip(index, node, strict=True)):
        is_repeated = number in seen
        seen.add(number)
        if not 0 <= ordinal < nodes or not columns.is_ready[ordinal]:
            codes[at] = NODE
            continue
        if is_repeated or not 0 <= number < 1 << INDEX_BITS:
            codes[at] = INDEX
            continue
        if ranges is not None and not any(low <= number < high for low, high in ranges):
            codes[at] = INDEX
            continue
        left = free.get(ordinal)
        if left is None:
            left = free[ordinal] = [
                int(columns.cpu_capacity[ordinal]) - int(columns.cpu_used[ordinal]),
                int(columns.memory_capacity[ordinal]) - int(columns.memory_used[ordinal]),
                int(columns.disk_capacity[ordinal]) - int(columns.disk_used[ordinal]),
            ]
        ranks[ordinal] = rank = ranks.get(ordinal, 0) + 1
        for dimension in range(3):  # the first that lacks is the one reported
            if ask[dimension] > 0 and rank * ask[dimension] > left[dimension]:
                codes[at] = CPU + dimension
                break
        else:
            taken[ordinal] = taken.get(ordinal, 0) + 1
    for ordinal, count in taken.items():
        free[ordinal] = [have - count * want for have, want in zip(free[ordinal], ask, strict=True)]
    return codes
