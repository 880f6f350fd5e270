"""The commands by which a job's home moves, and how they are applied.

core.federation.handing shows their order, and what they leave in the logs.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from core.federation import ranges
from core.federation.claims import generation_of
from core.federation.handing import (
    Arrival,
    Departure,
    Member,
    Parcel,
    arrivals_of,
    departures_of,
    family_of,
    is_on_its_way,
)
from core.federation.held import is_everywhere
from core.federation.home_log import current, homes_of, new_home, settle_record
from core.federation.homes import Home, Part
from core.federation.lifecycle import is_draining
from core.federation.share_log import for_record, watermarks_of
from core.federation.shares import Watermark
from core.federation.succession import pledge_of
from core.model.evaluation import Evaluation
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.job_commands import adopt_job, purge_job
from core.state.result import CommandResult
from core.state.rollouts import put_evaluation

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State


class FreezeHome(Command):
    uid: str
    to: str
    epoch: int
    claim_region: str


class ThawHome(Command):
    """The old home won the move of the claim: it goes on, in the next epoch."""

    uid: str
    epoch: int


class ReleaseHome(Command):
    """The new home is active: what runs here is a share of it."""

    uid: str
    to: str
    epoch: int
    evaluations: dict[str, Evaluation] = {}  # noqa: RUF012 - by uid


class DropDeparture(Command):
    uid: str
    epoch: int


class TakeParcel(Command):
    parcel: Parcel


class ActivateHome(Command):
    """The claim names this datacenter: begin. Evaluations are by uid."""

    uid: str
    epoch: int  # that it was moved on from
    claimed: int
    regions: tuple[str, ...] = ()
    evaluations: dict[str, Evaluation] = {}  # noqa: RUF012


class TellRegion(Command):
    """The authority of this region knows where the job's home is now."""

    uid: str
    region: str


class DropArrival(Command):
    uid: str
    epoch: int


_VOID: Final = "the claim was moved by an authority that was succeeded: it is asked for again"


def _is_void(state: "State", region: str, claimed: int) -> bool:
    """Whether an epoch is the word of a lost authority that came too late.

    Its successor made the claims anew without it. From the pledge on every epoch that is
    given has the successor's generation, or a later one.
    """
    return generation_of(claimed) < pledge_of(state, region).generation


# --- apply: the old home ------------------------------------------------------------------


def freeze_home(state: "State", command: FreezeHome, context: "Context") -> CommandResult:
    """Change nothing about a family any more. `value`: {IsFrozen}."""
    family, departures = family_of(state, command.uid), departures_of(state)
    if not family or family[0].home or not is_draining(state) or is_on_its_way(state, command.uid):
        return CommandResult(value={"IsFrozen": False})
    for record in family:
        home = homes_of(state).get(record.uid) or new_home(state, record, command.epoch)
        home = msgspec.structs.replace(current(state, home), leaving_to=command.to)
        homes_of(state).put(record.uid, home)
        context.changed("homes", "HomeFrozen", record.uid, record.namespace)
    record = family[0]
    departures.put(
        record.uid,
        Departure(
            namespace=record.namespace,
            job_id=record.id,
            uid=record.uid,
            to=command.to,
            epoch=command.epoch,
            claim_region=command.claim_region,
            since_us=context.time_us,
            uids=tuple(one.uid for one in family),
        ),
    )
    context.changed("departures", "HomeFrozen", record.uid, record.namespace)
    return CommandResult(value={"IsFrozen": True})


def thaw_home(state: "State", command: ThawHome, context: "Context") -> CommandResult:
    departure = departures_of(state).get(command.uid)
    if departure is None or departure.released or command.epoch <= departure.epoch:
        return CommandResult()
    if _is_void(state, departure.claim_region, command.epoch):
        return CommandResult(error=_VOID, status=409)
    for uid in departure.uids:
        home = homes_of(state).get(uid)
        if home is not None:
            home = begun(state, home, command.epoch, context.index)
            homes_of(state).put(uid, home)
            context.changed("homes", "HomeThawed", uid, home.namespace)
            context.changed("jobs", "HomeThawed", home.job_id, home.namespace)
    departures_of(state).delete(command.uid)
    context.changed("departures", "HomeThawed", command.uid, departure.namespace)
    return CommandResult()


def begun(state: "State", home: Home, epoch: int, index: int) -> Home:
    """Return a home at the start of its epoch here: everybody is to be told anew.

    What was reported on shares of the old epoch counts as far as it says who holds what.
    """
    parts = {
        dc: msgspec.structs.replace(part, index=index, acked=0, blocked={}, blocked_since_us=0)
        for dc, part in home.parts.items()
    }
    own = parts.get(state.datacenter_id) or Part()
    parts[state.datacenter_id] = msgspec.structs.replace(own, index=index, acked=index)
    return msgspec.structs.replace(
        home, epoch=epoch, index=index, parts=parts, leaving_to="", moved_us=state.log_time_us
    )


def release_home(state: "State", command: ReleaseHome, context: "Context") -> CommandResult:
    """Give a home up for good: somebody else has it."""
    departure = departures_of(state).get(command.uid)
    if departure is None or departure.released:
        return CommandResult()
    parts: dict[str, None] = {}
    for uid in departure.uids:
        home = homes_of(state).delete(uid)
        if home is not None:
            parts |= dict.fromkeys(home.parts)
            context.changed("homes", "HomeReleased", uid, home.namespace)
            become_share(state, home, command, context)
    parts.pop(state.datacenter_id, None)
    departures_of(state).put(
        command.uid,
        msgspec.structs.replace(
            departure,
            to=command.to,
            released=max(1, command.epoch),
            parts=tuple(parts) if command.to else (),
        ),
    )
    context.changed("departures", "HomeReleased", command.uid, departure.namespace)
    return CommandResult()


def become_share(state: "State", home: Home, command: ReleaseHome, context: "Context") -> None:
    """Let what runs here be a share, older than any that the new home can send."""
    part = current(state, home).part(state.datacenter_id)
    is_gone = not command.to
    mark = Watermark(
        namespace=home.namespace,
        job_id=home.job_id,
        uid=home.uid,
        home=command.to,
        epoch=home.epoch,
        index=0,
        region=home.region,
        allowed={} if is_gone else part.allowed,
        accepts={} if is_gone else part.allowed,
        place=part.place,
        is_parked=part.is_parked,
        is_gone=is_gone,
    )
    watermarks_of(state).put(home.uid, mark)
    context.changed("watermarks", "ShareTaken", home.uid, home.namespace)
    record = state.jobs.by_uid(home.uid)
    if record is None or record.is_purged:
        return
    for child in state.jobs.children_of(record.namespace, record.id):
        if child.status == "dead" and not child.is_purged:
            purge_job(state, child, context)
            context.changed("jobs", "JobDeregistered", child.id, child.namespace)
    record = state.jobs.by_uid(home.uid) or record
    if is_gone:
        context.changed("jobs", "JobDeregistered", record.id, record.namespace)
        purge_job(state, record, context)
    else:
        indices = {} if is_everywhere(record.job) else for_record(record.job, part.allowed)
        state.jobs.put(
            msgspec.structs.replace(record, home=command.to, indices=indices, elsewhere=0)
        )
        context.changed("jobs", "HomeReleased", record.id, record.namespace)
        context.touch_job(record.ordinal)
    evaluation = command.evaluations.get(home.uid)
    if evaluation is not None:
        put_evaluation(state, evaluation, context)


def drop_departure(state: "State", command: DropDeparture, context: "Context") -> CommandResult:
    departure = departures_of(state).get(command.uid)
    if departure is not None and departure.released == command.epoch:
        departures_of(state).delete(command.uid)
        context.changed("departures", "StubDropped", command.uid, departure.namespace)
    return CommandResult()


# --- apply: the new home ------------------------------------------------------------------


def take_parcel(state: "State", command: TakeParcel, context: "Context") -> CommandResult:
    """Hold a family that may come. `value`: {Refused: reason}, "" when it is held."""
    parcel, known = command.parcel, arrivals_of(state).get(command.parcel.uid)
    if known is not None and (known.claimed or known.epoch >= parcel.epoch):
        return CommandResult(value={"Refused": ""})
    if reason := _refused(state, parcel):
        return CommandResult(value={"Refused": reason})
    arrivals_of(state).put(
        parcel.uid,
        Arrival(
            uid=parcel.uid,
            source=parcel.source,
            epoch=parcel.epoch,
            claim_region=parcel.claim_region,
            parcel=parcel,
            uids=tuple(member.home.uid for member in parcel.members),
        ),
    )
    context.changed("arrivals", "HomeHeld", parcel.uid, parcel.name[0])
    return CommandResult(value={"Refused": ""})


def _refused(state: "State", parcel: Parcel) -> str:
    if is_draining(state):
        return f"datacenter {state.datacenter} is drained itself"
    for member in parcel.members:
        record = state.jobs.get(member.home.namespace, member.home.job_id)
        if record is not None and record.uid != member.home.uid:
            return f"another job {record.id!r} is known in datacenter {state.datacenter}"
        if record is not None and not record.home:
            return f"job {record.id!r} is at home in datacenter {state.datacenter} already"
    return ""


def activate_home(state: "State", command: ActivateHome, context: "Context") -> CommandResult:
    """Become the home of a family whose claim names this datacenter."""
    arrival = arrivals_of(state).get(command.uid)
    if arrival is None or arrival.parcel is None or arrival.epoch != command.epoch:
        return CommandResult(error="no such home is on its way here", status=404)
    if _is_void(state, arrival.claim_region, command.claimed):
        return CommandResult(error=_VOID, status=409)
    for member in arrival.parcel.members:
        _settle(state, member, command, context)
    state.calls.keep(arrival.parcel.calls)
    arrivals_of(state).put(
        command.uid,
        msgspec.structs.replace(
            arrival,
            parcel=None,
            claimed=command.claimed,
            index=context.index,
            regions=command.regions,
        ),
    )
    context.changed("arrivals", "HomeActivated", command.uid)
    return CommandResult(value={"Epoch": command.claimed})


def _settle(state: "State", member: Member, command: ActivateHome, context: "Context") -> None:
    """Put one job's record and home as they were where they came from."""
    home, marks = member.home, watermarks_of(state)
    mark = marks.get(home.uid)
    home = begun(state, home, command.claimed, context.index)
    own = home.parts[state.datacenter_id]
    if mark is not None and mark.is_parked:
        own = msgspec.structs.replace(own, is_parked=True)
    if is_everywhere(member.job) and own.place < 0:
        place = 1 + max(part.place for part in home.parts.values())
        groups = {group.name: ((place, place + 1),) for group in member.job.task_groups or []}
        allowed = {} if own.is_parked or member.job.stop else ranges.indices(groups)
        own = msgspec.structs.replace(own, place=place, allowed=allowed, holds=allowed)
    home = msgspec.structs.replace(home, parts={**home.parts, state.datacenter_id: own})
    record = adopt_job(
        state,
        member.job,
        older=member.older,
        sources=member.sources,
        launched_us=member.launched_us,
        dead_children=member.dead_children,
        context=context,
    )
    # Late shares of earlier epochs find this mark, and are older.
    tombstone = Watermark(
        namespace=home.namespace,
        job_id=home.job_id,
        uid=home.uid,
        home=state.datacenter_id,
        epoch=command.claimed,
        index=0,
        is_gone=True,
    )
    marks.put(home.uid, tombstone)
    context.changed("watermarks", "ShareTaken", home.uid, home.namespace)
    home = current(state, home)
    homes_of(state).put(home.uid, home)
    context.changed("homes", "HomeActivated", home.uid, home.namespace)
    settle_record(state, home, record, context)
    evaluation = command.evaluations.get(home.uid)
    if evaluation is not None and not member.job.is_template:
        put_evaluation(state, evaluation, context)


def tell_region(state: "State", command: TellRegion, context: "Context") -> CommandResult:
    arrival = arrivals_of(state).get(command.uid)
    if arrival is not None:
        regions = tuple(one for one in arrival.regions if one != command.region)
        arrivals_of(state).put(command.uid, msgspec.structs.replace(arrival, regions=regions))
    return CommandResult()


def drop_arrival(state: "State", command: DropArrival, context: "Context") -> CommandResult:
    """Forget what came and lost its claim, or came and is known everywhere."""
    arrival = arrivals_of(state).get(command.uid)
    if arrival is not None and arrival.epoch == command.epoch:
        arrivals_of(state).delete(command.uid)
        context.changed("arrivals", "ArrivalDropped", command.uid)
    return CommandResult()


register_handler(FreezeHome, freeze_home)
register_handler(ThawHome, thaw_home)
register_handler(ReleaseHome, release_home)
register_handler(DropDeparture, drop_departure)
register_handler(TakeParcel, take_parcel)
register_handler(ActivateHome, activate_home)
register_handler(TellRegion, tell_region)
register_handler(DropArrival, drop_arrival)
