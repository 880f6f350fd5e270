"""Job.Dispatch and Job.PeriodicForce: children made at a caller's word."""

import base64
import binascii
import re
from typing import Final

from core.model.evaluation import EvalTrigger
from core.model.query import Answer
from core.server import children
from core.server.endpoints.jobs import job_of
from core.server.endpoints.shared import check_registrations, checked
from core.server.launching import launch_command
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import MarkLaunch, RegisterJob
from core.state.jobs import JobRecord
from core.state.result import Applied

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{0,64}")


def job_dispatch(request: Request) -> Answer | Proposal:
    """Register a child of a parameterized job.

    With an idempotency token, a child that has it answers instead of a second one, as long as
    it is kept.
    """
    check_registrations(request)
    record = job_of(request)
    token = request.text("idempotency_token")
    if known := _child_with(request, record, token):
        return _known(known.id, known.job.create_index or 0)
    name_prefix = request.field("IdPrefixTemplate", str, "")
    if not _PREFIX.fullmatch(name_prefix):
        raise QueryError(400, "IdPrefixTemplate: letters, digits, '.', '_' and '-', at most 64")
    now_us = request.server.now.wall_us
    try:
        child = children.dispatched(
            record.job,
            now_us=now_us,
            suffix=request.draw_id()[:8],
            meta=request.field("Meta", dict[str, str], {}),
            payload=_payload(request),
            name_prefix=name_prefix,
            token=token,
        )
    except children.DispatchError as error:
        raise QueryError(400, str(error)) from None
    is_schedule = children.is_launched(child)
    due = None
    if not is_schedule:
        due = children.evaluation_of(child, request.draw_id(), EvalTrigger.JOB_REGISTER, now_us)
    eval_id = due.id if due is not None else ""

    def answer(applied: Applied) -> Answer:
        checked(applied)
        first = _child_with(request, record, token)
        if first is not None and first.id != child.id:  # another copy of this call came before
            return _known(first.id, first.job.create_index or 0)
        body = {
            "DispatchedJobID": child.id,
            "EvalID": eval_id,
            "EvalCreateIndex": applied.index if eval_id else 0,
            "JobCreateIndex": applied.index,
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return Proposal([RegisterJob(job=child, evaluation=due)], answer)


def _child_with(request: Request, parent: JobRecord, token: str) -> JobRecord | None:
    if not token:
        return None
    children_ = request.state.jobs.children_of(parent.namespace, parent.id)
    return next((one for one in children_ if one.job.dispatch_idempotency_token == token), None)


def _known(child_id: str, index: int) -> Answer:
    body = {
        "DispatchedJobID": child_id,
        "EvalID": "",
        "EvalCreateIndex": 0,
        "JobCreateIndex": index,
        "Index": index,
    }
    return Answer(body=body, index=index)


def _payload(request: Request) -> bytes:
    text = request.field("Payload", str, "")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise QueryError(400, "Payload must be base64") from None


def periodic_force(request: Request) -> Proposal:
    """Launch a periodic job now, whatever its schedule and overlap say."""
    record = job_of(request)
    if not children.is_launched(record.job) and record.job.periodic is None:
        raise QueryError(400, f"job {record.id!r} is not periodic: it can't be launched by force")
    if record.is_stopped:
        raise QueryError(400, f"job {record.id!r} is stopped: it can't be launched")
    now_us = request.server.now.wall_us
    command = launch_command(request.server, record, now_us, eval_id=request.draw_id())
    mark = MarkLaunch(namespace=record.namespace, job_id=record.id, launched_us=now_us)
    due = command.evaluation

    def answer(applied: Applied) -> Answer:
        checked(applied)
        body = {
            "EvalID": due.id if due is not None else "",
            "EvalCreateIndex": applied.index,
            "Index": applied.index,
        }
        return Answer(body=body, index=applied.index)

    return Proposal([command, mark], answer)


ENDPOINTS = {
    "Job.Dispatch": Endpoint(Kind.WRITE, job_dispatch),
    "Job.PeriodicForce": Endpoint(Kind.WRITE, periodic_force),
}
