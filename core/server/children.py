"""Jobs made from other jobs: launched by a schedule, or dispatched with arguments.

A child is an ordinary job with `parent_id`; its name says how and when it was made:
`PARENT/periodic-SECONDS`, `PARENT/dispatch-SECONDS-HEX`.
"""

from typing import Any, Final

import msgspec

from core.jobspec.cron import next_of_us
from core.model.child import DISPATCH, PERIODIC
from core.model.evaluation import EvalTrigger, Evaluation
from core.model.job import Job

MAX_PAYLOAD_BYTES: Final = 16_384


class DispatchError(ValueError):
    """The arguments do not fit what the parameterized job asks for; the text says why."""


def is_launched(job: Job) -> bool:
    """Whether the job is a schedule to launch by."""
    return bool(job.periodic is not None and job.periodic.enabled is not False) and (
        job.parameterized_job is None or job.dispatched
    )


def next_launch_us(job: Job, after_us: int) -> int | None:
    """Return when a periodic job is due next after a moment (UTC microseconds).

    Raises:
        CronError: Its schedule can't be read.
    """
    periodic = job.periodic
    if periodic is None:
        return None
    specs = list(periodic.specs or []) or ([periodic.spec] if periodic.spec else [])
    return next_of_us(specs, after_us, periodic.time_zone or "UTC")


def launched(parent: Job, launch_us: int) -> Job:
    """Return the child of a periodic job for one launch."""
    child_id = f"{parent.id}{PERIODIC}{launch_us // 1_000_000}"
    return msgspec.structs.replace(_child(parent, child_id), periodic=None)


def dispatched(
    parent: Job,
    *,
    now_us: int,
    suffix: str,
    meta: dict[str, str],
    payload: bytes,
    name_prefix: str = "",
    token: str = "",
) -> Job:
    """Return the child of a parameterized job for one dispatch.

    Raises:
        DispatchError: The arguments are not what the job asks for.
    """
    config = parent.parameterized_job
    if config is None:
        raise DispatchError(f"job {parent.id!r} is not parameterized: it can't be dispatched")
    if parent.stop:
        raise DispatchError(f"job {parent.id!r} is stopped: it can't be dispatched")
    if payload and config.payload == "forbidden":
        raise DispatchError("a payload is not allowed by this job")
    if not payload and config.payload == "required":
        raise DispatchError("a payload is required by this job")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DispatchError(
            f"the payload has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are possible"
        )
    required, optional = set(config.meta_required or []), set(config.meta_optional or [])
    if unknown := sorted(set(meta) - required - optional):
        raise DispatchError(f"meta keys that the job does not name: {', '.join(unknown)}")
    if missing := sorted(required - set(meta)):
        raise DispatchError(f"meta keys that the job requires are missing: {', '.join(missing)}")
    prefix = f"{name_prefix}-" if name_prefix else ""
    child_id = f"{parent.id}{DISPATCH}{prefix}{now_us // 1_000_000}-{suffix}"
    return msgspec.structs.replace(
        _child(parent, child_id),
        dispatched=True,
        meta={**(parent.meta or {}), **meta} or None,
        payload=payload or None,
        dispatch_idempotency_token=token or None,
    )


def evaluation_of(child: Job, eval_id: str, trigger: EvalTrigger, now_us: int) -> Evaluation:
    """Return the evaluation that starts a child."""
    return Evaluation(
        id=eval_id,
        priority=child.priority or 50,
        type=child.type or "batch",
        triggered_by=trigger,
        namespace=child.namespace or "default",
        job_id=child.id or "",
        create_time_ns=now_us * 1000,
        modify_time_ns=now_us * 1000,
    )


def _child(parent: Job, child_id: str) -> Job:
    unset: dict[str, Any] = dict.fromkeys(
        (
            "uid", "version", "status", "status_description", "submit_time_ns", "create_index",
            "modify_index", "job_modify_index", "version_tag",
        )
    )  # fmt: skip
    return msgspec.structs.replace(
        parent, id=child_id, name=child_id, parent_id=parent.id, stop=False, stable=False, **unset
    )
