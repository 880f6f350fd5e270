"""Job.Why: the causal chain of a job, out of every datacenter that knows a part of it.

Whichever server is asked asks all datacenters of all regions for what they know
(`Job.Chain`). One that has no leader just now is asked for what any of its servers has;
one that can't be asked at all is named in the answer, for the chain may lack its part.
"""

from typing import Any

import msgspec

from core.federation.chains import Told, joined, told_here
from core.model.query import Answer, Query
from core.server.request import NO_LEADER, Deferred, Endpoint, Kind, QueryError, Request, Respond
from core.server.scatter import Scatter


def job_chain(request: Request) -> Answer:
    """Return what this datacenter's log knows of a job's name."""
    told = told_here(request.state, request.query.namespace, request.required("job_id"))
    return Answer(body=msgspec.to_builtins(told), index=request.state.index)


def job_why(request: Request) -> Deferred:
    job_id = request.required("job_id")
    namespace = request.query.namespace
    if namespace == "*":
        raise QueryError(400, "a job is of one namespace: name it")
    server, scatter = request.server, request.server.router.scatter
    ids = list(server.membership.datacenters())
    query = Query(
        method="Job.Chain",
        params={"job_id": job_id},
        namespace=namespace,
        token=request.query.token,
        stale=request.query.stale,
        hops=request.query.hops,
    )

    def start(respond: Respond) -> None:
        def told(answers: dict[str, Answer]) -> None:
            # Without a leader it can't say that it knows all; what it knows counts still.
            again = [dc for dc, one in answers.items() if one.error.startswith(NO_LEADER)]
            stale = msgspec.structs.replace(query, stale=True)
            scatter.ask(
                again, CHAIN, lambda _: stale, lambda more: finish({**answers, **more}, again)
            )

        def finish(answers: dict[str, Answer], leaderless: list[str]) -> None:
            respond(_answer(scatter, job_id, namespace, answers, leaderless))

        scatter.ask(ids, CHAIN, lambda _: query, told)

    return Deferred(start)


def _answer(
    scatter: Scatter,
    job_id: str,
    namespace: str,
    answers: dict[str, Answer],
    leaderless: list[str],
) -> Answer:
    names = {dc: "/".join((one.region, one.name)) for dc, one in scatter.datacenters().items()}
    parts: list[Told] = []
    missing: list[dict[str, Any]] = []
    for datacenter_id, answer in answers.items():
        place = scatter.place_of(datacenter_id)
        if 400 <= answer.status < 500:
            return answer
        if answer.is_error:
            missing.append({**place, "Error": answer.error, "IsStale": False})
            continue
        parts.append(msgspec.convert(answer.body, Told))
        if datacenter_id in leaderless:
            error = "it has no leader: what its servers know may not be all"
            missing.append({**place, "Error": error, "IsStale": True})
    stories = joined(parts, names)
    scatter.count_missing(one["DatacenterID"] for one in missing)
    if not stories and not missing:
        return QueryError(404, "job not found").answer()
    body = {
        "JobID": job_id,
        "Namespace": namespace,
        "Jobs": stories,
        "Dropped": sum(part.dropped for part in parts),
        "Missing": missing,
    }
    return Answer(body=body, index=1)


CHAIN = Endpoint(Kind.READ, job_chain)
ENDPOINTS = {"Job.Why": Endpoint(Kind.AGENT, job_why), "Job.Chain": CHAIN}
