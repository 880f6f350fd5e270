"""Backups of homes: what a datacenter keeps of another one's jobs, should that be lost.

Of each job at home in a datacenter its backup has the file, the older versions, where the name
is held, and the answers to the calls that made it so: what an operator wrote. Who runs which
index is not in it; that is asked of those who run it, when the job is adopted
(core.federation.adopting).

A backup comes a moment after the change that it is of: what was acknowledged in between is
lost with its home. It costs one call, with the job's file in it, for each change of a file, and
nothing for what the scheduler, the nodes and other datacenters do.

When a datacenter keeps its backups elsewhere from now on, the older ones remain where they
were. `turn` tells them apart: it is raised once all is there, the largest is the newest, and
only that is used.

The rollouts over several regions that the datacenter coordinates are kept as well. Their
records only go forward (core.federation.multiregion), and what a backup lacks of one its
regions say again: who adopts it decides by the same rules as the lost coordinator.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from core.federation.handing import Member, member_of
from core.federation.home_log import homes_of, new_home
from core.federation.multiregion import Rollout
from core.federation.rollout_log import KEPT
from core.state.access import CallAnswer
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.jobs import JobRecord
from core.state.result import CommandResult
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

BACKUPS: Final = "backups"  # by datacenter id and uid
BACKED: Final = "backed_datacenters"  # by datacenter id
ROLLOUTS: Final = "backed_rollouts"  # by datacenter id and the job's name


class Backup(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    source: str  # datacenter id of the home
    stamp: str  # of what it is a backup of
    member: Member  # its home has no parts
    calls: dict[str, CallAnswer] = {}  # first answers to calls about it


class BackedRollout(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    source: str  # datacenter id of the coordinator
    rollout: Rollout


class Backed(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    source: str
    turn: int  # index of the source's log when all of it was here


class PutBackups(Command):
    """Keep these, forget those. `value`: {Refused}."""

    source: str
    turn: int
    backups: list[Backup] = []  # noqa: RUF012
    gone: list[str] = []  # noqa: RUF012 - uids
    rollouts: list[Rollout] = []  # noqa: RUF012


def stamp_of(state: "State", record: JobRecord) -> str:
    """Return what changes when a backup of this job must be made anew."""
    home = homes_of(state).get(record.uid)
    regions = len(home.regions) if home is not None else 0
    return f"{record.job.job_modify_index}/{record.launched_us}/{regions}"


def is_backed(record: JobRecord) -> bool:
    """Whether a job's home is here, and there is something of it to keep."""
    return not record.home and not record.is_purged and not _is_done_child(record)


def _is_done_child(record: JobRecord) -> bool:
    return bool(record.job.parent_id) and record.status == "dead"


def backup_of(state: "State", record: JobRecord) -> Backup:
    home = homes_of(state).get(record.uid) or new_home(state, record, 0)
    home = msgspec.structs.replace(home, parts={}, leaving_to="")
    return Backup(
        source=state.datacenter_id,
        stamp=stamp_of(state, record),
        member=member_of(state, record, home),
        calls=state.calls.of_job(record.namespace, record.id),
    )


def backups_of(state: "State", source: str) -> Iterator[Backup]:
    """Yield what is kept here for a datacenter."""
    return (one for one in state.table(BACKUPS).values() if one.source == source)


def rollouts_backed(state: "State", source: str) -> Iterator[Rollout]:
    """Yield the rollouts of a coordinator that are kept here."""
    return (one.rollout for one in state.table(ROLLOUTS).values() if one.source == source)


def turn_of(state: "State", source: str) -> int:
    known: Backed | None = state.table(BACKED).get(source)
    return known.turn if known is not None else 0


def put_backups(state: "State", command: PutBackups, context: "Context") -> CommandResult:
    table, turn = state.table(BACKUPS), turn_of(state, command.source)
    if command.turn < turn:
        return CommandResult(value={"Refused": "an older turn"})
    if command.turn > turn:
        state.table(BACKED).put(command.source, Backed(source=command.source, turn=command.turn))
    for uid in command.gone:
        table.delete(_key(command.source, uid))
    for one in command.backups:
        known = table.get(_key(command.source, one.member.home.uid))
        if known is None or _index_of(known) <= _index_of(one):  # else one who was deposed
            table.put(_key(command.source, one.member.home.uid), one)
    for rollout in command.rollouts:
        _keep_rollout(state, command.source, rollout)
    return CommandResult(value={"Refused": ""})


def _keep_rollout(state: "State", source: str, rollout: Rollout) -> None:
    """Keep the newest rollout of a name, and no more that are over than its coordinator does."""
    table, key = state.table(ROLLOUTS), f"{source}\0{rollout.namespace}\0{rollout.job_id}"
    known = table.get(key)
    if known is not None and known.rollout.generation > rollout.generation:
        return
    table.delete(key)
    table.put(key, BackedRollout(source=source, rollout=rollout))
    if len(table) > KEPT:
        over = [one for one, kept in table.items() if kept.rollout.is_over]
        for one in over[: len(table) - KEPT]:
            table.delete(one)


def _index_of(backup: Backup) -> int:
    return backup.member.job.job_modify_index or 0


def _key(source: str, uid: str) -> str:
    return f"{source}\0{uid}"


register_table(BACKUPS, Backup)
register_table(BACKED, Backed)
register_table(ROLLOUTS, BackedRollout)
register_handler(PutBackups, put_backups)
