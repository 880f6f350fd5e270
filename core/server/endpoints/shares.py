"""Job.Shares: which datacenter runs what of a job; Job.Start: a parked part runs again.

`job stop -datacenter X` parks the part at X. X itself carries it out, so that it works while
the job's home can't be reached: it says `parked` to the home, which takes the part back, and
nothing of the job is given there again before an explicit start.
"""

from __future__ import annotations

from typing import Any

from core.federation import ranges
from core.federation.home_log import ParkOwnPart, current, described, find_home, new_home
from core.federation.share_log import ParkShare
from core.model.evaluation import EvalTrigger
from core.model.query import Answer
from core.server import evaluations
from core.server.endpoints.jobs import job_of, watch_job
from core.server.endpoints.shared import checked
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.jobs import JobRecord
from core.state.result import Applied


def is_part(request: Request, record: JobRecord) -> bool:
    """Whether the datacenter that the query names runs only a part of the job."""
    if not request.query.datacenter:
        return False
    home = find_home(request.state, record.namespace, record.id)
    return bool(record.home) or (home is not None and len(home.parts) > 1)


def parked(request: Request, record: JobRecord, *, is_parked: bool) -> Proposal:
    """Return the proposal that stops or starts what this datacenter runs of a job."""
    trigger = EvalTrigger.JOB_DEREGISTER if is_parked else EvalTrigger.JOB_REGISTER
    due = evaluations.for_job(request.server, record, trigger, id=request.draw_id())
    names: dict[str, Any] = {
        "namespace": record.namespace, "job_id": record.id, "uid": record.uid,
        "is_parked": is_parked, "evaluation": due,
    }  # fmt: skip
    command = ParkShare(**names) if record.home else ParkOwnPart(**names)

    def answer(applied: Applied) -> Answer:
        checked(applied)
        body = {
            "EvalID": due.id,
            "EvalCreateIndex": applied.index,
            "JobModifyIndex": record.job.job_modify_index or 0,
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return Proposal([command], answer)


def job_start(request: Request) -> Proposal:
    """Let a datacenter run its part again; the home gives it what is free."""
    record = job_of(request)
    if not request.query.datacenter:
        raise QueryError(400, "a start names the datacenter that it is for: ?datacenter=NAME")
    if not is_part(request, record):
        raise QueryError(
            400, f"job {record.id!r} lives whole in datacenter {request.query.datacenter}: "
            "register it to start it",
        )  # fmt: skip
    return parked(request, record, is_parked=False)


def job_shares(request: Request) -> Answer:
    """Return the table of datacenters as the job's home knows it; a whole job has one row."""
    record, state = job_of(request), request.state
    known = find_home(state, record.namespace, record.id)
    home = current(state, known if known is not None else new_home(state, record, 0))
    places = request.server.membership.datacenters()
    rows = []
    for datacenter_id in sorted(home.parts, key=lambda one: (one != state.datacenter_id, one)):
        place = places.get(datacenter_id)
        row = described(home, datacenter_id)
        row["Region"] = place.region if place is not None else ""
        row["Datacenter"] = place.name if place is not None else datacenter_id
        row["IsHome"] = datacenter_id == state.datacenter_id
        rows.append(row)
    body = {
        "JobID": record.id,
        "Namespace": record.namespace,
        "Home": state.datacenter_id,
        "Epoch": known.epoch if known is not None else 0,
        "Unassigned": ranges.size(home.free),
        "Shares": rows,
    }
    index = max(
        1,
        state.table_index("homes"),
        state.jobs.allocs_index(record),
        record.job.modify_index or 1,
    )
    return Answer(body=body, index=index)


def _watch_shares(request: Request) -> tuple[str, ...]:
    return ("homes", *watch_job(request))


ENDPOINTS = {
    "Job.Shares": Endpoint(Kind.READ, job_shares, watches=_watch_shares),
    "Job.Start": Endpoint(Kind.WRITE, job_start),
}
