"""Shares in the log of the datacenter that runs them: commands, and how they are applied.

A share is an ordinary job record with `home` and `indices`; the scheduler needs no more. Its
watermark stands beside it, by uid, and stays when the record is gone.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from core.federation import shares
from core.federation.held import held, is_everywhere
from core.federation.homes import Report
from core.federation.lifecycle import is_leaving
from core.federation.ranges import Indices
from core.federation.roster import floor_of_home, is_off
from core.federation.shares import Share, Synced, Watermark
from core.model.evaluation import Evaluation
from core.model.job import Job
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.job_commands import purge_job, put_share
from core.state.jobs import JobRecord
from core.state.result import CommandResult
from core.state.rollouts import put_evaluation
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "watermarks"
SYNCED_TABLE: Final = "synced_homes"


class PutShare(Command):
    """Take a share, or refuse what it adds: either way it is the newest from now on."""

    share: Share
    room: Indices = {}  # noqa: RUF012 - what of it fits here
    reason: str = ""  # why that is not all
    evaluation: Evaluation | None = None


class ParkShare(Command):
    """Run nothing of a share here until it is started again."""

    namespace: str
    job_id: str
    uid: str
    is_parked: bool
    evaluation: Evaluation | None = None


class SyncShares(Command):
    """What the home's list lacks, as of its index, is gone."""

    home: str
    index: int
    listed: dict[str, int]  # uid -> epoch
    evaluations: tuple[Evaluation, ...] = ()  # of the jobs that may go


def watermarks_of(state: "State") -> "Table[str, Watermark]":
    return state.table(TABLE)


def synced_index(state: "State", home: str) -> int:
    """Return up to which index all shares of a home are known here; 0 = never synced."""
    known: Synced | None = state.table(SYNCED_TABLE).get(home)
    return known.index if known is not None else 0


def find_share(state: "State", namespace: str, job_id: str) -> Watermark | None:
    """Return the share that a job of this name is here; None when its home is here."""
    record = state.jobs.get(namespace, job_id)
    if record is None or not record.home:
        return None
    return watermarks_of(state).get(record.uid)


def report_of(state: "State", uid: str) -> Report | None:
    """Return this datacenter's word on a share; None when it never heard of it."""
    mark = watermarks_of(state).get(uid)
    if mark is None:
        return None
    found = held(state, uid, mark.accepts, mark.place)
    return msgspec.structs.replace(
        shares.report(mark, state.datacenter_id, found.busy),
        running=found.running,
        blocked=found.blocked,
        live=found.live,
        rolled=found.rolled,
        failed=found.failed,
    )


def for_record(job: Job, accepts: Indices) -> dict[str, list[tuple[int, int]]]:
    """Return indices as a job record has them: with every group, for none would mean all."""
    return {group.name: list(accepts.get(group.name, ())) for group in job.task_groups or []}


# --- apply --------------------------------------------------------------------------------


def put_a_share(state: "State", command: PutShare, context: "Context") -> CommandResult:
    """Apply a newer share. `value`: {IsApplied}."""
    share, table = command.share, watermarks_of(state)
    mark = table.get(share.uid)
    is_void = share.epoch < floor_of_home(state, share.home) or is_leaving(state)
    if is_void or not shares.is_newer(mark, share, synced_index(state, share.home)):
        return CommandResult(value={"IsApplied": False})
    room, reason = command.room, command.reason
    if other := _holder_of_name(state, share, context):
        room, reason = {}, other
    mark = shares.take(mark, share, room, reason)
    table.put(share.uid, mark)
    context.changed("watermarks", "ShareTaken", share.uid, share.namespace)
    _run(state, mark, share.job, command.evaluation, context)
    return CommandResult(value={"IsApplied": True})


def _holder_of_name(state: "State", share: Share, context: "Context") -> str:
    """Return why another job of that name stays; an older share of that name goes.

    An older uid of a name was purged at its home, or the name could not have been claimed
    again: a higher epoch is the proof.
    """
    record = state.jobs.get(share.namespace, share.job_id)
    if record is None or record.uid == share.uid or share.job is None:
        return ""
    if not record.home:
        return f"another job {share.job_id!r} is registered in region {state.region}"
    older = watermarks_of(state).get(record.uid)
    if older is None or older.epoch >= share.epoch:
        return f"a part of another job {share.job_id!r} runs here"
    gone = msgspec.structs.replace(older, allowed={}, accepts={}, is_gone=True)
    watermarks_of(state).put(record.uid, gone)
    purge_job(state, record, context)
    return ""


def _run(
    state: "State",
    mark: Watermark,
    job: Job | None,
    evaluation: Evaluation | None,
    context: "Context",
) -> None:
    """Let the job record say what the watermark accepts."""
    record = state.jobs.get(mark.namespace, mark.job_id)
    is_ours = record is not None and record.uid == mark.uid and bool(record.home)
    if mark.is_gone:
        if not is_ours or record is None:
            return
        context.changed("jobs", "JobDeregistered", record.id, record.namespace)
        purge_job(state, record, context)
    elif record is not None and not is_ours:
        return  # the name is another's: nothing runs under it
    elif job is not None or record is not None:
        if record is None and not mark.accepts:
            return  # refused, or empty: no need to show a job that nothing runs of
        job = job if job is not None else record.job if record is not None else None
        assert job is not None
        put_share(state, *_as_run_here(job, mark), mark.home, context)
    if evaluation is not None:
        put_evaluation(state, evaluation, context)


def _as_run_here(job: Job, mark: Watermark) -> tuple[Job, dict[str, list[tuple[int, int]]]]:
    """Return job and indices for the record. A system job has no indices to lack: it stops."""
    if is_everywhere(job):
        return msgspec.structs.replace(job, stop=bool(job.stop) or not mark.accepts), {}
    return job, for_record(job, mark.accepts)


def park_share(state: "State", command: ParkShare, context: "Context") -> CommandResult:
    table = watermarks_of(state)
    mark = table.get(command.uid)
    if mark is None or mark.is_gone:
        return CommandResult(error="no part of this job runs here", status=404)
    mark = shares.park(mark) if command.is_parked else shares.start(mark)
    table.put(mark.uid, mark)
    context.changed("watermarks", "ShareParked", mark.uid, mark.namespace)
    _run(state, mark, None, command.evaluation, context)
    return CommandResult(value={"JobModifyIndex": context.index, "UID": mark.uid})


def sync_shares(state: "State", command: SyncShares, context: "Context") -> CommandResult:
    """Carry out a full sync. Tombstones that it makes needless are forgotten."""
    if is_off(state, command.home):
        return CommandResult()
    table = watermarks_of(state)
    due = {(one.namespace, one.job_id): one for one in command.evaluations}
    for mark in [one for one in table.values() if one.home == command.home]:
        after = shares.sync(mark, command.index, command.listed)
        if after is not mark:
            table.put(mark.uid, after)
            context.changed("watermarks", "ShareGone", mark.uid, mark.namespace)
            _run(state, after, None, due.get((mark.namespace, mark.job_id)), context)
        is_needless = after.is_gone and after.index <= command.index
        if is_needless and after.uid not in command.listed and state.jobs.by_uid(after.uid) is None:
            table.delete(after.uid)
    index = max(command.index, synced_index(state, command.home))
    state.table(SYNCED_TABLE).put(command.home, Synced(home=command.home, index=index))
    return CommandResult()


def drop_share(
    state: "State", mark: Watermark, evaluation: Evaluation | None, context: "Context"
) -> None:
    """End a share whose home is lost; its watermark remains as a tombstone."""
    after = msgspec.structs.replace(mark, allowed={}, accepts={}, reason="", is_gone=True)
    watermarks_of(state).put(mark.uid, after)
    context.changed("watermarks", "ShareGone", mark.uid, mark.namespace)
    _run(state, after, None, evaluation, context)


def is_share(record: JobRecord) -> bool:
    """Whether a job record is a part of a job whose home is elsewhere."""
    return bool(record.home)


register_table(TABLE, Watermark)
register_table(SYNCED_TABLE, Synced)
register_handler(PutShare, put_a_share)
register_handler(ParkShare, park_share)
register_handler(SyncShares, sync_shares)
