"""The authority of a region moves to another datacenter, by an operator's word.

    1. `PlanTransfer` is committed: no name is registered here without a claim any more
    2. a moment later, when registrations under way are through, `GiveAuthority`: this
       datacenter is no authority and never resumes. Its claims stand still, those of its own
       jobs among them, "to B, generation g+1"
    3. B stages the claims, batch by batch, and with the last one is the authority, in its log
       (`TakeAuthority`): only when all of them are there
    4. `ForgetClaims` here, once B has said so

Who leads goes on where the last leader stopped. Digests show the authority and its
generation; of two that claim it the higher generation is believed (core.federation.authority).
Epochs begin with the generation, so each of B's is beyond all that were given before.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.authority import QUIESCE_US, best_authority, claim_own_jobs
from core.federation.claims import (
    Authority,
    Claim,
    authority_of,
    claim_key,
    claims_of,
    put_authority,
)
from core.federation.host import CALL_TIMEOUT_US, Done, FederationHost
from core.federation.rhythm import Rhythm
from core.federation.roster import FLOORS, Roster, is_off, roster_of
from core.federation.roster_log import CopyRoster, copy_roster
from core.federation.succession import pledge_of
from core.model.host import Peer
from core.state.access import CallAnswer
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

LOOK_US: Final = 1_000_000
BATCH: Final = 500  # claims in one call, of some 200 bytes
STAGED: Final = "staged_claims"
_TAKEN_KEPT: Final = 16


class PlanTransfer(Command):
    to: str  # datacenter id


class GiveAuthority(Command):
    """Be the authority no more. `generation` is that of the next one."""

    to: str
    generation: int


class StageClaims(Command):
    generation: int
    number: int  # of the batch, from 0
    claims: list[Claim]
    calls: dict[str, CallAnswer] = {}  # noqa: RUF012 - about their names


class TakeAuthority(Command):
    """Be the authority, if all batches are here.

    With the roster as the old one left it: who was declared off in its last moments stays so.
    """

    generation: int
    counter: int
    batches: int
    roster: Roster | None = None
    floors: dict[str, int] = {}  # noqa: RUF012 - by datacenter id


class ForgetClaims(Command):
    """The authority of that generation has them."""

    generation: int


class Batch(msgspec.Struct):
    generation: int
    number: int
    claims: list[Claim]
    calls: dict[str, CallAnswer] = {}


def plan_transfer(state: "State", command: PlanTransfer, context: "Context") -> CommandResult:
    """Begin to give the authority away. `value`: {To}."""
    known = authority_of(state)
    if not state.is_authority:
        text = f"datacenter {state.datacenter} is not the authority of region {state.region}"
        return CommandResult(error=text, status=409)
    if is_off(state, command.to):
        text = f"datacenter {command.to} was declared off: it can't take the authority"
        return CommandResult(error=text, status=409)
    if known.to not in ("", command.to):
        text = f"the authority is on its way to datacenter {known.to} already"
        return CommandResult(error=text, status=409)
    put_authority(state, msgspec.structs.replace(known, to=command.to, is_told=False))
    context.changed("authority", "AuthorityTransferPlanned", command.to)
    return CommandResult(value={"To": command.to})


def give_authority(state: "State", command: GiveAuthority, context: "Context") -> CommandResult:
    known = authority_of(state)
    if not state.is_authority or known.to != command.to or command.generation <= known.generation:
        return CommandResult()
    claim_own_jobs(state, context)
    known = authority_of(state)
    put_authority(state, msgspec.structs.replace(known, to_generation=command.generation))
    state.is_authority = False
    context.changed("authority", "AuthorityGiven", command.to)
    return CommandResult()


def stage_claims(state: "State", command: StageClaims, context: "Context") -> CommandResult:
    if command.generation > authority_of(state).generation:
        key = f"{command.generation}/{command.number}"
        batch = Batch(command.generation, command.number, command.claims, command.calls)
        state.table(STAGED).put(key, batch)
    return CommandResult()


def take_authority(state: "State", command: TakeAuthority, context: "Context") -> CommandResult:
    """Become the authority. `value`: {Taken: whether it was, now or before; Reason}."""
    known, staged = authority_of(state), state.table(STAGED)
    if command.generation in known.taken:
        return CommandResult(value={"Taken": True, "Reason": ""})
    pledged = pledge_of(state, state.region).generation
    if command.generation < pledged:
        reason = f"another authority is made in generation {pledged}"
        return CommandResult(value={"Taken": False, "Reason": reason})
    if command.generation <= known.generation or state.is_authority:
        reason = f"this datacenter has known generation {known.generation}"
        return CommandResult(value={"Taken": False, "Reason": reason})
    batches = [staged.get(f"{command.generation}/{number}") for number in range(command.batches)]
    if any(batch is None for batch in batches):
        return CommandResult(value={"Taken": False, "Reason": "not all claims are here"})
    for batch in batches:
        assert batch is not None
        for claim in batch.claims:
            claims_of(state).put(claim_key(claim.namespace, claim.job_id), claim)
        state.calls.keep(batch.calls)
    for key in list(staged):
        staged.delete(key)
    if command.roster is not None:
        copy_roster(state, CopyRoster(roster=command.roster, floors=command.floors), context)
    state.is_authority = True
    put_authority(
        state,
        Authority(
            generation=command.generation,
            counter=max(known.counter, command.counter),
            taken=(*known.taken, command.generation)[-_TAKEN_KEPT:],
        ),
    )
    context.changed("authority", "AuthorityTaken", state.datacenter_id)
    return CommandResult(value={"Taken": True, "Reason": ""})


def forget_claims(state: "State", command: ForgetClaims, context: "Context") -> CommandResult:
    known = authority_of(state)
    if state.is_authority or known.to_generation != command.generation or known.is_told:
        return CommandResult()
    for key in list(claims_of(state)):
        claims_of(state).delete(key)
    put_authority(state, msgspec.structs.replace(known, is_told=True))
    context.changed("authority", "AuthorityHandedOver", known.to)
    return CommandResult()


class Transfer:
    """The leaders' part in it; one per coordinator."""

    def __init__(self, host: FederationHost) -> None:
        self._host = host
        self._rhythm = Rhythm(host, LOOK_US, self._look)
        self._is_busy = False
        self._planned_us: int | None = None  # since when this leader knows of the plan

    def on_leadership(self, is_leader: bool) -> None:
        self._is_busy, self._planned_us = False, None
        self._rhythm.on_leadership(is_leader)

    def _look(self) -> None:
        if self._is_busy:
            return
        host, known = self._host, authority_of(self._host.state)
        if not known.to or known.is_told:
            self._planned_us = None
        elif host.state.is_authority:
            if self._planned_us is None:
                self._planned_us = host.now.mono_us
            elif host.now.mono_us - self._planned_us >= QUIESCE_US:
                self._give(known)
        else:
            self._send(known, 0)

    def _give(self, known: Authority) -> None:
        seen = [site.digest.authority_generation for site in self._host.sites()]
        generation = max([known.generation, *seen]) + 1
        self._propose([GiveAuthority(to=known.to, generation=generation)])

    def _send(self, known: Authority, number: int) -> None:
        """Send one batch after the other, then the word that these are all."""
        host = self._host
        claims = list(claims_of(host.state).values())
        batches = -(-len(claims) // BATCH)
        body: dict[str, Any] = {"From": host.datacenter_id, "Generation": known.to_generation}
        if number < batches:
            method = "Authority.Stage"
            sent = claims[number * BATCH : (number + 1) * BATCH]
            calls: dict[str, CallAnswer] = {}
            for claim in sent:
                calls |= host.state.calls.of_job(claim.namespace, claim.job_id)
            body |= {"Number": number, "Claims": sent, "Calls": calls}
        else:
            method = "Authority.Take"
            body |= {"Counter": known.counter, "Batches": batches,
                     "Roster": roster_of(host.state),
                     "Floors": dict(host.state.table(FLOORS).items())}  # fmt: skip
        self._is_busy = True

        def done(value: Any, error: str) -> None:
            self._is_busy = False
            if error or not host.is_serving:
                return
            if number < batches:
                self._send(known, number + 1)
            elif value["Taken"]:
                self._propose([ForgetClaims(generation=known.to_generation)])
            else:
                host.log("error", "the authority is not taken", to=known.to,
                         reason=value["Reason"])  # fmt: skip

        host.ask(known.to, method, body, CALL_TIMEOUT_US, done)

    def _propose(self, commands: list[Command]) -> None:
        self._is_busy = True

        def done(_value: Any, _error: str) -> None:
            self._is_busy = False

        self._host.propose(commands, done)

    # --- calls of the old authority -----------------------------------------------------------

    def on_stage(self, body: Any, source: Peer, reply: Done) -> None:
        if wrong := _is_not_from(source, str(body["From"])):
            reply(None, wrong)
            return
        claims = msgspec.convert(msgspec.to_builtins(body["Claims"]), list[Claim])
        command = StageClaims(
            generation=int(body["Generation"]), number=int(body["Number"]), claims=claims,
            calls=msgspec.convert(body.get("Calls") or {}, dict[str, CallAnswer]),
        )  # fmt: skip
        self._host.propose([command], reply)

    def on_take(self, body: Any, source: Peer, reply: Done) -> None:
        """Become the authority: {"Taken", "Reason"}."""
        if wrong := _is_not_from(source, str(body["From"])):
            reply(None, wrong)
            return
        command = TakeAuthority(
            generation=int(body["Generation"]), counter=int(body["Counter"]),
            batches=int(body["Batches"]),
            roster=msgspec.convert(msgspec.to_builtins(body.get("Roster")), Roster | None),
            floors={str(dc): int(floor) for dc, floor in (body.get("Floors") or {}).items()},
        )  # fmt: skip
        self._host.propose([command], reply)


def destination(host: FederationHost, name: str) -> tuple[str, str]:
    """Return (datacenter id, why it can't take the authority), by name or id."""
    known = {
        s.digest.datacenter_id: s.digest for s in host.sites() if s.digest.region == host.region
    }
    found = [one for one in known.values() if name in (one.datacenter, one.datacenter_id)]
    if len(found) != 1:
        names = ", ".join(sorted(one.datacenter for one in known.values()))
        return "", f"region {host.region} has no datacenter {name!r}; it has {names}"
    digest = found[0]
    if digest.is_draining:
        return "", f"datacenter {digest.datacenter} is being emptied: it can't take the authority"
    best = best_authority(list(known.values()), host.region)
    if digest.datacenter_id == host.datacenter_id and best is digest:
        return "", f"datacenter {digest.datacenter} is the authority of {host.region} already"
    return digest.datacenter_id, ""


def _is_not_from(source: Peer, sender: str) -> str:
    """Return why a call is not the word of the authority that it names, "" when it may be."""
    if source.is_proven and source.datacenter_id not in ("", sender):
        return f"datacenter {source.datacenter_id} can't speak for the authority {sender}"
    return ""


register_table(STAGED, Batch)
register_handler(PlanTransfer, plan_transfer)
register_handler(GiveAuthority, give_authority)
register_handler(StageClaims, stage_claims)
register_handler(TakeAuthority, take_authority)
register_handler(ForgetClaims, forget_claims)
