"""Alloc.*: allocations listed, shown, stopped."""

from core.model.allocation import Allocation, DesiredTransition
from core.model.evaluation import EvalTrigger
from core.model.query import Answer
from core.server import evaluations, lookups, views
from core.server.endpoints.shared import checked, on_namespace
from core.server.listing import age_key, check_prefix, listed
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import SetDesiredTransition
from core.state.result import Applied


def alloc_list(request: Request) -> Answer:
    prefix = request.text("prefix")
    check_prefix(prefix)
    state = request.state
    rows = state.allocs.rows_with_prefix(prefix) if prefix else state.allocs.rows()
    return listed_allocs(
        request,
        [
            alloc
            for alloc in lookups.allocations(state, rows)
            if on_namespace(request, alloc.namespace)
        ],
        state.table_index("allocs"),
    )


def listed_allocs(request: Request, allocs: list[Allocation], index: int) -> Answer:
    """Return stubs of these allocations as a page; newest first when `reverse` is asked."""
    has_resources = request.flag("resources")
    has_tasks = request.flag("task_states") or "task_states" not in request.query.params
    types = {
        (record.namespace, record.id): record.job.type or "service" for record in request.state.jobs
    }
    by_age = request.flag("reverse") or bool(request.text("filter"))

    def key(alloc: Allocation) -> str:
        if not by_age:
            return alloc.id
        return age_key(request, alloc.create_index, alloc.create_time_ns, alloc.id)

    return listed(
        request,
        allocs,
        key=key,
        show=lambda alloc: views.alloc_stub(
            alloc,
            job_type=types.get((alloc.namespace, alloc.job_id), "service"),
            has_resources=has_resources,
            has_tasks=has_tasks,
        ),
        prefix_of=lambda alloc: alloc.id,
        index=index,
    )


def alloc_get(request: Request) -> Answer:
    row = lookups.alloc_row(request.state, request.required("alloc_id"))
    alloc = request.state.allocs.allocation(row)
    return Answer(body=views.alloc_view(alloc), index=alloc.modify_index)


def alloc_stop(request: Request) -> Proposal:
    """Ask the scheduler to replace one allocation: it is stopped once the new one is placed."""
    state, server = request.state, request.server
    row = lookups.alloc_row(state, request.required("alloc_id"))
    alloc_id = state.allocs.id_of(row)
    record = state.allocs.job_record(row)
    if record.is_purged:
        raise QueryError(404, "job of this allocation not found: it was purged")
    due = evaluations.for_job(server, record, EvalTrigger.ALLOC_STOP, id=request.draw_id())
    is_reschedule = request.flag("reschedule")
    transition = DesiredTransition(
        migrate=None if is_reschedule else True,
        force_reschedule=True if is_reschedule else None,
        no_shutdown_delay=request.flag("no_shutdown_delay") or None,
    )
    command = SetDesiredTransition(transitions={alloc_id: transition}, evaluations=[due])

    def answer(applied: Applied) -> Answer:
        checked(applied)
        return Answer(body={"EvalID": due.id, "Index": applied.index}, index=applied.index)

    return Proposal([command], answer)


def alloc_services(request: Request) -> Answer:
    row = lookups.alloc_row(request.state, request.required("alloc_id"))
    alloc_id = request.state.allocs.id_of(row)
    return Answer(
        body=[one for one in request.state.services.values() if one.alloc_id == alloc_id],
        index=request.state.table_index("services"),
    )


def _watch(request: Request) -> tuple[str, ...]:
    return ("allocs",)


def _watch_one(request: Request) -> tuple[str, ...]:
    """Watch the allocation's job: cheaper than the whole table, and it covers its own rows."""
    row = request.state.allocs.row_of(request.text("alloc_id"))
    if row is None:
        return ("allocs",)
    record = request.state.allocs.job_record(row)
    return (f"job:{record.namespace}/{record.id}",)


ENDPOINTS = {
    "Alloc.List": Endpoint(Kind.READ, alloc_list, watches=_watch),
    "Alloc.Get": Endpoint(Kind.READ, alloc_get, watches=_watch_one),
    "Alloc.Stop": Endpoint(Kind.WRITE, alloc_stop),
    "Alloc.Services": Endpoint(Kind.READ, alloc_services, watches=lambda request: ("services",)),
}
