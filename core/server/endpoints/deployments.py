"""Deployment.*: rollouts shown, failed, paused."""

import msgspec

from core.model.evaluation import Deployment, DeploymentStatus, EvalTrigger
from core.model.query import Answer
from core.server import evaluations, lookups
from core.server.consensus import Applied
from core.server.endpoints.allocations import listed_allocs
from core.server.endpoints.shared import checked, on_namespace
from core.server.listing import check_prefix, listed, plain
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import UpsertDeployments

ENDED = frozenset(
    {DeploymentStatus.FAILED, DeploymentStatus.SUCCESSFUL, DeploymentStatus.CANCELLED}
)


def deployment_list(request: Request) -> Answer:
    check_prefix(request.text("prefix"))
    by_age = request.flag("reverse") or bool(request.text("filter"))

    def key(one: Deployment) -> str:
        return f"{one.create_index:020d}.{one.id}" if by_age else one.id

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
    return _changed(
        request, found, DeploymentStatus.FAILED, "Deployment marked as failed", is_evaluated=True
    )


def deployment_pause(request: Request) -> Proposal:
    found = _deployment(request)
    is_paused = request.field("Pause", bool, False)
    if found.status in ENDED:
        verb = "pause" if is_paused else "resume"
        raise QueryError(500, f"can't {verb} terminal deployment")
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
    record = request.state.jobs.get(found.namespace, found.job_id)
    due = []
    if is_evaluated and record is not None:
        due.append(
            evaluations.for_job(
                request.server,
                record,
                EvalTrigger.DEPLOYMENT_WATCHER,
                deployment_id=found.id,
                id=request.draw_id(),
            )
        )
    changed = msgspec.structs.replace(found, status=status, status_description=description)
    command = UpsertDeployments(deployments=[changed], evaluations=due)

    def answer(applied: Applied) -> Answer:
        checked(applied)
        body = {
            "EvalID": due[0].id if due else "",
            "EvalCreateIndex": applied.index if due else 0,
            "DeploymentModifyIndex": applied.index,
            "RevertedJobVersion": None,
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return Proposal([command], answer)


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
}
