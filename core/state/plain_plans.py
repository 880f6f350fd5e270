"""Plans of new jobs, many at once: as core.state.placing has them one by one, for less.

A busy datacenter plans hundreds of small new jobs together, and each of them alone would
cost some hundred numpy calls of one or five rows. Here the plans of a run are checked row by
row, each on what the ones before it left, and the rows of all are then entered column by
column.

Invariant: the state is the one that plan after plan would give, byte for byte. What is not
plain ends the run: it may look at what the run has not entered yet.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from core.model.plan import PlacementBatch, Plan
from core.state import accounts
from core.state.few_rows import JOB, check_rows
from core.state.jobs import JobRecord
from core.state.plan_check import REASONS
from core.state.resources import Ask, ask_of
from core.state.result import DroppedRows, PlanResult
from core.state.rollouts import count_placed, may_plan_write, put_deployment, put_evaluation

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

_ROWS_MOST: Final = 16  # of a batch: more of them are worth their own numpy calls


@dataclass(slots=True)
class _Entered:
    """Rows of one batch that hold."""

    plan: Plan
    batch: PlacementBatch
    group_row: int
    count: int
    ask: Ask


class PlainRun:
    """A run of plain plans within one entry; `flush` enters it."""

    def __init__(self, state: "State", context: "Context") -> None:
        self._state, self._context = state, context
        self._begin()

    def _begin(self) -> None:
        self._plans: list[Plan] = []
        self._jobs: set[int] = set()  # ordinals, asked only
        self._entered: list[_Entered] = []
        self._columns: dict[str, list[bytes]] = {"index": [], "generation": [], "node": []}
        self._scores: list[bytes] = []
        self._free: dict[int, list[int]] = {}  # by node, what the run leaves: cpu, memory, disk

    def take(self, plan: Plan, number: int) -> PlanResult | None:
        """Check a plan and make it part of the run; None when it is not plain.

        Args:
            number: Its place in the entry.
        """
        record = self._state.jobs.by_uid(plan.job_uid)
        if record is not None and record.ordinal in self._jobs:
            self.flush()
        if record is None or not self._is_plain(record, plan):
            return None
        columns = [_columns_of(batch) for batch in plan.placements]
        if any(one is None for one in columns):
            return None
        self._jobs.add(record.ordinal)
        self._plans.append(plan)
        result = PlanResult(eval_id=plan.eval_id)
        for place, (batch, read) in enumerate(zip(plan.placements, columns, strict=True)):
            assert read is not None
            codes = self._check(record, batch, *read)
            if any(codes):
                refused = [at for at, code in enumerate(codes) if code]
                reasons = [REASONS[codes[at]] for at in refused]
                result.dropped = [
                    *result.dropped, DroppedRows(number, place, refused, reasons)
                ]  # fmt: skip
            result.placed += self._enter(record, plan, batch, codes, read[2])
        return result

    def _is_plain(self, record: JobRecord, plan: Plan) -> bool:
        if plan.stops or plan.in_place or not plan.placements or record.is_stopped:
            return False
        if record.namespace in self._state.spent:
            return False  # a quota is counted row by row
        groups: list[str] = []
        for batch in plan.placements:
            if batch.port_asks or batch.units or batch.canary or batch.previous or batch.trackers:
                return False
            if len(batch.index) > 4 * _ROWS_MOST or batch.ports or batch.group in groups:
                return False
            if batch.group not in record.groups:
                return False
            groups.append(batch.group)
            row = record.group_rows[record.groups.index(batch.group)]
            if not self._state.allocs.is_new_group(row):
                return False
        return True

    def _check(
        self, record: JobRecord, batch: PlacementBatch, index: list[int], node: list[int], ask: Ask
    ) -> list[int]:
        if self._state.jobs.version(record.ordinal, batch.job_version) is None:
            return [JOB] * len(index)
        return check_rows(self._state, record, batch.group, index, node, ask, self._free)

    def _enter(
        self, record: JobRecord, plan: Plan, batch: PlacementBatch, codes: list[int], ask: Ask
    ) -> int:
        kept = [at for at, code in enumerate(codes) if not code]
        if not kept:
            return 0
        for name, width in (("index", 4), ("generation", 2), ("node", 4)):
            self._columns[name].append(_picked(getattr(batch, name), width, kept, codes))
        scores = batch.scores or bytes(4 * len(codes))
        self._scores.append(_picked(scores, 4, kept, codes))
        row = record.group_rows[record.groups.index(batch.group)]
        self._entered.append(_Entered(plan, batch, row, len(kept), ask))
        return len(kept)

    def flush(self) -> None:
        """Enter all that was taken, and begin anew."""
        state, context = self._state, self._context
        for plan in self._plans:
            if plan.deployment is not None and may_plan_write(state, plan.deployment):
                put_deployment(state, plan.deployment, context)
        if self._entered:
            self._place()
        for plan in self._plans:
            for evaluation in plan.evaluations:
                put_evaluation(state, evaluation, context)
        self._begin()

    def _place(self) -> None:
        state, context, entered = self._state, self._context, self._entered
        allocs = state.allocs
        counts = np.array([one.count for one in entered])
        rows = allocs.append(int(counts.sum()))
        columns = allocs.columns

        def spread(values: list[Any], kind: str) -> npt.NDArray[Any]:
            return np.repeat(np.array(values, dtype=kind), counts)

        group_rows = [one.group_row for one in entered]
        columns.group_row[rows] = spread(group_rows, "<i4")
        columns.index[rows] = np.frombuffer(b"".join(self._columns["index"]), "<i4")
        columns.generation[rows] = np.frombuffer(b"".join(self._columns["generation"]), "<u2")
        columns.node[rows] = np.frombuffer(b"".join(self._columns["node"]), "<i4")
        columns.score[rows] = np.frombuffer(b"".join(self._scores), "<f4")
        columns.job_version[rows] = spread([one.batch.job_version for one in entered], "<i4")
        evals = [allocs.evals.ordinal(one.plan.eval_id, one.count) for one in entered]
        columns.eval[rows] = spread(evals, "<i4")
        resources = [allocs.resources.ordinal(one.batch.resources, one.count) for one in entered]
        columns.resources[rows] = spread(resources, "<i4")
        metrics = [
            -1 if (told := one.batch.metrics) is None else allocs.metrics.ordinal(told, one.count)
            for one in entered
        ]
        columns.metrics[rows] = spread(metrics, "<i4")
        for name in ("create_index", "modify_index", "alloc_modify_index"):
            getattr(columns, name)[rows] = context.index
        columns.create_time_us[rows] = context.time_us
        columns.modify_time_us[rows] = context.time_us
        allocs.begin_groups(rows, group_rows, counts)
        asks = np.repeat(np.array([one.ask for one in entered], dtype=np.int64), counts, axis=0)
        for one in entered:  # in the order of the plans, which `enter` does not know
            context.touch_job(int(state.jobs.columns.job[one.group_row]))
        accounts.enter(state, rows, asks, context)
        self._deploy(rows, counts)
        queued = state.jobs.columns.queued
        queued[group_rows] = np.maximum(0, queued[group_rows] - counts)
        context.changed("allocs", "PlanResult", rows=rows)

    def _deploy(self, rows: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        """Count what belongs to deployments."""
        allocs, context = self._state.allocs, self._context
        deployments = []
        for one in self._entered:
            known = one.batch.deployment_id
            deployments.append(allocs.deployments.ordinal(known, one.count) if known else -1)
            if known:
                count_placed(self._state, known, one.batch.group, one.count, [], context)
        allocs.columns.deployment[rows] = np.repeat(np.array(deployments, "<i4"), counts)


def _columns_of(batch: PlacementBatch) -> tuple[list[int], list[int], Ask] | None:
    """Return index, node and ask of a batch; None when it is malformed, which others say."""
    count = len(batch.index) // 4
    is_whole = (
        len(batch.index) == len(batch.node) == 4 * count
        and len(batch.generation) == 2 * count
        and len(batch.scores) in (0, 4 * count)
    )
    ask = ask_of(batch.resources)
    if not is_whole or not count or min(ask) < 0:
        return None
    index = np.frombuffer(batch.index, "<i4").tolist()
    return index, np.frombuffer(batch.node, "<i4").tolist(), ask


def _picked(data: bytes, width: int, kept: list[int], codes: list[int]) -> bytes:
    if len(kept) == len(codes):
        return data
    return b"".join(data[at * width : at * width + width] for at in kept)
