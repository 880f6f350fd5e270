"""The commands that change rosters and floors, and how they are applied.

What follows from a datacenter being off is done in the same entry, in every log that hears
of it: each home counts it as holding nothing, so its indices are free; its shares, calls and
full syncs are refused from then on; and the one that is off itself forgets that it was the
home of anything, whoever of its servers reads this.
"""

from typing import TYPE_CHECKING

import msgspec

from core.federation import homes, shares
from core.federation.claims import authority_of
from core.federation.handing import arrivals_of, departures_of
from core.federation.home_log import homes_of, settle_record
from core.federation.roster import (
    FLOORS,
    OFF_FLOOR,
    Gone,
    Member,
    Roster,
    floor_of_home,
    is_newer,
    is_off,
    roster_of,
    rosters_of,
)
from core.federation.share_log import watermarks_of
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State


class EnrolMember(Command):
    """A datacenter of the region that is not on its roster yet. Authority only."""

    datacenter_id: str
    name: str


class DeclareOff(Command):
    """A datacenter of the region runs nothing and never will again. Authority only."""

    datacenter_id: str
    has_left: bool = False  # it says so itself, empty


class CopyRoster(Command):
    """What an authority says, and all floors that it knows: the two go together."""

    roster: Roster
    floors: dict[str, int] = {}  # noqa: RUF012 - by datacenter id


class RaiseFloor(Command):
    """Refuse shares of a home below an epoch; of these jobs also any other home's.

    `value`: {Floor: that holds now}. Proposed again it changes nothing: a barrier.
    """

    home: str
    floor: int
    # uid -> (namespace, job id, epoch of its claim, which names `home`)
    jobs: dict[str, tuple[str, str, int]] = {}  # noqa: RUF012


def enrol_member(state: "State", command: EnrolMember, context: "Context") -> CommandResult:
    """Add one datacenter. `value`: {Version}."""
    if not state.is_authority:
        return CommandResult(error=_not_authority(state), status=503)
    roster, dc = roster_of(state), command.datacenter_id
    if is_off(state, dc):
        return CommandResult(error=f"datacenter {command.name} is off for good", status=409)
    if dc not in roster.members or roster.authority != state.datacenter_id:
        members = {dc: Member(name=command.name, since=roster.version + 1), **roster.members}
        _write(state, roster, members, roster.gone, context)
    return CommandResult(value={"Version": roster_of(state).version})


def declare_off(state: "State", command: DeclareOff, context: "Context") -> CommandResult:
    """Take a datacenter off the roster for good. `value`: {Version}."""
    if not state.is_authority:
        return CommandResult(error=_not_authority(state), status=503)
    roster, dc = roster_of(state), command.datacenter_id
    if dc == state.datacenter_id:
        text = "the region's authority can't go: move the authority first (authority transfer)"
        return CommandResult(error=text, status=409)
    if dc in roster.gone:
        return CommandResult(value={"Version": roster.version})
    if dc not in roster.members:
        return CommandResult(error=f"region {state.region} has no datacenter {dc}", status=404)
    if authority_of(state).to == dc:
        text = "the authority is on its way to it: wait until that is through"
        return CommandResult(error=text, status=409)
    members = {one: member for one, member in roster.members.items() if one != dc}
    gone = Gone(name=roster.members[dc].name, since_us=context.time_us, has_left=command.has_left)
    _write(state, roster, members, {**roster.gone, dc: gone}, context)
    raise_to(state, dc, OFF_FLOOR, context)
    return CommandResult(value={"Version": roster.version + 1})


def _write(
    state: "State", before: Roster, members: dict[str, Member], gone: dict[str, Gone],
    context: "Context",
) -> None:  # fmt: skip
    roster = Roster(
        region=state.region,
        authority=state.datacenter_id,
        generation=authority_of(state).generation,
        version=before.version + 1,
        members=dict(sorted(members.items())),
        gone=gone,
    )
    rosters_of(state).put(state.region, roster)
    context.changed("rosters", "RosterChanged", state.region)


def copy_roster(state: "State", command: CopyRoster, context: "Context") -> CommandResult:
    """Keep an authority's roster if it is newer. `value`: {Generation, Version} as known now."""
    given, table = command.roster, rosters_of(state)
    known = table.get(given.region)
    if not (state.is_authority and given.region == state.region) and is_newer(given, known):
        table.put(given.region, given)
        context.changed("rosters", "RosterChanged", given.region)
    floors = {**command.floors, **dict.fromkeys(given.gone, OFF_FLOOR)}
    for dc in sorted(floors):
        raise_to(state, dc, floors[dc], context)
    return CommandResult(value={"Generation": given.generation, "Version": given.version})


def raise_floor(state: "State", command: RaiseFloor, context: "Context") -> CommandResult:
    raise_to(state, command.home, command.floor, context)
    if command.jobs:
        _bind(state, command, context)
    return CommandResult(value={"Floor": floor_of_home(state, command.home)})


def _bind(state: "State", command: RaiseFloor, context: "Context") -> None:
    """Let no share of an earlier home of these jobs come late: the claim says whose they are."""
    marks = watermarks_of(state)
    for uid, (namespace, job_id, epoch) in sorted(command.jobs.items()):
        mark = marks.get(uid)
        if uid in homes_of(state) or (mark is not None and mark.number >= (epoch, 0)):
            continue
        if mark is None:
            mark = shares.Watermark(
                namespace=namespace, job_id=job_id, uid=uid, home=command.home, epoch=epoch,
                index=0, is_gone=True,
            )  # fmt: skip
        else:
            mark = msgspec.structs.replace(mark, home=command.home, epoch=epoch, index=0)
        marks.put(uid, mark)
        context.changed("watermarks", "ShareBound", uid, namespace)


def raise_to(state: "State", dc: str, floor: int, context: "Context") -> None:
    """Raise a floor, with all that follows when it says that the datacenter is off."""
    if floor <= floor_of_home(state, dc):
        return
    was_off = is_off(state, dc)
    state.table(FLOORS).put(dc, floor)
    context.changed("home_floors", "FloorRaised", dc)
    if was_off or floor < OFF_FLOOR:
        return
    if dc == state.datacenter_id:
        _forget_everything(state, context)
        return
    for home in list(homes_of(state).values()):
        if dc in home.parts:
            left = homes.forget(home, dc, context.index)
            homes_of(state).put(home.uid, left)
            context.changed("homes", "DatacenterOff", home.uid, home.namespace)
            record = state.jobs.by_uid(home.uid)
            if record is not None and not record.is_purged:
                settle_record(state, left, record, context)


def _forget_everything(state: "State", context: "Context") -> None:
    """This datacenter is off: no home and no share is here; what runs still is stopped soon."""
    state.is_authority = False
    for table in (homes_of(state), departures_of(state), arrivals_of(state)):
        for uid in list(table):
            table.delete(uid)
    marks = watermarks_of(state)
    for mark in list(marks.values()):
        marks.put(mark.uid, msgspec.structs.replace(mark, allowed={}, accepts={}, is_gone=True))
    context.changed("rosters", "OwnDatacenterOff", state.region)


def _not_authority(state: "State") -> str:
    place = f"datacenter {state.datacenter} is not the authority of region {state.region}"
    return f"{place}: try again shortly"


register_handler(EnrolMember, enrol_member)
register_handler(DeclareOff, declare_off)
register_handler(CopyRoster, copy_roster)
register_handler(RaiseFloor, raise_floor)
