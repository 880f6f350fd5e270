"""Finding records for queries: by id, by unique prefix, by relation; in a fixed order."""

from collections.abc import Iterable

from core.model.allocation import Allocation
from core.model.query import Answer
from core.scheduler.disconnect import DisconnectRule
from core.server.request import QueryError
from core.state.jobs import JobRecord
from core.state.result import Rows
from core.state.state import State


def job_record(state: State, namespace: str, job_id: str) -> JobRecord:
    """Return a job.

    Raises:
        QueryError: 404.
    """
    record = state.jobs.get(namespace, job_id)
    if record is None:
        raise QueryError(404, "job not found")
    return record


def alloc_row(state: State, alloc_id: str) -> int:
    """Return the row of an allocation, by full id or unique prefix.

    Raises:
        QueryError: 404, or 400 when the prefix fits several.
    """
    row = state.allocs.row_of(alloc_id)
    if row is not None:
        return row
    if 1 < len(alloc_id) < 36:
        rows = state.allocs.rows_with_prefix(alloc_id)
        if len(rows) == 1:
            return int(rows[0])
        if len(rows) > 1:
            raise QueryError(400, f"alloc id prefix {alloc_id!r} fits {len(rows)} allocations")
    raise QueryError(404, "alloc not found")


def unique_id(ids: list[str], wanted: str, what: str) -> str:
    """Return the one id of `ids`, all of which begin with `wanted`.

    Raises:
        QueryError: 404 for none, 400 for several.
    """
    if wanted in ids:
        return wanted
    if len(ids) == 1 and len(wanted) > 1:
        return ids[0]
    if len(ids) > 1 and len(wanted) > 1:
        raise QueryError(400, f"{what} id prefix {wanted!r} fits {len(ids)} of them")
    raise QueryError(404, f"{what} not found")


def allocations(state: State, rows: Rows) -> list[Allocation]:
    """Return the allocations of these rows."""
    return [state.allocs.allocation(row) for row in rows.tolist()]


def allocs_of_job(state: State, record: JobRecord) -> list[Allocation]:
    return allocations(state, state.allocs.rows_of_job(record.ordinal))


def rows_of_node(state: State, node_id: str) -> Rows:
    """Return the allocation rows of a node, none when it is not known."""
    ordinal = state.nodes.ordinal_of(node_id)
    return state.allocs.rows()[:0] if ordinal is None else state.allocs.rows_of_node(ordinal)


def allocs_to_run(state: State, node_id: str, min_index: int = 0) -> Answer:
    """Return what `Node.Allocations` answers: each allocation's index of server-side change.

    None as the body when nothing is newer than `min_index`: the node has that list.
    """
    ordinal = state.nodes.ordinal_of(node_id)
    if ordinal is None:
        return Answer(status=404, error="node not found: register first", index=1)
    index = max(1, state.nodes.allocs_index(ordinal))
    if index <= min_index:
        return Answer(index=index)
    rows = state.allocs.rows_of_node(ordinal)
    indices = state.allocs.columns.alloc_modify_index[rows].tolist()
    return Answer(body=dict(zip(state.allocs.ids_of(rows), indices, strict=True)), index=index)


def jobs_on_node(state: State, node_id: str) -> list[JobRecord]:
    """Return the jobs that have a live allocation on a node, by first row."""
    rows = rows_of_node(state, node_id)
    return _jobs_of(state, rows[state.allocs.is_live(rows)].tolist())


def is_waited_for(state: State, node_id: str, now_us: int) -> bool:
    """Whether a job asks to wait for its allocation on this node (`lost_after`), now still."""
    rows = rows_of_node(state, node_id)
    for row in rows[state.allocs.is_live(rows)].tolist():
        record = state.allocs.job_record(row)
        name = record.groups[state.allocs.key_of(row).group]
        group = next((one for one in record.job.task_groups or [] if one.name == name), None)
        rule = DisconnectRule.of(group) if group is not None else DisconnectRule()
        if not rule.lost_after_ns:
            continue
        is_unknown = state.allocs.is_unknown(row)
        if not is_unknown or not rule.is_overdue(state.allocs.allocation(row), now_us):
            return True
    return False


def _jobs_of(state: State, rows: Iterable[int]) -> list[JobRecord]:
    found: dict[int, JobRecord] = {}
    for row in rows:
        record = state.allocs.job_record(row)
        found[record.ordinal] = record
    return [record for record in found.values() if not record.is_purged]
