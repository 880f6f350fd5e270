"""What an evaluation becomes, and the evaluations that follow from it.

An evaluation whose placements did not all fit completes, and a *blocked* one waits in its
stead for room (the broker's neighbour, blocked.py). One that was itself such a successor
goes back to being blocked, so a job that waits long has one blocked evaluation and no chain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from core.model.allocation import AllocMetric
from core.model.evaluation import EvalStatus, EvalTrigger, Evaluation
from core.model.instant import rfc3339_of_ns
from core.scheduler.decisions import GroupChanges
from core.scheduler.feasibility import Candidates
from core.scheduler.reschedule import NS_PER_US, WINDOW_US

BLOCKED: Final = "created to place remaining allocations"
REBLOCKED: Final = "still no room for the remaining allocations"
OUTDATED: Final = "a newer evaluation of the job was planned"
RESCHEDULED_LATER: Final = "created for delayed rescheduling"


@dataclass(slots=True)
class Outcome:
    """What planning an evaluation came to."""

    failed: dict[str, AllocMetric]
    queued: dict[str, int]
    candidates: list[Candidates]  # of the groups in `failed`
    blocked: list[Evaluation]  # of the job, from before
    deployment_id: str = ""
    quota: str = ""  # that left too little
    annotations: dict[str, Any] | None = None


def follow_ups(
    evaluation: Evaluation,
    outcome: Outcome,
    now_us: int,
    snapshot_index: int,
    new_id: Callable[[], str],
) -> list[Evaluation]:
    """Return the finished evaluation first, then those that it changes or makes.

    The job's blocked evaluations from before are cancelled: either nothing waits any more,
    or a new one waits in their stead.
    """
    done = msgspec.structs.replace(
        evaluation,
        status=EvalStatus.COMPLETE,
        status_description="",
        failed_tg_allocs=outcome.failed or None,
        queued_allocations=outcome.queued or None,
        deployment_id=outcome.deployment_id or evaluation.deployment_id,
        plan_annotations=outcome.annotations,
        snapshot_index=snapshot_index,
        modify_time_ns=now_us * NS_PER_US,
    )
    outdated = [
        msgspec.structs.replace(
            one,
            status=EvalStatus.CANCELLED,
            status_description=OUTDATED,
            modify_time_ns=now_us * NS_PER_US,
        )
        for one in outcome.blocked
        if one.id != evaluation.id
    ]
    if not outcome.failed:
        return [done, *outdated]
    eligibility, has_escaped = _eligibility(outcome.candidates)
    if evaluation.triggered_by == EvalTrigger.QUEUED_ALLOCS:
        done.status, done.status_description = EvalStatus.BLOCKED, REBLOCKED
        done.class_eligibility, done.escaped_computed_class = eligibility, has_escaped
        done.quota_limit_reached = outcome.quota
        return [done, *outdated]
    blocked = Evaluation(
        id=new_id(),
        priority=evaluation.priority,
        type=evaluation.type,
        triggered_by=EvalTrigger.QUEUED_ALLOCS,
        namespace=evaluation.namespace,
        job_id=evaluation.job_id,
        job_modify_index=evaluation.job_modify_index,
        status=EvalStatus.BLOCKED,
        status_description=BLOCKED,
        previous_eval=evaluation.id,
        class_eligibility=eligibility,
        escaped_computed_class=has_escaped,
        quota_limit_reached=outcome.quota,
        snapshot_index=snapshot_index,
        queued_allocations=outcome.queued or None,
        failed_tg_allocs=outcome.failed,
        create_time_ns=now_us * NS_PER_US,
        modify_time_ns=now_us * NS_PER_US,
    )
    done.blocked_eval = blocked.id
    return [done, *outdated, blocked]


def postponed(
    evaluation: Evaluation, changes: GroupChanges, now_us: int, new_id: Callable[[], str]
) -> list[tuple[Evaluation, list[int]]]:
    """Return the delayed evaluations of a group, each with the rows that wait for it.

    Rows that are due within the window of one another share an evaluation.
    """
    made: list[tuple[Evaluation, list[int]]] = []
    open_until: dict[bool, int] = {}
    place: dict[bool, int] = {}
    for later in sorted(changes.later, key=lambda one: (one.due_us, one.row)):
        if later.due_us <= open_until.get(later.is_disconnect, -1):
            made[place[later.is_disconnect]][1].append(later.row)
            continue
        open_until[later.is_disconnect] = later.due_us + WINDOW_US
        place[later.is_disconnect] = len(made)
        trigger = (
            EvalTrigger.MAX_DISCONNECT_TIMEOUT
            if later.is_disconnect
            else EvalTrigger.RETRY_FAILED_ALLOC
        )
        follower = _delayed(evaluation, trigger, RESCHEDULED_LATER, later.due_us, now_us, new_id)
        made.append((follower, [later.row]))
    return made


def _delayed(
    evaluation: Evaluation,
    trigger: EvalTrigger,
    description: str,
    due_us: int,
    now_us: int,
    new_id: Callable[[], str],
) -> Evaluation:
    return Evaluation(
        id=new_id(),
        priority=evaluation.priority,
        type=evaluation.type,
        triggered_by=trigger,
        namespace=evaluation.namespace,
        job_id=evaluation.job_id,
        job_modify_index=evaluation.job_modify_index,
        status_description=description,
        wait_until_us=due_us,
        wait_until=rfc3339_of_ns(due_us * NS_PER_US),
        previous_eval=evaluation.id,
        create_time_ns=now_us * NS_PER_US,
        modify_time_ns=now_us * NS_PER_US,
    )


def _eligibility(candidates: list[Candidates]) -> tuple[dict[str, bool], bool]:
    # A class is worth waking for when any group that waits may run on it.
    merged: dict[str, bool] = {}
    for one in candidates:
        for name, is_eligible in one.class_eligibility.items():
            merged[name] = merged.get(name, False) or is_eligible
    return merged, any(one.has_escaped for one in candidates)
