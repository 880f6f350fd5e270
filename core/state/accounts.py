"""The books: usage of nodes and counters of jobs, moved whenever an allocation's status is.

Every change of `desired` or `client` goes through `move`, which keeps three sums equal to
a recount of the rows: what each node holds, allocations by client status per group, and
live allocations per group. `recount` computes them from scratch, for the tests and for
`system reconcile summaries`.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.model.units import unit_names
from core.state.allocs import HELD
from core.state.quotas import spend

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

Ints = npt.NDArray[np.int64]


def enter(state: "State", rows: Ints, asks: Ints, context: "Context") -> None:
    """Book new rows (pending, wanted): `asks` is int64[rows, 3]."""
    allocs, groups = state.allocs.columns, state.jobs.columns
    at = allocs.group_row[rows]
    groups.touch(at)
    np.add.at(groups.counts, (at, allocs.client[rows]), 1)
    np.add.at(groups.live, at, 1)
    groups.allocs_index[at] = context.index
    hold(state, rows, asks)
    _mark(state, rows, context)


def hold(state: "State", rows: Ints, asks: Ints) -> None:
    """Add (or with negative `asks` take back) what the rows hold on their nodes."""
    nodes = state.nodes.columns
    at = state.allocs.columns.node[rows]
    nodes.touch(at)
    for column, name in enumerate(("cpu_used", "memory_used", "disk_used")):
        np.add.at(getattr(nodes, name), at, asks[:, column])
    if state.spent:
        spend(state, rows, asks)


def move(
    state: "State",
    rows: Ints,
    context: "Context",
    *,
    client: npt.NDArray[np.uint8] | None = None,
    desired: npt.NDArray[np.uint8] | None = None,
) -> None:
    """Give rows (distinct) a new client or desired status and move all sums with them."""
    if not len(rows):
        return
    allocs, groups = state.allocs.columns, state.jobs.columns
    allocs.touch(rows)
    was_client, was_live = allocs.client[rows], state.allocs.is_live(rows)
    if client is not None:
        allocs.client[rows] = client
    if desired is not None:
        allocs.desired[rows] = desired
    at = allocs.group_row[rows]
    groups.touch(at)
    if client is not None:
        np.subtract.at(groups.counts, (at, was_client), 1)
        np.add.at(groups.counts, (at, client), 1)
        _move_usage(state, rows, HELD[was_client], HELD[client])
    live = state.allocs.is_live(rows)
    np.add.at(groups.live, at, live.astype(np.int32) - was_live.astype(np.int32))
    groups.allocs_index[at] = context.index
    allocs.modify_index[rows] = context.index
    allocs.modify_time_us[rows] = context.time_us
    _mark(state, rows, context)


def _move_usage(
    state: "State", rows: Ints, was: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_]
) -> None:
    for changed, sign in ((was & ~now, -1), (now & ~was, 1)):
        if not changed.any():
            continue
        some = rows[changed]
        hold(state, some, sign * state.allocs.asks(some))
        with_ports = some[state.allocs.columns.port_asks[some] >= 0]
        freed: dict[int, int] = {}  # by node: of all that end, for some may share what is left
        for row in with_ports.tolist():
            node = int(state.allocs.columns.node[row])
            mask = state.allocs.port_mask(row)
            if sign > 0:
                state.nodes.take_ports(node, mask)
            else:
                freed[node] = freed.get(node, 0) | mask
        for node, mask in freed.items():
            state.nodes.free_ports(node, mask, partial(held_ports, state, node))


def held_ports(state: "State", node: int) -> list[int]:
    """Return the port masks of the allocations that hold some on the node."""
    columns = state.allocs.columns
    rows = state.allocs.rows_of_node(node)
    rows = rows[HELD[columns.client[rows]] & (columns.port_asks[rows] >= 0)]
    return [state.allocs.port_mask(row) for row in rows.tolist()]


def held_units(state: "State", node: int, but: frozenset[int]) -> set[str]:
    """Return the names of cores and devices that allocations hold on a node, `but` these rows."""
    allocs = state.allocs
    held: set[str] = set()
    if not len(allocs.units):
        return held
    rows = allocs.rows_of_node(node)
    for row in rows[HELD[allocs.columns.client[rows]]].tolist():
        units = allocs.units.get(row)
        if units and row not in but:
            held.update(unit_names(units))
    return held


def _mark(state: "State", rows: Ints, context: "Context") -> None:
    """Move the indexes that watchers of a node's allocations look at; note the jobs."""
    nodes = state.allocs.columns.node[rows]
    state.nodes.columns.touch(nodes)
    state.nodes.columns.allocs_index[nodes] = context.index
    for ordinal in np.unique(state.allocs.job_ordinals(rows)).tolist():
        context.touch_job(ordinal)


class Recount(NamedTuple):
    """The sums, from scratch."""

    used: Ints  # int64[nodes, 3]: cpu, memory, disk
    counts: Ints  # int64[group rows, 6]: by client status, collected ones included
    live: Ints  # int64[group rows]


def recount(state: "State") -> Recount:
    """Compute all sums from the rows alone."""
    allocs, groups = state.allocs.columns, state.jobs.columns
    rows = state.allocs.rows()
    used = np.zeros((len(state.nodes), 3), dtype=np.int64)
    held = rows[HELD[allocs.client[rows]]]
    if len(held):
        np.add.at(used, allocs.node[held], state.allocs.asks(held))
    counts = groups.collected[: groups.length].astype(np.int64)
    np.add.at(counts, (allocs.group_row[rows], allocs.client[rows]), 1)
    live = np.zeros(groups.length, dtype=np.int64)
    np.add.at(live, allocs.group_row[rows[state.allocs.is_live(rows)]], 1)
    return Recount(used, counts, live)


def drifted(state: "State") -> list[str]:
    """Return what differs from a recount, in words; [] when the books are right."""
    truth = recount(state)
    nodes, groups = state.nodes, state.jobs.columns
    books: dict[str, tuple[Ints, npt.NDArray[Any]]] = {
        "cpu used": (truth.used[:, 0], nodes.cpu_used),
        "memory used": (truth.used[:, 1], nodes.memory_used),
        "disk used": (truth.used[:, 2], nodes.disk_used),
        "status counts": (truth.counts, groups.counts[: groups.length]),
        "live counts": (truth.live, groups.live[: groups.length]),
    }
    return [name for name, (true, kept) in books.items() if not np.array_equal(true, kept)]
