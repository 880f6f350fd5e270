"""One authority per region: of two that were born unheard of each other, one gives in.

A datacenter takes the authority at its birth, when nobody of its region has it
(core.server.bootstrap). Two born at the same moment may both take it. Digests show it;
the one with the larger datacenter id then

    1. makes no more claims for QUIESCE_US, so that registrations under way are committed
    2. commits `YieldAuthority`: it is no authority any more, and its own jobs, which
       needed no claim so far, have one
    3. hands its claims to the other, which takes them by compare and set
    4. commits `DropClaims` of those the other has taken, and repeats 3 with the rest

Whoever leads goes on where the last leader stopped: a datacenter that is no authority and
holds claims hands them over. A name that both gave away stays with the other's claim; the
two jobs run on, and the log says which they are.
"""

from typing import TYPE_CHECKING, Any, Final

from core.federation.claims import (
    FORMER_KEPT,
    Claim,
    authority_of,
    claim_key,
    claims_of,
    next_epoch,
    open_claims,
)
from core.federation.digest import Digest
from core.federation.host import CALL_TIMEOUT_US, FederationHost
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

LOOK_US: Final = 5_000_000
QUIESCE_US: Final = 3_000_000
HAND_OVER_BATCH: Final = 200


class YieldAuthority(Command):
    """This datacenter is no longer the authority of its region; `to` is."""

    to: str  # datacenter id


class DropClaims(Command):
    """The authority has these claims now."""

    claims: list[tuple[str, str, str]]  # namespace, job id, uid


def yield_authority(state: "State", command: YieldAuthority, context: "Context") -> CommandResult:
    if not state.is_authority:
        return CommandResult()
    claim_own_jobs(state, context)
    state.is_authority = False
    context.changed("claims", "AuthorityYielded", command.to)
    return CommandResult()


def claim_own_jobs(state: "State", context: "Context") -> None:
    """Give each job of the authority's own datacenter, which needed none so far, a claim."""
    claims = claims_of(state)
    for record in state.jobs:
        key = claim_key(record.namespace, record.id)
        known = claims.get(key)
        # A child lives where its parent does, without a claim of its own.
        if record.job.parent_id or record.home:
            continue
        former: tuple[str, ...] = ()
        if known is not None:
            # A job that was purged here may have its claim until the last part elsewhere ended;
            # the name has been used anew since.
            is_earlier = known.home == state.datacenter_id and known.uid != record.uid
            if not (known.is_closed or is_earlier):
                continue
            former = (*known.former, known.uid)[-FORMER_KEPT:]
        region = record.job.region or state.region
        claim = Claim(
            namespace=record.namespace,
            job_id=record.id,
            uid=record.uid,
            home=state.datacenter_id,
            epoch=next_epoch(state),
            origin="" if region in ("*", state.region) else region,
            created_us=context.time_us,
            former=former,
        )
        claims.put(key, claim)
    # Names that were given free here keep a tombstone: the answers to calls go with it.
    for namespace, job_id in state.calls.jobs():
        key = claim_key(namespace, job_id)
        if key not in claims and state.jobs.get(namespace, job_id) is None:
            gone = Claim(namespace=namespace, job_id=job_id, uid="", home="", epoch=0,
                         is_closed=True)  # fmt: skip
            claims.put(key, gone)


def drop_claims(state: "State", command: DropClaims, context: "Context") -> CommandResult:
    claims = claims_of(state)
    for namespace, job_id, uid in command.claims:
        key = claim_key(namespace, job_id)
        known = claims.get(key)
        if known is not None and known.uid == uid:
            claims.delete(key)
            context.changed("claims", "ClaimHandedOver", job_id, namespace)
    return CommandResult()


def best_authority(digests: list[Digest], region: str) -> Digest | None:
    """Return whom everybody takes for the authority of a region, by what digests claim.

    The higher generation wins. Two at one generation can only come of two datacenters born
    in ignorance of each other: of these the smaller id is everybody's choice.
    """
    claimants = [d for d in digests if d.region == region and d.is_authority]
    return min(claimants, key=lambda d: (-d.authority_generation, d.datacenter_id), default=None)


class AuthorityWatch:
    """The leader's part in it; one per coordinator."""

    def __init__(self, host: FederationHost) -> None:
        self.is_yielding = False  # no new claims here: the authority is about to be yielded
        self._host = host
        self._is_watching = False
        self._under_way = 0

    def on_leadership(self, is_leader: bool) -> None:
        if is_leader and not self._is_watching:
            self._is_watching = True
            self._host.after(LOOK_US, self._look)

    def _look(self) -> None:
        host = self._host
        if not host.is_serving:
            self._is_watching = self.is_yielding = False
            self._under_way = 0
            return
        host.after(LOOK_US, self._look)
        best = best_authority([site.digest for site in host.sites()], host.region)
        if best is None or best.datacenter_id == host.datacenter_id:
            self.is_yielding = False
        elif host.state.is_authority:
            if not self.is_yielding:
                self.is_yielding = True
                host.after(QUIESCE_US, lambda: self._yield(best))
        else:
            self.is_yielding = False
            given = authority_of(host.state)
            if not given.to or given.is_told:  # else all claims go together
                self._hand_over(best)

    def _yield(self, to: Digest) -> None:
        host = self._host
        if not (self.is_yielding and host.is_serving and host.state.is_authority):
            return
        host.log(
            "warning",
            "two authorities of one region: this datacenter yields to the other",
            region=host.region,
            authority=to.datacenter,
            id=to.datacenter_id,
        )

        def yielded(_: object, error: str) -> None:
            if not error and host.is_serving:
                self._hand_over(to)

        host.propose([YieldAuthority(to=to.datacenter_id)], yielded)

    def _hand_over(self, to: Digest) -> None:
        """Have the authority take our claims, then drop those that it has."""
        host = self._host
        claims = list(open_claims(host.state))[:HAND_OVER_BATCH]
        if self._under_way or not claims:
            return
        self._under_way = len(claims)
        settled: list[tuple[str, str, str]] = []
        for claim in claims:
            self._hand_over_one(claim, to, settled)

    def _hand_over_one(self, claim: Claim, to: Digest, settled: list[tuple[str, str, str]]) -> None:
        host = self._host

        def done(_: Any, error: str) -> None:
            self._under_way = max(0, self._under_way - 1)
            if "is taken" in error:
                host.log(
                    "error",
                    "two jobs of one name: stop one of them with job stop -purge",
                    job=claim.job_id,
                    namespace=claim.namespace,
                    home=claim.home,
                    other=error,
                )
            if not error or "is taken" in error or "given up" in error:
                settled.append((claim.namespace, claim.job_id, claim.uid))
            if not self._under_way and settled:
                host.propose([DropClaims(claims=settled)], lambda _body, _error: None)

        body = {
            "Namespace": claim.namespace, "JobID": claim.job_id, "UID": claim.uid,
            "Home": claim.home, "Origin": claim.origin, "Said": claim.said,
            "Calls": host.state.calls.of_job(claim.namespace, claim.job_id),
        }  # fmt: skip
        host.ask(to.datacenter_id, "Claim.Create", body, CALL_TIMEOUT_US, done)


register_handler(YieldAuthority, yield_authority)
register_handler(DropClaims, drop_claims)
