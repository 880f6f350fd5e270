"""The other side of a choice: a job is offered here, and taken or refused.

A refusal says why, brings a fresh digest, and tells when to come back: whoever was refused
knows more than he could have by gossip, and does not ask again at once. What is taken is
held until it is placed (core.federation.reservations).
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import digest as digests
from core.federation import splitting
from core.federation.ask import Judgement, Verdict, asks_of, judge
from core.federation.causes import Kind, last_of
from core.federation.host import Done, FederationHost, is_not_from
from core.federation.known import OfferCount
from core.federation.reservations import RESERVED_US, Reservations, misfit_of
from core.model.host import Peer
from core.model.job import Job
from core.model.query import Answer, OwnQuery, Query

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

COME_BACK_US: Final = 5_000_000  # after a refusal for want of room: digests are no newer
_BY_THE_NODES: Final = (Verdict.NOT_ALLOWED, Verdict.TOO_BIG)


class Offers:
    """One per coordinator."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host: FederationHost = coordinator.host
        self.reservations = Reservations(coordinator.host)
        self.count = OfferCount()

    def refusal(
        self,
        job: Job,
        uid: str = "",
        *,
        is_queued: bool = False,
        known: Judgement | None = None,
    ) -> str:
        """Return why this datacenter does not take a new job, "" when it does and holds it.

        Args:
            is_queued: It may wait here for room; only what could never hold it refuses.
            known: What was found of this datacenter a moment ago, debits taken off: whether
                it could ever hold the job no debit changes.
        """
        if is_queued and known is not None and known.verdict not in _BY_THE_NODES:
            return ""
        own = self.own_judgement(job)
        if is_queued and own.verdict is Verdict.TOO_BIG and splitting.is_divisible(job):
            own = self.own_judgement(splitting.one_of_each(job))  # the rest goes elsewhere
        if own.verdict in _BY_THE_NODES:
            return own.reason
        if is_queued:
            return ""
        if own.is_barred or own.verdict is Verdict.FULL:
            return own.reason
        fit = self.reservations.fit(job, uid=uid)
        reason = misfit_of(fit)
        if not reason and uid:
            self.reservations.hold(uid, job, fit)
        return reason

    def own_judgement(self, job: Job) -> Judgement:
        """Return what our own digest says of a job; it is live."""
        for site in self._host.sites():
            if site.digest.datacenter_id == self._host.datacenter_id:
                return judge(job, asks_of(job), site.digest)
        return Judgement(Verdict.UNKNOWN, "it is starting")

    def refused(self, reason: str) -> dict[str, Any]:
        """Return the body of a refusal: reason, fresh digest, when to come back."""
        later_us = self.reservations.free_in_us() or COME_BACK_US
        return {"Refused": reason, "RetryAfterMS": later_us // 1000, **self.news()}

    def news(self) -> dict[str, bytes]:
        """Return what goes with every call and answer about room: our digest as it is now."""
        own = self._host.datacenter_id
        fresh = [site.digest for site in self._host.sites() if site.digest.datacenter_id == own]
        return {"Digest": digests.encode(fresh[0]) if fresh else b""}

    def on_register(self, body: Any, source: Peer, reply: Done) -> None:
        """Become home of a job, or refuse: {"Answer": ...} or {"Refused": reason, ...}."""
        host = self._host
        query = msgspec.convert(body["Query"], OwnQuery if body.get("IsOwn") else Query)
        uid = str(body["UID"])
        self._hear(body, source)
        job = host.canonical(query.body)
        if job is None:
            reply({"Refused": "the job is not valid here"}, "")
            return
        reason = self._judge_offer(job, uid, is_queued=bool(body.get("MayQueue")))
        if reason:
            event = host.clock.event(Kind.REFUSED, uid, after=last_of(query.trail), reason=reason)
            reply({**self.refused(reason), "Event": msgspec.to_builtins(event)}, "")
            return

        def respond(answer: Answer) -> None:
            if answer.is_error:
                self.reservations.release(uid)
            reply({"Answer": answer, **self.news()}, "")

        self._coordinator.become_home(query, job, uid, body.get("Claimant", ""), respond)

    def on_reserve(self, body: Any, source: Peer, reply: Done) -> None:
        """Hold room for a job that will be sent: {"HeldMS": n} or {"Refused": reason, ...}."""
        self._hear(body, source)
        job = self._host.canonical({"Job": body["Job"]})
        if job is None:
            reply({"Refused": "the job is not valid here"}, "")
            return
        reason = self._judge_offer(job, str(body["UID"]), is_queued=False)
        held = {"HeldMS": RESERVED_US // 1000, **self.news()}
        reply(self.refused(reason) if reason else held, "")

    def _hear(self, body: Any, source: Peer) -> None:
        """Note how the caller stands: it says so of itself with every job that it offers."""
        given = body.get("Digest")
        digest = digests.decode(given) if isinstance(given, bytes) and given else None
        if digest is not None and not is_not_from(source, digest.datacenter_id):
            self._coordinator.known.heard(digest, self._host.now.mono_us)

    def _judge_offer(self, job: Job, uid: str, *, is_queued: bool) -> str:
        reason = self.refusal(job, uid, is_queued=is_queued)
        self.count.add(self._host.now.mono_us, is_refused=bool(reason))
        if reason:
            self._host.count_refusal("no room")
        return reason
