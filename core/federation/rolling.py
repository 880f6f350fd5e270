"""A new version of a divided job reaches one datacenter after the other: the home decides.

Each datacenter replaces its instances `max_parallel` at a time, and the home tells the next
one of the version only when all those that know it run it and are healthy. So no more than
`max_parallel` instances of the whole job are away for it. One in which the rollout failed
stops it: the others stay with their version, and with `auto_revert` the home goes back.

The home's own datacenter is the first, for the job's record is there. What replaces nothing
(another count, another datacenter) is told to everybody at once, and so is a stop. A share
that waits has its old version's tasks and the newest counts.
"""

from typing import TYPE_CHECKING

import msgspec

from core.federation.held import is_everywhere
from core.federation.homes import Home, Part
from core.model.job import Job
from core.scheduler.changes import is_destructive
from core.scheduler.reconcile import strategy_of
from core.state.jobs import JobRecord

if TYPE_CHECKING:
    from core.state.state import State


def told_versions(state: "State", home: Home) -> dict[str, int]:
    """Return by datacenter which version of the job it shall have now, as `home` is now."""
    told = dict.fromkeys(home.parts, home.version)
    behind = _behind(state, home)
    if not behind:
        return told
    for dc in behind[0 if _is_held_up(state, home, behind) else 1 :]:
        told[dc] = home.parts[dc].version
    return told


def _behind(state: "State", home: Home) -> list[str]:
    """Return who has instances that the newest version replaces, and was not told of it."""
    record = state.jobs.by_uid(home.uid)
    if record is None or not home.wanted or is_everywhere(record.job):
        return []
    waiting = [
        dc
        for dc, part in home.parts.items()
        if dc != state.datacenter_id and part.holds and part.version != home.version
    ]
    found = [dc for dc in waiting if _replaces(state, record, home.parts[dc].version)]
    # First those that have answered: one that is cut off holds up all that come behind it.
    return sorted(found, key=lambda dc: (home.parts[dc].acked != home.parts[dc].index, dc))


def _replaces(state: "State", record: JobRecord, version: int) -> bool:
    """Whether the newest version replaces instances of this one, a few at a time."""
    old = state.jobs.version(record.ordinal, version)
    if old is None:
        return False  # it is not kept any more: nobody could be sent it
    known = {group.name for group in old.task_groups or []}
    return any(
        strategy_of(record.job, group) is not None and is_destructive(old, record.job, group.name)
        for group in record.job.task_groups or []
        if group.name in known
    )


def _is_held_up(state: "State", home: Home, behind: list[str]) -> bool:
    knowing = [part for dc, part in home.parts.items() if dc not in behind]
    return any(part.failed == home.version or not _has_rolled(home, part) for part in knowing)


def _has_rolled(home: Home, part: Part) -> bool:
    is_told = part.version == home.version and part.acked == part.index
    return not part.holds or (is_told and part.rolled == home.version)


def is_over(state: "State", home: Home) -> bool:
    """Whether every datacenter runs the newest version, healthy."""
    return all(part.failed != home.version and _has_rolled(home, part)
               for part in home.parts.values())  # fmt: skip


def failed_at(home: Home) -> list[str]:
    """Return the datacenters in which the rollout of the newest version failed."""
    return [dc for dc, part in home.parts.items() if part.failed == home.version]


def job_for(state: "State", record: JobRecord, part: Part) -> Job:
    """Return the job as a datacenter's share has it: of its version, with the newest counts."""
    old = state.jobs.version(record.ordinal, part.version)
    if part.version == record.version or old is None:
        return record.job
    counts = {group.name: group.count for group in record.job.task_groups or []}
    groups = [
        msgspec.structs.replace(group, count=counts[group.name])
        for group in old.task_groups or []
        if group.name in counts
    ]
    return msgspec.structs.replace(
        old, task_groups=groups, stop=record.job.stop, federation=record.job.federation
    )
