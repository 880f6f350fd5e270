"""Which rows of a plan hold on the state as it is: the last word on over-commitment.

The planner worked on an earlier state; nothing here trusts it. For each new row, in the
order of the plan:

* its job runs and has that version, its node is ready, its index is of the job's share here;
* no live allocation has its (job, group, index), unless this plan stops that one, or
  one of the two is a canary; and its generation was never given out;
* its host ports are free, so are its cores and devices, and cpu, memory and disk;
* its namespace's quota, if it has one, has as much left.

**What is free.** An allocation holds its resources until its client says it is done or
the servers give it up as lost. Within one plan, what the plan itself stops counts as
free already, so that a full node can take a replacement. For that the client keeps its
side: an allocation starts only when those that it replaces on its node, and those whose
stop was committed in the entry that created it, have ended. So processes never exceed
the node, though `*_used` may for the time of a stop. What an *earlier* plan stopped is
not free before it ended. A lost allocation's processes may still run on a node that is
cut off; such a node takes no new work before it is back and has stopped them (as Nomad).

**Stops follow their replacement.** A stop whose replacement was refused is withheld, so
an update can't shrink a job on a full cluster. Withholding takes room from others,
hence the check is repeated until nothing more is withheld.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from core.model.allocation import ClientStatus, Desired
from core.model.ids import GENERATION_BITS, INDEX_BITS, AllocKey, alloc_id
from core.model.plan import AllocStop, InPlaceUpdate, PlacementBatch, Plan
from core.model.units import unit_names, units_of_node
from core.state import accounts
from core.state.allocs import FLAG_CANARY, HELD
from core.state.few_rows import check_few
from core.state.group_index import GroupIndex
from core.state.jobs import JobRecord
from core.state.quotas import left_of
from core.state.resources import Ask, ask_of
from core.state.result import DroppedRows

if TYPE_CHECKING:
    from core.state.state import State

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]

REASONS: Final = ("", "job", "node", "index", "ports", "cpu", "memory", "disk", "units", "quota")
_JOB, _NODE, _INDEX, _PORTS, _CPU = 1, 2, 3, 4, 5
_UNITS: Final = 8
_QUOTA: Final = 9
_ONCE: Final = ("batch", "sysbatch")
_EVERY_NODE: Final = ("system", "sysbatch")  # their indices are node ordinals


@dataclass(slots=True, frozen=True)
class BatchRows:
    """A batch's columns, decoded. `ports` has one row per placement."""

    batch: PlacementBatch
    index: Ints
    generation: Ints
    node: Ints
    ports: Ints
    ask: Ask


class CheckedPlan(NamedTuple):
    """What of a plan may be applied."""

    batches: list[BatchRows]
    codes: list[Codes]  # by batch and row: 0 = accepted, else position in REASONS
    stops: list[tuple[int, AllocStop]]  # with their rows
    withheld: list[str]
    in_place: list[bool]

    def dropped(self, plan_number: int) -> list[DroppedRows]:
        """Return the refused rows for the planner."""
        answer = []
        for number, codes in enumerate(self.codes):
            rows = np.flatnonzero(codes)
            if rows.size:
                reasons = [REASONS[code] for code in codes[rows].tolist()]
                answer.append(DroppedRows(plan_number, number, rows.tolist(), reasons))
        return answer


def decode_batch(batch: PlacementBatch) -> BatchRows:
    """Return the batch's columns as arrays.

    Raises:
        ValueError: The columns are not of equal length.
    """
    index = np.frombuffer(batch.index, dtype="<i4").astype(np.int64)
    generation = np.frombuffer(batch.generation, dtype="<u2").astype(np.int64)
    node = np.frombuffer(batch.node, dtype="<i4").astype(np.int64)
    ports = np.frombuffer(batch.ports, dtype="<i4").astype(np.int64)
    count = len(index)
    scores = len(batch.scores) // 4
    if (
        not len(generation) == len(node) == count
        or len(ports) != count * len(batch.port_asks)
        or scores not in {0, count}
        or len(batch.previous) not in {0, count}
        or len(batch.units) not in {0, count}
    ):
        raise ValueError(f"placements of group {batch.group!r}: columns of unequal length")
    ask = ask_of(batch.resources)
    if min(ask) < 0:
        raise ValueError(f"placements of group {batch.group!r} ask for less than nothing")
    return BatchRows(
        batch, index, generation, node, ports.reshape(count, len(batch.port_asks)), ask
    )


def check_plan(state: "State", record: JobRecord | None, plan: Plan) -> CheckedPlan:
    """Return what of `plan` holds now. Changes nothing.

    Raises:
        ValueError: The plan's columns are malformed.
    """
    batches = [decode_batch(batch) for batch in plan.placements]
    few = check_few(state, record, batches, plan)
    if few is not None and (record is None or record.namespace not in state.spent):
        return CheckedPlan(batches, few, [], [], [])
    found = ((state.allocs.row_of(stop.alloc_id), stop) for stop in plan.stops)
    stops = [(row, stop) for row, stop in found if row is not None and not _is_done(state, row)]
    withheld: dict[str, None] = {}
    codes: list[Codes] = [np.zeros(len(rows.index), dtype=np.uint8) for rows in batches]
    while True:
        kept = [(row, stop) for row, stop in stops if stop.alloc_id not in withheld]
        check = _Check(state, record, batches, plan, kept)
        codes = [check.batch(rows, before) for rows, before in zip(batches, codes, strict=True)]
        in_place = check.in_place(plan)
        refused = _stops_to_withhold(batches, codes, kept)
        refused += _victims_to_spare(state, record, batches, codes, kept)
        if not refused:
            return CheckedPlan(batches, codes, kept, list(withheld), in_place)
        withheld.update(dict.fromkeys(refused))


def _is_done(state: "State", row: int) -> bool:
    """Whether an instance of a batch job ended well, by itself: nobody stops or repeats it.

    The planner may not have known it yet.
    """
    columns = state.allocs.columns
    return (
        columns.client[row] == ClientStatus.COMPLETE
        and columns.desired[row] == Desired.RUN
        and state.allocs.job_record(row).job.type in _ONCE
    )


def _stops_to_withhold(
    batches: list[BatchRows], codes: list[Codes], stops: list[tuple[int, AllocStop]]
) -> list[str]:
    """Return ids of running allocations whose replacement in this plan was refused."""
    unreplaced = {
        rows.batch.previous[row]
        for rows, refused in zip(batches, codes, strict=True)
        if rows.batch.previous
        for row in np.flatnonzero(refused).tolist()
    }
    return [
        stop.alloc_id
        for _, stop in stops
        if stop.alloc_id in unreplaced and stop.client_status is None
    ]


def _victims_to_spare(
    state: "State",
    record: JobRecord | None,
    batches: list[BatchRows],
    codes: list[Codes],
    stops: list[tuple[int, AllocStop]],
) -> list[str]:
    """Return ids of allocations that should give way to one that was refused."""
    if record is None or not any(stop.preempted_by for _, stop in stops):
        return []
    accepted = set()
    for rows, refused in zip(batches, codes, strict=True):
        ordinal = state.jobs.group_ordinal(record, rows.batch.group)
        for at in np.flatnonzero(refused == 0).tolist():
            key = AllocKey(
                record.ordinal, ordinal or 0, int(rows.index[at]), int(rows.generation[at])
            )
            accepted.add(alloc_id(key, state.datacenter_id))
    return [
        stop.alloc_id
        for _, stop in stops
        if stop.preempted_by and stop.preempted_by not in accepted
    ]


class _Check:
    """One pass over a plan with a given set of stops."""

    def __init__(
        self,
        state: "State",
        record: JobRecord | None,
        batches: list[BatchRows],
        plan: Plan,
        stops: list[tuple[int, AllocStop]],
    ) -> None:
        self._state = state
        self._record = record
        self._stopped = np.array(sorted({row for row, _ in stops}), dtype=np.int64)
        in_place = [state.allocs.row_of(update.alloc_id) for update in plan.in_place]
        self._in_place_rows = in_place
        columns = state.allocs.columns
        touched = [columns.node[self._stopped].astype(np.int64)]
        touched.append(columns.node[[row for row in in_place if row is not None]].astype(np.int64))
        touched.extend(rows.node for rows in batches)
        nodes = np.unique(np.concatenate(touched))
        self._nodes = nodes[(nodes >= 0) & (nodes < len(state.nodes))]
        self._free = self._free_now()
        self._ports_freed: dict[int, int] = {}
        self._ports_claimed: dict[int, int] = {}
        self._freed_rows: frozenset[int] = frozenset()
        self._units_held: dict[int, set[str]] = {}  # by node, those claimed included
        self._accepted: dict[str, tuple[Ints, Ints]] = {}  # group -> (indices not canary, keys)
        known = None if record is None else left_of(state, record.namespace)
        self._allowed = None if known is None else known[1]  # of its quota: cpu, memory
        self._release(stops)

    def _free_now(self) -> Ints:
        """Return int64[nodes, 3]: what is left of cpu, memory and disk."""
        table, at = self._state.nodes, self._nodes
        return np.stack(
            (
                table.cpu_capacity[at] - table.cpu_used[at],
                table.memory_capacity[at] - table.memory_used[at],
                table.disk_capacity[at] - table.disk_used[at],
            ),
            axis=1,
        )

    def _release(self, stops: list[tuple[int, AllocStop]]) -> None:
        """Count as free what this plan stops; what stops already holds on until its end."""
        if not stops:
            return
        allocs = self._state.allocs
        columns = allocs.columns
        lost = {row for row, stop in stops if stop.client_status == ClientStatus.LOST}
        rows = self._stopped
        given_up = np.isin(rows, np.array(sorted(lost), dtype=np.int64))
        wanted = {row for row, stop in stops if stop.desired != Desired.RUN}
        ends = np.isin(rows, np.array(sorted(wanted), dtype=np.int64))
        freed = HELD[columns.client[rows]] & (
            given_up | (ends & (columns.desired[rows] == Desired.RUN))
        )
        rows = rows[freed]
        if not len(rows):
            return
        self._freed_rows = frozenset(rows.tolist())
        at = np.searchsorted(self._nodes, columns.node[rows])
        np.add.at(self._free, at, allocs.asks(rows))
        self._count_freed(rows)
        for row in rows[columns.port_asks[rows] >= 0].tolist():
            node = int(columns.node[row])
            # A port that one who stops since an earlier plan holds as well stays taken.
            freed = allocs.port_mask(row) & ~self._state.nodes.ports_shared(node)
            self._ports_freed[node] = self._ports_freed.get(node, 0) | freed

    def batch(self, rows: BatchRows, before: Codes) -> Codes:
        """Return a code per row of one batch and claim what the accepted ones take.

        What an earlier pass refused stays so, with its first reason.
        """
        codes = before.copy()
        record, batch = self._record, rows.batch
        if (
            record is None
            or record.is_stopped
            or self._state.jobs.version(record.ordinal, batch.job_version) is None
        ):
            codes[codes == 0] = _JOB
            return codes
        table = self._state.nodes
        exists = (rows.node >= 0) & (rows.node < len(table))
        ready = np.zeros(len(rows.node), dtype=bool)
        ready[exists] = table.is_ready[rows.node[exists]]
        codes[~ready & (codes == 0)] = _NODE
        self._check_indices(record, rows, codes)
        if batch.previous and record.job.type in _ONCE:
            self._check_previous(record, rows, codes)
        if batch.port_asks:
            self._check_ports(rows, codes)
        if batch.units:
            self._check_units(rows, codes)
        if self._allowed is not None:
            self._check_quota(rows, codes, self._allowed)
        self._check_resources(rows, codes)
        self._accept(rows, codes)
        return codes

    def _count_freed(self, rows: Ints) -> None:
        # Victims of another namespace leave this one's quota as it is.
        if self._allowed is None or self._record is None:
            return
        for row, ask in zip(rows.tolist(), self._state.allocs.asks(rows).tolist(), strict=True):
            if self._state.allocs.job_record(row).namespace == self._record.namespace:
                self._grant(self._allowed, [-part for part in ask])

    @staticmethod
    def _grant(allowed: list[int | None], ask: Sequence[int]) -> bool:
        """Take `ask` off what a quota leaves; False, and nothing taken, when it is too much."""
        pairs = list(zip(allowed, ask[:2], strict=True))
        if any(left is not None and part > 0 and part > left for left, part in pairs):
            return False
        allowed[:] = [None if left is None else left - part for left, part in pairs]
        return True

    def _check_quota(self, rows: BatchRows, codes: Codes, allowed: list[int | None]) -> None:
        for at in np.flatnonzero(codes == 0).tolist():
            if not self._grant(allowed, rows.ask):
                codes[at] = _QUOTA

    def _check_units(self, rows: BatchRows, codes: Codes) -> None:
        for at in np.flatnonzero(codes == 0).tolist():
            node = int(rows.node[at])
            record = self._state.nodes.record(node)
            names = list(unit_names(rows.batch.units[at]))
            if node not in self._units_held:
                freed = self._freed_rows
                self._units_held[node] = accounts.held_units(self._state, node, but=freed)
            held = self._units_held[node]
            is_free = (
                record is not None
                and len(set(names)) == len(names)
                and units_of_node(record).issuperset(names)
                and held.isdisjoint(names)
            )
            if is_free:
                held.update(names)
            else:
                codes[at] = _UNITS

    def _check_indices(self, record: JobRecord, rows: BatchRows, codes: Codes) -> None:
        group = rows.batch.group
        bad = (rows.index < 0) | (rows.index >> INDEX_BITS != 0)
        if len(set(rows.index.tolist())) < len(rows.index):
            _, first = np.unique(rows.index, return_index=True)
            repeated = np.ones(len(rows.index), dtype=bool)
            repeated[first] = False
            bad |= repeated
        if group in self._accepted:
            taken, keys = self._accepted[group]
            bad |= np.isin(rows.index << GENERATION_BITS | rows.generation, keys)
            if not rows.batch.canary:
                bad |= np.isin(rows.index, taken)
        if record.indices and record.job.type not in _EVERY_NODE:
            # Planned before the share shrank: another datacenter may run these by now.
            bad |= ~_within(rows.index, record.indices.get(group, []))
        ordinal = self._state.jobs.group_ordinal(record, group)
        index = None
        if ordinal is not None:
            index = self._state.allocs.group_index(record.group_rows[ordinal])
        if index is not None and len(index.indices):
            bad |= ~index.is_newer(rows.index, rows.generation)
            if not rows.batch.canary:
                bad |= self._has_live(index, rows.index)
        codes[bad & (codes == 0)] = _INDEX

    def _check_previous(self, record: JobRecord, rows: BatchRows, codes: Codes) -> None:
        """What was done in this version since the plan was made is not done again."""
        allocs = self._state.allocs
        for at in np.flatnonzero(codes == 0).tolist():
            before = allocs.row_of(rows.batch.previous[at]) if rows.batch.previous[at] else None
            if before is not None and _is_done(self._state, before):
                is_same = int(allocs.columns.job_version[before]) == rows.batch.job_version
                codes[at] = _INDEX if is_same else 0

    def _has_live(self, index: GroupIndex, wanted: Ints) -> Mask:
        """Return for each index whether a generation of it lives that the plan keeps.

        Canaries do not count.
        """
        columns = self._state.allocs.columns
        places, known = index.positions(wanted)
        newest = np.full(len(wanted), -1, dtype=np.int64)
        newest[known] = index.rows[places[known]]
        result = np.zeros(len(newest), dtype=bool)
        front = newest
        while (front >= 0).any():
            at = np.flatnonzero(front >= 0)
            rows = front[at]
            live = (
                (columns.desired[rows] == Desired.RUN)
                & (columns.client[rows] <= ClientStatus.RUNNING)
                & (columns.flags[rows] & FLAG_CANARY == 0)
                & ~np.isin(rows, self._stopped)
            )
            result[at] |= live
            front = front.copy()
            front[at] = columns.older[rows]
        return result

    def _check_ports(self, rows: BatchRows, codes: Codes) -> None:
        for row in np.flatnonzero(codes == 0).tolist():
            node = int(rows.node[row])
            mask = port_mask(rows.ports[row].tolist())
            taken = self._state.nodes.ports_used(node) & ~self._ports_freed.get(node, 0)
            claimed = self._ports_claimed.get(node, 0)
            if mask is None or mask & (taken | claimed):
                codes[row] = _PORTS
            else:
                self._ports_claimed[node] = claimed | mask

    def _check_resources(self, rows: BatchRows, codes: Codes) -> None:
        """Rows of a batch ask alike, so the n-th on a node fits if n times the ask does."""
        left = np.flatnonzero(codes == 0)
        if not left.size:
            return
        at = np.searchsorted(self._nodes, rows.node[left])
        order = np.argsort(at, kind="stable")
        by_node = at[order]
        starts = np.flatnonzero(np.concatenate(([True], by_node[1:] != by_node[:-1])))
        counts = np.diff(np.concatenate((starts, [len(by_node)])))
        rank = np.empty(len(left), dtype=np.int64)
        rank[order] = np.arange(len(left)) - np.repeat(starts, counts) + 1
        for dimension in (2, 1, 0):  # the first dimension that lacks is the one reported
            ask = rows.ask[dimension]
            if ask > 0:
                lacks = rank * ask > self._free[at, dimension]
                codes[left[lacks]] = _CPU + dimension
        fits = codes[left] == 0
        taken = np.bincount(at[fits], minlength=len(self._nodes))
        self._free -= taken[:, None] * np.array(rows.ask, dtype=np.int64)

    def _accept(self, rows: BatchRows, codes: Codes) -> None:
        ok = codes == 0
        taken, keys = self._accepted.get(rows.batch.group, (rows.index[:0], rows.index[:0]))
        if not rows.batch.canary:
            taken = np.concatenate((taken, rows.index[ok]))
        keys = np.concatenate((keys, rows.index[ok] << GENERATION_BITS | rows.generation[ok]))
        self._accepted[rows.batch.group] = (taken, keys)

    def in_place(self, plan: Plan) -> list[bool]:
        """Return for each in-place update whether it may be done; claim what it adds."""
        answer = []
        allocs, record = self._state.allocs, self._record
        stopped = set(self._stopped.tolist())
        settled: set[tuple[int, int]] = set()  # (group, index) of canaries that become indices
        for row, update in zip(self._in_place_rows, plan.in_place, strict=True):
            is_ok = (
                record is not None
                and row is not None
                and row not in stopped
                and allocs.job_record(row).ordinal == record.ordinal
                and bool(HELD[allocs.columns.client[row]])
                and self._state.jobs.version(record.ordinal, update.job_version) is not None
            )
            if is_ok and row is not None and self._leaves_trial(row, update):
                key = allocs.key_of(row)
                is_ok = (key.group, key.index) not in settled and self._is_alone(row)
                settled.add((key.group, key.index))
            if is_ok and row is not None:
                old = np.array(allocs.ask(int(allocs.columns.resources[row])), dtype=np.int64)
                more = np.array(ask_of(update.resources), dtype=np.int64) - old
                at = int(np.searchsorted(self._nodes, allocs.columns.node[row]))
                is_ok = not bool(((more > 0) & (more > self._free[at])).any())
                if is_ok and self._allowed is not None:
                    is_ok = self._grant(self._allowed, more.tolist())
                if is_ok:
                    self._free[at] -= more
            answer.append(is_ok)
        return answer

    def _leaves_trial(self, row: int, update: InPlaceUpdate) -> bool:
        """Whether a canary would follow another version than the one it was tried for."""
        columns = self._state.allocs.columns
        is_canary = bool(columns.flags[row] & FLAG_CANARY)
        return is_canary and int(columns.job_version[row]) != update.job_version

    def _is_alone(self, row: int) -> bool:
        """Whether nobody else has a canary's index, so that it may become that instance."""
        allocs = self._state.allocs
        key, record = allocs.key_of(row), allocs.job_record(row)
        taken, _ = self._accepted.get(record.groups[key.group], ((), ()))
        index = allocs.group_index(record.group_rows[key.group])
        return key.index not in taken and not self._has_live(index, np.array([key.index])).any()


def port_mask(ports: list[int]) -> int | None:
    """Return the ports as a bit mask; None when one comes twice or is no port."""
    mask = 0
    for port in ports:
        if not 0 < port <= 65535 or mask >> port & 1:
            return None
        mask |= 1 << port
    return mask


def _within(index: Ints, ranges: Iterable[tuple[int, int]]) -> Mask:
    result = np.zeros(len(index), dtype=bool)
    for low, high in ranges:
        result |= (low <= index) & (index < high)
    return result
