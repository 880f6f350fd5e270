"""Claims: who owns a job's name, in the log of the region's authority datacenter.

A claim is made by compare and set: the first that is committed wins, the same uid may
repeat. A job whose home *is* the authority datacenter needs no record of its own: its
job record in the same log is the claim. `CloseClaim` leaves a tombstone even where no
claim exists, so that a create that was under way and arrives late fails.

Invariant: at most one open claim per (namespace, job id), and none for a name that the
authority's own datacenter holds as a job of its own.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "claims"
FORMER_KEPT: Final = 8


class Claim(msgspec.Struct, kw_only=True, omit_defaults=True):
    """(namespace, job id) -> the datacenter that is its home."""

    namespace: str
    job_id: str
    uid: str
    home: str  # datacenter id
    epoch: int  # of this authority: raised by each new claim, never reused
    origin: str = ""  # region whose claim this one follows; "" = it is the first
    created_us: int = 0  # log time
    former: tuple[str, ...] = ()  # uids that the home gave up for this one: never again
    is_closed: bool = False


class CreateClaim(Command):
    namespace: str
    job_id: str
    uid: str
    home: str
    origin: str = ""


class CloseClaim(Command):
    namespace: str
    job_id: str
    uid: str


def claim_key(namespace: str, job_id: str) -> str:
    return f"{namespace}\0{job_id}"


def claims_of(state: "State") -> "Table[str, Claim]":
    return state.table(TABLE)


def find_claim(state: "State", namespace: str, job_id: str) -> Claim | None:
    """Return the open claim that this datacenter's log holds, None without one."""
    claim = claims_of(state).get(claim_key(namespace, job_id))
    return None if claim is None or claim.is_closed else claim


def open_claims(state: "State") -> Iterator[Claim]:
    """Yield the claims of this datacenter's log that are not closed."""
    return (claim for claim in claims_of(state).values() if not claim.is_closed)


def next_epoch(state: "State") -> int:
    return 1 + max((claim.epoch for claim in claims_of(state).values()), default=0)


def create_claim(state: "State", command: CreateClaim, context: "Context") -> CommandResult:
    """Claim a name. `value`: {Home, Epoch}. 409 with the owner's when it is taken."""
    if not state.is_authority:
        text = f"datacenter {state.datacenter} is not the authority of region {state.region}"
        return CommandResult(error=f"{text}: try again shortly", status=503)
    claims = claims_of(state)
    key = claim_key(command.namespace, command.job_id)
    known = claims.get(key)
    if known is not None and known.uid == command.uid:
        if known.is_closed:
            return CommandResult(error="this claim was given up", status=409)
        if known.home == command.home:
            return CommandResult(value={"Home": known.home, "Epoch": known.epoch})
        return _taken(known.home, command.job_id)
    former = known.former if known is not None else ()
    if command.uid in former:
        return CommandResult(error="this claim was given up", status=409)
    if known is not None and not known.is_closed:
        if known.home != command.home:
            return _taken(known.home, command.job_id)
        # The home's own word: it purged the old job and registers the name anew.
        former = (*former, known.uid)[-FORMER_KEPT:]
    own = state.jobs.get(command.namespace, command.job_id)
    if own is not None and command.home != state.datacenter_id:
        return _taken(state.datacenter_id, command.job_id)
    epoch = next_epoch(state)
    claims.put(
        key,
        Claim(
            namespace=command.namespace,
            job_id=command.job_id,
            uid=command.uid,
            home=command.home,
            epoch=epoch,
            origin=command.origin,
            created_us=context.time_us,
            former=former,
        ),
    )
    context.changed("claims", "ClaimCreated", command.job_id, command.namespace)
    return CommandResult(value={"Home": command.home, "Epoch": epoch})


def close_claim(state: "State", command: CloseClaim, context: "Context") -> CommandResult:
    """Give a name up. Another uid's claim of the name is left alone."""
    claims = claims_of(state)
    key = claim_key(command.namespace, command.job_id)
    known = claims.get(key)
    if known is not None and known.uid != command.uid and not known.is_closed:
        return CommandResult()
    epoch = known.epoch if known is not None else 0
    claims.put(
        key,
        Claim(
            namespace=command.namespace,
            job_id=command.job_id,
            uid=command.uid,
            home="",
            epoch=epoch,
            is_closed=True,
        ),
    )
    context.changed("claims", "ClaimClosed", command.job_id, command.namespace)
    return CommandResult()


def _taken(home: str, job_id: str) -> CommandResult:
    return CommandResult(
        error=f"job {job_id!r} is taken: its home is datacenter {home}",
        status=409,
        value={"Home": home},
    )


register_table(TABLE, Claim)
register_handler(CreateClaim, create_claim)
register_handler(CloseClaim, close_claim)
