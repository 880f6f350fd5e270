"""What an entry's commands show: the situations that a run must have reached."""

from collections import Counter
from typing import Any

from core.model.evaluation import EvalStatus, EvalTrigger
from core.state.commands import (
    ApplyPlans,
    DeregisterJob,
    RegisterJob,
    SetNodeDrain,
    UpsertDeployments,
)


def note(situations: Counter[str], commands: list[Any]) -> int:
    """Count what an entry shows; return how many of its commands somebody waits for."""
    acknowledged = 0
    for command in commands:
        if isinstance(command, ApplyPlans):
            for plan in command.plans:
                for one in plan.evaluations:
                    is_woken = one.triggered_by == EvalTrigger.QUEUED_ALLOCS
                    is_woken &= one.status == EvalStatus.COMPLETE
                    situations["blocked evaluation woken and done"] += is_woken
                    situations["woken by its quota"] += is_woken and bool(one.quota_limit_reached)
                    situations["waits for its quota"] += one.status == EvalStatus.BLOCKED and bool(
                        one.quota_limit_reached
                    )
                for batch in plan.placements:
                    situations["canary placed"] += batch.canary
        elif isinstance(command, UpsertDeployments):
            for deployment in command.deployments:
                groups = (deployment.task_groups or {}).values()
                situations["canaries promoted"] += any(one.promoted for one in groups)
        elif isinstance(command, SetNodeDrain) and command.drain is None:
            situations["drain ended"] += 1
        elif isinstance(command, RegisterJob | DeregisterJob):
            acknowledged += 1
    return acknowledged


def comes_too_late(commands: list[Any]) -> bool:
    """Whether an entry may rightly be refused.

    It makes a child of a job that was stopped before, or changes a deployment that has ended.
    """
    return any(
        isinstance(one, UpsertDeployments)
        or (isinstance(one, RegisterJob) and bool(one.job.parent_id))
        for one in commands
    )
