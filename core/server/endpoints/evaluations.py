"""Eval.*: the scheduler's to-do list as people see it."""

from typing import Any

from core.model.evaluation import Evaluation
from core.model.query import Answer
from core.server import lookups
from core.server.endpoints.allocations import listed_allocs
from core.server.endpoints.shared import checked, on_namespace
from core.server.listing import age_key, check_prefix, filter_of, listed, plain
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import DeleteEvaluations
from core.state.result import Applied

_STUB_FIELDS = (
    "ID", "Priority", "Type", "TriggeredBy", "Namespace", "JobID", "NodeID", "DeploymentID",
    "Status", "StatusDescription", "WaitUntil", "NextEval", "PreviousEval", "BlockedEval",
    "CreateIndex", "ModifyIndex", "CreateTime", "ModifyTime",
)  # fmt: skip


def eval_list(request: Request) -> Answer:
    check_prefix(request.text("prefix"))
    status, job_id = request.text("status"), request.text("job")
    by_age = request.flag("reverse") or bool(request.text("filter"))

    def key(one: Evaluation) -> str:
        if not by_age:
            return one.id
        return age_key(request, one.create_index, one.create_time_ns, one.id)

    return listed(
        request,
        [
            one
            for one in request.state.evals.values()
            if on_namespace(request, one.namespace)
            and (not status or one.status == status)
            and (not job_id or one.job_id == job_id)
        ],
        key=key,
        show=plain,
        prefix_of=lambda one: one.id,
        index=request.state.table_index("evals"),
    )


def eval_get(request: Request) -> Answer:
    found = _evaluation(request)
    shown: dict[str, Any] = plain(found)
    if request.flag("related"):
        shown["RelatedEvals"] = [
            {name: other.get(name) for name in _STUB_FIELDS} for other in _related(request, found)
        ]
    return Answer(body=shown, index=found.modify_index)


def _related(request: Request, start: Evaluation) -> list[dict[str, Any]]:
    """Return the evaluations linked to `start`, directly or over others."""
    table = request.state.evals
    found: dict[str, Evaluation] = {}
    todo = [start]
    while todo:
        one = todo.pop()
        for other_id in (one.previous_eval, one.next_eval, one.blocked_eval):
            other = table.get(other_id) if other_id and other_id != start.id else None
            if other is not None and other.id not in found:
                found[other.id] = other
                todo.append(other)
    return [plain(found[key]) for key in sorted(found)]


def eval_count(request: Request) -> Answer:
    accepts = filter_of(request)
    matching = sum(
        on_namespace(request, one.namespace) and (accepts is None or accepts(plain(one)))
        for one in request.state.evals.values()
    )
    return Answer(body={"Count": matching}, index=request.state.table_index("evals"))


def eval_allocations(request: Request) -> Answer:
    found = _evaluation(request)
    state = request.state
    allocs = lookups.allocations(state, state.allocs.rows_of_eval(found.id))
    return listed_allocs(request, allocs, state.table_index("allocs"))


def eval_delete(request: Request) -> Answer | Proposal:
    """Delete evaluations, by id or by a filter, while the broker hands none out."""
    state = request.state
    if not state.scheduler_config.get("PauseEvalBroker"):
        raise QueryError(
            400, "the evaluation broker runs: set PauseEvalBroker in the scheduler configuration"
        )
    ids = request.field("EvalIDs", list[str], [])
    accepts = filter_of(request)
    if bool(ids) == (accepts is not None):
        raise QueryError(400, "evaluations are deleted by EvalIDs or by a filter: give one of them")
    if accepts is None:
        for wanted in ids:
            found = state.evals.get(wanted)
            if found is None:
                raise QueryError(404, f"eval not found: {wanted}")
            if _is_needed(request, found):
                raise QueryError(
                    400, f"eval {wanted} can't be deleted: allocations that it placed still run"
                )
    else:
        ids = [
            one.id
            for one in state.evals.values()
            if on_namespace(request, one.namespace)
            and accepts(plain(one))
            and not _is_needed(request, one)
        ]
    if not ids:
        index = max(1, state.table_index("evals"))
        return Answer(body={"Count": 0, "Index": index}, index=index)

    def answer(applied: Applied) -> Answer:
        count = checked(applied).results[0].value
        return Answer(body={"Count": count, "Index": applied.index}, index=applied.index)

    return Proposal([DeleteEvaluations(ids=ids)], answer)


def _is_needed(request: Request, evaluation: Evaluation) -> bool:
    # `alloc status` and the collection of garbage go back to it.
    allocs = request.state.allocs
    return bool(allocs.is_live(allocs.rows_of_eval(evaluation.id)).any())


def _evaluation(request: Request) -> Evaluation:
    """Return the evaluation that `eval_id` names, in full or by a unique prefix.

    Raises:
        QueryError: 404, or 400 when the prefix fits several.
    """
    wanted = request.required("eval_id")
    table = request.state.evals
    found = table.get(wanted)
    if found is None:
        ids = sorted(key for key in table if key.startswith(wanted))
        found = table.get(lookups.unique_id(ids, wanted, "eval"))
    assert found is not None
    return found


def _watch(request: Request) -> tuple[str, ...]:
    return ("evals",)


def _watch_one(request: Request) -> tuple[str, ...]:
    wanted = request.text("eval_id")
    if request.state.evals.get(wanted) is not None:
        return (f"evals:{wanted}",)
    return ("evals",)  # a prefix, or not there yet


ENDPOINTS = {
    "Eval.List": Endpoint(Kind.READ, eval_list, watches=_watch),
    "Eval.Get": Endpoint(Kind.READ, eval_get, watches=_watch_one),
    "Eval.Count": Endpoint(Kind.READ, eval_count, watches=_watch),
    "Eval.Delete": Endpoint(Kind.WRITE, eval_delete),
    "Eval.Allocations": Endpoint(Kind.READ, eval_allocations, watches=lambda request: ("allocs",)),
}
