"""A datacenter whose state went back in time: it acts on nothing before its peers have told it
where they stand.

A snapshot that is restored, or a quorum that is set by hand, brings back claims, homes and
shares of earlier. An index that was given to somebody else since is its own again, as far as it
knows. So the entry that does it also puts the *seal* on the datacenter. While it is sealed

    - its clients are told nothing: what runs goes on running, nothing else begins
    - no job is changed, nothing is divided, sent, claimed or handed over
    - calls of other datacenters are refused, but those that bring what it lacks

and its leader goes through these steps (core.federation.sealing):

    names    the authority of a region, whose newest claims may be lost, succeeds itself
             (core.federation.succession): the homes tell it what they were given
    claims   `RenewClaims` at the authority of each job's region: the name is this datacenter's
             in a new epoch, or it has another home by now
    peers    `RaiseFloor` at every other datacenter: nothing older of these jobs comes any more.
             It says what it holds of them, and gives the shares that it has here new versions
             (`RenewParts`), so that they come again whatever was answered before
    resume   `ResumeHomes`, here: each home begins its new epoch with the parts as they are held;
             what others hold, nobody has here. Full syncs end the shares that nobody knows
    settle   all those shares have come, and no allocation is meant to run without an index:
             `Unseal`

What goes back is what the snapshot is of: jobs at home here, nodes, allocations. What is known
of the world between datacenters stays as it is (`KEPT`): it would only be staler.

    Invariant: a sealed datacenter gives no client a task to begin or to end.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import ranges
from core.federation.claims import (
    Claim,
    authority_of,
    claim_key,
    claims_of,
    next_epoch,
    open_claims,
)
from core.federation.collected import Holding, parts_of
from core.federation.handing import arrivals_of, departures_of
from core.federation.handing_log import ReleaseHome, become_share, begun
from core.federation.home_log import current, homes_of, new_home, settle_record
from core.federation.roster import is_own_off, rosters_of
from core.federation.share_log import watermarks_of
from core.federation.shares import Watermark
from core.federation.transfer import STAGED
from core.model.evaluation import Evaluation
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.job_commands import purge_job
from core.state.operating import on_restore
from core.state.result import CommandResult
from core.state.rollouts import put_evaluation
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.jobs import JobRecord
    from core.state.state import State

TABLE: Final = "seal"
_OWN: Final = "own"
# Tables that no snapshot takes back: they name no job, node or allocation of this log.
KEPT: Final = (
    "adoptions", "authority", "authority_pledges", "backed_datacenters", "backed_rollouts",
    "backups", "claims",
    "home_floors", "lifecycle", "rosters", STAGED, "succession", "synced_homes",
)  # fmt: skip
# And these are about jobs between datacenters: void where the snapshot is another datacenter's.
_OF_JOBS: Final = ("homes", "watermarks")


class Seal(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    index: int  # of the entry that put it on
    since_us: int  # log time
    reason: str
    generation: int = -1  # >= 0: claims of others may be lost, the authority is taken anew


class SealDatacenter(Command):
    """Put the seal on: the newest entries of this log may be lost, claims among them."""

    reason: str


class RenewClaims(Command):
    """A sealed home asks for its names anew. Authority only.

    `value`: {Epochs: uid -> epoch, Homes: uid -> who is it instead, "" = another job's, Unknown:
    names claimed for it that it does not know}.
    """

    home: str
    jobs: dict[str, tuple[str, str, int]]  # uid -> namespace, job id, epoch to go beyond


class RenewParts(Command):
    """Give every share of this datacenter a new version, so that it is sent again."""

    datacenter_id: str


class ResumeHomes(Command):
    """Begin the epochs of the homes here, with what others hold."""

    seal: int  # index of the seal that this is for
    epochs: dict[str, int]  # by uid
    moved: dict[str, str]  # uid -> datacenter id of its home; "" = the name is another job's
    held: dict[str, dict[str, Holding]] = {}  # noqa: RUF012 - by uid and datacenter id
    evaluations: dict[str, Evaluation] = {}  # noqa: RUF012 - by uid


class Unseal(Command):
    seal: int


def seal_of(state: "State") -> Seal | None:
    found: Seal | None = state.table(TABLE).get(_OWN)
    return found


def is_sealed(state: "State") -> bool:
    """Whether this datacenter must not act on what it knows."""
    return seal_of(state) is not None


def sealed_text(state: "State") -> str:
    """Return what a sealed datacenter says to whoever wants something of it."""
    seal = seal_of(state)
    reason = seal.reason if seal is not None else ""
    return (
        f"datacenter {state.region}/{state.datacenter} is sealed, for {reason}: it asks the other"
        " datacenters where they stand (serai federation status shows whom it waits for)"
    )


# --- apply: the sealed datacenter -----------------------------------------------------------


def seal_datacenter(state: "State", command: SealDatacenter, context: "Context") -> CommandResult:
    """Put the seal on, unless there is nobody else. `value`: {IsSealed}."""
    generation = authority_of(state).generation if state.is_authority else -1
    put_seal(state, command.reason, context, generation)
    return CommandResult(value={"IsSealed": is_sealed(state)})


def put_seal(state: "State", reason: str, context: "Context", generation: int = -1) -> None:
    others = (dc for roster in rosters_of(state).values() for dc in roster.members)
    if is_own_off(state) or all(dc == state.datacenter_id for dc in others):
        return
    seal = Seal(index=context.index, since_us=context.time_us, reason=reason, generation=generation)
    state.table(TABLE).put(_OWN, seal)
    for table in (departures_of(state), arrivals_of(state)):
        for uid in list(table):
            table.delete(uid)  # who moves there, and who came, the claims say
    context.changed("seal", "DatacenterSealed", state.datacenter_id)


def before_restore(state: "State") -> Callable[["Context", str], None]:
    """Keep what must not go back, and seal the datacenter. See `core.state.operating`."""
    kept = {name: list(state.table(name).items()) for name in KEPT}

    def restored(context: "Context", source: str) -> None:
        """Args: source: Id of the datacenter that the snapshot is of."""
        for name, rows in kept.items():
            _replace(state.table(name), rows)
        if source != state.datacenter_id:
            for name in _OF_JOBS:
                _replace(state.table(name), [])
            for record in [one for one in state.jobs if one.home]:
                purge_job(state, record, context)
        state.table(TABLE).delete(_OWN)
        put_seal(state, "a snapshot was restored", context)

    return restored


def _replace(table: Any, rows: list[tuple[str, Any]]) -> None:
    for key in list(table):
        table.delete(key)
    for key, row in rows:
        table.put(key, row)


def resume_homes(state: "State", command: ResumeHomes, context: "Context") -> CommandResult:
    seal = seal_of(state)
    if seal is None or seal.index != command.seal:
        return CommandResult(error="the datacenter is not under this seal", status=409)
    for uid, to in command.moved.items():
        record = state.jobs.by_uid(uid)
        if record is not None and not record.is_purged and not record.home:
            home = homes_of(state).delete(uid) or new_home(state, record, 0)
            release = ReleaseHome(uid=uid, to=to, epoch=0, evaluations=command.evaluations)
            become_share(state, home, release, context)
    for uid, epoch in command.epochs.items():
        record = state.jobs.by_uid(uid)
        if record is not None and not record.is_purged and not record.home:
            _resume(state, record, epoch, command, context)
    return CommandResult()


def _resume(
    state: "State", record: "JobRecord", epoch: int, command: ResumeHomes, context: "Context"
) -> None:
    uid, own = record.uid, state.datacenter_id
    held = {dc: one for dc, one in command.held.get(uid, {}).items() if dc != own}
    known = homes_of(state).get(uid)
    if known is None and not held:
        return  # it lives whole here, as before
    home = known or new_home(state, record, epoch)
    parts = parts_of(held)
    mine = home.part(own)
    for part in parts.values():
        mine = msgspec.structs.replace(mine, allowed=ranges.without(mine.allowed, part.holds))
    mine = msgspec.structs.replace(mine, holds=mine.allowed, copies={})
    home = msgspec.structs.replace(home, parts={**parts, own: mine})
    home = current(state, begun(state, home, epoch, context.index))
    tombstone = Watermark(
        namespace=home.namespace, job_id=home.job_id, uid=uid, home=own, epoch=epoch, index=0,
        is_gone=True,
    )  # fmt: skip
    watermarks_of(state).put(uid, tombstone)
    homes_of(state).put(uid, home)
    context.changed("homes", "HomeResumed", uid, home.namespace)
    settle_record(state, home, record, context)
    evaluation = command.evaluations.get(uid)
    if evaluation is not None and not record.job.is_template:
        put_evaluation(state, evaluation, context)


def unseal(state: "State", command: Unseal, context: "Context") -> CommandResult:
    seal = seal_of(state)
    if seal is not None and seal.index == command.seal:
        state.table(TABLE).delete(_OWN)
        context.changed("seal", "DatacenterUnsealed", state.datacenter_id)
    return CommandResult()


# --- apply: the others ----------------------------------------------------------------------


def renew_claims(state: "State", command: RenewClaims, context: "Context") -> CommandResult:
    if not state.is_authority:
        text = f"datacenter {state.datacenter} is not the authority of region {state.region}"
        return CommandResult(error=f"{text}: try again shortly", status=503)
    claims = claims_of(state)
    epochs: dict[str, int] = {}
    elsewhere: dict[str, str] = {}
    named: set[str] = set()
    for uid, (namespace, job_id, beyond) in sorted(command.jobs.items()):
        key = claim_key(namespace, job_id)
        named.add(key)
        known, own = claims.get(key), state.jobs.get(namespace, job_id)
        if known is not None and not known.is_closed and known.home != command.home:
            elsewhere[uid] = known.home if known.uid == uid else ""
            continue
        is_ours = own is not None and not own.home and state.datacenter_id != command.home
        if (known is None or known.is_closed) and is_ours:
            elsewhere[uid] = ""
            continue
        former = known.former if known is not None else ()
        if known is not None and known.uid not in ("", uid):
            former = (*former, known.uid)
        epoch = next_epoch(state, max(beyond, known.epoch if known is not None else 0))
        origin = known.origin if known is not None and not known.is_closed else ""
        claim = Claim(
            namespace=namespace, job_id=job_id, uid=uid, home=command.home, epoch=epoch,
            origin=origin, created_us=context.time_us,
            regions=known.regions if known is not None else (),
            former=tuple(one for one in former if one != uid),
        )  # fmt: skip
        claims.put(key, claim)
        epochs[uid] = epoch
        context.changed("claims", "ClaimRenewed", job_id, namespace)
    unknown = [
        claim.job_id
        for claim in open_claims(state)
        if claim.home == command.home
        and not claim.origin
        and claim_key(claim.namespace, claim.job_id) not in named
    ]
    return CommandResult(value={"Epochs": epochs, "Homes": elsewhere, "Unknown": unknown})


def renew_parts(state: "State", command: RenewParts, context: "Context") -> CommandResult:
    table, dc = homes_of(state), command.datacenter_id
    for home in list(table.values()):
        if dc in home.parts and dc != state.datacenter_id:
            part = msgspec.structs.replace(home.parts[dc], index=context.index, acked=0)
            table.put(
                home.uid,
                msgspec.structs.replace(home, index=context.index, parts={**home.parts, dc: part}),
            )
            context.changed("homes", "ShareRenewed", home.uid, home.namespace)
    return CommandResult()


register_table(TABLE, Seal)
on_restore(before_restore)
register_handler(SealDatacenter, seal_datacenter)
register_handler(RenewClaims, renew_claims)
register_handler(RenewParts, renew_parts)
register_handler(ResumeHomes, resume_homes)
register_handler(Unseal, unseal)
