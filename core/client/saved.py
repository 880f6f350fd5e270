"""What a client keeps across its own restart, and how it reads that back.

Keys: `node` (who we are), `alloc/ID` (the allocation as the server gave it, without its
job), `job/NAMESPACE/ID/VERSION/INDEX` (core.client.jobs) and `task/ID/NAME` (where that task
stands). The task's record changes often and is small, the allocation's hardly ever, and the
job, which is large, is that of many: that is why they are apart.
"""

from typing import Final

import msgspec

from core.client.effects import NO_HANDLE, TaskHandle
from core.client.restarts import RestartHistory
from core.model.allocation import Allocation, AllocDeploymentStatus, TaskState
from core.model.job import Job

NODE_KEY: Final = "node"
ALLOC_PREFIX: Final = "alloc/"
JOB_PREFIX: Final = "job/"
TASK_PREFIX: Final = "task/"


class SavedNode(msgspec.Struct, kw_only=True):
    node_id: str
    secret_id: str
    datacenter_id: str
    servers: list[str] = []
    restored: int | None = None  # index of the servers' restore that was last heard of


class SavedAlloc(msgspec.Struct, kw_only=True):
    """Its job is saved for itself, under `job_key`; in memory the allocation has it."""

    alloc: Allocation
    received_us: int  # wall clock
    begun_us: int = 0  # wall clock; when its folder was ready; before that it may wait for another
    job_key: str = ""
    deployed_us: int = 0  # wall clock; when its present deployment reached us
    is_prepared: bool = False
    is_stopping: bool = False
    deployment_status: AllocDeploymentStatus | None = None


class SavedTask(msgspec.Struct, kw_only=True):
    state: TaskState
    attempt: int = 0
    may_run: bool = False  # a run was asked for and its end is not known
    is_stopping: bool = False  # it shall not be started again
    is_restarting: bool = False  # it is being stopped only to be started again
    counts_restart: bool = False  # that restart goes by the restart policy
    handle: TaskHandle = NO_HANDLE
    history: RestartHistory = msgspec.field(default_factory=RestartHistory)


class Recovered(msgspec.Struct):
    """What could be read. `problems` names records that could not, for the operator."""

    node: SavedNode | None
    allocs: dict[str, tuple[SavedAlloc, dict[str, SavedTask]]]
    jobs: dict[str, Job]
    problems: list[str]


def alloc_key(alloc_id: str) -> str:
    return f"{ALLOC_PREFIX}{alloc_id}"


def job_key(alloc: Allocation) -> str:
    """Return the key of an allocation's job, "" when it has none."""
    job = alloc.job
    if job is None:
        return ""
    version, index = job.version or 0, job.job_modify_index or 0
    return f"{JOB_PREFIX}{alloc.namespace}/{alloc.job_id}/{version}/{index}"


def task_key(alloc_id: str, task: str) -> str:
    return f"{TASK_PREFIX}{alloc_id}/{task}"


_encoder = msgspec.msgpack.Encoder()


def encode(record: SavedNode | SavedTask | Job) -> bytes:
    return _encoder.encode(record)


def encode_alloc(saved: SavedAlloc) -> bytes:
    """Return the bytes of an allocation, without the job that is saved for itself."""
    alloc = saved.alloc
    if not saved.job_key:
        return _encoder.encode(saved)
    job, alloc.job = alloc.job, None
    try:
        return _encoder.encode(saved)
    finally:
        alloc.job = job


def recover(saved: dict[str, bytes]) -> Recovered:
    """Read the records of the previous life; order is that of the keys, so it repeats."""
    problems: list[str] = []
    node: SavedNode | None = None
    allocs: dict[str, tuple[SavedAlloc, dict[str, SavedTask]]] = {}
    jobs: dict[str, Job] = {}
    for key in sorted(saved):  # "alloc/" sorts before "task/"
        try:
            if key == NODE_KEY:
                node = msgspec.msgpack.decode(saved[key], type=SavedNode)
            elif key.startswith(ALLOC_PREFIX):
                alloc = msgspec.msgpack.decode(saved[key], type=SavedAlloc)
                allocs[key.removeprefix(ALLOC_PREFIX)] = (alloc, {})
            elif key.startswith(JOB_PREFIX):
                jobs[key] = msgspec.msgpack.decode(saved[key], type=Job)
            elif key.startswith(TASK_PREFIX):
                alloc_id, _, task = key.removeprefix(TASK_PREFIX).partition("/")
                if alloc_id in allocs:
                    record = msgspec.msgpack.decode(saved[key], type=SavedTask)
                    allocs[alloc_id][1][task] = record
        except msgspec.DecodeError as error:
            problems.append(f"{key}: {error}")
    for alloc_id, (alloc, _) in [*allocs.items()]:
        if alloc.job_key in jobs:
            alloc.alloc.job = jobs[alloc.job_key]
        elif alloc.job_key:
            problems.append(f"{ALLOC_PREFIX}{alloc_id}: its job {alloc.job_key} is not there")
            del allocs[alloc_id]
    return Recovered(node, allocs, jobs, problems)
