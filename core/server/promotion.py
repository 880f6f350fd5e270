"""Promoting canaries: by an operator's word, or by themselves where the job says so.

Promotion only marks groups of the deployment; apply takes the mark off the canaries'
rows, and the evaluation that comes with it lets the rollout go on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from core.model.allocation import Desired
from core.model.evaluation import Deployment, DeploymentState, DeploymentStatus
from core.model.instant import rfc3339_of_ns
from core.scheduler.rollout import RUNNING

if TYPE_CHECKING:
    from core.state.state import State


class PromotionError(Exception):
    """The canaries can't be promoted; the text says which and why."""


def healthy_canaries(state: State, group: DeploymentState) -> int:
    """Return how many of the group's canaries are wanted and healthy."""
    found = 0
    for alloc_id in group.placed_canaries or []:
        row = state.allocs.row_of(alloc_id)
        if row is None or state.allocs.columns.desired[row] != Desired.RUN:
            continue
        extras = state.allocs.extras.get(row)
        status = extras.deployment_status if extras is not None else None
        found += status is not None and status.healthy is True
    return found


def can_promote_itself(state: State, deployment: Deployment) -> bool:
    """Whether all groups that wait for promotion ask for it and have healthy canaries."""
    waiting = [group for group in (deployment.task_groups or {}).values() if is_waiting(group)]
    return bool(waiting) and all(
        group.auto_promote and healthy_canaries(state, group) >= group.desired_canaries
        for group in waiting
    )


def is_waiting(group: DeploymentState) -> bool:
    """Whether the group's rollout waits for its canaries' promotion."""
    return group.desired_canaries > 0 and not group.promoted


def promoted(
    state: State, deployment: Deployment, names: Collection[str] | None, now_us: int
) -> Deployment:
    """Return the deployment with groups promoted; `names` None means all that wait.

    Raises:
        PromotionError: A group is not known, waits for nothing, or is not healthy yet.
    """
    groups = dict(deployment.task_groups or {})
    waiting = {name for name, group in groups.items() if is_waiting(group)}
    problems = []
    for name in sorted(waiting if names is None else set(names)):
        if name not in groups:
            problems.append(f"Task group {name!r} is not part of the deployment")
            continue
        group = groups[name]
        if name not in waiting:
            if not group.promoted:
                problems.append(f"Task group {name!r} has no canaries to promote")
            continue
        healthy = healthy_canaries(state, group)
        if healthy < group.desired_canaries:
            problems.append(
                f"Task group {name!r} has {healthy}/{group.desired_canaries} healthy allocations"
            )
            continue
        due_ns = now_us * 1000 + group.progress_deadline_ns
        groups[name] = msgspec.structs.replace(
            group,
            promoted=True,
            require_progress_by=(
                rfc3339_of_ns(due_ns) if group.progress_deadline_ns else group.require_progress_by
            ),
        )
    if problems:
        raise PromotionError("; ".join(problems))
    if names is None and not waiting:
        raise PromotionError("no canaries to promote")
    is_done = not any(is_waiting(group) for group in groups.values())
    is_done &= deployment.status is DeploymentStatus.RUNNING  # a paused one stays so
    return msgspec.structs.replace(
        deployment,
        task_groups=groups,
        status_description=RUNNING if is_done else deployment.status_description,
    )
