"""Claims: who owns a job's name, in the log of the region's authority datacenter.

A claim is made by compare and set: the first that is committed wins, the same uid may
repeat. A job whose home *is* the authority datacenter needs no record of its own: its
job record in the same log is the claim. `CloseClaim` leaves a tombstone even where no
claim exists, so that a create that was under way and arrives late fails.

The answers to calls that changed a job travel with its name: its home gives them to the
authority as it gives the name up, and the authority to the next home. A repetition that
comes late is answered there, and changes nothing of the new job.

Invariant: at most one open claim per (namespace, job id), and none for a name that the
authority's own datacenter holds as a job of its own.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from core.federation.roster import is_off
from core.state.access import CallAnswer
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.job_commands import guard_names
from core.state.result import CommandResult
from core.state.state import register_table
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "claims"
FORMER_KEPT: Final = 8
AUTHORITY_TABLE: Final = "authority"
_OWN: Final = "own"
_COUNTER_BITS: Final = 32


class Claim(msgspec.Struct, kw_only=True, omit_defaults=True):
    """(namespace, job id) -> the datacenter that is its home."""

    namespace: str
    job_id: str
    uid: str
    home: str  # datacenter id
    epoch: int  # generation << 32 | counter: raised by each new claim, never reused
    origin: str = ""  # region whose claim this one follows; "" = it is the first
    regions: tuple[str, ...] = ()  # others that may run a part of it
    follows: int = 0  # of a claim with an origin: epoch of the first one, as its home last said
    created_us: int = 0  # log time
    former: tuple[str, ...] = ()  # other uids that were given up: never again
    said: int = 0  # index of the home's log with its newest word on whose the name is
    is_closed: bool = False


class Authority(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where the epochs of this datacenter's claims stand."""

    generation: int = 0  # raised by whoever takes over the authority: larger goes before smaller
    counter: int = 0  # claims made so far; kept when the generation rises
    # A transfer (core.federation.transfer):
    to: str = ""  # datacenter id that the authority is given to; it does not come back by itself
    to_generation: int = 0  # of the authority there, once it is given
    is_told: bool = False  # and has all claims
    taken: tuple[int, ...] = ()  # generations in which this datacenter became the authority


class CreateClaim(Command):
    namespace: str
    job_id: str
    uid: str
    home: str
    origin: str = ""
    follows: int = 0  # of a foreign claim: the epoch that `home` has the first one by
    said: int = 0  # index of the home's log as it asked; 0 = not known
    calls: dict[str, CallAnswer] = {}  # noqa: RUF012 - that changed earlier jobs of the name


class CloseClaim(Command):
    namespace: str
    job_id: str
    uid: str
    calls: dict[str, CallAnswer] = {}  # noqa: RUF012 - that changed jobs of the name


class KeepCalls(Command):
    """Remember the answers that others gave to calls about a name that is now used here."""

    calls: dict[str, CallAnswer]


class ExtendClaim(Command):
    """The home wants parts of the job elsewhere, in `region` too if it is another one."""

    namespace: str
    job_id: str
    uid: str
    home: str
    region: str
    said: int = 0  # index of the home's log as it asked; 0 = not known


class MoveClaim(Command):
    """A job's home moves, by compare and set: from epoch `expected` to the next one."""

    namespace: str
    job_id: str
    uid: str
    home: str  # who is to be it
    expected: int
    beyond: int  # the newest epoch that shares of the job have


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


def epoch_of(generation: int, counter: int) -> int:
    """Return an epoch as one number: the generation decides, then the counter."""
    return generation << _COUNTER_BITS | counter


def generation_of(epoch: int) -> int:
    return epoch >> _COUNTER_BITS


def authority_of(state: "State") -> Authority:
    """Return where the epochs of this datacenter's log stand."""
    known: Authority | None = state.table(AUTHORITY_TABLE).get(_OWN)
    return known if known is not None else Authority()


def next_epoch(state: "State", beyond: int = 0) -> int:
    """Take the next epoch, larger than `beyond`: for handlers only."""
    known = authority_of(state)
    epoch = max(epoch_of(known.generation, known.counter), beyond) + 1
    generation, counter = generation_of(epoch), epoch & (1 << _COUNTER_BITS) - 1
    put_authority(state, msgspec.structs.replace(known, generation=generation, counter=counter))
    return epoch


def put_authority(state: "State", authority: Authority) -> None:
    """For handlers only."""
    state.table(AUTHORITY_TABLE).put(_OWN, authority)


def create_claim(state: "State", command: CreateClaim, context: "Context") -> CommandResult:
    """Claim a name. `value`: {Home, Epoch}. 409 with the owner's when it is taken.

    Whose registration is refused so is never given the name under this uid: a copy of the call
    may be on its way still, and come when the name is free. (A foreign claim only follows.)
    """
    result = _create_claim(state, command, context)
    if not result.is_error:
        state.calls.keep(command.calls)
    elif result.status == 409 and not command.origin:
        _never(state, command.namespace, command.job_id, command.uid, context)
    return result


def _never(state: "State", namespace: str, job_id: str, uid: str, context: "Context") -> None:
    """Leave a tombstone for a uid beside whatever claim there is."""
    claims, key = claims_of(state), claim_key(namespace, job_id)
    known = claims.get(key)
    if known is None:
        claims.put(key, Claim(
            namespace=namespace, job_id=job_id, uid=uid, home="", epoch=0,
            created_us=context.time_us, is_closed=True,
        ))  # fmt: skip
    elif uid != known.uid and uid not in known.former:
        former = (*known.former, uid)[-FORMER_KEPT:]
        claims.put(key, msgspec.structs.replace(known, former=former))


def _create_claim(state: "State", command: CreateClaim, context: "Context") -> CommandResult:
    if not state.is_authority:
        text = f"datacenter {state.datacenter} is not the authority of region {state.region}"
        return CommandResult(error=f"{text}: try again shortly", status=503)
    if is_off(state, command.home):
        return _off(command.home)
    claims = claims_of(state)
    key = claim_key(command.namespace, command.job_id)
    known = claims.get(key)
    if known is not None and known.uid == command.uid:
        if known.is_closed:
            return CommandResult(error="this claim was given up", status=409)
        if known.home == command.home:
            return CommandResult(value={"Home": known.home, "Epoch": known.epoch})
        if command.origin and command.origin == known.origin and command.follows > known.follows:
            # The first claim decides who is home; this one only follows it.
            moved = msgspec.structs.replace(known, home=command.home, follows=command.follows)
            claims.put(key, moved)
            return CommandResult(value={"Home": moved.home, "Epoch": moved.epoch})
        return _taken(known.home, command.job_id)
    former = known.former if known is not None else ()
    if command.uid in former:
        return CommandResult(error="this claim was given up", status=409)
    if known is not None:
        is_open = not known.is_closed and known.home != command.home
        if is_open and not _is_outlived(known, command):
            return _taken(known.home, command.job_id)
        # Closed; or the home's own word: it purged the old job and registers the name anew.
        former = (*former, known.uid)[-FORMER_KEPT:]
    own = state.jobs.get(command.namespace, command.job_id)
    if own is not None and not own.home and command.home != state.datacenter_id:
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
            follows=command.follows,
            created_us=context.time_us,
            former=former,
            said=command.said,
        ),
    )
    context.changed("claims", "ClaimCreated", command.job_id, command.namespace)
    return CommandResult(value={"Home": command.home, "Epoch": epoch})


def _is_outlived(known: Claim, command: CreateClaim) -> bool:
    """Whether a foreign claim is of an earlier job: its origin has given the name away since.

    That it was given up may not have been heard here.
    """
    is_foreign = command.origin != "" and command.origin == known.origin
    return is_foreign and command.follows > known.follows


def extend_claim(state: "State", command: ExtendClaim, context: "Context") -> CommandResult:
    """Let a job have parts in another region. `value`: {Epoch, Regions}.

    The first time a job of the authority's own datacenter gets its claim by this: until
    then the job record alone said whose the name is.
    """
    if not state.is_authority:
        text = f"datacenter {state.datacenter} is not the authority of region {state.region}"
        return CommandResult(error=f"{text}: try again shortly", status=503)
    if is_off(state, command.home):
        return _off(command.home)
    claims = claims_of(state)
    key = claim_key(command.namespace, command.job_id)
    known = claims.get(key)
    if known is not None and _is_corrected(known, command):
        # A claim under another uid than the job has that its home registered in the end.
        former = tuple(uid for uid in (*known.former, known.uid) if uid != command.uid)
        known = msgspec.structs.replace(
            known, uid=command.uid, epoch=next_epoch(state), former=former[-FORMER_KEPT:],
            said=command.said, created_us=context.time_us,
        )  # fmt: skip
        context.changed("claims", "ClaimCorrected", command.job_id, command.namespace)
    elif known is None or known.is_closed or known.uid != command.uid:
        own = state.jobs.get(command.namespace, command.job_id)
        is_own = command.home == state.datacenter_id and own is not None
        if not is_own or own is None or own.uid != command.uid:
            return CommandResult(error=f"no claim of job {command.job_id!r} is its own", status=409)
        former = (*known.former, known.uid)[-FORMER_KEPT:] if known is not None else ()
        known = Claim(
            namespace=command.namespace,
            job_id=command.job_id,
            uid=command.uid,
            home=command.home,
            epoch=next_epoch(state),
            created_us=context.time_us,
            former=former,
        )
        context.changed("claims", "ClaimCreated", command.job_id, command.namespace)
    elif known.home != command.home:
        return _taken(known.home, command.job_id)
    regions = known.regions
    if command.region not in ("", state.region, *regions):
        regions = (*regions, command.region)
        context.changed("claims", "ClaimExtended", command.job_id, command.namespace)
    claims.put(key, msgspec.structs.replace(known, regions=regions))
    return CommandResult(value={"Epoch": known.epoch, "Regions": list(regions)})


def _is_corrected(known: Claim, command: ExtendClaim) -> bool:
    """Whether a home says later than ever before that its job has another uid.

    Its word is ordered by the index of its log: an extension of a job that it has purged
    since comes late, and corrects nothing.
    """
    is_its_own = not known.is_closed and known.home == command.home
    return is_its_own and known.uid != command.uid and command.said > known.said


def move_claim(state: "State", command: MoveClaim, context: "Context") -> CommandResult:
    """Let another datacenter be a job's home. `value`: {Home, Epoch} as it is afterwards.

    Whoever comes second learns who won. Home "" = the claim is given up, or another job's.
    """
    if not state.is_authority:
        text = f"datacenter {state.datacenter} is not the authority of region {state.region}"
        return CommandResult(error=f"{text}: try again shortly", status=503)
    if is_off(state, command.home):
        return _off(command.home)
    key = claim_key(command.namespace, command.job_id)
    known = claims_of(state).get(key)
    if known is None or known.is_closed or known.uid != command.uid:
        return CommandResult(value={"Home": "", "Epoch": known.epoch if known else 0})
    if known.epoch == command.expected:
        epoch = next_epoch(state, max(known.epoch, command.beyond))
        known = msgspec.structs.replace(
            known, home=command.home, epoch=epoch, created_us=context.time_us, said=0
        )
        claims_of(state).put(key, known)
        context.changed("claims", "ClaimMoved", command.job_id, command.namespace)
    return CommandResult(value={"Home": known.home, "Epoch": known.epoch})


def close_claim(state: "State", command: CloseClaim, context: "Context") -> CommandResult:
    """Give a name up. Another uid's claim stays, and remembers that this one never may."""
    if not state.is_authority and (to := authority_of(state).to):
        return CommandResult(error=f"the authority has gone to datacenter {to}", status=503)
    state.calls.keep(command.calls)
    claims = claims_of(state)
    key = claim_key(command.namespace, command.job_id)
    known = claims.get(key)
    former = known.former if known is not None else ()
    if known is not None and known.uid != command.uid and not known.is_closed:
        _never(state, command.namespace, command.job_id, command.uid, context)
        return CommandResult()
    if known is not None and known.uid != command.uid:
        former = (*former, known.uid)[-FORMER_KEPT:]
    claims.put(
        key,
        Claim(
            namespace=command.namespace,
            job_id=command.job_id,
            uid=command.uid,
            home="",
            epoch=known.epoch if known is not None else 0,
            former=former,
            is_closed=True,
        ),
    )
    context.changed("claims", "ClaimClosed", command.job_id, command.namespace)
    return CommandResult()


def refuse_uid(state: "State", namespace: str, job_id: str, uid: str, context: "Context") -> None:
    """Never give the name to a job of this uid, if it has not got it already."""
    if state.is_authority:
        _never(state, namespace, job_id, uid, context)


def keep_calls(state: "State", command: KeepCalls, context: "Context") -> CommandResult:
    state.calls.keep(command.calls)
    return CommandResult()


def refuse_name(state: "State", namespace: str, job_id: str, uid: str) -> str:
    """Return why the authority's own datacenter must not be home of a new job.

    Asked in apply (core.state.job_commands): a claim that was committed a moment before the
    registration wins over it.
    """
    claim = claims_of(state).get(claim_key(namespace, job_id)) if state.is_authority else None
    if claim is None:
        return ""
    if uid in claim.former or (claim.uid == uid and claim.is_closed):
        return "this claim was given up"
    if not claim.is_closed and claim.home != state.datacenter_id:
        return _taken(claim.home, job_id).error
    return ""


def _off(home: str) -> CommandResult:
    return CommandResult(error=f"datacenter {home} was declared off: it owns nothing", status=409)


def _taken(home: str, job_id: str) -> CommandResult:
    return CommandResult(
        error=f"job {job_id!r} is taken: its home is datacenter {home}",
        status=409,
        value={"Home": home},
    )


register_table(TABLE, Claim)
register_table(AUTHORITY_TABLE, Authority)
register_handler(CreateClaim, create_claim)
register_handler(CloseClaim, close_claim)
register_handler(ExtendClaim, extend_claim)
register_handler(KeepCalls, keep_calls)
register_handler(MoveClaim, move_claim)
guard_names(refuse_name)
