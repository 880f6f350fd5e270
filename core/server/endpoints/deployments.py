"""Deployment.*: rollouts shown, failed, paused, promoted."""

from collections.abc import Callable

import msgspec

from core.model.allocation import AllocDeploymentStatus
from core.model.evaluation import Deployment, DeploymentStatus, EvalTrigger, Evaluation
from core.model.instant import rfc3339_of_ns
from core.model.query import Answer
from core.scheduler.rollout import SUCCESSFUL
from core.server import evaluations, lookups, promotion
from core.server.deployments import failing
from core.server.endpoints.allocations import listed_allocs
from core.server.endpoints.shared import checked, on_namespace
from core.server.listing import age_key, check_prefix, listed, plain
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import AllocUpdate, UpdateAllocations, UpsertDeployments
from core.state.result import Applied

ENDED = frozenset(
    {DeploymentStatus.FAILED, DeploymentStatus.SUCCESSFUL, DeploymentStatus.CANCELLED}
)
WAITING = frozenset(
    {DeploymentStatus.PENDING, DeploymentStatus.BLOCKED, DeploymentStatus.UNBLOCKING}
)
_MARKED = "Deployment marked as failed"


def deployment_list(request: Request) -> Answer:
    check_prefix(request.text("prefix"))
    by_age = request.flag("reverse") or bool(request.text("filter"))

    def key(one: Deployment) -> str:
        if not by_age:
            return one.id
        return age_key(request, one.create_index, one.create_time_ns, one.id)

    return listed(
        request,
        [d for d in request.state.deployments.values() if on_namespace(request, d.namespace)],
        key=key,
        show=plain,
        prefix_of=lambda one: one.id,
        index=request.state.table_index("deployment"),
    )


def deployment_get(request: Request) -> Answer:
    found = _deployment(request)
    return Answer(body=found, index=found.modify_index)


def deployment_allocations(request: Request) -> Answer:
    found = _deployment(request)
    state = request.state
    allocs = lookups.allocations(state, state.allocs.rows_of_deployment(found.id))
    return listed_allocs(request, allocs, state.table_index("allocs"))


def deployment_fail(request: Request) -> Proposal:
    found = _deployment(request)
    if found.status in ENDED:
        raise QueryError(500, "can't fail terminal deployment")
    record = request.state.jobs.get(found.namespace, found.job_id)
    if record is None:
        return _changed(request, found, DeploymentStatus.FAILED, _MARKED)
    plan = failing(request.server, found, record, _MARKED, eval_id=request.draw_id())
    return Proposal(plan.commands, _answer(plan.evaluation.id, reverted_to=plan.reverted_to))


def deployment_promote(request: Request) -> Proposal:
    found = _deployment(request)
    if found.status in ENDED:
        raise QueryError(400, "can't promote terminal deployment")
    names = request.field("Groups", list[str], [])
    if not names and not request.field("All", bool, False):
        raise QueryError(400, "say which groups to promote (Groups), or All")
    now_us = request.server.now.wall_us
    try:
        going_on = promotion.promoted(request.state, found, names or None, now_us)
    except promotion.PromotionError as error:
        raise QueryError(400, str(error)) from None
    due = _evaluation(request, found)
    return Proposal(
        [UpsertDeployments(deployments=[going_on], evaluations=due)],
        _answer(due[0].id if due else ""),
    )


def deployment_unblock(request: Request) -> Proposal:
    """Let one region's rollout be successful, whatever becomes of the others."""
    found = _deployment(request)
    if found.status != DeploymentStatus.BLOCKED:
        raise QueryError(400, f"can't unblock a deployment that is {found.status.value}")
    return _changed(request, found, DeploymentStatus.SUCCESSFUL, SUCCESSFUL, is_evaluated=True)


def deployment_alloc_health(request: Request) -> Proposal:
    """Set the health of allocations by hand, for jobs whose health_check is "manual"."""
    found = _deployment(request)
    if found.status in ENDED:
        raise QueryError(400, "can't set health of allocations for a terminal deployment")
    said = {
        alloc_id: is_healthy
        for name, is_healthy in (
            ("HealthyAllocationIDs", True),
            ("UnhealthyAllocationIDs", False),
        )
        for alloc_id in request.field(name, list[str], [])
    }
    if not said:
        raise QueryError(400, "name at least one allocation as healthy or unhealthy")
    allocs, updates = request.state.allocs, []
    mine = set(allocs.rows_of_deployment(found.id).tolist())
    at = rfc3339_of_ns(request.server.now.wall_us * 1000)
    for alloc_id, is_healthy in said.items():
        row = allocs.row_of(alloc_id)
        if row is None or row not in mine:
            raise QueryError(404, f"allocation {alloc_id!r} is not part of the deployment")
        status = AllocDeploymentStatus(healthy=is_healthy, timestamp=at)
        updates.append(
            AllocUpdate(
                alloc_id=alloc_id,
                client_status=int(allocs.columns.client[row]),
                deployment_status=status,
                deployment_id=found.id,
            )
        )
    due = _evaluation(request, found)
    return Proposal(
        [UpdateAllocations(updates=updates, evaluations=due)], _answer(due[0].id if due else "")
    )


def deployment_pause(request: Request) -> Proposal:
    found = _deployment(request)
    is_paused = request.field("Pause", bool, False)
    if found.status in ENDED:
        verb = "pause" if is_paused else "resume"
        raise QueryError(500, f"can't {verb} terminal deployment")
    if found.status in WAITING:
        verb, text = "pause" if is_paused else "resume", "it waits for other regions"
        raise QueryError(400, f"can't {verb} a deployment that is {found.status.value}: {text}")
    if is_paused:
        return _changed(request, found, DeploymentStatus.PAUSED, "Deployment is paused")
    return _changed(
        request, found, DeploymentStatus.RUNNING, "Deployment is running", is_evaluated=True
    )


def _changed(
    request: Request,
    found: Deployment,
    status: DeploymentStatus,
    description: str,
    *,
    is_evaluated: bool = False,
) -> Proposal:
    due = _evaluation(request, found) if is_evaluated else []
    changed = msgspec.structs.replace(found, status=status, status_description=description)
    command = UpsertDeployments(deployments=[changed], evaluations=due)
    return Proposal([command], _answer(due[0].id if due else ""))


def _evaluation(request: Request, found: Deployment) -> list[Evaluation]:
    record = request.state.jobs.get(found.namespace, found.job_id)
    if record is None:
        return []
    trigger, drawn = EvalTrigger.DEPLOYMENT_WATCHER, request.draw_id()
    return [evaluations.for_job(request.server, record, trigger, deployment_id=found.id, id=drawn)]


def _answer(eval_id: str, *, reverted_to: int | None = None) -> Callable[[Applied], Answer]:
    def answer(applied: Applied) -> Answer:
        checked(applied)
        body = {
            "EvalID": eval_id,
            "EvalCreateIndex": applied.index if eval_id else 0,
            "DeploymentModifyIndex": applied.index,
            "RevertedJobVersion": reverted_to,
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return answer


def _deployment(request: Request) -> Deployment:
    """Return the deployment that `deployment_id` names, in full or by a unique prefix.

    Raises:
        QueryError: 404, or 400 when the prefix fits several.
    """
    wanted = request.required("deployment_id")
    table = request.state.deployments
    found = table.get(wanted)
    if found is None:
        ids = sorted(key for key in table if key.startswith(wanted))
        found = table.get(lookups.unique_id(ids, wanted, "deployment"))
    assert found is not None
    return found


def _watch(request: Request) -> tuple[str, ...]:
    return ("deployments",)


def _watch_one(request: Request) -> tuple[str, ...]:
    wanted = request.text("deployment_id")
    if request.state.deployments.get(wanted) is not None:
        return (f"deployments:{wanted}",)
    return ("deployments",)  # a prefix, or not there yet


ENDPOINTS = {
    "Deployment.List": Endpoint(Kind.READ, deployment_list, watches=_watch),
    "Deployment.Get": Endpoint(Kind.READ, deployment_get, watches=_watch_one),
    "Deployment.Allocations": Endpoint(
        Kind.READ, deployment_allocations, watches=lambda request: ("allocs",)
    ),
    "Deployment.Fail": Endpoint(Kind.WRITE, deployment_fail),
    "Deployment.Pause": Endpoint(Kind.WRITE, deployment_pause),
    "Deployment.Promote": Endpoint(Kind.WRITE, deployment_promote),
    "Deployment.Unblock": Endpoint(Kind.WRITE, deployment_unblock),
    "Deployment.SetAllocHealth": Endpoint(Kind.WRITE, deployment_alloc_health),
}
