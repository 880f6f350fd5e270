"""Allocations as columns: about 90 bytes a row, and nothing else for a plain one.

A row is given at placement and given again only after `collect`, the smallest free one
first, so replicas agree. An allocation's id is its key, enciphered (core.model.ids):
`row_of` deciphers it, there is no table of ids. What few allocations have (previous and
next one, reschedule tracker, ports, ...) is in sparse columns; what many share (ask,
metrics, evaluation, texts) is interned.

How rows are found:

* by job and group: `GroupIndex` gives the newest row of each share index, and the
  column `older` leads to earlier generations of the same index;
* by node: `NodeColumns.first_row` and the column `next_on_node` chain them.

Both are derived and rebuilt after a restore.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from core.model.allocation import (
    AllocatedResources,
    Allocation,
    AllocMetric,
    ClientStatus,
    Desired,
)
from core.model.ids import (
    GROUP_BITS,
    AllocKey,
    alloc_id,
    alloc_ids,
    alloc_key,
    alloc_keys,
    alloc_prefixes,
    datacenter_of,
)
from core.model.plan import PortAsk
from core.model.units import Units
from core.state.alloc_columns import FLAG_CANARY, FLAG_LIVE_ROW, HELD, AllocColumns, AllocExtras
from core.state.columns import SparseColumn
from core.state.group_index import NO_ROW, GroupIndex
from core.state.intern import Interned
from core.state.jobs import JobRecord, JobTable
from core.state.nodes import NodeTable
from core.state.resources import Ask, ask_of
from core.state.table import Table
from core.state.task_states import PackedStates
from core.state.whole import allocation

Rows = npt.NDArray[np.int64]

__all__ = [
    "FLAG_CANARY",
    "FLAG_LIVE_ROW",
    "HELD",
    "AllocColumns",
    "AllocExtras",
    "AllocTable",
    "Rows",
]

_INTERNED: Final = ("resources", "metrics", "eval", "deployment", "port_asks", "task_shape")


class AllocTable:
    """All allocations. `columns.X[row]` reads; only handlers write."""

    def __init__(self, nodes: NodeTable, jobs: JobTable) -> None:
        self._nodes = nodes
        self._jobs = jobs
        self.datacenter_id = ""
        self.columns = AllocColumns()
        self.count = 0  # rows that hold an allocation
        self.resources: Interned[AllocatedResources] = Interned("resources", AllocatedResources)
        self.metrics: Interned[AllocMetric] = Interned("metrics", AllocMetric, is_read_seldom=True)
        self.evals: Interned[str] = Interned("alloc_evals", str)
        self.deployments: Interned[str] = Interned("alloc_deployments", str)
        self.port_asks: Interned[list[PortAsk]] = Interned("port_asks", list[PortAsk])
        self.texts: Interned[str] = Interned("alloc_texts", str)
        self.states = PackedStates()
        self.extras: SparseColumn[AllocExtras] = SparseColumn("alloc_extras", AllocExtras)
        self.ports: SparseColumn[bytes] = SparseColumn("alloc_ports", bytes)  # int32 each
        self.units: SparseColumn[Units] = SparseColumn("alloc_units", Units)  # cores, devices
        self.retired: Table[int, list[tuple[int, int]]] = Table(
            "retired_generations", int, list[tuple[int, int]]
        )  # by group row: (index, last generation) where no row shows it any more
        self._groups: dict[int, GroupIndex] = {}  # by group row
        self._asks: dict[int, Ask] = {}  # by resources ordinal
        self._free = np.zeros(0, dtype=np.int64)  # ascending

    # --- finding rows --------------------------------------------------------------

    def __len__(self) -> int:
        return self.count

    def rows(self) -> Rows:
        """Return all rows that hold an allocation, ascending."""
        return np.flatnonzero(self.columns.flags[: self.columns.length] & FLAG_LIVE_ROW)

    def rows_of_job(self, job_ordinal: int, group: str | None = None) -> Rows:
        """Return the rows of a job, or of one of its groups, ascending."""
        record = self._jobs.record(job_ordinal)
        if record is None:
            return np.zeros(0, dtype=np.int64)
        parts = [
            self._rows_of_group(row)
            for name, row in zip(record.groups, record.group_rows, strict=True)
            if group is None or name == group
        ]
        return np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)

    def rows_of_node(self, ordinal: int) -> Rows:
        """Return the rows placed on a node, ascending, ended ones too until collected."""
        rows = []
        chain = self.columns.next_on_node
        row = int(self._nodes.columns.first_row[ordinal])
        while row >= 0:
            rows.append(row)
            row = int(chain[row])
        return np.array(sorted(rows), dtype=np.int64)

    def rows_of_eval(self, eval_id: str) -> Rows:
        """Return the rows that an evaluation placed. Scans the column."""
        ordinal = self.evals.find(eval_id)
        if ordinal < 0:
            return np.zeros(0, dtype=np.int64)
        rows = self.rows()
        found: Rows = rows[self.columns.eval[rows] == ordinal]
        return found

    def rows_of_deployment(self, deployment_id: str) -> Rows:
        """Return the rows that belong to a deployment. Scans the column."""
        ordinal = self.deployments.find(deployment_id)
        if ordinal < 0:
            return np.zeros(0, dtype=np.int64)
        rows = self.rows()
        found: Rows = rows[self.columns.deployment[rows] == ordinal]
        return found

    def row_of(self, alloc: str) -> int | None:
        """Return the row of an allocation's full id, None when there is none."""
        if datacenter_of(alloc) != self.datacenter_id:
            return None
        key = alloc_key(alloc)
        if key is None:
            return None
        index = self._group_of(key.job, key.group)
        row = NO_ROW if index is None else index.newest(key.index)
        while row >= 0 and self.columns.generation[row] != key.generation:
            row = int(self.columns.older[row])
        return row if row >= 0 else None

    def rows_of(self, allocs: list[str]) -> Rows:
        """Return `row_of` of each id, NO_ROW for None; many cost less than one by one."""
        keys = alloc_keys(allocs, self.datacenter_id)
        if keys is None:
            found = [self.row_of(one) for one in allocs]
            return np.array([NO_ROW if row is None else row for row in found], dtype=np.int64)
        rows = np.full(len(allocs), NO_ROW, dtype=np.int64)
        groups: dict[int, GroupIndex | None] = {}
        pairs = (keys[:, 0] << GROUP_BITS | keys[:, 1]).tolist()
        for place, (pair, index) in enumerate(zip(pairs, keys[:, 2].tolist(), strict=True)):
            if pair not in groups:
                groups[pair] = self._group_of(pair >> GROUP_BITS, pair & (1 << GROUP_BITS) - 1)
            known = groups[pair]
            if known is not None:
                rows[place] = known.newest(index)
        generations, older = self.columns.generation, self.columns.older
        while True:  # older generations stand behind the newest
            astray = np.flatnonzero((rows != NO_ROW) & (generations[rows] != keys[:, 3]))
            if not astray.size:
                return rows
            rows[astray] = older[rows[astray]]

    def _group_of(self, job: int, group: int) -> GroupIndex | None:
        record = self._jobs.record(job)
        if record is None or group >= len(record.group_rows):
            return None
        return self._groups.get(record.group_rows[group])

    def rows_with_prefix(self, prefix: str) -> Rows:
        """Return the rows whose id begins with `prefix`, ascending."""
        digits = prefix.replace("-", "").lower()
        if not digits:
            return self.rows()
        try:
            number = int(digits[:10], 16)
        except ValueError:
            return np.zeros(0, dtype=np.int64)
        rows = self.rows()
        heads = alloc_prefixes(*self._keys(rows), self.datacenter_id)
        shift = np.uint64(40 - 4 * len(digits[:10]))
        found: Rows = rows[(heads >> shift) == np.uint64(number)]
        if len(prefix) > 8:  # the dashes, and what 40 bits don't say
            wanted = prefix.lower()
            kept = [row for row in found.tolist() if self.id_of(row).startswith(wanted)]
            found = np.array(kept, dtype=np.int64)
        return found

    def ids_with_prefix(self, prefix: str) -> list[str]:
        """Return the ids that begin with `prefix`, sorted."""
        return sorted(self.id_of(row) for row in self.rows_with_prefix(prefix).tolist())

    def group_index(self, group_row: int) -> GroupIndex:
        """Return the group's index, made if need be."""
        index = self._groups.get(group_row)
        if index is None:
            index = self._groups[group_row] = GroupIndex()
        return index

    def is_new_group(self, group_row: int) -> bool:
        """Whether a group never had an allocation."""
        index = self._groups.get(group_row)
        return (index is None or not len(index.indices)) and not self.retired.get(group_row)

    def next_generations(self, record: JobRecord, group: str, indices: Rows) -> Rows:
        """Return the generation of the next allocation of each index; 0 for a new one."""
        ordinal = self._jobs.group_ordinal(record, group)
        index = None if ordinal is None else self._groups.get(record.group_rows[ordinal])
        if index is None:
            return np.zeros(len(indices), dtype=np.int64)
        return index.next_generations(indices).astype(np.int64)

    # --- reading a row -------------------------------------------------------------

    def key_of(self, row: int) -> AllocKey:
        columns, groups = self.columns, self._jobs.columns
        group_row = columns.group_row[row]
        return AllocKey(
            int(groups.job[group_row]),
            int(groups.group[group_row]),
            int(columns.index[row]),
            int(columns.generation[row]),
        )

    def id_of(self, row: int) -> str:
        return alloc_id(self.key_of(row), self.datacenter_id)

    def ids_of(self, rows: Rows) -> list[str]:
        """Return the ids of many rows, in their order."""
        return alloc_ids(*self._keys(rows), self.datacenter_id)

    def allocation(self, row: int) -> Allocation:
        """Return the row made whole, with the job of its version."""
        return allocation(self, self._nodes, row)

    def get(self, alloc: str) -> Allocation | None:
        """Return the allocation of a full id, whole; None when there is none."""
        row = self.row_of(alloc)
        return None if row is None else self.allocation(row)

    def job_ordinals(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Return the job ordinal of each row."""
        return self._jobs.columns.job[self.columns.group_row[rows]]

    def group_ordinals(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """Return the group ordinal (within its job) of each row."""
        return self._jobs.columns.group[self.columns.group_row[rows]]

    def job_record(self, row: int) -> JobRecord:
        record = self._jobs.record(int(self._jobs.columns.job[self.columns.group_row[row]]))
        assert record is not None, "an allocation outlived its job's record"
        return record

    def ask(self, resources_ordinal: int) -> Ask:
        """Return what the interned resources ask of a node."""
        known = self._asks.get(resources_ordinal)
        if known is None:
            known = ask_of(self.resources.get(resources_ordinal))
            self._asks[resources_ordinal] = known
        return known

    def asks(self, rows: Rows) -> Rows:
        """Return int64[len(rows), 3]: cpu, memory and disk of each row."""
        ordinals, inverse = np.unique(self.columns.resources[rows], return_inverse=True)
        table = np.array([self.ask(n) for n in ordinals.tolist()], dtype=np.int64)
        return table.reshape(-1, 3)[inverse.reshape(-1)]

    def port_mask(self, row: int) -> int:
        """Return the host ports of a row as a bit mask."""
        data = self.ports.get(row)
        mask = 0
        for port in np.frombuffer(data, dtype="<i4").tolist() if data else ():
            mask |= 1 << port
        return mask

    def is_live(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return whether each is wanted to run and its client is not done (or unknown)."""
        live: npt.NDArray[np.bool_] = HELD[self.columns.client[rows]]
        live &= self.columns.desired[rows] == Desired.RUN
        return live

    def has_unknown(self) -> bool:
        """Whether any allocation is unknown."""
        columns = self.columns
        return bool((columns.client[: columns.length] == ClientStatus.UNKNOWN).any())

    def is_unknown(self, row: int) -> bool:
        """Return whether its client is cut off, and may come back with it."""
        return bool(self.columns.client[row] == ClientStatus.UNKNOWN)

    def is_terminal(self, row: int) -> bool:
        """Return whether the client is done with it."""
        return not HELD[self.columns.client[row]]

    def items(self) -> Iterator[tuple[int, str]]:
        """Iterate over (row, id) of all allocations."""
        return ((row, self.id_of(row)) for row in self.rows().tolist())

    # --- changing: for core.state.placing and core.state.reports -----------------------

    def append(self, count: int) -> Rows:
        """Return `count` rows, free ones first, cleared and marked as taken."""
        reused = self._free[:count]
        self._free = self._free[count:]
        self.columns.touch(reused)
        fresh = count - len(reused)
        first = self.columns.extend(fresh)
        rows = np.concatenate((reused, np.arange(first, first + fresh, dtype=np.int64)))
        columns = self.columns
        columns.flags[rows] = FLAG_LIVE_ROW
        for name in (*_INTERNED, "desired_text", "client_text", "older", "next_on_node"):
            getattr(columns, name)[rows] = -1
        columns.desired[rows] = Desired.RUN
        columns.client[rows] = ClientStatus.PENDING
        self.count += count
        return rows

    def link(self, rows: Rows) -> None:
        """Enter rows of one group, whose indices are distinct, into the indexes."""
        columns = self.columns
        group_row = int(columns.group_row[rows[0]])
        index = self.group_index(group_row)
        retired = self.retired.get(group_row)
        if retired:
            revived = set(columns.index[rows].tolist())
            self.retired.put(group_row, [pair for pair in retired if pair[0] not in revived])
        columns.older[rows] = index.put(
            columns.index[rows].astype(np.int64), rows, columns.generation[rows].astype(np.int64)
        )
        self.chain(rows)

    def begin_groups(self, rows: Rows, group_rows: list[int], counts: Rows) -> None:
        """Enter the first rows of new groups, group after group: as `link` does one of them."""
        columns = self.columns
        indices = columns.index[rows]
        generations = columns.generation[rows]
        own = rows.astype(np.int32)
        first = 0
        for group_row, count in zip(group_rows, counts.tolist(), strict=True):
            part = slice(first, first + count)
            begun = GroupIndex.begun(indices[part], own[part], generations[part])
            self._groups[group_row] = begun
            first += count
        self.chain(rows)

    def chain(self, rows: Rows) -> None:
        """Enter rows into their nodes' chains."""
        columns, heads = self.columns, self._nodes.columns.first_row
        nodes = columns.node[rows]
        order = np.argsort(nodes, kind="stable")
        rows, nodes = rows[order], nodes[order]
        starts = np.flatnonzero(np.concatenate(([True], nodes[1:] != nodes[:-1])))
        ends = np.concatenate((starts[1:], [len(rows)])) - 1
        columns.next_on_node[rows[:-1]] = rows[1:]
        columns.next_on_node[rows[ends]] = heads[nodes[ends]]
        heads[nodes[starts]] = rows[starts]

    def change_extras(self, row: int, **changes: Any) -> None:
        old = self.extras.get(row) or AllocExtras()
        self.extras.put(row, msgspec.structs.replace(old, **changes))

    def set_text(self, column: str, row: int, text: str) -> None:
        """Set `desired_text` or `client_text` of a row."""
        array = getattr(self.columns, column)
        old = int(array[row])
        array[row] = self.texts.ordinal(text, 1) if text else -1
        if old >= 0:
            self.texts.drop(old, 1)

    def collect(self, rows: Rows) -> None:
        """Remove rows (held ones never) and keep their indices' last generations."""
        columns = self.columns
        assert not HELD[columns.client[rows]].any(), "collecting an allocation that may run"
        columns.touch(rows)
        self._retire(rows)
        for row in rows.tolist():
            self.extras.remove(row)
            self.ports.remove(row)
            self.units.remove(row)
            self.states.remove(row)
        self.evals.release(columns.eval[rows])
        self.deployments.release(columns.deployment[rows])
        self.port_asks.release(columns.port_asks[rows])
        self.metrics.release(columns.metrics[rows])
        self.states.shapes.release(columns.task_shape[rows])
        self.texts.release(columns.desired_text[rows])
        self.texts.release(columns.client_text[rows])
        self.release_resources(columns.resources[rows])
        for name in columns.DTYPES:
            getattr(columns, name)[rows] = 0
        self._free = np.union1d(self._free, rows)
        self.count -= len(rows)

    def release_resources(self, ordinals: npt.NDArray[Any]) -> None:
        self.resources.release(ordinals)
        for ordinal in np.unique(ordinals).tolist():
            if self.resources.references(ordinal) == 0:
                self._asks.pop(ordinal, None)

    def forget_group(self, group_row: int) -> None:
        """The group's counter row is about to be freed: nothing of it may remain."""
        self._groups.pop(group_row, None)
        self.retired.delete(group_row)

    # --- restoring -----------------------------------------------------------------

    def restored(self) -> None:
        """Rebuild chains, indexes, port masks and reference counts from the columns."""
        columns = self.columns
        rows = self.rows()
        self.count = len(rows)
        self._free = np.flatnonzero(columns.flags[: columns.length] == 0)
        self._groups.clear()
        columns.older[:] = -1
        columns.next_on_node[:] = -1
        if len(rows):
            self._rebuild_groups(rows)
            self.chain(rows)
        for group_row, entries in self.retired.items():
            pairs = np.array(entries, dtype=np.int64).reshape(-1, 2)
            self.group_index(group_row).set_generations(pairs[:, 0], pairs[:, 1])
        self.evals.recount(columns.eval[rows])
        self.deployments.recount(columns.deployment[rows])
        self.port_asks.recount(columns.port_asks[rows])
        self.metrics.recount(columns.metrics[rows])
        self.resources.recount(columns.resources[rows])
        self.states.shapes.recount(columns.task_shape[rows])
        self.texts.recount(np.concatenate((columns.desired_text[rows], columns.client_text[rows])))
        for row, _ in self.ports.items():
            if HELD[columns.client[row]]:
                self._nodes.take_ports(int(columns.node[row]), self.port_mask(row))

    def _rebuild_groups(self, rows: Rows) -> None:
        """Enter all rows into their groups, the oldest generation of an index first.

        Generations wrap at 65,536, but those of one index that still have rows are never
        half of that apart: they are compared as distances from any one of them.
        """
        columns = self.columns
        order = np.lexsort((columns.index[rows], columns.group_row[rows]))
        rows = rows[order]
        groups, indices = columns.group_row[rows], columns.index[rows]
        differs = (groups[1:] != groups[:-1]) | (indices[1:] != indices[:-1])
        begins = np.concatenate(([True], differs))
        some = columns.generation[rows[begins]][np.cumsum(begins) - 1]
        distance = (columns.generation[rows] - some).view(np.int16)
        rows = rows[np.lexsort((distance, indices, groups))]
        follows = (groups[1:] == groups[:-1]) & (indices[1:] == indices[:-1])
        columns.older[rows[1:][follows]] = rows[:-1][follows]
        newest = rows[np.concatenate((~follows, [True]))]
        groups = columns.group_row[newest]
        starts = np.flatnonzero(np.concatenate(([True], groups[1:] != groups[:-1]))).tolist()
        for low, high in zip(starts, [*starts[1:], len(newest)], strict=True):
            part = newest[low:high]
            self.group_index(int(groups[low])).put(
                columns.index[part].astype(np.int64),
                part,
                columns.generation[part].astype(np.int64),
            )

    # --- inside --------------------------------------------------------------------

    def _rows_of_group(self, group_row: int) -> Rows:
        index = self._groups.get(group_row)
        if index is None:
            return np.zeros(0, dtype=np.int64)
        parts = []
        front = index.rows[index.rows >= 0].astype(np.int64)
        while front.size:
            parts.append(front)
            front = self.columns.older[front].astype(np.int64)
            front = front[front >= 0]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _keys(self, rows: Rows) -> tuple[Rows, Rows, Rows, Rows]:
        columns = self.columns
        return (
            self.job_ordinals(rows).astype(np.int64),
            self.group_ordinals(rows).astype(np.int64),
            columns.index[rows].astype(np.int64),
            columns.generation[rows].astype(np.int64),
        )

    def _retire(self, rows: Rows) -> None:
        """Take rows out of chains and group indexes."""
        columns = self.columns
        gone = np.zeros(columns.length, dtype=bool)
        gone[rows] = True
        for node in np.unique(columns.node[rows]).tolist():
            kept = self.rows_of_node(node)
            kept = kept[~gone[kept]]
            self._nodes.columns.first_row[node] = -1
            if len(kept):
                self.chain(kept)
        for group_row in np.unique(columns.group_row[rows]).tolist():
            self._retire_group(group_row, gone)

    def _retire_group(self, group_row: int, gone: npt.NDArray[np.bool_]) -> None:
        columns = self.columns
        index = self._groups[group_row]
        for row in self._rows_of_group(group_row).tolist():  # skip over rows that go
            if gone[row]:
                continue
            older = int(columns.older[row])
            while older >= 0 and gone[older]:
                older = int(columns.older[older])
            columns.older[row] = older
        lost = index.rows >= 0
        lost[lost] = gone[index.rows[lost]]
        for place in np.flatnonzero(lost).tolist():
            row = int(index.rows[place])
            while row >= 0 and gone[row]:
                row = int(columns.older[row])
            index.rows[place] = row
        shown = np.where(index.rows >= 0, columns.generation[index.rows], 0)
        hidden = (index.rows < 0) | (shown != index.generations)
        if hidden.any():
            pairs = zip(
                index.indices[hidden].tolist(), index.generations[hidden].tolist(), strict=True
            )
            self.retired.put(group_row, list(pairs))
        else:
            self.retired.delete(group_row)
