"""A job's home moves to another datacenter: what both logs keep of it, and the commands.

    old home            new home            authority
    FreezeHome
        ------ parcel ------>  TakeParcel
                                  ---- MoveClaim, e to e+1 ---->
                               <--- {home, epoch}: a barrier ----
                               ActivateHome
        <----- active, e+1 ---
    ReleaseHome
        <----- settled ------  DropArrival       every share datacenter knows e+1
    DropDeparture

Between freeze and release nothing about the job is changed at the old home, and it gives
nobody anything. It goes on (`ThawHome`) only when it wins the move from e to e+1 for itself,
so of two homes at most one ever acts, whichever message is late, lost or doubled. Whoever
leads on either side finds in its log how far it is (core.federation.departing, arriving).

The old home becomes an ordinary share of the new one with what it still runs. What it keeps
until everybody knows the new home is the stub: its full syncs still list the job's shares.

A *family* moves at once: a job, and those of its children that are not done. Children that
are done stay behind and are forgotten.

    Invariant: every part of a home that arrived has a share of the new epoch to be told.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.causes import Event, chain_of, merged
from core.federation.chains import versions_of
from core.federation.home_log import current, homes_of
from core.federation.homes import Home
from core.model.job import Job
from core.state.access import CallAnswer
from core.state.job_commands import guard_changes
from core.state.jobs import JobRecord
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.state import State

DEPARTURES: Final = "departures"
ARRIVALS: Final = "arrivals"


class Member(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One job of a family, with all that its record at the old home says."""

    job: Job
    home: Home
    older: list[Job] = []
    sources: dict[str, dict[str, Any]] = {}
    launched_us: int = 0
    dead_children: int = 0


class Parcel(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What the new home gets. The first member is the one whose name is claimed."""

    uid: str
    source: str  # datacenter id of the old home
    epoch: int  # of the claim, to be moved on from
    claim_region: str  # whose authority has it
    index: int  # of the old home's log: the floor of the job's indices
    members: tuple[Member, ...]
    calls: dict[str, CallAnswer] = {}  # first answers to calls about the family
    events: list[Event] = []  # its causal chain

    @property
    def name(self) -> tuple[str, str]:
        home = self.members[0].home
        return home.namespace, home.job_id

    @property
    def newest_epoch(self) -> int:
        """Return an epoch that no share of the family is beyond."""
        return max(self.epoch, *(member.home.epoch for member in self.members))


class Departure(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A family on its way out. `released` 0 = frozen; then it is the forwarding stub."""

    namespace: str
    job_id: str
    uid: str
    to: str  # datacenter id; "" = the claim was given up meanwhile
    epoch: int
    claim_region: str
    since_us: int  # log time
    uids: tuple[str, ...] = ()
    released: int = 0  # epoch of the new home
    parts: tuple[str, ...] = ()  # datacenters that have shares, until they know it


class Arrival(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A family on its way in. `claimed` 0 = held; then its home is here."""

    uid: str
    source: str
    epoch: int
    claim_region: str
    parcel: Parcel | None = None  # while it is held
    claimed: int = 0  # epoch of this home
    index: int = 0  # of the activation
    uids: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()  # whose claims, which follow the first, are to be told


def departures_of(state: "State") -> "Table[str, Departure]":
    return state.table(DEPARTURES)


def arrivals_of(state: "State") -> "Table[str, Arrival]":
    return state.table(ARRIVALS)


def stub_uids(state: "State", datacenter_id: str) -> Iterator[str]:
    """Yield the shares of a datacenter whose home was here, and that may not know better."""
    for departure in departures_of(state).values():
        if departure.released and datacenter_id in departure.parts:
            yield from departure.uids


def is_on_its_way(state: "State", uid: str) -> bool:
    """Whether a home is given away or taken here just now: its claim must stand."""
    return uid in departures_of(state) or uid in arrivals_of(state)


def family_of(state: "State", uid: str) -> list[JobRecord]:
    """Return a job and its unfinished children, as they would move now."""
    record = state.jobs.by_uid(uid)
    if record is None or record.is_purged:
        return []
    children = state.jobs.children_of(record.namespace, record.id)
    return [record, *(c for c in children if not c.home and c.status != "dead")]


def refuse_change(state: "State", record: JobRecord) -> str:
    """Return why a job must not be changed here now, "" when it may."""
    home = homes_of(state).get(record.uid)
    if home is None or not home.leaving_to:
        return ""
    return (
        f"job {record.id!r} moves to datacenter {home.leaving_to}, as its home: try again shortly"
    )


def parcel_of(state: "State", departure: Departure) -> Parcel | None:
    """Return what is sent of a frozen family; None when its job was collected meanwhile."""
    members = []
    calls: dict[str, CallAnswer] = {}
    events: list[Event] = []
    for uid in departure.uids:
        record, home = state.jobs.by_uid(uid), homes_of(state).get(uid)
        if record is None or record.is_purged or home is None:
            continue
        members.append(
            member_of(state, record, msgspec.structs.replace(current(state, home), leaving_to=""))
        )
        calls |= state.calls.of_job(record.namespace, record.id)
        known = chain_of(state, record.namespace, record.id).events
        events += merged(known, versions_of(state, record, known))
    if not members or members[0].home.uid != departure.uid:
        return None
    return Parcel(
        uid=departure.uid,
        source=state.datacenter_id,
        epoch=departure.epoch,
        claim_region=departure.claim_region,
        index=state.index,
        members=tuple(members),
        calls=calls,
        events=events,
    )


def member_of(state: "State", record: JobRecord, home: Home) -> Member:
    """Return all that one job's home has to tell its next one."""
    children = state.jobs.children_of(record.namespace, record.id)
    return Member(
        job=record.job,
        home=home,
        older=record.older,
        sources=record.sources,
        launched_us=record.launched_us,
        dead_children=sum(child.status == "dead" for child in children),
    )


register_table(DEPARTURES, Departure)
register_table(ARRIVALS, Arrival)
guard_changes(refuse_change)
