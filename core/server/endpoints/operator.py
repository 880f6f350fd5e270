"""Operator.* and System.*: the scheduler's settings, garbage collection, measures."""

from typing import Any

from core.model.query import Answer
from core.scheduler.rank import ALGORITHMS
from core.server.endpoints.shared import checked
from core.server.measuring import Load
from core.server.request import (
    Deferred,
    Endpoint,
    Kind,
    Proposal,
    QueryError,
    Request,
    Respond,
)
from core.state.commands import CollectGarbage, SetSchedulerConfig
from core.state.result import Applied

_DEFAULTS: dict[str, Any] = {
    "SchedulerAlgorithm": "binpack",
    "PreemptionConfig": {
        "SystemSchedulerEnabled": True,
        "SysBatchSchedulerEnabled": False,
        "BatchSchedulerEnabled": False,
        "ServiceSchedulerEnabled": False,
    },
    "MemoryOversubscriptionEnabled": False,
    "RejectJobRegistration": False,
    "PauseEvalBroker": False,
}


def raft_measure(request: Request) -> Deferred:
    """Time how the leader's random bytes are committed; see core.server.measuring."""
    load = Load(
        size=request.field("Size", int, 200),
        window=request.field("Window", int, 64),
        duration_us=int(request.field("Seconds", float, 5.0) * 1e6),
        rate=request.field("Rate", int, 0),
    )
    measuring = request.server.measuring
    if problem := load.problem():
        raise QueryError(400, problem)
    if measuring.is_busy:
        raise QueryError(409, "a measurement is under way: try again when it has ended")

    def start(respond: Respond) -> None:
        measuring.start(load, lambda figures: respond(Answer(body=figures, index=1)))

    return Deferred(start)


def scheduler_get(request: Request) -> Answer:
    index = max(1, request.state.table_index("scheduler_config"))
    return Answer(body={"SchedulerConfig": _scheduler_config(request), "Index": index}, index=index)


def _scheduler_config(request: Request) -> dict[str, Any]:
    index = request.state.table_index("scheduler_config")
    kept = request.state.scheduler_config or {}
    return {**_DEFAULTS, **kept, "CreateIndex": index, "ModifyIndex": index}


def scheduler_set(request: Request) -> Proposal | Answer:
    body = request.body()
    algorithm = body.get("SchedulerAlgorithm") or "binpack"
    if algorithm not in ALGORITHMS:
        choices = ", ".join(ALGORITHMS)
        raise QueryError(400, f"invalid scheduler algorithm {algorithm!r}: {choices}")
    known = {name: body[name] for name in _DEFAULTS if body.get(name) is not None}
    index = request.state.table_index("scheduler_config")
    expected = request.text("cas")
    if expected and request.number("cas") != index:
        return Answer(body={"Updated": False, "Index": max(1, index)}, index=max(1, index))

    def answer(applied: Applied) -> Answer:
        checked(applied)
        return Answer(body={"Updated": True, "Index": applied.index}, index=applied.index)

    return Proposal([SetSchedulerConfig(config={**_DEFAULTS, **known})], answer)


def system_gc(request: Request) -> Proposal:
    """Forget everything that ended, however young."""
    now_us = request.server.now.wall_us
    command = CollectGarbage(
        job_before_us=now_us,
        evaluation_before_us=now_us,
        deployment_before_us=now_us,
        node_before_us=now_us,
    )
    return Proposal([command], _nothing)


def _nothing(applied: Applied) -> Answer:
    checked(applied)
    return Answer(body=None, index=applied.index)


def reconcile_summaries(request: Request) -> Answer:
    """Summaries are counted with every change here, so there is nothing to reconcile."""
    return Answer(body=None, index=max(1, request.state.table_index("jobs")))


ENDPOINTS = {
    "Operator.RaftMeasure": Endpoint(Kind.WRITE, raft_measure),
    "Operator.SchedulerGet": Endpoint(Kind.READ, scheduler_get),
    "Operator.SchedulerSet": Endpoint(Kind.WRITE, scheduler_set),
    "System.GC": Endpoint(Kind.WRITE, system_gc),
    "System.ReconcileSummaries": Endpoint(Kind.WRITE, reconcile_summaries),
}
