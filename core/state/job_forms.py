"""Registrations as the log has them: jobs that differ in their names alone share all else.

Whoever registers many jobs makes them by a pattern: thousands differ in name and number only.
So what is not a job's own is looked up by its bytes and made into records once, for all of
them. That is several times faster than reading it each time, and a datacenter of 100,000 small
jobs holds their groups once. It is safe as records are values: apply replaces them, and never
changes one.

Whether a job was read or looked up can't be told from the record; the forms that are kept are
no part of the state.
"""

from typing import Any, Final

import msgspec

from core.model.evaluation import Deployment, Evaluation
from core.model.job import Job
from core.state.columns import ENCODER
from core.state.commands import RegisterJob

# How the bytes of a RegisterJob begin, behind the byte that counts its fields.
MARK: Final = b"\xa1@" + ENCODER.encode(RegisterJob.__name__)
_KEPT: Final = 2_048  # forms
_BYTES_MOST: Final = 16_384  # of one; larger jobs do not come by the thousand

_OWN: Final = ("id", "name", "uid", "submit_time_ns")  # fields that are a job's own
_OWN_BY_NAME: Final = {
    encoded: name
    for name, encoded in zip(Job.__struct_fields__, Job.__struct_encode_fields__, strict=True)
    if name in _OWN
}


class _Registration(msgspec.Struct, tag=RegisterJob.__name__, tag_field="@", gc=False):
    """As `RegisterJob`, its job in pieces."""

    job: dict[str, msgspec.Raw]
    indices: dict[str, list[tuple[int, int]]] = {}
    evaluation: Evaluation | None = None
    deployment: Deployment | None = None
    submission: dict[str, Any] | None = None
    check_index: int | None = None


_REGISTRATIONS: Final = msgspec.msgpack.Decoder(_Registration)
_JOBS: Final = msgspec.msgpack.Decoder(Job)
_OWN_VALUES: Final = {
    "id": msgspec.msgpack.Decoder(str | None),
    "name": msgspec.msgpack.Decoder(str | None),
    "uid": msgspec.msgpack.Decoder(str | None),
    "submit_time_ns": msgspec.msgpack.Decoder(int | None),
}
_forms: dict[bytes, Job] = {}  # the oldest first


def read_registration(raw: msgspec.Raw) -> RegisterJob:
    """Return the command that these bytes are.

    Raises:
        msgspec.MsgspecError: They are none.
    """
    read = _REGISTRATIONS.decode(raw)
    return RegisterJob(
        job=_job_of(read.job),
        indices=read.indices,
        evaluation=read.evaluation,
        deployment=read.deployment,
        submission=read.submission,
        check_index=read.check_index,
    )


def _job_of(fields: dict[str, msgspec.Raw]) -> Job:
    own: dict[str, Any] = {}
    for encoded, name in _OWN_BY_NAME.items():
        value = fields.pop(encoded, None)
        own[name] = None if value is None else _OWN_VALUES[name].decode(value)
    form = ENCODER.encode(fields)
    job = _forms.get(form)
    if job is None:
        job = _JOBS.decode(form)
        if len(form) > _BYTES_MOST:
            return msgspec.structs.replace(job, **own)
        if len(_forms) >= _KEPT:
            del _forms[next(iter(_forms))]
        _forms[form] = job
    return msgspec.structs.replace(job, **own)
