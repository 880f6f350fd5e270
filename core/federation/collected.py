"""From what was collected of a lost home's jobs to the parcels in which they come. Pure.

`Holding` is one datacenter's word on one job, given after it raised the floor: nothing of the
lost home reaches it any more, so the word is an upper bound from then on.

    backup    what the operator wrote: file, versions, where the name is held
    holdings  who may run which index

Both together are a home (core.federation.homes). What nobody holds is free; so is what the
lost datacenter itself ran: that it runs nothing is the operator's word. An index that two
hold, as under `surge`, stays with both, and counts as a copy until one of them lets go.
"""

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from core.federation import ranges
from core.federation.adoption import Adoption, Claimed
from core.federation.backup import Backup, backups_of, rollouts_backed, turn_of
from core.federation.handing import Member, Parcel, departures_of, member_of
from core.federation.home_log import current, homes_of
from core.federation.homes import Part
from core.federation.multiregion import Rollout
from core.federation.ranges import Indices
from core.federation.share_log import report_of, watermarks_of
from core.model.child import parent_name
from core.state.access import CallAnswer

if TYPE_CHECKING:
    from core.state.state import State


class Holding(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What one datacenter has of one job of the lost home."""

    namespace: str
    job_id: str
    uid: str
    region: str  # whose name it is
    accepts: Indices = {}
    holds: Indices = {}
    place: int = -1
    is_parked: bool = False


class Collected(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One datacenter's answer in the second round."""

    datacenter_id: str
    holdings: tuple[Holding, ...] = ()
    turn: int = 0  # of the backups that it has
    backups: tuple[Backup, ...] = ()
    rollouts: tuple[Rollout, ...] = ()  # that the lost one coordinated
    frozen: tuple[Member, ...] = ()  # homes that were on their way to the lost datacenter


class Settlement(NamedTuple):
    """What is to become of the jobs."""

    parcels: list[Parcel]
    lost: list[Claimed]  # nobody has a backup
    unknown: list[Holding]  # shares of jobs that are not claimed for the lost one
    rollouts: list[Rollout] = []  # noqa: RUF012 - over several regions, to be gone on with


def holdings_of(state: "State", source: str) -> list[Holding]:
    """Return what is held here of the jobs whose home is, or was, a datacenter."""
    holdings = []
    for mark in watermarks_of(state).values():
        report = report_of(state, mark.uid) if mark.home == source else None
        if report is None or (mark.is_gone and not report.holds):
            continue
        holdings.append(
            Holding(
                namespace=mark.namespace,
                job_id=mark.job_id,
                uid=mark.uid,
                region=mark.region,
                accepts=mark.accepts,
                holds=report.holds,
                place=mark.place,
                is_parked=mark.is_parked,
            )
        )
    return holdings


def collected_here(state: "State", source: str) -> Collected:
    """Return this datacenter's word about the jobs of a lost one. It has the floor already."""
    return Collected(
        datacenter_id=state.datacenter_id,
        holdings=tuple(holdings_of(state, source)),
        turn=turn_of(state, source),
        backups=tuple(backups_of(state, source)),
        rollouts=tuple(rollouts_backed(state, source)),
        frozen=tuple(_frozen_for(state, source)),
    )


def only_backups(told: Collected) -> Collected:
    """Return what counts of the word of somebody who was given no floor: what he keeps."""
    return msgspec.structs.replace(told, holdings=(), frozen=())


def _frozen_for(state: "State", source: str) -> list[Member]:
    found = []
    for departure in departures_of(state).values():
        if departure.to != source or departure.released:
            continue
        for uid in departure.uids:
            record, home = state.jobs.by_uid(uid), homes_of(state).get(uid)
            if record is not None and home is not None and not record.is_purged:
                home = msgspec.structs.replace(current(state, home), leaving_to="")
                found.append(member_of(state, record, home))
    return found


def settlement(adoption: Adoption, answers: list[Collected]) -> Settlement:
    """Bring claims, backups and holdings together.

    Args:
        answers: Of every member of the rosters concerned.
    """
    newest = max(answers, key=lambda one: (one.turn, bool(one.backups), one.datacenter_id))
    members = {one.home.uid: one for answer in answers for one in answer.frozen}
    members |= {one.member.home.uid: one.member for one in newest.backups}
    held: dict[str, dict[str, Holding]] = {}
    for answer in sorted(answers, key=lambda one: one.datacenter_id):
        for holding in answer.holdings:
            held.setdefault(holding.uid, {})[answer.datacenter_id] = holding
    parcels: list[Parcel] = []
    lost: list[Claimed] = []
    known: set[str] = set()
    for claimed in adoption.jobs.values():
        family = _family(claimed, members)
        if not family:
            lost.append(claimed)
            continue
        whole = [_with_parts(one, claimed, held.get(one.home.uid, {})) for one in family]
        uids = {one.home.uid for one in whole}
        known |= uids
        calls: dict[str, CallAnswer] = {}
        for backup in newest.backups:
            if backup.member.home.uid in uids:
                calls |= backup.calls
        parcels.append(
            Parcel(
                uid=claimed.uid,
                source=adoption.source,
                epoch=claimed.epoch,
                claim_region=claimed.region,
                index=max(newest.turn, whole[0].job.modify_index or 0),
                members=tuple(whole),
                calls=calls,
            )
        )
    unknown = [
        next(iter(found.values())) for uid, found in sorted(held.items()) if uid not in known
    ]
    return Settlement(parcels, lost, unknown, list(newest.rollouts))


def _family(claimed: Claimed, members: dict[str, Member]) -> list[Member]:
    """Return a job and its children, the job first; none without the job itself."""
    first = members.get(claimed.uid)
    if first is None:
        return []
    name = claimed.namespace, claimed.job_id
    children = [
        one
        for one in members.values()
        if (one.home.namespace, parent_name(one.home.job_id)) == name
    ]
    return [first, *children]


def _with_parts(member: Member, claimed: Claimed, held: dict[str, Holding]) -> Member:
    home = msgspec.structs.replace(
        member.home,
        namespace=claimed.namespace,
        epoch=max(member.home.epoch, claimed.epoch),
        parts=parts_of(held),
    )
    return msgspec.structs.replace(member, home=home)


def parts_of(held: dict[str, Holding]) -> dict[str, Part]:
    """Return the parts of a home by who holds what, in order of the datacenters' ids."""
    parts: dict[str, Part] = {}
    for dc in sorted(held):
        holding = held[dc]
        copies = {
            other: both
            for other, part in parts.items()
            if (both := ranges.shared(part.holds, holding.holds))
        }
        parts[dc] = Part(
            index=1,
            allowed=ranges.shared(holding.accepts, holding.holds),
            holds=holding.holds,
            copies=copies,
            place=holding.place,
            is_parked=holding.is_parked,
        )
    return parts
