"""The `disconnect` block: how long a lost client is waited for, and who stays when it is back.

What a group says, under either name it may be said by:

    lost_after (max_client_disconnect)    unknown that long, then lost
    replace (prevent_reschedule_on_lost)  whether another instance runs meanwhile; without
                                          one, the unknown instance is waited for for ever
    stop_on_client_after                  the client ends it by itself after that long, so
      (stop_after_client_disconnect)      without `lost_after` nothing else starts before
    reconcile                             which of the two stays when the client is back

When a client is back with an instance that was replaced meanwhile, in this order: one
whose client says that it runs goes before one that ended or is gone; the newer version of
the job goes before the older; then the group's strategy decides, and the original stays
when it can't. Nothing is decided before the client has said how its instance is.
"""

from dataclasses import dataclass

import numpy as np

from core.model.allocation import Allocation, ClientStatus, Desired
from core.model.instant import ZERO_TIME, ns_of_rfc3339
from core.model.job import Job, TaskGroup
from core.scheduler.view import JobView, Mask

BEST_SCORE = "best_score"
KEEP_ORIGINAL = "keep_original"
KEEP_REPLACEMENT = "keep_replacement"
LONGEST_RUNNING = "longest_running"


@dataclass(slots=True, frozen=True)
class DisconnectRule:
    lost_after_ns: int = 0
    stop_after_ns: int = 0
    replaces: bool = True
    strategy: str = BEST_SCORE

    @staticmethod
    def of(group: TaskGroup) -> "DisconnectRule":
        block = group.disconnect
        if block is None:
            return DisconnectRule(
                lost_after_ns=group.max_client_disconnect_ns or 0,
                stop_after_ns=group.stop_after_client_disconnect_ns or 0,
                replaces=not group.prevent_reschedule_on_lost,
            )
        return DisconnectRule(
            lost_after_ns=block.lost_after_ns or 0,
            stop_after_ns=block.stop_on_client_after_ns or 0,
            replaces=block.replace is not False,
            strategy=block.reconcile or BEST_SCORE,
        )

    @property
    def wait_ns(self) -> int:
        """How long an instance is unknown before it is given up."""
        return self.lost_after_ns or self.stop_after_ns

    def is_overdue(self, alloc: Allocation | None, now_us: int) -> bool:
        """Whether an unknown instance was waited for long enough."""
        if alloc is None or not self.wait_ns:
            return True
        return (alloc.modify_time_ns + self.wait_ns) // 1_000 <= now_us


def put_reconnected_first(view: JobView, group: TaskGroup, fronts: Mask, live: Mask) -> None:
    """Let the instances that came back stand for their index where they shall stay.

    Args:
        fronts: The row of each index that stands for it; changed in place.
        live: The rows of this group that are wanted to run and did not end.
    """
    rows = view.rows
    rule: DisconnectRule | None = None
    for row in np.flatnonzero(live & ~fronts & ~rows.is_canary).tolist():
        front = np.flatnonzero(fronts & (rows.index == rows.index[row]))
        if not front.size or not _is_back(view, row):
            continue
        rule = rule or DisconnectRule.of(group)
        if _stays(view, rule.strategy, row, int(front[0]), is_live=bool(live[front[0]])):
            fronts[front] = False
            fronts[row] = True


def _is_back(view: JobView, row: int) -> bool:
    status = view.rows.client_status[row]
    return status == ClientStatus.RUNNING and int(view.rows.node[row]) not in view.node_gone


def _stays(view: JobView, strategy: str, original: int, newer: int, *, is_live: bool) -> bool:
    rows = view.rows
    if not is_live:
        is_done = (
            rows.client_status[newer] == ClientStatus.COMPLETE
            and rows.desired[newer] == Desired.RUN
            and _is_batch(view.job)
        )
        return not is_done
    if rows.job_version[original] != rows.job_version[newer]:
        return bool(rows.job_version[original] > rows.job_version[newer])
    if strategy in {KEEP_REPLACEMENT, KEEP_ORIGINAL}:
        return strategy == KEEP_ORIGINAL
    if not _runs(view, newer):
        return True
    if strategy == LONGEST_RUNNING:
        return _started_ns(view, original) <= _started_ns(view, newer)
    return view.scores.get(original, 0.0) >= view.scores.get(newer, 0.0)


def _runs(view: JobView, row: int) -> bool:
    is_running = view.rows.client_status[row] == ClientStatus.RUNNING
    return bool(is_running) and int(view.rows.node[row]) not in view.node_gone


def _started_ns(view: JobView, row: int) -> int:
    """Return since when all main tasks run; an instance that says nothing began last."""
    alloc = view.details.get(row)
    states = (alloc.task_states if alloc is not None else None) or {}
    moments = [
        ns_of_rfc3339(state.started_at)
        for state in states.values()
        if state.started_at != ZERO_TIME and state.finished_at == ZERO_TIME
    ]
    return max(moments, default=1 << 62)


def _is_batch(job: Job | None) -> bool:
    return job is not None and job.type in ("batch", "sysbatch")
