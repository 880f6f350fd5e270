"""What of a job this datacenter holds, read off its allocations.

An index is held until a client has said that its task ended. A lost allocation is one of a
node that went silent: its process may run on, so it is held as long as the node is neither
back nor purged. A canary is a process of its index like any other: beside the old instance in
this datacenter it may run, but not beside one elsewhere.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from core.federation import ranges
from core.federation.ranges import Indices
from core.model.allocation import ClientStatus, Desired
from core.model.evaluation import DeploymentStatus, EvalStatus
from core.model.job import Job
from core.state.allocs import FLAG_CANARY, HELD, Rows
from core.state.jobs import JobRecord
from core.state.rollouts import ACTIVE_DEPLOYMENTS

if TYPE_CHECKING:
    from core.state.state import State

EVERY_NODE: Final = ("system", "sysbatch")  # job types whose instances are the nodes'
_RUNS_ONCE: Final = ("batch", "sysbatch")


class Held(NamedTuple):
    """What the allocations of one job here say."""

    busy: Indices  # may still run
    running: Indices
    blocked: Indices  # wanted here, and no room
    blocked_since_us: int
    live: int  # wanted here and not done
    rolled: int = -1  # version of the job that all of them run and are healthy in
    failed: int = -1  # version whose rollout failed here


def is_everywhere(job: Job) -> bool:
    """Whether an instance runs on every node: then a share is no set of indices."""
    return job.type in EVERY_NODE


def held(state: "State", uid: str, accepts: Indices, place: int) -> Held:
    """Return what of a job is held here.

    Args:
        accepts: What is to run here.
        place: Of a system job, the index that stands for all its instances here; else -1.
    """
    record = state.jobs.by_uid(uid)
    if record is None:
        return Held({}, {}, {}, 0, ranges.size(accepts))
    busy: Indices = {}
    ordinary: Indices = {}  # what is busy, but for canaries
    running: Indices = {}
    done: Indices = {}
    client = state.allocs.columns.client
    for group in record.groups:
        rows = state.allocs.rows_of_job(record.ordinal, group)
        if not len(rows):
            continue
        is_canary = state.allocs.columns.flags[rows] & FLAG_CANARY != 0
        is_busy = HELD[client[rows]] | _may_run_on(state, rows)
        busy |= {group: _indices(state, rows[is_busy], place)}
        ordinary |= {group: _indices(state, rows[is_busy & ~is_canary], place)}
        rows = rows[~is_canary]
        wanted = state.allocs.columns.desired[rows] == Desired.RUN
        is_running = wanted & (client[rows] == ClientStatus.RUNNING)
        running |= {group: _indices(state, rows[is_running], place)}
        if record.job.type in _RUNS_ONCE:
            is_done = wanted & (client[rows] == ClientStatus.COMPLETE)
            done |= {group: _indices(state, rows[is_done], -1)}
    busy, ordinary = ranges.indices(busy), ranges.indices(ordinary)
    running, done = ranges.indices(running), ranges.indices(done)
    since_us = _blocked_since_us(state, record)
    blocked: Indices = {}
    if since_us and place < 0:
        blocked = ranges.without(ranges.without(accepts, ordinary), done)
    if is_everywhere(record.job):
        live = 0 if record.is_stopped else state.jobs.live(record)
    else:
        live = ranges.size(ranges.without(accepts, done))
    rolled, failed = _rollout(state, record, is_whole=ranges.is_within(accepts, running))
    return Held(busy, running, blocked, since_us if blocked else 0, live, rolled, failed)


def _rollout(state: "State", record: JobRecord, *, is_whole: bool) -> tuple[int, int]:
    """Return (version that all instances here run, healthy; version that failed), -1 = none."""
    latest = state.deployments.latest_of_job(record.namespace, record.id)
    if latest is not None and latest.job_version == record.version:
        if latest.status is DeploymentStatus.FAILED:
            return -1, record.version
        is_whole &= latest.status not in ACTIVE_DEPLOYMENTS
    if not is_whole:
        return -1, -1
    columns, rows = state.allocs.columns, state.allocs.rows_of_job(record.ordinal)
    is_old = HELD[columns.client[rows]] & (columns.job_version[rows] != record.version)
    return (-1 if is_old.any() else record.version), -1


def _may_run_on(state: "State", rows: Rows) -> npt.NDArray[np.bool_]:
    """Return which rows were given up as lost on a node that is not back yet."""
    columns, nodes = state.allocs.columns, state.nodes
    lost: npt.NDArray[np.bool_] = columns.client[rows] == ClientStatus.LOST
    for at in np.flatnonzero(lost).tolist():
        node = int(columns.node[rows[at]])
        lost[at] = nodes.record(node) is not None and not nodes.is_ready[node]
    return lost


def _indices(state: "State", rows: Rows, place: int) -> ranges.Ranges:
    if place >= 0:
        return ((place, place + 1),) if len(rows) else ranges.NONE
    found = np.unique(state.allocs.columns.index[rows])
    if not len(found):
        return ranges.NONE
    cuts = np.flatnonzero(np.diff(found) > 1)
    lows = found[np.concatenate(([0], cuts + 1))].tolist()
    highs = (found[np.concatenate((cuts, [len(found) - 1]))] + 1).tolist()
    return tuple(zip(lows, highs, strict=True))


def _blocked_since_us(state: "State", record: JobRecord) -> int:
    """Return since when an evaluation of the job waits for room, 0 when none does."""
    if record.is_purged or not state.evals.open_count(record.namespace, record.id):
        return 0
    waiting = [
        one.create_time_ns // 1000
        for one in state.evals.of_job(record.namespace, record.id)
        if one.status == EvalStatus.BLOCKED
    ]
    return min(waiting, default=0)
