"""What clients say of the health of a rollout's allocations, and what the rollout counts of it."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from core.model.allocation import AllocDeploymentStatus
from core.model.instant import ZERO_TIME, ns_of_rfc3339, rfc3339_of_ns
from core.state.alloc_columns import FLAG_CANARY, AllocExtras
from core.state.rollouts import ACTIVE_DEPLOYMENTS

if TYPE_CHECKING:
    from core.model.evaluation import Deployment
    from core.state.context import Context
    from core.state.state import State


class HealthReport(NamedTuple):
    """An allocation is healthy, or will not be, since a client's `timestamp` (RFC 3339).

    `deployment_id` is the one that it was observed for, "" when the client knew none.
    """

    row: int
    is_healthy: bool
    timestamp: str
    deployment_id: str


class _Tally:
    """What the reports of one entry change in one group of one deployment."""

    __slots__ = ("healthy", "newest_ns", "unhealthy")

    def __init__(self) -> None:
        self.healthy = 0
        self.unhealthy = 0
        self.newest_ns = 0  # when the last one became healthy; 0 = none did

    def count(self, report: HealthReport, was: bool | None, context: "Context") -> None:
        self.healthy += report.is_healthy - (was is True)
        self.unhealthy += (not report.is_healthy) - (was is False)
        if report.is_healthy:
            at_ns = context.time_ns
            if report.timestamp not in {"", ZERO_TIME}:
                with suppress(ValueError):  # a client's text: without it log time will do
                    at_ns = min(at_ns, ns_of_rfc3339(report.timestamp))
            self.newest_ns = max(self.newest_ns, at_ns)


def take_health(state: "State", reports: Sequence[HealthReport], context: "Context") -> None:
    """Keep what is new in the reports, and move the counters of the deployments it is of."""
    allocs = state.allocs
    ordinals = allocs.columns.deployment
    shared: dict[tuple[bool, str, bool], AllocExtras] = {}
    tallies: dict[tuple[int, int], _Tally] = {}
    for report in reports:
        row = report.row
        ordinal = int(ordinals[row])
        if report.deployment_id and (
            ordinal < 0 or allocs.deployments.get(ordinal) != report.deployment_id
        ):
            continue  # seen for an earlier deployment: it says nothing of this one
        extras = allocs.extras.get(row)
        old = extras.deployment_status if extras is not None else None
        was = old.healthy if old is not None else None
        if report.is_healthy == was:
            continue
        said = AllocDeploymentStatus(
            healthy=report.is_healthy,
            timestamp=report.timestamp,
            canary=bool(allocs.columns.flags[row] & FLAG_CANARY),
            modify_index=context.index,
        )
        if extras is None:  # most: those of one node become healthy together, and share it
            moment = (report.is_healthy, said.timestamp, said.canary)
            allocs.extras.put(row, shared.setdefault(moment, AllocExtras(deployment_status=said)))
        else:
            allocs.change_extras(row, deployment_status=said)
        if ordinal >= 0:
            key = (ordinal, int(allocs.columns.group_row[row]))
            tally = tallies.get(key)
            if tally is None:
                tally = tallies[key] = _Tally()
            tally.count(report, was, context)
    for (ordinal, group_row), tally in tallies.items():
        deployment = state.deployments.get(allocs.deployments.get(ordinal))
        if deployment is not None and deployment.status in ACTIVE_DEPLOYMENTS:
            _move(state, deployment, _group_name(state, group_row), tally, context)


def _group_name(state: "State", group_row: int) -> str:
    groups = state.jobs.columns
    record = state.jobs.record(int(groups.job[group_row]))
    assert record is not None, "an allocation outlived its job's record"
    return record.groups[int(groups.group[group_row])]


def _move(
    state: "State", deployment: "Deployment", group: str, tally: _Tally, context: "Context"
) -> None:
    """Move a deployment's counters; a healthy allocation restarts the progress deadline."""
    groups = dict(deployment.task_groups or {})
    if group not in groups:
        return
    old = groups[group]
    require_by = old.require_progress_by
    if tally.newest_ns and old.progress_deadline_ns:
        require_by = max(require_by, rfc3339_of_ns(tally.newest_ns + old.progress_deadline_ns))
    groups[group] = msgspec.structs.replace(
        old,
        healthy_allocs=old.healthy_allocs + tally.healthy,
        unhealthy_allocs=old.unhealthy_allocs + tally.unhealthy,
        require_progress_by=require_by,
    )
    changed = msgspec.structs.replace(
        deployment,
        task_groups=groups,
        modify_index=context.index,
        modify_time_ns=context.time_ns,
    )
    state.deployments.put(deployment.id, changed)
    context.changed("deployment", "DeploymentAllocHealth", deployment.id, deployment.namespace)
